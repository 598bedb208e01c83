"""Options that name a Stack's settings, shared by the subcommands."""

import argparse
from typing import Any, Final

__all__ = ["add_settings", "settings"]

# Option, metavar, help. The names are those of _config.Config.
ROWS: Final = (
    ("nic", "SPEC", "usernet (default), lo, tap:NAME, tun:NAME or af_packet:IFNAME, with options"),
    ("addr", "CIDR", "the stack's address, such as 10.0.0.2/24"),
    ("gateway", "A", "where everything beyond the network goes"),
    ("dns", "A", "name servers, separated by commas"),
    ("mtu", "BYTES", "of the interface"),
    ("pcap", "FILE", "capture to a pcapng file; {pid} in it is replaced"),
    ("fault", "SPEC", "what goes wrong on the link, such as loss=1%%,delay=20ms"),
    ("classq", "SPEC", "queues by class above the NIC: on, or such as rate=50mbit,target=5ms"),
    ("loopback", "MODE", "where 127.0.0.0/8 and ::1 lead: stack, host or both"),
    ("resolver", "WHO", "who resolves names: stack or host"),
    ("forward", "PORTS", "usernet: host ports let in, [tcp:|udp:][ADDRESS:]PORT[:PORT] or auto"),
    ("linger", "SECONDS", "how long exit waits for data still to be sent (5)"),
    ("sysctl", "NAME=N", "tunables of the stack"),
)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add one option for each setting."""
    for name, metavar, about in ROWS:
        parser.add_argument(f"--{name}", metavar=metavar, help=about)
    parser.add_argument("--config", metavar="FILE", help="a TOML file with the same names")


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given."""
    return {name: value for name, *_ in ROWS if (value := getattr(given, name)) is not None}
