"""What goes wrong: every failure is an OSError and, where anyio has a class for it, that too.

So ``except OSError``, ``except ConnectionRefusedError``, ``except
anyio.BrokenResourceError`` and ``err.category is Category.RETRY`` all work. Not failures,
and plain anyio exceptions: EndOfStream (the peer sent FIN), ClosedResourceError (this side
closed), BusyResourceError (two tasks in one direction).

A connection keeps its first error; each operation on the dead connection raises a new
instance with that one as its cause, so that tracebacks do not grow.
"""

from __future__ import annotations

import errno
import os
import socket
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio

if TYPE_CHECKING:
    from xsock.nw._report import Attempt

__all__ = [
    "AntecedentFailed",
    "Category",
    "ConnectionAborted",
    "ConnectionBroken",
    "ConnectionFailed",
    "ConnectionRefused",
    "ConnectionReset",
    "EstablishTimeout",
    "EstablishmentError",
    "EstablishmentReset",
    "HandshakeError",
    "IdleTimeout",
    "MessageExpired",
    "MessageTooLarge",
    "NameResolutionError",
    "NetworkError",
    "NoPath",
    "PolicyDenied",
    "ProtocolError",
    "broken",
    "failed",
]


class Category(Enum):
    """What a failure means, whatever the protocol that reports it."""

    SPEC_VIOLATION = "specification violated"
    CANCELLED = "cancelled"
    OVERLOAD = "too much load"
    RETRY = "try again"
    SECURITY = "security"
    POLICY = "policy"
    UNREACHABLE = "unreachable"
    RESET = "reset"


_CATEGORIES: Final[dict[int, Category]] = {
    errno.EPROTO: Category.SPEC_VIOLATION,
    errno.EBADMSG: Category.SPEC_VIOLATION,
    errno.ECANCELED: Category.CANCELLED,
    errno.ENOBUFS: Category.OVERLOAD,
    errno.ENOMEM: Category.OVERLOAD,
    errno.EMFILE: Category.OVERLOAD,
    errno.EADDRNOTAVAIL: Category.OVERLOAD,
    errno.EAGAIN: Category.RETRY,
    errno.ETIMEDOUT: Category.RETRY,
    errno.EACCES: Category.POLICY,
    errno.EPERM: Category.POLICY,
    errno.ENETDOWN: Category.UNREACHABLE,
    errno.ENETUNREACH: Category.UNREACHABLE,
    errno.EHOSTDOWN: Category.UNREACHABLE,
    errno.EHOSTUNREACH: Category.UNREACHABLE,
    errno.ECONNREFUSED: Category.UNREACHABLE,
    errno.ECONNRESET: Category.RESET,
    errno.ECONNABORTED: Category.RESET,
    errno.EPIPE: Category.RESET,
}
# Errors that may be gone on the next attempt without anybody changing anything.
_TRANSIENT: Final = frozenset({errno.EAGAIN, errno.ETIMEDOUT, errno.ENOBUFS, errno.ENOMEM,
    errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})  # fmt: skip


class NetworkError(OSError):
    """A failure with its *domain* ("posix", "dns", "tls", "quic", "http" or "nw") and *code*.

    In the domain "posix" the code is an errno; in the others ``errno`` is the nearest one.
    *path* and *endpoint* say where, as far as that is known.
    """

    errno_default: int = errno.EIO

    def __init__(
        self,
        code: int = 0,
        message: str | None = None,
        *,
        number: int | None = None,
        domain: str = "posix",
        category: Category | None = None,
        transient: bool | None = None,
        path: Any = None,
        endpoint: Any = None,
    ) -> None:
        if number is None:
            number = code if domain == "posix" and code else self.errno_default
        super().__init__(number, message or os.strerror(number))
        self.domain = domain
        self.code = code or number
        self.category = category or _CATEGORIES.get(number, Category.RETRY)
        self.transient = number in _TRANSIENT if transient is None else transient
        self.path = path
        self.endpoint = endpoint

    def again(self) -> Self:
        """A new instance that says the same and has this one as its cause."""
        new = type(self).__new__(type(self), *self.args)
        OSError.__init__(new, *self.args)
        new.__dict__.update(self.__dict__)
        new.__dict__.pop("__notes__", None)
        new.__cause__ = self
        return new


# ---- no connection came about ----


class ConnectionFailed(NetworkError, anyio.ConnectionFailed):
    """No connection came about."""

    errno_default = errno.ECONNABORTED


class EstablishmentError(ConnectionFailed):
    """No attempt succeeded; *attempts* lists them all.

    The cause is the OSError of the only attempt, or an ExceptionGroup of all of them.
    """

    def __init__(
        self, code: int = 0, message: str | None = None, *,
        attempts: tuple[Attempt, ...] = (), **where: Any,
    ) -> None:  # fmt: skip
        super().__init__(code, message, **where)
        self.attempts = attempts


class ConnectionRefused(EstablishmentError, ConnectionRefusedError):
    """The peer answered that nobody listens."""

    errno_default = errno.ECONNREFUSED


