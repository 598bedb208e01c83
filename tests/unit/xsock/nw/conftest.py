"""Every asynchronous test here runs on asyncio, on uvloop and on trio."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from xsock import nw

LOOPS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loop of the test."""
    return LOOPS[request.param]


class Net:
    """A stack with a loopback, which makes connected pairs."""

    def __init__(self, stack: nw.Stack) -> None:
        self.stack = stack
        self.opened: list[nw.Connection] = []

    async def pair(
        self, client: nw.Parameters | None = None, server: nw.Parameters | None = None
    ) -> tuple[nw.ByteConnection, nw.ByteConnection]:
        """A connected client and its server side."""
        async with self.stack.listen(
            local=("127.0.0.1", 0), parameters=server or nw.Parameters()
        ) as listener:
            near = await self.stack.connect(listener.local, nw.TCP(), client or nw.Parameters())
            far = await listener.accept()
        self.opened += [near, far]
        return near, far


@pytest.fixture
async def net(anyio_backend: Any) -> AsyncIterator[Net]:
    """Closed at the end, when no packet memory may be left in use."""
    core = nw.Stack.loopback()
    await core.__aenter__()
    net = Net(core)
    yield net
    for conn in net.opened:
        conn.abort()
    driver = core.driver
    driver.pump()
    left = driver.core_memory()
    await core.aclose()
    assert (left["sockets"], left["mbufs"]) == (0, 0), left
