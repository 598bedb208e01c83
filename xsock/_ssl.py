"""TLS over the stack: SSLContext._wrap_socket hooked in place, SSLSocket kept.

ssl's C code reads and writes a descriptor. For a socket of the stack the hook
answers an Engine (_tls.py) instead of the C object. Contexts made before
patching are covered, because the method is looked up on the class; so is
isinstance(), because the sockets made are a subclass of ssl.SSLSocket.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from xsock._proxy import Donation
from xsock._socket import socket
from xsock._tls import Engine

__all__ = ["install"]


class _Donor:
    """A socket as SSLSocket._create() sees it: its fileno() moves the whole socket."""

    def __init__(self, sock: socket) -> None:
        self._sock = sock
        self.family, self.type, self.proto = sock.family, sock.type, sock.proto

    def fileno(self) -> Donation:
        """What the constructor of the SSLSocket takes the socket's place with."""
        donation = Donation(-1)
        donation.donor = self._sock
        return donation

    def gettimeout(self) -> float | None:
        """The socket's."""
        return self._sock.gettimeout()

    def getsockopt(self, *args: int) -> Any:
        """The socket's."""
        return self._sock.getsockopt(*args)

    def detach(self) -> int:
        """Nothing is left to detach."""
        return -1


def _on_stack(sock: Any) -> bool:
    return isinstance(sock, socket) and sock._xs_h is not None


def _make_class(module: ModuleType) -> type:
    """SSLSocket whose plain-text side is the stack's."""

    class SSLSocket(module.SSLSocket, socket):  # type: ignore[name-defined, misc]
        @classmethod
        def _create(cls, sock: Any, *args: Any, **kwargs: Any) -> Any:
            return super()._create(_Donor(sock) if _on_stack(sock) else sock, *args, **kwargs)

        def _real_close(self) -> None:  # type: ignore[override]
            engine = getattr(self, "_sslobj", None)
            if isinstance(engine, Engine) and _on_stack(self):
                engine.drain(self)
            super()._real_close()

    SSLSocket.__module__ = "ssl"
    SSLSocket.__qualname__ = "SSLSocket"
    SSLSocket.__doc__ = module.SSLSocket.__doc__
    return SSLSocket


def install(module: ModuleType) -> Callable[[], None]:
    """Hook *module*, ssl; call the answer to undo it."""
    context = module.SSLContext
    original = context._wrap_socket
    original_class = context.sslsocket_class

    def _wrap_socket(
        self: Any,
        sock: Any,
        server_side: bool,
        server_hostname: str | None = None,
        *,
        owner: Any = None,
        session: Any = None,
    ) -> Any:
        if not _on_stack(sock):
            return original(self, sock, server_side, server_hostname, owner=owner, session=session)

        def wrap_bio(incoming: Any, outgoing: Any) -> Any:
            return self._wrap_bio(
                incoming, outgoing, server_side, server_hostname, owner=owner, session=session
            )

        return Engine(wrap_bio, sock)

    context._wrap_socket = _wrap_socket
    if original_class is module.SSLSocket:
        context.sslsocket_class = _make_class(module)

    def undo() -> None:
        del context._wrap_socket
        context.sslsocket_class = original_class

    return undo
