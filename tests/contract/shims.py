"""Adapters turned back into byte streams, so that the contract can be held against them."""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import httpcore
import trio
from anyio.abc import ByteStream

from xsock.nw.adapters.asyncio import NWTransport
from xsock.nw.adapters.httpcore import Stream
from xsock.nw.adapters.trio import NWStream

__all__ = ["FromAsyncio", "FromHttpcore", "FromTrio"]


class FromAsyncio(ByteStream):
    """A StreamReader and StreamWriter on a transport of ours."""

    def __init__(self, below: ByteStream) -> None:
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        transport = NWTransport(below, protocol)
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            data = await self._reader.read(max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        try:
            self._writer.write(item)
            await self._writer.drain()
        except OSError as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        self._writer.write_eof()
        await self._writer.drain()

    async def aclose(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):  # what broke it, once more
            await self._writer.wait_closed()


class FromTrio(ByteStream):
    """A stream of trio's."""

    def __init__(self, below: ByteStream) -> None:
        self._stream = NWStream(below)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error
        except trio.ClosedResourceError as error:
            raise anyio.ClosedResourceError from error
        except trio.BusyResourceError as error:
            raise anyio.BusyResourceError("receiving from") from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        try:
            await self._stream.send_all(memoryview(item))
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error
        except trio.ClosedResourceError as error:
            raise anyio.ClosedResourceError from error
        except trio.BusyResourceError as error:
            raise anyio.BusyResourceError("sending to") from error

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class FromHttpcore(ByteStream):
    """A stream of httpcore's."""

    def __init__(self, below: ByteStream) -> None:
        self._stream = Stream(below)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            data = await self._stream.read(max_bytes)
        except httpcore.ReadError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        try:
            await self._stream.write(item)
        except httpcore.WriteError as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        raise NotImplementedError("httpcore has no half close")

    async def aclose(self) -> None:
        await self._stream.aclose()
