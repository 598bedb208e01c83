"""Endpoints that anyio's connecting code takes: ``await connectable.connect()``."""

from __future__ import annotations

from typing import Any, Final, overload

from anyio.abc import ByteStream, ByteStreamConnectable, ObjectStream, ObjectStreamConnectable

from xsock.nw._content import Message
from xsock.nw._endpoint import Endpoint, EndpointLike
from xsock.nw._options import (
    TCP,
    TLS,
    TLV,
    DataMode,
    Framed,
    LengthPrefixed,
    Lines,
    ProtocolOptions,
    mode_of,
)
from xsock.nw._parameters import Parameters
from xsock.nw._stack import Stack, current_stack

__all__ = ["as_anyio_connectable"]

_TCP: Final = TCP()
_PARAMETERS: Final = Parameters()


class _Connectable:
    """Where to, how and through what; the stack is the current one unless given."""

    def __init__(
        self, stack: Stack | None, to: Endpoint, proto: ProtocolOptions, parameters: Parameters
    ) -> None:
        self.stack = stack
        self.to = to
        self.proto = proto
        self.parameters = parameters

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.to} by {self.proto}>"

    async def connect(self) -> Any:
        """A connection that is READY; anyio.ConnectionFailed, an OSError, otherwise."""
        stack = current_stack() if self.stack is None else self.stack
        return await stack.connect(self.to, self.proto, self.parameters)


class BytesConnectable(_Connectable, ByteStreamConnectable):
    """Connects to a stream of bytes."""

    async def connect(self) -> ByteStream:
        stream: ByteStream = await super().connect()
        return stream


class MessagesConnectable(_Connectable, ObjectStreamConnectable[Message]):
    """Connects to a stream of messages."""

    async def connect(self) -> ObjectStream[Message]:
        stream: ObjectStream[Message] = await super().connect()
        return stream


@overload
def as_anyio_connectable(
    stack: Stack | None, to: EndpointLike, proto: TCP | TLS = ..., parameters: Parameters = ...
) -> BytesConnectable: ...
@overload
def as_anyio_connectable(
    stack: Stack | None, to: EndpointLike, proto: TLV | LengthPrefixed | Lines | Framed,
    parameters: Parameters = ...,
) -> MessagesConnectable: ...  # fmt: skip
def as_anyio_connectable(
    stack: Stack | None, to: EndpointLike, proto: ProtocolOptions = _TCP,
    parameters: Parameters = _PARAMETERS,
) -> BytesConnectable | MessagesConnectable:  # fmt: skip
    """What anyio calls a connectable, for *to*; a stream of messages if *proto* gives these."""
    kind = BytesConnectable if mode_of(proto) is DataMode.STREAM else MessagesConnectable
    return kind(stack, Endpoint.of(to), proto, parameters)
