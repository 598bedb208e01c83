"""The README's program for xsock.nw does what the README says."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_nw_program_runs_as_printed() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    (program,) = [block for block in blocks if "nw.Stack" in block]
    run = subprocess.run(
        [sys.executable, "-"],
        input=program, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "b'HELLO'\n", "")
