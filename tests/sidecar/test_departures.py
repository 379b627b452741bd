from dataclasses import replace
from typing import Any

import pytest

from wsgi_sidecar.core.departures import MOST_WAITED, Departure, End, Marks, departures
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.testing import AT, MONOTONIC, family, process, worker

GONE = worker(1).process.id


def before(*, age_s: float | None = 0.5, state: str = "alive") -> Family:
    return family(worker(1, heartbeat_age_s=age_s, state=state), worker(2))


def told(then: Family, now: Family, marks: Marks) -> tuple[Departure, ...]:
    """What is told in the end, if nothing else happens."""
    first, waiting = departures(then, now, marks)
    for _ in range(MOST_WAITED):
        more, waiting = departures(now, now, Marks(), waiting)
        first += more
    assert not waiting
    return first


def reason(then: Family, *, timeout_s: float | None = 30.0, struck: bool = False, unseen_s: float = 1.0) -> str:
    now = family(worker(2), monotonic=MONOTONIC + unseen_s)
    (departure,) = told(then, now, Marks(timeout_s=timeout_s, struck=frozenset({GONE} if struck else ())))
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


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, "reload"), (15, "reload"), (17 << 8, "reload"), (None, "reload"), (9, "signal"), (3 << 8, "boot-error")],
)
def test_who_ends_after_we_had_the_server_reload_was_reloaded(status: int | None, expected: str) -> None:
    then, now = before(), family(worker(2), monotonic=MONOTONIC + 1)
    ends = {GONE: End(status=status, ticks=9000)}
    (departure,) = told(then, now, Marks(timeout_s=30, ends=ends, reloaded_ticks=GONE.started + 1))
    assert departure.reason == expected
    (departure,) = told(then, now, Marks(timeout_s=30, max_requests=0, ends=ends, reloaded_ticks=GONE.started))
    assert departure.reason != "reload", "it was born after it"


def test_what_we_killed_was_the_watchdog_even_if_its_heartbeat_was_late() -> None:
    assert reason(before(age_s=31), struck=True) == "watchdog"


def test_a_draining_worker_may_stop_beating() -> None:
    assert reason(before(age_s=31, state="draining")) == "unknown"


def test_after_a_long_time_without_a_look_the_age_at_the_end_counts() -> None:
    assert reason(before(age_s=20), unseen_s=11) == "timeout"


def test_nobody_departs_while_all_live_or_at_the_first_look() -> None:
    assert departures(family(), family(), Marks(timeout_s=30)) == ((), ())
    assert departures(None, family(), Marks(timeout_s=30)) == ((), ())


def test_workers_that_went_with_their_master_are_no_restarts() -> None:
    then = family(worker(1), worker(2))
    assert departures(then, family(master=process(500)), Marks(timeout_s=30)) == ((), ())


def test_a_new_process_under_the_same_pid_is_a_departure() -> None:
    successor = worker(1, process=process(101, ppid=100, started=9000))
    (departure,) = told(family(worker(1)), family(successor), Marks(timeout_s=30))
    assert departure.process == GONE


TICKS = 1_000_000
"""Clock tick at which the worker of these stories ended, at the wall clock's AT."""


def born(slot: int, ago_s: float, **fields: Any) -> Worker:
    """A worker that was born so many seconds before the end of the one that is gone; negative: after it."""
    ticks = TICKS - round(100 * ago_s)
    return worker(slot, process=process(200 + ticks % 1000 + slot, started=ticks, started_at=AT - ago_s), **fields)


OLD = born(1, 60)
OTHER = born(2, 60)
EXITED, KILLED, BOOT_ERROR, TERMED = 0, 9, 3 << 8, 15


def cause(now: Family, status: int | None, *, last: Worker = OLD, workers: int = 2, max_requests: int = 0) -> str:
    marks = Marks(workers=workers, max_requests=max_requests, ends={last.process.id: End(status=status, ticks=TICKS)})
    (departure,) = [each for each in told(family(last, OTHER), now, marks) if each.process == last.process.id]
    return departure.reason


REPLACED = family(OTHER, born(1, -0.05))
RELOADED = family(born(1, 0.3), born(3, 0.2))
HALF_RELOADED = family(born(1, 0.3), born(3, 0.2), OTHER)
NOTED_LATE = family(born(1, 0.1), born(2, 0.5))
ROLLED = family(born(1, -0.05), born(2, 1.5))


