import pytest

from wsgi_sidecar.core.departures import Marks, departures
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.testing import MONOTONIC, family, process, worker

GONE = worker(1).process.id


def before(*, age_s: float | None = 0.5, state: str = "alive") -> Family:
    return family(worker(1, heartbeat_age_s=age_s, state=state), worker(2))


def reason(then: Family, *, timeout_s: float | None = 30.0, struck: bool = False, unseen_s: float = 1.0) -> str:
    now = family(worker(2), monotonic=MONOTONIC + unseen_s)
    marks = Marks(timeout_s=timeout_s, struck=frozenset({GONE} if struck else ()))
    (departure,) = departures(then, now, marks)
    assert (departure.slot, departure.process) == (1, GONE)
    return departure.reason


@pytest.mark.parametrize(
    ("age_s", "timeout_s", "expected"),
    [
        (29.5, 30, "timeout"),
        (31.2, 30, "timeout"),
        (28.5, 30, "unknown"),  # it ended before the timeout
        (0.5, 30, "unknown"),
        (2.4, 3, "timeout"),
        (1.5, 3, "unknown"),  # a sync worker at rest beats every timeout/2
        (1.0, 2, "unknown"),
        (1.1, 2, "unknown"),
        (1.3, 2, "timeout"),
        (99.0, 0, "unknown"),  # the timeout is switched off
        (99.0, None, "unknown"),
        (None, 30, "unknown"),
    ],
)
def test_a_worker_that_ends_with_a_late_heartbeat_has_timed_out(
    age_s: float | None, timeout_s: float | None, expected: str
) -> None:
    assert reason(before(age_s=age_s), timeout_s=timeout_s) == expected


def test_what_we_killed_was_the_watchdog_even_if_its_heartbeat_was_late() -> None:
    assert reason(before(age_s=31), struck=True) == "watchdog"


def test_a_draining_worker_may_stop_beating() -> None:
    assert reason(before(age_s=31, state="draining")) == "unknown"


def test_after_a_long_time_without_a_look_the_age_at_the_end_counts() -> None:
    assert reason(before(age_s=20), unseen_s=11) == "timeout"


def test_nobody_departs_while_all_live_or_at_the_first_look() -> None:
    assert departures(family(), family(), Marks(timeout_s=30)) == ()
    assert departures(None, family(), Marks(timeout_s=30)) == ()


def test_workers_that_went_with_their_master_are_no_restarts() -> None:
    then = family(worker(1), worker(2))
    assert departures(then, family(master=process(500)), Marks(timeout_s=30)) == ()


def test_a_new_process_under_the_same_pid_is_a_departure() -> None:
    successor = worker(1, process=process(101, ppid=100, started=9000))
    (departure,) = departures(family(worker(1)), family(successor), Marks(timeout_s=30))
    assert departure.process == GONE
