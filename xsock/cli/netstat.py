"""Show a running stack: sockets (-an, the default), routes (-rn), counters (-s), interfaces (-i),
ports and flows of all stacks of the process, those of its event loops too (--flows).

xsock netstat -an
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("-a", action="store_true", help="sockets, listeners too (the default)")
    parser.add_argument("-n", action="store_true", help="numbers, not names (always so)")
    parser.add_argument("-r", action="store_true", help="routes")
    parser.add_argument("-s", action="store_true", help="counters that are not 0")
    parser.add_argument("-i", action="store_true", help="interfaces")
    parser.add_argument("--flows", action="store_true", help="ports and flows, of clients too")
    parser.add_argument("--pid", type=int, help="whose stack; needed if there are several")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(given: argparse.Namespace) -> int:
    """Ask and print."""
    from xsock._control import ask

    asked = {"sockets": given.a, "flows": given.flows, "routes": given.r,
             "counters": given.s, "interfaces": given.i}  # fmt: skip
    chosen = [what for what, on in asked.items() if on] or ["sockets"]
    for what in chosen:
        rows = ask(given.pid, "netstat", what=what)
        if given.json:
            import json

            print(json.dumps(rows))
        else:
            print("\n".join(SHOW[what](rows)))
    return 0


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns as wide as they need to be."""
    text = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in text) for i in range(len(heads))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in text]
    return [line.rstrip() for line in lines]


def _endpoint(address: Sequence[Any]) -> str:
    host = "*" if address[0] in ("0.0.0.0", "::") else address[0]
    return f"{host}.{address[1] or '*'}"


def _sockets(rows: list[dict[str, Any]]) -> list[str]:
    heads = ("Proto", "Recv-Q", "Send-Q", "Local Address", "Foreign Address", "State", "Rexmt")
    return table(heads, [
        (r["protocol"], r["receive_queue"], r["send_queue"], _endpoint(r["local"]),
         _endpoint(r["remote"]), r["state"], r["retransmits"]) for r in rows
    ])  # fmt: skip


PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}


def _flows(rows: list[dict[str, Any]]) -> list[str]:
    heads = ("Proto", "Local Address", "Foreign Address", "Owner", "Pid", "State", "TCP",
             "Ipkts", "Ibytes", "Opkts", "Obytes")  # fmt: skip
    return table(heads, [
        (PROTOCOLS.get(r["proto"], r["proto"]), _endpoint(r["local"]), _endpoint(r["foreign"]),
         r["kind"].lower(), r["pid"], r["state"].lower() + ("*" if r["suspended"] else ""),
         r["tcp"] or "-", r["rxpkts"], r["rxbytes"], r["txpkts"], r["txbytes"]) for r in rows
    ])  # fmt: skip


def _routes(rows: list[dict[str, Any]]) -> list[str]:
    heads = ("Destination", "Gateway", "Interface", "Mtu", "Use")
    return table(heads, [
        (r["destination"], r["gateway"], r["interface"], r["mtu"], r["use"]) for r in rows
    ])  # fmt: skip


def _interfaces(rows: list[dict[str, Any]]) -> list[str]:
    heads = ("Name", "Mtu", "Addresses", "Ipkts", "Ibytes", "Idrop", "Opkts", "Obytes", "Odrop")
    return table(heads, [
        (r["name"], r["mtu"], ",".join(r["addresses"]) or "-", r["ipackets"], r["ibytes"],
         r["iqdrops"], r["opackets"], r["obytes"], r["oqdrops"]) for r in rows
    ])  # fmt: skip


def _counters(rows: dict[str, int]) -> list[str]:
    return [f"{value:>12}  {name}" for name, value in rows.items() if value]


SHOW: dict[str, Callable[[Any], list[str]]] = {
    "sockets": _sockets, "flows": _flows, "routes": _routes, "interfaces": _interfaces,
    "counters": _counters,
}  # fmt: skip