@pytest.mark.parametrize(
    ("now", "status", "max_requests", "expected"),
    [
        (RELOADED, EXITED, 0, "reload"),
        (RELOADED, EXITED, 100, "reload"),
        (RELOADED, TERMED, 0, "reload"),  # asked twice, the second time while the interpreter ends
        (RELOADED, None, 0, "reload"),  # an older kernel tells when it ended, not how
        (HALF_RELOADED, EXITED, 100, "reload"),
        (RELOADED, KILLED, 0, "signal"),
        (REPLACED, EXITED, 100, "max_requests"),
        (ROLLED, EXITED, 100, "max_requests"),
        (NOTED_LATE, EXITED, 100, "max_requests"),
        (REPLACED, None, 100, "unknown"),
        (REPLACED, EXITED, 0, "signal"),
        (REPLACED, KILLED, 100, "signal"),
        (REPLACED, 11, 0, "signal"),  # a crash
        (family(OTHER), EXITED, 0, "signal"),  # TTOU
        (REPLACED, None, 0, "unknown"),
        (REPLACED, BOOT_ERROR, 0, "boot-error"),
        (REPLACED, 1 << 8, 0, "unknown"),
    ],
)
def test_how_and_when_it_ended_tells_the_cause(
    now: Family, status: int | None, max_requests: int, expected: str
) -> None:
    assert cause(now, status, max_requests=max_requests) == expected


def test_a_lone_worker_is_reloaded_if_its_successor_was_born_before_its_end() -> None:
    marks = Marks(workers=1, max_requests=0, ends={OLD.process.id: End(status=EXITED, ticks=TICKS)})
    assert [each.reason for each in told(family(OLD), family(born(1, 0.3)), marks)] == ["reload"]
    assert [each.reason for each in told(family(OLD), family(born(1, -0.3)), marks)] == ["signal"]


def test_a_worker_that_dies_before_its_first_beat_has_a_boot_error() -> None:
    assert cause(REPLACED, None, last=born(1, 2, state="booting")) == "boot-error"
    assert cause(REPLACED, KILLED, last=born(1, 2, state="booting")) == "signal"


def test_workers_that_ttin_added_are_no_new_generation() -> None:
    added = family(OTHER, born(3, 5))
    assert cause(added, EXITED) == "signal"


def test_a_draining_worker_of_a_rolling_server_had_its_requests_also_on_old_kernels() -> None:
    assert cause(REPLACED, None, last=born(1, 60, state="draining"), max_requests=100) == "max_requests"


def test_a_cause_waits_for_the_end_of_a_worker_that_left_but_has_not_ended() -> None:
    marks = Marks(workers=2, max_requests=0)
    first, waiting = departures(family(OLD, OTHER), REPLACED, marks)
    assert (first, len(waiting)) == ((), 1)
    (departure,), waiting = departures(
        REPLACED, REPLACED, Marks(ends={OLD.process.id: End(status=KILLED, ticks=TICKS)}), waiting
    )
    assert (departure.reason, waiting) == ("signal", ())


def unreaped_then(now: Family, marks: Marks, status: int | None = None) -> list[tuple[str, int]]:
    """What is told of a worker that its parent reaps three looks later, or never, and at which look."""
    unreaped = {OLD.process.id: End(status=None, ticks=TICKS, final=False)}
    told, waiting = departures(family(OLD, OTHER), now, replace(marks, ends=unreaped))
    causes = [(each, 0) for each in told]
    for look in range(1, MOST_WAITED + 1):
        reaped = look >= 3 and status is not None
        ends = {OLD.process.id: End(status=status, ticks=TICKS)} if reaped else unreaped
        told, waiting = departures(now, now, Marks(ends=ends), waiting)
        causes += [(each, look) for each in told]
    return [(each.reason, look) for each, look in causes if each.process == OLD.process.id]


@pytest.mark.parametrize(
    ("now", "status", "expected"),
    [
        (REPLACED, EXITED, ("max_requests", 3)),
        (REPLACED, KILLED, ("signal", 3)),
        (REPLACED, BOOT_ERROR, ("boot-error", 3)),
        (RELOADED, EXITED, ("reload", 3)),
        (RELOADED, KILLED, ("signal", 3)),
        (REPLACED, None, ("unknown", MOST_WAITED)),
    ],
)
def test_a_cause_that_the_status_tells_waits_until_the_parent_has_reaped(
    now: Family, status: int | None, expected: tuple[str, int]
) -> None:
    marks = Marks(workers=2, max_requests=100)
    assert unreaped_then(now, marks, status) == [expected]


def test_what_needs_no_status_is_told_though_nobody_has_reaped() -> None:
    who = frozenset({OLD.process.id})
    for marks, reason in ((Marks(struck=who), "watchdog"), (Marks(oom=who), "oom"), (Marks(timed_out=who), "timeout")):
        assert unreaped_then(REPLACED, marks) == [(reason, 0)]


def test_the_oom_killer_s_victim_is_no_signal() -> None:
    marks = Marks(oom=frozenset({OLD.process.id}), ends={OLD.process.id: End(status=KILLED, ticks=TICKS)})
    assert [each.reason for each in told(family(OLD, OTHER), REPLACED, marks)] == ["oom"]
