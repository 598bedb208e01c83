"""Nexuses under XNU's names: who may open which channel, and what stands behind it.

A :class:`Domain` is a kind of nexus, a :class:`Provider` a registration with its
parameters, a :class:`Nexus` an instance with numbered ports, to which openers
are bound by process or by key. A :class:`Controller` owns all three: closing it
closes them lazily, so that no new channel opens and the open ones live on.

Another process opens a port through the controller's AF_UNIX socket
(:func:`open_channel`) and gets, when the binding matches, the memory and the
doorbells of its end as descriptors. The connection stays open as long as its
channel; packets never pass the controller.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, Self, final

from skywalk._ffi import check, ffi, lib
from skywalk.channel import Channel, ChannelParams, Direction, watch

__all__ = [
    "DOMAINS",
    "KEY_MAX",
    "Controller",
    "Domain",
    "KernelPipe",
    "Nexus",
    "NexusFlags",
    "NexusType",
    "PortBinding",
    "Provider",
    "Service",
    "open_channel",
]

KEY_MAX: Final = 1024
"""Bytes of a binding's key."""

SERVER: Final[int] = lib.SK_SERVER
CLIENT: Final[int] = lib.SK_CLIENT

_REQUEST = struct.Struct("!4s16sHH")
_REPLY = struct.Struct("!4siB7I")
_MAGIC = b"skn1"
_PATIENCE = 1.0  # seconds that an opener has to say what it wants


class NexusType(IntEnum):
    """XNU's ``nexus_type_t``."""

    USER_PIPE = 0
    KERNEL_PIPE = 1
    NET_IF = 2
    FLOW_SWITCH = 3
    MONITOR = 4


class NexusFlags(IntFlag):
    """State of a nexus: *CLOSED* opens no more channels; *INVALIDATED* has none left."""

    ATTACHED = 1
    CLOSED = 2
    INVALIDATED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PortBinding:
    """Who may open a port: all that is set must match. *pid* is the opening process."""

    pid: int | None = None
    key: bytes | None = None

    def matches(self, pid: int, key: bytes) -> bool:
        """Whether this opener is the one that is bound."""
        return (self.pid is None or self.pid == pid) and (self.key is None or self.key == key)


class Service(Protocol):
    """What serves the controller's end of a channel that another process has opened."""

    def fileno(self) -> int:
        """Polls readable when ``run`` has something to do."""

    def run(self) -> None:
        """Do it."""

    def close(self) -> None:
        """Give the end up."""


Serve = Callable[["Provider", int, Channel], Service]


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of nexus. Its ports are 0 to *ports* - 1. With *serve* a channel's other end is
    served by it, without one both ends are users'."""

    type: NexusType
    ports: int
    serve: Serve | None = None


@final
class KernelPipe:
    """The provider's end of a kernel pipe: *ops*, a ``struct sk_provider_ops *``, is called with
    *arg* whenever the user's end has sent or has room."""

    __slots__ = ("_poll", "_raw")

    def __init__(self, end: Channel, ops: Any, arg: Any = ffi.NULL) -> None:
        """Take *end* over."""
        out = ffi.new("struct kpipe **")
        check(lib.sk_kpipe_attach(end.release(), ops, arg, out))
        # Freed by the last to let go: a run in another thread may still have it.
        self._raw = ffi.gc(out[0], lib.sk_kpipe_close)
        info = ffi.new("struct sk_info *")
        lib.sk_channel_info(lib.sk_kpipe_end(self._raw), info)
        self._poll = select.epoll()
        self._poll.register(info.rx_fd, select.EPOLLIN)
        self._poll.register(info.tx_fd, select.EPOLLIN)
        self.run()

    def fileno(self) -> int:
        """Polls readable when ``run`` has something to do."""
        return self._poll.fileno()

    def run(self) -> None:
        """Call the provider as long as there is work. OSError: the user's end is gone."""
        while (raw := self._raw) is not None and check(lib.sk_kpipe_run(raw)) == 1:
            pass

    def close(self) -> None:
        """Disconnect the provider. Twice is harmless."""
        raw, self._raw = self._raw, None
        if raw is not None:
            self._poll.close()


