"""Runs in the test process: one CPython test file, one line of JSON per event.

``python -m compat.inside MODULE LEDGER DEADLINE [SKIP]``: SKIP is a file of test ids
that are already settled. Every test is announced before it starts, so the
parent knows which one hung.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import sys
import time
import unittest
from pathlib import Path
from typing import Any, TextIO

INET = (2, 10)  # AF_INET, AF_INET6
PLAIN = (0, 1, 6, 17)  # protocols that are TCP, UDP or the default of the type


def _cases(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for item in suite:
        found += _cases(item) if isinstance(item, unittest.TestSuite) else [item]
    return found


class Ledger(unittest.TestResult):
    """Writes each outcome as it happens."""

    def __init__(self, out: TextIO, deadline: float) -> None:
        super().__init__()
        self.out = out
        self.deadline = deadline
        self.inet = False
        self.status: tuple[str, str] = ("pass", "")
        self.started = time.monotonic()

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.__new__" and args[1] in INET and args[3] in PLAIN:
            self.inet = True

    def write(self, **entry: object) -> None:
        self.out.write(json.dumps(entry) + "\n")
        self.out.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        self.inet = False
        self.status = ("pass", "")
        self.started = time.monotonic()
        faulthandler.dump_traceback_later(self.deadline, exit=True)
        self.write(start=test.id())
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        status, cause = self.status
        seconds = round(time.monotonic() - self.started, 3)
        self.write(id=test.id(), status=status, cause=cause, inet=self.inet, seconds=seconds)
        # Python 3.12 ends the tests of a skipped class without having started them.
        self.started, self.inet, self.status = time.monotonic(), False, ("pass", "")
        super().stopTest(test)

    def _fail(self, status: str, err: Any) -> None:
        text = "".join(str(err[1]).strip().splitlines()[:1])
        self.status = (status, f"{err[0].__name__}: {text}"[:300])

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._fail("error", err)
        if not isinstance(test, unittest.TestCase):  # a class or module fixture
            self.write(id=test.id(), status="error", cause=self.status[1], inet=True, seconds=0)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._fail("fail", err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._fail("fail" if issubclass(err[0], test.failureException) else "error", err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.status = ("skip", reason[:300])

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.status = ("xfail", "")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.status = ("fail", "unexpected success")


def main() -> None:
    name, path, deadline, *rest = sys.argv[1:]
    skip = set(Path(rest[0]).read_text().split("\n")) if rest else set()
    from test import support  # type: ignore[import-not-found]

    support.use_resources = ["network", "audio", "curses", "urlfetch"]
    support.verbose = 1
    module = importlib.import_module(f"test.{name}")
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    todo = [case for case in _cases(suite) if case.id() not in skip and "VSOCK" not in case.id()]
    with open(path, "a") as out:
        result = Ledger(out, float(deadline))
        sys.addaudithook(result.audit)
        unittest.TestSuite(todo).run(result)
        result.write(done=True)


if __name__ == "__main__":
    main()
