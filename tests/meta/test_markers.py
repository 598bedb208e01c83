"""A test that needs something absent is skipped on a laptop and fails in CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.servers("sh", "no-such-program")
def test_absent():
    raise AssertionError("ran")

@pytest.mark.servers("sh")
def test_present():
    pass

@pytest.mark.root
def test_skips_itself():
    pytest.skip("because")

def test_unmarked():
    pytest.skip("because")
"""


@pytest.mark.parametrize(
    ("ci", "outcomes"), [("", "1 passed, 3 skipped"), ("true", "1 failed, 1 passed, 1 skipped")]
)
def test_markers(tmp_path: Path, ci: str, outcomes: str) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
    )
    assert outcomes in run.stdout
    assert run.returncode == (1 if ci else 0)
