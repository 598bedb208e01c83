"""What counts as a surprise when a run is compared with the expectation file."""

from typing import Any

import pytest

from compat.expect import FOLDER, Expectation, load, surprises
from compat.score import Score, compare

GOOD, BAD, SHAKY, GONE = (f"test.test_x.T.{name}" for name in ("good", "bad", "shaky", "gone"))


def entry(test: str, status: str = "pass") -> dict[str, Any]:
    return {"id": test, "status": status, "cause": "why", "inet": True, "seconds": 0}


def score(stock: dict[str, str], ours: dict[str, str]) -> Score:
    sides = [[entry(test, status) for test, status in side.items()] for side in (stock, ours)]
    return compare("3.11.7", "test_x", *sides)


def test_ids_that_do_not_pass_on_the_standard_socket_are_no_measure() -> None:
    got = score({GOOD: "pass", BAD: "fail"}, {GOOD: "pass", BAD: "fail"})
    assert (got.stock, got.both, got.lost) == (1, 1, [])


def test_new_failure_is_a_surprise() -> None:
    got = score({BAD: "pass"}, {BAD: "fail"})
    assert surprises(got, Expectation({}, {})) == [f"{BAD} fail: why"]


def test_listed_failure_is_none_unless_it_fails_in_another_way() -> None:
    listed = Expectation({BAD: ("fail", "known")}, {})
    assert surprises(score({BAD: "pass"}, {BAD: "fail"}), listed) == []
    assert surprises(score({BAD: "pass"}, {BAD: "hang"}), listed) == [f"{BAD} hang: why"]


def test_listed_failure_that_passes_or_is_gone_is_a_surprise() -> None:
    listed = Expectation({BAD: ("fail", "known"), GONE: ("fail", "known")}, {})
    found = surprises(score({BAD: "pass"}, {BAD: "pass"}), listed)
    assert [line.split()[0] for line in found] == [BAD, GONE]


def test_other_files_are_not_asked_about() -> None:
    listed = Expectation({"test.test_xy.T.bad": ("fail", "known")}, {})
    assert surprises(score({GOOD: "pass"}, {GOOD: "pass"}), listed) == []


@pytest.mark.parametrize("status", ["pass", "fail", "hang"])
def test_flaky_ids_may_do_either(status: str) -> None:
    listed = Expectation({}, {SHAKY: "a race of the test's"})
    assert surprises(score({SHAKY: "pass"}, {SHAKY: status}), listed) == []


def test_an_id_that_was_not_run_is_lost() -> None:
    assert surprises(score({BAD: "pass"}, {}), Expectation({}, {})) == [f"{BAD} missing: not run"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_listed_id_has_a_cause(path: Any) -> None:
    listed = load(path.stem)
    assert all(listed.causes().values())
    assert not listed.failing.keys() & listed.flaky.keys()