@final
class _Tap:
    """The sending end of a monitor: nothing to do but to be closed."""

    __slots__ = ("_end",)

    def __init__(self, end: Channel) -> None:
        self._end = end

    def fileno(self) -> int:
        return self._end.fileno()

    def run(self) -> None:
        self._end.arm(Direction.RX)

    def close(self) -> None:
        self._end.close()


def _serve_kernel_pipe(provider: Provider, port: int, end: Channel) -> Service:
    return KernelPipe(end, provider.ops if provider.ops is not None else lib.sk_loopback_provider())


def _serve_monitor(provider: Provider, port: int, end: Channel) -> Service:
    if provider.target is None:
        raise ValueError("a monitor has a target")
    watch(provider.target, end, Direction.TX | Direction.RX)
    return _Tap(end)


DOMAINS: Final[Mapping[NexusType, Domain]] = MappingProxyType(
    {
        NexusType.USER_PIPE: Domain(NexusType.USER_PIPE, 2),
        NexusType.KERNEL_PIPE: Domain(NexusType.KERNEL_PIPE, 1, _serve_kernel_pipe),
        NexusType.MONITOR: Domain(NexusType.MONITOR, 1, _serve_monitor),
    }
)
"""The domains of this package; a controller may be given more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A registration: what its nexuses are like. *anonymous* ports open to anybody who reaches
    the controller; others must be bound. *ops* (kernel pipe) are the provider's callbacks, by
    default a loopback; *target* (monitor) is the channel to watch."""

    domain: Domain
    name: str
    params: ChannelParams
    anonymous: bool = False
    ops: Any = None
    target: Channel | None = None
    uuid: uuid.UUID = field(default_factory=uuid.uuid4)


class _Pipe:
    """Descriptors of one channel until both ends have theirs."""

    def __init__(self, params: ChannelParams) -> None:
        self.params = params
        fds = ffi.new("int[2]")
        check(lib.sk_arena_create(params.raw(), fds))
        self.memfd = [int(fds[0]), int(fds[1])]
        # For the other side, and before nobody may open them any more.
        mode = os.O_RDONLY | os.O_CLOEXEC
        self.reading = [os.open(f"/proc/self/fd/{fd}", mode) for fd in self.memfd]
        for fd in self.memfd:
            os.fchmod(fd, 0)
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self.bell = [os.eventfd(0, flags) for _ in range(4)]
        self.control: list[socket.socket | None] = list(socket.socketpair())
        self.taken: set[int] = set()

    def descriptors(self, side: int) -> list[int]:
        """For *side*, as ``struct sk_attach`` wants them: copies, the other half for reading."""
        control = self.control[side]
        assert control is not None, "a side is given away once"
        self.control[side] = None
        own = os.dup(self.memfd[side])
        other = os.dup(self.reading[1 - side])
        halves = [own, other] if side == SERVER else [other, own]
        self.taken.add(side)
        return [*halves, *(os.dup(fd) for fd in self.bell), control.detach()]

    def close(self) -> None:
        for fd in (*self.memfd, *self.reading, *self.bell):
            os.close(fd)
        self.memfd, self.reading, self.bell = [], [], []
        for control in self.control:
            if control is not None:
                control.close()


def _attach(params: ChannelParams, side: int, fds: list[int]) -> Channel:
    request = ffi.new("struct sk_attach *")
    request.side = side
    request.memfd, request.bell = fds[0:2], fds[2:6]
    request.control, request.pidfd = fds[6], -1
    out = ffi.new("struct channel **")
    check(lib.sk_channel_attach(params.raw(), request, out))
    return Channel(out[0])


