"""Puts a Stack together: port, wrappers, interface, addresses, routes, tunables."""

import ipaddress
import os
import time
from pathlib import Path
from typing import Any

import nic
from bsdcore import netstat
from bsdcore.stack import IFF_UP, Stack
from xsock._config import Config, ConfigError
from xsock._host import Host

__all__ = ["Parts"]


def _capture_path(path: str) -> str:
    """Where this process captures: children of a program must not write into its file."""
    pid = os.getpid()
    if "{pid}" in path:
        return path.replace("{pid}", str(pid))
    if os.environ.get("XSOCK_MAIN_PID", str(pid)) == str(pid):
        return path
    where = Path(path)
    return str(where.with_name(f"{where.stem}-{pid}{where.suffix}"))


class Parts:
    """Everything a Stack is made of, freed in the right order by close()."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.usernet: Any = None
        self._capture: Any = None
        # The second half keys sequence numbers and timestamps, which are the host's: a port that
        # another of its stacks had a while ago goes on where that one ended.
        seed = os.urandom(32)
        self.secret = seed[16:]
        self.stack = Stack(config.name, seed=seed)
        self.switch: Any = None
        self.clients: set[Any] = set()
        try:
            from xsock._switch import Switch

            self.switch = Switch(self.stack)
            if config.nic.kind != "lo":
                self._interface()
            self.tune(self.stack)
            self.host = self._host()
            self.stack.start()
            for rule in config.forward:
                self._forward(rule)
            self.stack.on_change = self._changed
        except BaseException:
            self.close()
            raise

    def _interface(self) -> None:
        config = self.config
        addr, gateway = config.addr, config.gateway
        if config.nic.kind == "usernet":
            from xsock import usernet

            self.usernet, port = usernet.Usernet.open(config.nic)
            addr, gateway = addr or usernet.ADDRESS, gateway or usernet.GATEWAY
        elif config.nic.kind == "feth":
            raise ConfigError("nic feth is two ports of one process; choose lo, usernet, tap, "
                              "tun or af_packet")  # fmt: skip
        else:
            port = nic.open_port(config.nic)
        self.switch.lay("en0", self._wrapped(port))
        if config.mtu is not None:
            self.stack.set_mtu("en0", config.mtu)
        if addr is not None:
            self.stack.add_address("en0", addr)
            self.switch.set_addresses("en0", (addr,))
        self.stack.set_flags("en0", IFF_UP)
        if gateway is not None:
            every = "::/0" if ":" in gateway else "0.0.0.0/0"
            self.stack.add_route(every, gateway, "en0")

    def _changed(self) -> None:
        """The stack's interfaces or routes are others: tell who has copies of them."""
        for interface in netstat.interfaces(self.stack):
            if interface.name != "lo0" and interface.name in self.switch.switches:
                self.switch.set_addresses(interface.name, interface.addresses)
        for client in tuple(self.clients):
            client.outdate()

    def _wrapped(self, port: nic.Port) -> nic.Port:
        """Faults next to the wire, queues by class above them, the capture on top: it shows what
        the stacks see."""
        config = self.config
        if config.fault is not None:
            port = nic.wrap_fault(port, config.fault)
        if config.classq is not None:
            port = nic.wrap_classq(port, config.classq)
        if config.pcap is not None:
            offset = time.time_ns() - time.monotonic_ns()
            path = _capture_path(config.pcap)
            port = nic.wrap_pcapng(port, path, name="en0", epoch_offset_ns=offset)
            self._capture = port.raw
        return port

    def tune(self, stack: Stack) -> None:
        """Give *stack* the tunables of the configuration."""
        for name, value in self.config.sysctl.items():
            try:
                stack.sysctl[name] = value
            except KeyError:
                raise ConfigError(f"sysctl: there is no tunable {name!r}") from None
            except ValueError as error:
                raise ConfigError(f"sysctl: {error}") from None

    def _host(self) -> Host:
        config = self.config
        reaches = self.usernet is not None and self.usernet.loops_back
        mode = config.loopback or ("both" if reaches else "stack")
        if mode == "host" and not reaches:
            raise ConfigError("loopback: host needs nic usernet, whose gateway leads there")
        gateway = None
        if reaches:
            from xsock import usernet

            gateway = ipaddress.IPv4Address(usernet.GATEWAY).packed
        host = Host(self.stack, mode, gateway)
        host.resolver = self._resolver()
        if "auto" in config.forward and self.usernet is not None:
            host.on_listen = self._on_listen
        return host

    def _resolver(self) -> Any:
        from xsock._resolver import Resolver

        servers = self.config.dns
        if servers or self.usernet is None:
            return Resolver(self.config.resolver, servers)
        from xsock import usernet

        return Resolver(self.config.resolver, (usernet.NAMESERVER,), self.usernet.has_nameserver)

    def _forward(self, text: str) -> None:
        from xsock.usernet import Forward

        if text != "auto":
            self.usernet.forward(Forward.parse(text))

    def _on_listen(self, kind: int, host: str, port: int) -> None:
        from xsock.usernet import Forward

        if host in ("0.0.0.0", "::"):
            protocol = "tcp" if kind == 1 else "udp"
            self.usernet.forward(Forward(protocol, "127.0.0.1", port, port))

    def flush_capture(self) -> None:
        """Write what the capture holds to its file."""
        if self._capture is not None:
            from nic._ffi import lib

            lib.nic_pcapng_flush(self._capture)

    def close(self) -> None:
        """Reset what is open and free it; the stack closes its ports, then the rest may go."""
        self._capture = None
        for client in tuple(self.clients):
            client.close()
        if self.switch is not None:
            self.switch.unlink()
        self.stack.close()
        if self.usernet is not None:
            self.usernet.close()
        switch, self.switch = self.switch, None
        if switch is not None:
            switch.close()
