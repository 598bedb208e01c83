"""What every test gets: what its markers need is there, and runs repeat.

``root``, ``servers`` and ``slow`` are described in pyproject.toml. In CI
(``CI=true``) a test with one of the first two may not be skipped, whoever
skips it: there everything it needs is installed.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from functools import cache

import pytest
from hypothesis import settings

# The same examples every time; a virtual clock makes wall-clock deadlines noise.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell ignores SIGINT for what it starts in the background, and children inherit that:
# programs that a test interrupts would not notice.
signal.signal(signal.SIGINT, signal.default_int_handler)

IN_CI = os.environ.get("CI") == "true"


@cache
def why_not_root() -> str | None:
    """Why privileged tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs ip: apt-get install iproute2"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        return f"needs network namespaces ({probe.stderr.strip()})"
    return None


def why_not(item: pytest.Item) -> str | None:
    """What *item*'s markers ask for and this machine lacks, or None."""
    if item.get_closest_marker("root") is not None and (reason := why_not_root()) is not None:
        return reason
    wanted = [program for mark in item.iter_markers("servers") for program in mark.args]
    # Debian keeps servers where an ordinary user's PATH does not look.
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = [program for program in wanted if shutil.which(program, path=path) is None]
    return f"needs {', '.join(missing)} (see .ci/run)" if missing else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if (reason := why_not(item)) is not None:
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn the skip of a privileged or server test into a failure."""
    report = yield
    needs = item.get_closest_marker("root") or item.get_closest_marker("servers")
    if IN_CI and report.skipped and needs is not None and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {call.excinfo.value if call.excinfo else needs.name}"
    return report
