"""Port and Pool as objects: ownership, closing, settings, faults and captures by name."""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

import nic
from nic import Caps, FaultSpec, NicError, Pool, open_pair, open_port, wrap_fault
from nic.backends import wrap_capoff, wrap_pcapng
from nic.port import FRAME_MAX, Gso, Offload

MS = 10**6


SOURCES = Path(__file__).parents[3] / "nic"


def constants(header: str, prefix: str) -> dict[str, int]:
    """The integer constants of a C header of this package."""
    text = (SOURCES / header).read_text()
    found = re.findall(rf"^#define {prefix}(\w+) (0x[0-9a-f]+|\d+)\b", text, re.M)
    return {name: int(value, 0) for name, value in found}


def test_names_mean_what_the_headers_say() -> None:
    port = constants("port.h", "PORT_")
    assert {cap.name: cap.value for cap in Caps} == {cap.name: port[cap.name or ""] for cap in Caps}
    gso = constants("pkt.h", "PKT_GSO_")
    assert {kind.name: kind.value for kind in Gso} == gso
    pool = (SOURCES / "pkt_pool.h").read_text()
    assert f"#define PKT_BIG ({FRAME_MAX - 4096} + 4096)" in pool


def test_public_names_are_sorted_and_there() -> None:
    assert list(nic.__all__) == sorted(nic.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(nic, name) for name in nic.__all__)


def test_a_pool_outlives_its_closing_while_ports_hold_it() -> None:
    pool = Pool(1 << 20)
    port = open_port("lo", pool)
    pool.close()
    pool.close()
    port.send(b"E" * 40)
    assert pool.statistics().active == 1
    assert port.recv() == b"E" * 40
    assert pool.statistics().active == 0
    port.close()
    with pytest.raises(ValueError, match="the pool is closed"):
        pool.statistics()
    with pytest.raises(ValueError, match="the pool is closed"):
        open_port("lo", pool)


def test_a_pool_has_a_limit() -> None:
    with Pool(200_000) as pool, open_port("lo", pool) as port:
        for _ in range(2):
            port.send(bytes(60000))
        with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)):
            port.send(bytes(60000))
        assert pool.statistics().fails == 1
        assert 0 < pool.statistics().bytes <= pool.statistics().limit == 200_000
        while port.recv():
            pass
        port.send(bytes(60000))
    for limit in (0, -1, 2**64):
        with pytest.raises(ValueError, match="positive number of bytes"):
            Pool(limit)


def test_a_closed_port_says_so() -> None:
    a, b = open_pair()
    assert repr(a) == "<nic.Port feth 'feth0' mtu=1500 ethernet>"
    a.close()
    a.close()
    assert a.is_closed
    assert repr(a) == "<nic.Port closed>"
    with pytest.raises(ValueError, match="the port is closed"):
        a.send(b"x")
    with b:
        assert not b.is_closed
    assert b.is_closed


def test_a_forgotten_port_is_reported_and_closed() -> None:
    pool = Pool()
    forgotten = [open_port("lo", pool)]
    pool.close()
    with pytest.warns(ResourceWarning, match="unclosed <nic.Port lo"):
        forgotten.clear()
    with pytest.raises(ValueError, match="the pool is closed"):
        pool.statistics()


def test_wrapping_takes_the_port_over(tmp_path: Path) -> None:
    with Pool() as pool:
        a, b = open_pair(pools=(pool, pool))
        outer = wrap_fault(a)
        assert a.is_closed
        assert outer.info.kind == "fault"
        assert Caps.TSO4 not in outer.info.caps
        with pytest.raises(ValueError, match="the port is closed"):
            wrap_fault(a)
        with outer, pytest.raises(NicError) as caught:
            wrap_pcapng(outer, tmp_path / "absent" / "x.pcapng")
        assert str(caught.value) == (
            f"cannot write the capture '{tmp_path}/absent/x.pcapng': its directory does not exist"
        )
        assert outer.is_closed
        b.close()
        assert pool.statistics().active == 0


def test_released_ports_belong_to_somebody_else() -> None:
    with Pool() as pool:
        port = open_port("lo", pool)
        raw, held = port.release()
        assert port.is_closed
        assert held is pool
        again = nic.Port(raw, held)
        held.drop()
        again.send(b"E" * 30)
        assert again.recv() == b"E" * 30
        again.close()


def test_settings() -> None:
    a, b = open_pair(mtu=1280)
    with a, b:
        assert a.info.mtu == 1280
        a.set_mtu(9000)
        assert a.info.mtu == 9000
        a.set_mac(bytes.fromhex("020304050607"))
        assert a.info.mac.hex() == "020304050607"
        a.set_promisc(True)
        with pytest.raises(OSError, match="Invalid argument"):
            a.set_mtu(20)
        with pytest.raises(ValueError, match="has 6 bytes, not 5"):
            a.set_mac(b"12345")
        with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
            a.set_mac(b"\x01" * 6)
    with pytest.raises(ValueError, match="'ethernet' or 'rawip'"):
        open_pair("token-ring")


def test_offloads_travel_with_a_frame() -> None:
    a, b = open_pair()
    with a, b:
        frame = bytes(60)
        todo = Offload(csum=True, csum_start=34, csum_offset=6)
        a.send(frame, 1, todo)
        got = b.recv_offload(2)
        assert got is not None
        assert got[0] == frame
        assert got[1] == Offload(csum=True, csum_ok=True, csum_start=34, csum_offset=6)
        assert b.recv_offload(2) is None
        for bad in (
            Offload(csum=True, csum_start=59),
            Offload(gso=Gso.TCPV4, gso_size=10),
            Offload(gso_size=10),
            Offload(csum=True, gso=Gso.TCPV4, gso_size=10),  # no TCP in there
        ):
            with pytest.raises(OSError, match="Invalid argument"):
                a.send(frame, 3, bad)
        assert a.statistics().txpkts == 1