class EstablishmentReset(EstablishmentError, ConnectionResetError):
    """The peer ended the connection before it was READY."""

    errno_default = errno.ECONNRESET


class NameResolutionError(EstablishmentError, socket.gaierror):
    """The name does not exist, or nobody could say; ``errno`` is an EAI_* number."""

    errno_default = socket.EAI_NONAME

    def __init__(self, code: int = 0, message: str | None = None, **where: Any) -> None:
        number = code or self.errno_default
        where.setdefault("category", Category.UNREACHABLE)
        where.setdefault("transient", number == socket.EAI_AGAIN)
        super().__init__(
            number, message or "Name or service not known", number=number, domain="dns", **where
        )


class HandshakeError(EstablishmentError):
    """A protocol above the transport could not agree with its peer."""

    errno_default = errno.EPROTO

    def __init__(self, code: int = 0, message: str | None = None, **where: Any) -> None:
        where.setdefault("category", Category.SECURITY)
        where.setdefault("domain", "tls")
        super().__init__(code, message, **where)


class NoPath(EstablishmentError):
    """There is no way to the endpoint, or none that the parameters allow."""

    errno_default = errno.ENETUNREACH

    def __init__(
        self, code: int = 0, message: str | None = None, *, reason: Any = None, **where: Any
    ) -> None:
        super().__init__(code, message, **where)
        self.reason = reason


class EstablishTimeout(EstablishmentError, TimeoutError):
    """The limit for establishment passed; *last* is the last thing that had gone wrong."""

    errno_default = errno.ETIMEDOUT

    def __init__(
        self, code: int = 0, message: str | None = None, *,
        last: OSError | None = None, **where: Any,
    ) -> None:  # fmt: skip
        super().__init__(code, message, **where)
        self.last = last
        self.__cause__ = last


# ---- a connection ended ----


class ConnectionBroken(NetworkError, anyio.BrokenResourceError):
    """The connection is dead; what was buffered before has been delivered."""

    errno_default = errno.EPIPE


class ConnectionReset(ConnectionBroken, ConnectionResetError):
    """The peer ended the connection at once, or had forgotten it."""

    errno_default = errno.ECONNRESET


class ConnectionAborted(ConnectionBroken, ConnectionAbortedError):
    """This side ended the connection at once."""

    errno_default = errno.ECONNABORTED


class IdleTimeout(ConnectionBroken, TimeoutError):
    """The peer has not answered for too long."""

    errno_default = errno.ETIMEDOUT


class ProtocolError(ConnectionBroken):
    """The peer, or a framer, broke the rules of a protocol above the transport."""

    errno_default = errno.EPROTO


# ---- one message ----


class MessageTooLarge(NetworkError):
    """The message does not fit; nothing of it was sent."""

    errno_default = errno.EMSGSIZE

    def __init__(self, code: int = 0, message: str | None = None, **where: Any) -> None:
        where.setdefault("category", Category.SPEC_VIOLATION)
        super().__init__(code, message, **where)


class MessageExpired(NetworkError, TimeoutError):
    """The message's lifetime ended before it was sent."""

    errno_default = errno.ETIMEDOUT


class AntecedentFailed(NetworkError):
    """The message that this one had to follow was not sent."""

    errno_default = errno.ECANCELED


class PolicyDenied(ConnectionFailed, PermissionError):
    """A provider's rule forbids the flow."""

    errno_default = errno.EACCES

    def __init__(
        self, code: int = 0, message: str | None = None, *,
        provider: str | None = None, rule: Any = None, **where: Any,
    ) -> None:  # fmt: skip
        super().__init__(code, message, **where)
        self.provider = provider
        self.rule = rule


_Error = TypeVar("_Error", bound=NetworkError)
_FAILED: Final[dict[int, type[EstablishmentError]]] = {
    errno.ECONNREFUSED: ConnectionRefused,
    errno.ECONNRESET: EstablishmentReset,
    errno.ETIMEDOUT: EstablishTimeout,
    errno.ENETDOWN: NoPath,
    errno.ENETUNREACH: NoPath,
    errno.EHOSTDOWN: NoPath,
    errno.EHOSTUNREACH: NoPath,
    errno.EADDRNOTAVAIL: NoPath,
}
_BROKEN: Final[dict[int, type[ConnectionBroken]]] = {
    errno.ECONNRESET: ConnectionReset,
    errno.ECONNABORTED: ConnectionAborted,
    errno.ETIMEDOUT: IdleTimeout,
    errno.EPROTO: ProtocolError,
}


def failed(number: int, **where: Any) -> EstablishmentError:
    """The exception for errno *number* of an attempt to connect."""
    return _FAILED.get(number, EstablishmentError)(number, **where)


def broken(number: int, **where: Any) -> ConnectionBroken:
    """The exception for errno *number* of a connection that stood."""
    return _BROKEN.get(number, ConnectionBroken)(number, **where)
