"""Socket handles of the loop's stack: addresses, options, dialling."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from anyio.abc import SocketAttribute

from bsdcore._ffi import ffi, lib
from bsdcore.loop import WANT
from bsdcore.sockets import address, unpack
from xsock.nw._endpoint import Endpoint
from xsock.nw._errors import NetworkError
from xsock.nw._loop import WRITE
from xsock.nw._options import IP, TCP, ProtocolOptions, layer
from xsock.nw._voucher import QoS, Voucher

if TYPE_CHECKING:
    from xsock.nw._loop import Driver
    from xsock.nw._parameters import Parameters
    from xsock.nw._voucher import Originators
    from xsock.nw._wait import Waiter

__all__ = [
    "IPPROTO_TCP",
    "SOL_SOCKET",
    "SO_REUSEADDR",
    "abort",
    "address_of",
    "close",
    "configure",
    "dial",
    "endpoint_of",
    "name_of",
    "peer_voucher",
    "set_int",
    "socket_attributes",
]

SOL_SOCKET: Final = 1
SO_REUSEADDR: Final = 2
SO_ERROR: Final = 4
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_NO_CHECK: Final = 11
SO_BINDTODEVICE: Final = 25
IPPROTO_IP: Final = 0
IPPROTO_TCP: Final = 6
IPPROTO_IPV6: Final = 41
IP_TTL: Final = 2
IP_MTU_DISCOVER: Final = 10
IP_PMTUDISC_DONT: Final = 0
IP_PMTUDISC_DO: Final = 2
IPV6_UNICAST_HOPS: Final = 16
TCP_NODELAY: Final = 1
TCP_MAXSEG: Final = 2
TCP_CORK: Final = 3
TCP_KEEPIDLE: Final = 4
TCP_KEEPINTVL: Final = 5
TCP_KEEPCNT: Final = 6
TCP_CONGESTION: Final = 13
TCP_USER_TIMEOUT: Final = 18
AF_INET6: Final = 10
NULL: Final = ffi.NULL


def address_of(endpoint: Endpoint) -> Any:
    """A numeric endpoint as a ``struct bsd_addr *``."""
    return address(endpoint.name, endpoint.port)


def endpoint_of(addr: Any) -> Endpoint:
    """A ``struct bsd_addr`` as an endpoint."""
    host, port = unpack(addr)[:2]
    return Endpoint.address(host, port)


def name_of(handle: Any, call: Any) -> Endpoint | None:
    """What bsd_getsockname or bsd_getpeername, *call*, says; None if it has nothing to say."""
    out = ffi.new("struct bsd_addr *")
    if handle is None or call(handle, out) < 0:
        return None
    return endpoint_of(out)


def socket_attributes(
    local: Endpoint | None, remote: Endpoint | None
) -> Mapping[Any, Callable[[], Any]]:
    """anyio's typed attributes of a socket with these ends, as far as they are known."""
    known: dict[Any, Callable[[], Any]] = {}
    if local is not None:
        known[SocketAttribute.family] = lambda: local.family
        known[SocketAttribute.local_address] = lambda: local.sockaddr
        known[SocketAttribute.local_port] = lambda: local.port
    if remote is not None:
        known[SocketAttribute.remote_address] = lambda: remote.sockaddr
        known[SocketAttribute.remote_port] = lambda: remote.port
    return known


def set_int(handle: Any, level: int, name: int, value: int) -> None:
    """setsockopt(2) of an integer."""
    if (result := lib.bsd_setsockopt(handle, level, name, ffi.new("int *", value), 4)) < 0:
        raise NetworkError(-result)


def get_int(handle: Any, level: int, name: int) -> int:
    """getsockopt(2) of an integer."""
    value, length = ffi.new("int *"), ffi.new("size_t *", 4)
    if (result := lib.bsd_getsockopt(handle, level, name, value, length)) < 0:
        raise NetworkError(-result)
    return int(value[0])


def peer_voucher(handle: Any, originators: Originators) -> Voucher | None:
    """The voucher that an accepted connection came in under; None: it says nothing.

    The peer's originator if it is in this process. Background work stays in the
    background; no class is more than the default.
    """
    svc, origin = ffi.new("int *"), ffi.new("uint32_t *")
    if lib.bsd_peer_tag(handle, svc, origin) < 0:
        return None
    originator = originators.originator(origin[0])
    if svc[0] in (lib.BSD_SVC_BK, lib.BSD_SVC_BK_SYS):
        return Voucher(qos=QoS.BACKGROUND, originator=originator)
    return None if originator is None else Voucher(originator=originator)


def close(handle: Any) -> None:
    """Let the socket go in good order."""
    ffi.gc(handle, None)
    lib.bsd_close(handle)


