"""A name server in this process, on a socket of a stack's own loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from dns import message, rcode, rrset

ADDRESS: Final = "127.0.0.1"
Zone = Mapping[tuple[str, str], Sequence[str]]


class NameServer:
    """Answers from *zone*, ``{(name, type): records}``; not the questions for type *held*."""

    def __init__(self, sock: Any, zone: Zone) -> None:
        self.sock = sock
        self.zone = zone
        self.held: str | None = None
        self.asked: list[str] = []

    def serve(self) -> None:
        """Until an empty datagram comes."""
        while True:
            wire, peer = self.sock.recvfrom(4096)
            if not wire:
                return
            query = message.from_wire(wire)
            question = query.question[0]
            key = (question.name.to_text().lower(), question.rdtype.name)
            self.asked.append(f"{key[1]} {key[0]}")
            if key[1] != self.held:
                self.sock.sendto(self.reply(query, key).to_wire(want_shuffle=False), peer)

    def reply(self, query: message.Message, key: tuple[str, str]) -> message.Message:
        reply = message.make_response(query)
        if key in self.zone:
            name = query.question[0].name
            reply.answer.append(rrset.from_text(name, 60, "IN", key[1], *self.zone[key]))
        elif not any(key[0] == known for known, _ in self.zone):
            reply.set_rcode(rcode.NXDOMAIN)
        return reply


@contextmanager
def name_server(stack: Any, zone: Zone) -> Iterator[NameServer]:
    """A name server of *stack*, an xsock.Stack, at ADDRESS."""
    with stack.socket(type=2) as sock:
        sock.bind((ADDRESS, 53))
        sock.settimeout(None)
        made = NameServer(sock, zone)
        thread = threading.Thread(target=made.serve)
        thread.start()
        try:
            yield made
        finally:
            with stack.socket(type=2) as end:
                end.sendto(b"", (ADDRESS, 53))
            thread.join()