@final
class Nexus:
    """An instance of a provider. A port is open to one opener at a time."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.uuid = uuid.uuid4()
        self.flags = NexusFlags.ATTACHED
        self._bindings: dict[int, PortBinding] = {}
        self._pipe: _Pipe | None = None
        self._local: dict[int, Any] = {}  # held, whoever has them by now
        self._remote: dict[int, socket.socket] = {}
        self._services: dict[int, Service] = {}

    def bind(self, port: int, *, pid: int | None = None, key: bytes | None = None) -> None:
        """Say who may open *port*. OSError: EINVAL no criterion, or a key of more than 1024
        bytes; EEXIST it is bound; EDOM there is no such port."""
        self._check_port(port)
        if (pid is None and key is None) or (key is not None and not 0 < len(key) <= KEY_MAX):
            raise OSError(
                errno.EINVAL, "a port is bound to a process, a key of 1-1024 bytes, or both"
            )
        if port in self._bindings:
            raise OSError(errno.EEXIST, f"port {port} is bound")
        self._bindings[port] = PortBinding(pid=pid, key=key)

    def unbind(self, port: int) -> None:
        """Forget who may open *port*; its channel stays. OSError ENOENT: it is not bound."""
        if self._bindings.pop(port, None) is None:
            raise OSError(errno.ENOENT, f"port {port} is not bound")

    def open(self, port: int, *, key: bytes = b"") -> Channel:
        """Open *port* in this process. OSError: see ``open_channel``."""
        self.reap()
        self._admit(port, os.getpid(), key)
        channel = _attach(self.provider.params, *self._give(port))
        lib.sk_channel_hold(channel.raw)
        self._local[port] = ffi.gc(channel.raw_pointer(), lib.sk_channel_drop)
        return channel

    def close(self) -> None:
        """Open no more channels; those that are open stay. Detached when the last is gone."""
        self.flags |= NexusFlags.CLOSED
        self.reap()

    @property
    def open_ports(self) -> frozenset[int]:
        """Ports that have a channel."""
        return frozenset(self._local) | frozenset(self._remote)

    def reap(self) -> None:
        """Notice channels that have ended."""
        for port, channel in list(self._local.items()):
            if lib.sk_channel_over(channel):
                self._leave(port)
        for port, sock in list(self._remote.items()):
            if _at_end(sock):
                self._leave(port)
        if not self.open_ports:
            self._end_pipe()
            if NexusFlags.CLOSED in self.flags:
                self.flags = NexusFlags.CLOSED | NexusFlags.INVALIDATED

    def services(self) -> list[Service]:
        """What serves ends for openers elsewhere."""
        return list(self._services.values())

    def run(self, service: Service) -> None:
        """Let *service* work; when its channel is over, close it."""
        try:
            service.run()
        except OSError:
            for port, one in list(self._services.items()):
                if one is service:
                    del self._services[port]
            service.close()

    def shutdown(self) -> None:
        """End what this process has of it at once: services, and descriptors not yet given."""
        self.flags = NexusFlags.CLOSED | NexusFlags.INVALIDATED
        for port in list(self.open_ports):
            self._leave(port)
        self._end_pipe()

    def _check_port(self, port: int) -> None:
        if not 0 <= port < self.provider.domain.ports:
            raise OSError(errno.EDOM, f"{self.provider.domain.type.name} has no port {port}")

    def _admit(self, port: int, pid: int, key: bytes) -> None:
        """OSError: this opener gets no channel on *port*."""
        if NexusFlags.ATTACHED not in self.flags or NexusFlags.CLOSED in self.flags:
            raise OSError(errno.ENXIO, "the nexus is closed")
        self._check_port(port)
        binding = self._bindings.get(port)
        if binding is None and not self.provider.anonymous:
            raise OSError(errno.EACCES, f"port {port} is not bound to anybody")
        if binding is not None and not binding.matches(pid, key):
            raise OSError(errno.EACCES, f"port {port} is bound to somebody else")
        if port in self.open_ports:
            raise OSError(errno.EBUSY, f"port {port} has a channel")

    def _give(self, port: int) -> tuple[int, list[int]]:
        """Side and descriptors for the channel at *port*."""
        serve = self.provider.domain.serve
        side = CLIENT if serve is not None else (SERVER, CLIENT)[1 - port]
        if self._pipe is None or side in self._pipe.taken:
            self._end_pipe()
            self._pipe = _Pipe(self.provider.params)
        fds = self._pipe.descriptors(side)
        if serve is not None:
            params = self.provider.params
            end = _attach(params, SERVER, self._pipe.descriptors(SERVER))
            try:
                self._services[port] = serve(self.provider, port, end)
            except BaseException:
                for fd in fds:
                    os.close(fd)
                end.close()
                raise
        if len(self._pipe.taken) == 2:
            self._end_pipe()
        return side, fds

    def _accept(self, port: int, sock: socket.socket) -> tuple[int, list[int]]:
        given = self._give(port)
        sock.setblocking(False)
        self._remote[port] = sock
        return given

    def _leave(self, port: int) -> None:
        self._local.pop(port, None)
        sock = self._remote.pop(port, None)
        if sock is not None:
            sock.close()
        service = self._services.pop(port, None)
        if service is not None:
            service.close()

    def _end_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _at_end(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@final
class Controller:
    """Registers providers, makes nexuses, binds ports, and lets other processes in at *path*.

    It is driven by ``serve``; without *path* only this process opens channels. A controller
    and its nexuses belong to one thread; the channels do not.
    """

    def __init__(
        self, path: str | Path | None = None, domains: Mapping[NexusType, Domain] = DOMAINS
    ) -> None:
        self.path = None if path is None else Path(path)
        self.domains = domains
        self.providers: dict[uuid.UUID, Provider] = {}
        self.nexuses: dict[uuid.UUID, Nexus] = {}
        self._listener: socket.socket | None = None
        if self.path is not None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._listener.bind(os.fspath(self.path))
                self.path.chmod(0o600)
                self._listener.listen()
            except BaseException:
                self._listener.close()
                raise

    def register(
        self,
        type: NexusType,
        name: str,
        params: ChannelParams | None = None,
        *,
        anonymous: bool = False,
        ops: Any = None,
        target: Channel | None = None,
    ) -> Provider:
        """A provider for nexuses of *type*. OSError ENOTSUP: this controller has no such domain."""
        domain = self.domains.get(type)
        if domain is None:
            raise OSError(errno.ENOTSUP, f"no domain for {type.name}")
        provider = Provider(
            domain=domain,
            name=name,
            params=(params or ChannelParams()).checked(),
            anonymous=anonymous,
            ops=ops,
            target=target,
        )
        self.providers[provider.uuid] = provider
        return provider

    def create(self, provider: Provider) -> Nexus:
        """A nexus of *provider*. OSError ENOENT: it is not registered here."""
        if provider.uuid not in self.providers:
            raise OSError(errno.ENOENT, "the provider is not registered")
        nexus = Nexus(provider)
        self.nexuses[nexus.uuid] = nexus
        return nexus

    def deregister(self, provider: Provider) -> None:
        """Forget *provider* and close its nexuses, lazily."""
        self.providers.pop(provider.uuid, None)
        for nexus in self.nexuses.values():
            if nexus.provider is provider:
                nexus.close()

    def serve(self, timeout: float | None = None) -> bool:
        """Do what is to be done once: let an opener in, run services, notice who has left. False:
        there was nothing to do for *timeout* seconds."""
        poller = select.poll()
        services: dict[int, tuple[Nexus, Service]] = {}
        if self._listener is not None:
            poller.register(self._listener, select.POLLIN)
        for nexus in self.nexuses.values():
            for service in nexus.services():
                services[service.fileno()] = (nexus, service)
                poller.register(service.fileno(), select.POLLIN)
            for sock in nexus._remote.values():
                poller.register(sock, select.POLLIN)
        ready = poller.poll(None if timeout is None else timeout * 1000)
        for fd, _events in ready:
            if fd in services:
                nexus, service = services[fd]
                nexus.run(service)
            elif self._listener is not None and fd == self._listener.fileno():
                self._let_in()
        self.reap()
        return bool(ready)

    def reap(self) -> None:
        """Notice channels that have ended, and drop nexuses that are closed and have none."""
        for nexus in list(self.nexuses.values()):
            nexus.reap()
            if NexusFlags.INVALIDATED in nexus.flags:
                del self.nexuses[nexus.uuid]

    def close(self) -> None:
        """Close everything: providers and nexuses lazily, so that open channels between users
        live on; what this process served ends."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if self.path is not None:
                self.path.unlink(missing_ok=True)
        self.providers.clear()
        for nexus in self.nexuses.values():
            nexus.shutdown()
        self.nexuses.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _let_in(self) -> None:
        assert self._listener is not None
        sock, _ = self._listener.accept()
        try:
            sock.settimeout(_PATIENCE)
            kept = self._answer(sock)
        except (OSError, struct.error):
            kept = False
        if not kept:
            sock.close()

    def _answer(self, sock: socket.socket) -> bool:
        """Read a request, reply to it; True: the connection belongs to a channel now."""
        magic, name, port, keylen = _REQUEST.unpack(_exactly(sock, _REQUEST.size))
        if magic != _MAGIC or keylen > KEY_MAX:
            return False
        key = _exactly(sock, keylen)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = struct.unpack("iII", credentials)[0]
        nexus = self.nexuses.get(uuid.UUID(bytes=name))
        try:
            if nexus is None:
                raise OSError(errno.ENOENT, "no such nexus")
            nexus.reap()
            nexus._admit(port, pid, key)
            side, fds = nexus._accept(port, sock)
        except OSError as error:
            sock.sendall(_REPLY.pack(_MAGIC, error.errno or errno.EIO, 0, *(7 * [0])))
            return False
        params = nexus.provider.params
        values = [getattr(params, name) for name in ChannelParams.__slots__]
        try:
            socket.send_fds(sock, [_REPLY.pack(_MAGIC, 0, side, *values)], fds)
        except OSError:
            nexus._leave(port)
        finally:
            for fd in fds:
                os.close(fd)
        return True


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the connection ended early")
        data += more
    return data


