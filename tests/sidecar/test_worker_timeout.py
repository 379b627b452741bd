"""Late workers: looked at while they are late, told as a storm, told one by one where the arbiter does nothing."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_sidecar.core.departures import Departure
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms
from wsgi_sidecar.core.rules.worker_timeout import RULE, Lateness
from wsgi_sidecar.core.waits import Wait, Waits
from wsgi_sidecar.testing import AT, MONOTONIC, family, process, worker

TERMS = Terms(release="23.0.0", worker_class="sync", connection_limit=None, timeout_s=30.0)
POSTGRES = Wait(
    thread=101,
    kind="network",
    doing="reads from 10.0.0.5:5432 (PostgreSQL)",
    peer="10.0.0.5:5432",
    service="PostgreSQL",
)


def sight(who: Family, **fields: Any) -> Sight:
    defaults: dict[str, Any] = {"before": None, "terms": TERMS, "policy": Policy(), "closeups": {}}
    return Sight(family=who, **(defaults | fields))


def late(slot: int, age_s: float, **fields: Any) -> Worker:
    return worker(slot, heartbeat_age_s=age_s, state="overdue" if age_s > 30 else "alive", **fields)


def at(second: float, *workers: Worker, **fields: Any) -> Family:
    return family(*workers, at=AT + second, monotonic=MONOTONIC + second, **fields)


@pytest.mark.parametrize(
    ("age_s", "known", "wished"),
    [(15.0, False, False), (18.0, False, True), (18.0, True, False), (25.5, True, True), (31.0, True, True)],
)
def test_a_late_worker_is_looked_at_once_and_again_right_before_its_end(
    age_s: float, known: bool, wished: bool
) -> None:
    someone = late(1, age_s)
    memory = Lateness(waits={someone.process.id: POSTGRES} if known else {})
    assert RULE.wishes(sight(family(someone)), memory).waits == ({someone.process.id} if wished else set())


@pytest.mark.parametrize("timeout_s", [0, None])
def test_without_a_timeout_nobody_is_late(timeout_s: float | None) -> None:
    here = sight(family(late(1, 500)), terms=replace(TERMS, timeout_s=timeout_s))
    assert RULE.wishes(here, Lateness()).waits == set()
    assert RULE.judge(here, Lateness()).faults == ()


def storm(seconds: Iterable[float]) -> tuple[Fault, ...]:
    """One worker after the other is seen late, and is gone at the look of that second."""
    memory = Lateness()
    faults: tuple[Fault, ...] = ()
    for second in seconds:
        someone = late(1, 29)
        seen = sight(at(second - 1, someone), waits={someone.process.id: Waits(threads=(POSTGRES,))})
        memory = RULE.judge(seen, memory).memory
        gone = Departure(slot=1, process=someone.process.id, reason="timeout", silent_s=29.0)
        verdict = RULE.judge(sight(at(second, worker(2)), departed=(gone,)), memory)
        memory, faults = verdict.memory, verdict.faults
    return faults


def test_three_timeouts_in_the_window_are_a_storm_that_says_what_they_waited_on() -> None:
    (fault,) = storm([10, 40, 70])
    assert (fault.kind, fault.slot, fault.target) == ("worker-timeout", None, None)
    assert "3 reads from 10.0.0.5:5432 (PostgreSQL)" in fault.summary
    assert "PostgreSQL at 10.0.0.5:5432" in (fault.spare or "")
    assert fault.since == AT + 10


@pytest.mark.parametrize("seconds", [[10], [10, 40], [10, 100, 190]])
def test_fewer_or_seldom_ones_are_accidents(seconds: list[float]) -> None:
    assert storm(seconds) == ()


def test_a_restart_for_another_reason_is_no_timeout() -> None:
    gone = [Departure(slot=n, process=worker(n).process.id, reason="signal", silent_s=0.5) for n in range(1, 6)]
    assert RULE.judge(sight(family(), departed=tuple(gone)), Lateness()).faults == ()


def overdue(until: float, **terms: Any) -> tuple[Fault, ...]:
    """A worker past its timeout that nobody ends, looked at each second."""
    memory = Lateness()
    faults: tuple[Fault, ...] = ()
    for second in range(int(until) + 1):
        stopped = process(100, state="T")
        here = sight(at(second, late(1, 31 + second), master=stopped), terms=replace(TERMS, **terms))
        verdict = RULE.judge(here, memory)
        memory, faults = verdict.memory, verdict.faults
    return faults


def test_a_worker_that_the_arbiter_does_not_end_is_told_after_ten_seconds() -> None:
    assert overdue(9) == ()
    (fault,) = overdue(10)
    assert (fault.slot, fault.target) == (1, None)
    assert "SIGCONT" in (fault.spare or "")


def test_a_reload_may_hold_up_a_newer_arbiter() -> None:
    assert overdue(39, release="27.0.1") == ()
    assert len(overdue(40, release="27.0.1")) == 1


def test_what_a_worker_does_at_its_very_end_does_not_hide_what_it_waited_on() -> None:
    computing = replace(POSTGRES, doing="runs on a CPU, or is ready for one")
    dying = worker(1, heartbeat_age_s=29.9)
    who = dying.process.id
    here = sight(family(dying), waits={who: Waits(threads=(computing,))})
    assert RULE.judge(here, Lateness(waits={who: POSTGRES})).memory.waits == {who: POSTGRES}
    assert RULE.judge(here, Lateness()).memory.waits == {who: computing}, "better than nothing"
