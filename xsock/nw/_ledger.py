"""Who sent and received how much: the accounts of a stack's originators.

A packet is charged where it leaves or arrives, with its IP header, to the originator of the
voucher under which its data was sent; what a socket receives goes to the one it sent
under last. A stack keeps 256 originators apart; the rest share OTHERS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from bsdcore._ffi import check, ffi, lib
from xsock.nw._voucher import Originator, Originators, ServiceClass

__all__ = ["OTHERS", "Account", "Ledger", "Traffic"]

ORIGIN_OTHERS: Final = 0xFFFFFFFF
OTHERS: Final = Originator("others")
ROWS: Final = 260  # 256 originators, nobody, the others, and room for two more
# The stack's classes by index. System background is background for accounts.
_CLASSES: Final = {
    **{item.index: item for item in ServiceClass},
    1: ServiceClass.BACKGROUND,
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Whole IP packets and their bytes, each way."""

    packets_out: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    bytes_in: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.packets_out + other.packets_out,
            self.bytes_out + other.bytes_out,
            self.packets_in + other.packets_in,
            self.bytes_in + other.bytes_in,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """One originator's. *classes* has only those in which anything went.

    Retransmits are among what was sent. *pool_bytes* is the memory that its sockets hold now.
    """

    originator: Originator | None
    classes: Mapping[ServiceClass, Traffic] = field(default_factory=dict, hash=False)
    retransmitted_packets: int = 0
    retransmitted_bytes: int = 0
    pool_bytes: int = 0

    @property
    def total(self) -> Traffic:
        """All classes together."""
        return sum(self.classes.values(), Traffic())

    def of(self, service_class: ServiceClass) -> Traffic:
        """The traffic of one class."""
        return self.classes.get(service_class, Traffic())

    def __add__(self, other: Account) -> Account:
        classes = dict(self.classes)
        for item, traffic in other.classes.items():
            classes[item] = classes.get(item, Traffic()) + traffic
        return Account(
            self.originator,
            MappingProxyType(classes),
            self.retransmitted_packets + other.retransmitted_packets,
            self.retransmitted_bytes + other.retransmitted_bytes,
            self.pool_bytes + other.pool_bytes,
        )


class Ledger(Mapping["Originator | None", Account]):
    """Accounts by originator, read when asked; None is what nobody's voucher pays for.

    *cores* answers the bsdcore Stacks that the accounts are the sum of. An
    originator that has sent nothing has an empty account.
    """

    def __init__(self, originators: Originators, cores: Callable[[], Iterable[Any]]) -> None:
        self._originators = originators
        self._cores = cores

    def accounts(self) -> dict[Originator | None, Account]:
        """All accounts at once; the figures of one stack are of one moment."""
        out: dict[Originator | None, Account] = {}
        for core in self._cores():
            for number, account in _rows(core):
                whose = self._whose(number)
                account = Account(whose) + account
                out[whose] = out[whose] + account if whose in out else account
        return out

    def _whose(self, number: int) -> Originator | None:
        if number == 0:
            return None
        return self._originators.originator(number) or OTHERS

    def __getitem__(self, originator: Originator | None) -> Account:
        return self.accounts().get(originator, Account(originator))

    def __contains__(self, originator: object) -> bool:
        return originator in self.accounts()

    def __iter__(self) -> Iterator[Originator | None]:
        return iter(self.accounts())

    def __len__(self) -> int:
        return len(self.accounts())


def _rows(core: Any) -> list[tuple[int, Account]]:
    room = ROWS
    while True:
        rows = ffi.new("struct bsd_ledger[]", room)
        count = check(lib.bsd_ledger_list(core.cdata, rows, room))
        if count <= room:
            break
        room = count + ROWS
    found = []
    for i in range(count):
        row = rows[i]
        number = ORIGIN_OTHERS if i == 1 else int(row.origin)
        account = _account(row)
        if number not in (0, ORIGIN_OTHERS) or account.classes or account.pool_bytes:
            found.append((number, account))
    return found


def _account(row: Any) -> Account:
    classes: dict[ServiceClass, Traffic] = {}
    for index, item in _CLASSES.items():
        traffic = Traffic(
            row.txpkts[index], row.txbytes[index], row.rxpkts[index], row.rxbytes[index]
        )
        if traffic != Traffic():
            classes[item] = classes.get(item, Traffic()) + traffic
    return Account(None, classes, row.rexmtpkts, row.rexmtbytes, row.pool)