def open_channel(
    path: str | Path, nexus: uuid.UUID, port: int, *, key: bytes = b"", timeout: float = 5.0
) -> Channel:
    """Open a port of a nexus whose controller listens at *path*, usually in another process.

    OSError: ENOENT no such nexus, EDOM no such port, EACCES the binding does not
    match, EBUSY the port has a channel, ENXIO the nexus is closed; TimeoutError
    when the controller says nothing for *timeout* seconds.
    """
    if len(key) > KEY_MAX:
        raise OSError(errno.EINVAL, f"a key has at most {KEY_MAX} bytes")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fds: list[int] = []
    try:
        sock.settimeout(timeout)
        sock.connect(os.fspath(path))
        sock.sendall(_REQUEST.pack(_MAGIC, nexus.bytes, port, len(key)) + key)
        data, fds, _flags, _address = socket.recv_fds(sock, _REPLY.size, 7)
        if len(data) < _REPLY.size:
            data += _exactly(sock, _REPLY.size - len(data))
        magic, error, side, *values = _REPLY.unpack(data)
        if magic != _MAGIC:
            raise OSError(errno.EPROTO, "no controller listens there")
        if error != 0:
            raise OSError(error, os.strerror(error))
        params = ChannelParams(**dict(zip(ChannelParams.__slots__, values, strict=True)))
        if len(fds) != 7 or side not in (SERVER, CLIENT):
            raise OSError(errno.EPROTO, "the controller sent no channel")
        taken, fds = fds, []
        channel = _attach(params.checked(), side, taken)
        channel.keep(sock)
        return channel
    except BaseException:
        sock.close()
        for fd in fds:
            os.close(fd)
        raise
