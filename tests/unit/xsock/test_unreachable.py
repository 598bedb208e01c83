"""Datagrams to where the host cannot go: the sender hears of it, through the gateway."""

import subprocess
import sys

import pytest

PROGRAM = """
import errno
from xsock import Stack
with Stack(nic="usernet") as stack, stack.socket(type=2) as sock:
    sock.settimeout(20)
    sock.connect(("198.51.100.1", 9))
    sock.send(b"anybody?")
    try:
        sock.recv(1)
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("true", "ENETUNREACH"),
        ("ip link set lo up && ip route add unreachable 198.51.100.0/24", "EHOSTUNREACH"),
        ("ip link set lo up && ip addr add 198.51.100.1/32 dev lo", "ECONNREFUSED"),
    ],
)
def test_sender_hears_what_the_host_says(setup: str, expected: str) -> None:
    command = f"{setup} && exec {sys.executable} -c '{PROGRAM}'"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == (expected, "")