def abort(handle: Any) -> None:
    """Reset the connection and let the socket go."""
    ffi.gc(handle, None)
    lib.bsd_abort(handle)


def configure(handle: Any, family: int, options: ProtocolOptions, parameters: Parameters) -> None:
    """Set the socket up as the lower layers of *options*, and *parameters*, ask."""
    if (tcp := layer(options, TCP)) is None:
        set_int(handle, SOL_SOCKET, SO_SNDBUF, parameters.send_high_water)
    elif (result := lib.bsd_set_ahead(handle, parameters.send_high_water)) < 0:
        raise NetworkError(-result)
    if parameters.receive_window is not None:
        set_int(handle, SOL_SOCKET, SO_RCVBUF, parameters.receive_window)
    if parameters.required_interface is not None:
        name = parameters.required_interface.encode()
        result = lib.bsd_setsockopt(handle, SOL_SOCKET, SO_BINDTODEVICE, name, len(name))
        if result < 0:
            raise NetworkError(-result, parameters.required_interface)
    if (ip := layer(options, IP)) is not None:
        _configure_ip(handle, family, ip)
    if tcp is not None:
        _configure_tcp(handle, tcp)


def _configure_ip(handle: Any, family: int, ip: IP) -> None:
    if ip.hop_limit is not None:
        if family == AF_INET6:
            set_int(handle, IPPROTO_IPV6, IPV6_UNICAST_HOPS, ip.hop_limit)
        else:
            set_int(handle, IPPROTO_IP, IP_TTL, ip.hop_limit)
    if ip.df is not None and family != AF_INET6:
        policy = IP_PMTUDISC_DO if ip.df else IP_PMTUDISC_DONT
        set_int(handle, IPPROTO_IP, IP_MTU_DISCOVER, policy)


def _configure_tcp(handle: Any, tcp: TCP) -> None:
    if tcp.no_delay:
        set_int(handle, IPPROTO_TCP, TCP_NODELAY, 1)
    if tcp.no_push:
        set_int(handle, IPPROTO_TCP, TCP_CORK, 1)
    if tcp.mss is not None:
        set_int(handle, IPPROTO_TCP, TCP_MAXSEG, tcp.mss)
    if tcp.keepalive is not None:
        set_int(handle, SOL_SOCKET, SO_KEEPALIVE, 1)
        set_int(handle, IPPROTO_TCP, TCP_KEEPIDLE, tcp.keepalive.idle)
        set_int(handle, IPPROTO_TCP, TCP_KEEPINTVL, tcp.keepalive.interval)
        set_int(handle, IPPROTO_TCP, TCP_KEEPCNT, tcp.keepalive.count)
    if tcp.user_timeout is not None:
        set_int(handle, IPPROTO_TCP, TCP_USER_TIMEOUT, round(tcp.user_timeout * 1000))
    if tcp.cc is not None:
        name = tcp.cc.encode()
        result = lib.bsd_setsockopt(handle, IPPROTO_TCP, TCP_CONGESTION, name, len(name))
        if result < 0:
            raise NetworkError(-result, tcp.cc)


class _Dial:
    """One socket on its way to be connected."""

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter

    def on_event(self, events: int, data: bytes, left: int, error: int) -> None:
        """From the driver: it is decided."""
        if not self.waiter.done():
            self.waiter.set_result(None)


async def dial(
    driver: Driver, to: Endpoint, kind: int, options: ProtocolOptions, parameters: Parameters,
    begin: Callable[[Any], object],
) -> Any:  # fmt: skip
    """A socket of *kind* connected to a numeric address; OSError. Cancelled, nothing is left.

    *begin* is handed the socket before anything is sent.
    """
    target = driver.redirect(kind, address_of(to))
    handle = driver.socket(target.family, kind)
    slot = -1
    try:
        configure(handle, target.family, options, parameters)
        begin(handle)
        local = parameters.local
        if local is not None:
            if parameters.reuse_local:
                set_int(handle, SOL_SOCKET, SO_REUSEADDR, 1)
            _check(lib.bsd_bind(handle, address_of(local)))
        result = lib.bsd_connect(handle, target, 0)
        if result == -errno.EINPROGRESS:
            watcher = _Dial(driver.waits.future())
            slot = driver.watch(handle, watcher)
            driver.loop.slots[4 * slot + WANT] = WRITE
            driver.loop.look(slot)
            driver.soon()
            await watcher.waiter
            result = -get_int(handle, SOL_SOCKET, SO_ERROR)
        _check(result)
    except BaseException:
        if slot >= 0:
            driver.unwatch(slot)
        abort(handle)
        driver.soon()
        raise
    if slot >= 0:
        driver.unwatch(slot)
    return handle


def _check(result: int) -> None:
    if result < 0:
        raise NetworkError(-result)
