"""Patches xsock in, then gives way to the program's own sitecustomize, if it has one."""

import os
import sys


def _patch() -> None:
    if not os.environ.get("XSOCK_PATCH"):
        return
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        import xsock  # noqa: F401
    except ImportError:
        # Last on the path: nothing of the program's is shadowed.
        sys.path.append(root)
    try:
        from xsock import _autostart
    except ImportError as error:
        print(f"xsock: cannot be imported by {sys.executable}: {error}", file=sys.stderr)
        os._exit(2)
    _autostart.activate()


def _chain() -> None:
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path) != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_patch()
_chain()
