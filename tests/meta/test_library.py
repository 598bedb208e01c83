"""The C installs as plain libraries with public headers that a C program can use."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "lib"
PROGRAM = r"""
#include <bsdcore/api.h>
#include <nic/api.h>
#include <string.h>

int main(void)
{
	static const unsigned char packet[20] = { 0x45, 0, 0, 20 };
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	unsigned char back[64];
	struct port *lo;
	long n;

	if (nic_lo_open(pool, 1500, &lo) != 0) {
		return 1;
	}
	if (nic_send(lo, packet, sizeof(packet), 0) != 0) {
		return 2;
	}
	n = nic_recv(lo, back, sizeof(back), 0);
	nic_close(lo);
	nic_pool_free(pool);
	return n == 20 && memcmp(back, packet, 20) == 0 ? 0 : 3;
}
"""


@pytest.mark.skipif(not (BUILD / "libnic.a").exists(), reason="needs `make units`")
def test_installed_library(tmp_path: Path) -> None:
    cmake = Path(sys.executable).with_name("cmake")
    subprocess.run(
        [cmake, "--install", BUILD, "--component", "library", "--prefix", tmp_path],
        check=True,
        capture_output=True,
    )
    (tmp_path / "program.c").write_text(PROGRAM, encoding="utf-8")
    compiler = shutil.which("cc") or "gcc"
    subprocess.run(
        [compiler, "-std=c11", "-Iinclude", "program.c", "-Llib", "-lbsdcore", "-lnic"]
        + ["-pthread", "-lm", "-o", "program"],
        cwd=tmp_path,
        check=True,
    )
    assert subprocess.run(["./program"], cwd=tmp_path).returncode == 0
