"""Hooks for modules that need more than new names: applied now, or when they are imported."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, cast

__all__ = ["install", "remove"]


def _ssl(module: ModuleType) -> Callable[[], None]:
    from xsock import _ssl as hook

    return hook.install(module)


def _reduction(module: ModuleType) -> Callable[[], None]:
    from xsock import _reduction as hook

    return hook.install(module)


HOOKS: Final[dict[str, Callable[[ModuleType], Callable[[], None]]]] = {
    "ssl": _ssl,
    "multiprocessing.reduction": _reduction,
}
_undo: list[Callable[[], None]] = []


class _Finder:
    """Stands first on sys.meta_path and lets the other finders do the finding."""

    def __init__(self) -> None:
        self._busy: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a hooked module, with a loader that runs the hook afterwards."""
        if name not in HOOKS or name in self._busy:
            return None
        from importlib.util import find_spec

        self._busy.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._busy.discard(name)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        spec.loader = cast("Any", _Loader)(spec.loader, HOOKS[name])
        return spec


class _Loader:
    def __init__(self, loader: Any, hook: Callable[[ModuleType], Callable[[], None]]) -> None:
        self._loader, self._hook = loader, hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then its hook."""
        self._loader.exec_module(module)
        _undo.append(self._hook(module))


_finder: Final = _Finder()


def install() -> None:
    """Hook what is imported, and what will be."""
    for name, hook in HOOKS.items():
        module = sys.modules.get(name)
        if module is not None:
            _undo.append(hook(module))
    sys.meta_path.insert(0, _finder)


def remove() -> None:
    """Take all hooks back."""
    while _undo:
        _undo.pop()()
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
