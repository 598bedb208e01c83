"""Event loops that a test may run on: asyncio, uvloop and trio.

@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

Go = Callable[[Callable[[], Awaitable[Any]]], Any]
LOOPS: Final = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


def runner(name: str) -> Go:
    """What runs a coroutine function on the loop of this name, and answers its result."""
    backend, options = LOOPS[name]

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        return anyio.run(main, backend=backend, backend_options=options)

    return run