def test_faults_change_while_the_port_runs() -> None:
    a, b = open_pair()
    with wrap_fault(a, "delay=5ms,seed=3") as a, b:
        a.send(b"1" * 60, 0)
        assert a.poll_at() == 5 * MS
        a.set_fault(FaultSpec.parse("partition=on,dir=tx"))
        a.send(b"2" * 60, 1)
        assert a.recv(5 * MS) is None
        assert b.recv(5 * MS) is None
        tx = a.fault_statistics("tx")
        assert (tx.partition, tx.passed, tx.held) == (2, 0, 0)
        assert a.poll_at() == nic.NEVER
        # The other direction still has its delay.
        b.send(b"3" * 60, 6 * MS)
        assert a.recv(6 * MS) is None
        assert a.poll_at() == 11 * MS
        assert a.recv(11 * MS) == b"3" * 60
        assert a.fault_statistics("rx").passed == 1
        assert a.statistics().txdrops == 2


def test_others_may_meddle_while_the_port_is_driven(tmp_path: Path) -> None:
    """Faults, counters and the capture belong to every thread; the thread sanitizer watches."""
    a, b = open_pair()
    a = wrap_pcapng(wrap_fault(a), tmp_path / "x.pcapng")
    done = Event()

    def meddle() -> None:
        number = 0
        while not done.is_set():
            number += 1
            a.set_fault(FaultSpec(loss=number % 2 / 2, rate=10**9, queue=1 + number % 50))
            a.fault_statistics("tx")
            a.statistics()
            a.capture_statistics()
            with suppress(OSError):  # no room for more before the next packet
                a.comment(f"number {number}")
            a.flush_capture()

    other = Thread(target=meddle)
    with a, b:
        other.start()
        try:
            for now in range(0, 500 * MS, MS):
                a.send(bytes(100), now)
                a.recv(now)
                b.recv(now)
        finally:
            done.set()
            other.join()
        tx = a.fault_statistics("tx")
        assert tx.passed + tx.lost + tx.queue + tx.held == 500
        assert a.capture_statistics().packets == 500


def test_every_fault_of_a_spec_reaches_the_port() -> None:
    a, b = open_pair(queue=4096)
    spec = (
        "loss=10%,burst-loss=5%/50%/80%,delay=1ms,jitter=1ms/pareto,reorder=10%/9ms,dup=10%,"
        "corrupt=10%,rate=100mbit/200,mtu=1400"
    )
    with wrap_fault(a, spec) as a, b:
        for number in range(2000):
            a.send(bytes(1500 if number % 10 == 0 else 600), number * 10_000)
        while (at := a.poll_at()) != nic.NEVER:
            assert a.recv(at) is None
        tx = a.fault_statistics("tx")
        assert min(tx.lost, tx.burst, tx.queue, tx.mtu, tx.passed) > 0
        assert min(tx.duplicated, tx.corrupted, tx.reordered) > 0
        dropped = tx.lost + tx.burst + tx.queue + tx.mtu
        assert tx.passed + dropped == 2000 + tx.duplicated
        assert a.statistics().txdrops == dropped


def test_calls_for_a_wrapper_that_is_not_there() -> None:
    with open_port("lo") as port:
        faults: list[Callable[[], object]] = [
            lambda: port.set_fault(FaultSpec()),
            lambda: port.fault_statistics("tx"),
        ]
        captures: list[Callable[[], object]] = [
            lambda: port.comment("x"),
            port.flush_capture,
            port.capture_statistics,
        ]
        for call in faults:
            with pytest.raises(ValueError, match=r"has no fault injector; nic.wrap_fault\(\)"):
                call()
        for call in captures:
            with pytest.raises(ValueError, match=r"has no capture; nic.wrap_pcapng\(\)"):
                call()


def test_a_capture_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    a, b = open_pair()
    # Reached through what is wrapped around it.
    with wrap_capoff(wrap_pcapng(a, path, name="near"), Caps.SG) as a, b:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        header = path.stat().st_size
        assert struct.unpack("=I", path.read_bytes()[8:12])[0] == 0x1A2B3C4D
        a.comment("the first")
        a.send(b"1" * 60, 1)
        assert path.stat().st_size == header
        a.flush_capture()
        assert path.stat().st_size > header
        captured = a.capture_statistics()
        assert (captured.packets, captured.lost, captured.errors) == (1, 0, 0)
        assert captured.bytes == path.stat().st_size
        assert b"the first" in path.read_bytes()
        with pytest.raises(ValueError, match="not empty"):
            a.comment("")
        with pytest.raises(ValueError, match="without NUL"):
            a.comment("a\0b")


def test_a_capture_that_cannot_be_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, why in (
        (tmp_path, "Is a directory"),
        (tmp_path / "fifo", "a FIFO that nobody reads; start the reader first"),
        (Path("/dev/full"), "No space left on device"),
    ):
        with pytest.raises(NicError) as caught:
            wrap_pcapng(open_port("lo"), path)
        assert str(caught.value) == f"cannot write the capture '{path}': {why}"
    with open_port("lo") as port, pytest.raises(TypeError):
        wrap_pcapng(port, 5)  # type: ignore[arg-type]
