"""A test that needs something absent is skipped on a laptop and fails in CI."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
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
    ("ci", "expected"),
    [("", {"passed": 1, "skipped": 3}), ("true", {"passed": 1, "skipped": 1, "failed": 2})],
)
def test_markers(tmp_path: Path, ci: str, expected: dict[str, int]) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env=os.environ | {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    counts = re.findall(r"(\d+) (passed|skipped|failed|error)", run.stdout.splitlines()[-1])
    outcomes = Counter[str]()
    for number, outcome in counts:
        # Skipping happens in the set-up, or in the test: one is called an error.
        outcomes[outcome.replace("error", "failed")] += int(number)
    assert outcomes == expected, run.stdout
    assert run.returncode == (1 if ci else 0)
