"""The kernel's OOM killer: whom it took, and what is told of it."""

from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.departures import Departure
from wsgi_sidecar.core.limits import UNLIMITED, Limits, Pressure
from wsgi_sidecar.core.oom import victims
from wsgi_sidecar.core.rules.oom_kill import RULE, TOLD_S
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms
from wsgi_sidecar.testing import AT, MONOTONIC, family, pid, process, worker

FIRST, SECOND = pid(101, 5001), pid(102, 5002)
SIGKILL, SIGABRT, EXIT_0 = 9, 6, 0
TERMS = Terms(release="27.0.1", worker_class="sync", connection_limit=1, timeout_s=30)


def sized(slot: int, rss_bytes: int, **fields: Any) -> Any:
    return worker(slot, process=process(100 + slot, started=5000 + slot, rss_bytes=rss_bytes), **fields)


BOTH = family(sized(1, 100), sized(2, 200))
NEW = family(worker(3))


@pytest.mark.parametrize(
    ("kills", "struck", "statuses", "took"),
    [
        (1, set(), {}, {SECOND}),
        (1, set(), {FIRST: SIGKILL, SECOND: SIGABRT}, {FIRST}),
        (1, set(), {FIRST: SIGKILL}, {FIRST}),
        (2, set(), {}, {FIRST, SECOND}),
        (1, {SECOND}, {}, {FIRST}),
        (1, set(), {FIRST: EXIT_0, SECOND: EXIT_0}, set()),
        (0, set(), {FIRST: SIGKILL}, set()),
    ],
    ids=["the largest", "who died of SIGKILL", "rather than one not reaped yet", "as many as kills",
         "not whom we killed", "nobody who exited", "nobody without a kill of the kernel"],
)  # fmt: skip
def test_the_victim_is_told_by_the_kernels_count(
    kills: int, struck: set[ProcessId], statuses: dict[ProcessId, int], took: set[ProcessId]
) -> None:
    assert victims(BOTH, NEW, kills=kills, struck=frozenset(struck), statuses=statuses) == took


def test_a_worker_that_was_leaving_anyway_is_no_victim() -> None:
    leaving = family(sized(1, 100, state="draining"))
    assert victims(leaving, NEW, kills=1, struck=frozenset(), statuses={}) == frozenset()


class Story:
    """Looks a second apart at a container with a limit of 100 MiB."""

    def __init__(self, limit: float = 100 * 2**20) -> None:
        self._limit = limit
        self._memory = RULE.blank
        self._second = 0.0

    def look(self, kills: int | None, *gone: ProcessId, reason: Any = "oom", after_s: float = 1.0) -> tuple[Fault, ...]:
        self._second += after_s
        around = Circumstances(limits=Limits(memory_bytes=self._limit), pressure=Pressure(oom_kills=kills))
        sight = Sight(
            family=family(worker(3), at=AT + self._second, monotonic=MONOTONIC + self._second), before=BOTH,
            terms=TERMS, policy=Policy(), closeups={}, around=around,
            departed=tuple(Departure(slot=1, process=each, reason=reason) for each in gone),
        )  # fmt: skip
        verdict = RULE.judge(sight, self._memory)
        self._memory = verdict.memory
        return verdict.faults


def test_a_worker_that_the_kernel_killed_is_told_with_its_slot() -> None:
    story = Story()
    assert story.look(3) == ()
    (fault,) = story.look(4, SECOND)
    assert (fault.kind, fault.process, fault.slot, fault.target) == ("oom-kill", SECOND, 2, None)
    assert "limit of 100 MiB" in fault.summary
    assert fault.outcome == "the kernel had ended it"


def test_it_is_told_for_a_minute() -> None:
    story = Story()
    story.look(0)
    story.look(1, SECOND)
    assert len(story.look(1, after_s=TOLD_S - 1)) == 1
    assert story.look(1, after_s=1.0) == ()


def test_one_that_dies_a_look_later_is_told_once() -> None:
    story = Story()
    story.look(0)
    assert story.look(1) == ()
    (fault,) = story.look(1, SECOND)
    assert fault.process == SECOND
    assert len(story.look(1)) == 1


def test_a_kill_that_took_no_worker_is_told_of_the_server() -> None:
    story = Story()
    story.look(0)
    assert story.look(2) == ()
    (fault,) = story.look(2)
    assert (fault.process, fault.slot) == (pid(100, 5000), None)
    assert "killed 2 processes" in fault.summary


def test_without_a_limit_strangers_kills_are_not_ours() -> None:
    story = Story(UNLIMITED)
    story.look(0)
    story.look(5)
    assert story.look(5) == ()


def test_counts_from_before_the_first_look_and_unknown_counts_say_nothing() -> None:
    story = Story()
    assert story.look(7) == ()
    assert story.look(None) == ()
    assert story.look(9) == ()
    assert story.look(9) == ()
