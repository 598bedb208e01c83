"""Builds the protocols above the transport: each layer of the options around the stream below."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc

from xsock.nw._framers import framer_of
from xsock.nw._message import MessageConnection
from xsock.nw._options import TLS, DataMode, ProtocolOptions, stack_of
from xsock.nw._pipe import FramedStream, Pipe
from xsock.nw._tls import TLSConnection

__all__ = ["establish", "put_above"]


async def establish(
    stream: anyio.abc.ByteStream, proto: ProtocolOptions, *, server_side: bool = False,
    hostname: str | None = None, close_timeout: float = 5.0, **known: Any,
) -> anyio.abc.ByteStream | MessageConnection:  # fmt: skip
    """What the program gets for *proto* over the ready transport *stream*, itself ready.

    HandshakeError, with *stream* closed, if a protocol does not come about. *known* is for
    framers: remote, local, parameters, options.
    """
    layers = [each for each in reversed(stack_of(proto)) if each.produces is not DataMode.PACKET]
    at: anyio.abc.ByteStream = stream
    try:
        for each in layers[1:]:
            if isinstance(each, TLS):
                at = await TLSConnection.wrap(
                    at, each, server_side=server_side, hostname=hostname,
                    close_timeout=close_timeout,
                )  # fmt: skip
                continue
            framer = framer_of(each)
            if framer is None:
                raise TypeError(f"nothing is known of {type(each).__name__} above a transport")
            known |= {"server_side": server_side, "hostname": hostname}
            if each is proto:
                top = MessageConnection(at, framer, **known)
                await top.ready()
                return top
            pipe = Pipe(at, framer, **known)
            await pipe.ready()
            at = await put_above(pipe)
    except BaseException:
        await anyio.aclose_forcefully(at)
        raise
    return at


async def put_above(pipe: Pipe) -> anyio.abc.ByteStream:
    """The framer's bytes, inside what it has put between itself and the program."""
    at: anyio.abc.ByteStream = FramedStream(pipe)
    for proto in pipe.ctl.prepended:
        if not isinstance(proto, TLS):
            raise TypeError(f"prepend: TLS is known, not {type(proto).__name__}")
        at = await TLSConnection.wrap(
            at, proto, server_side=pipe.ctl.server_side, hostname=pipe.ctl.hostname
        )
    return at
