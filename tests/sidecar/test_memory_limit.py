"""Recycling a worker before the container's limit, and asking before killing."""

import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_contract.report import Kill, ProcessId
from wsgi_sidecar.core.asking import Asked, ended_gently, still_asked
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.diagnosis import Case
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.limits import UNLIMITED, Limits, Pressure
from wsgi_sidecar.core.remedy import Decision, Deed, Scene, decide, order
from wsgi_sidecar.core.rules.memory_limit import REST_S, RULE
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms
from wsgi_sidecar.kill import ask
from wsgi_sidecar.strays import read_process
from wsgi_sidecar.testing import AT, MONOTONIC, family, pid, process, snapshot, worker

MIB = 2**20
FIRST, SECOND = pid(101, 5001), pid(102, 5002)
SCENE = Scene(family=family(worker(1), worker(2)), policy=Policy(), past=(), monotonic=MONOTONIC)
TERMS = Terms(release="27.0.1", worker_class="sync", connection_limit=1, timeout_s=30, graceful_timeout_s=10)


class Story:
    """Looks a second apart at two workers in a container of 100 MiB."""

    def __init__(self, *, share: float = 0.9, limit: float = 100 * MIB, **fields: Any) -> None:
        self._policy, self._limit, self._fields = Policy(memory_recycle_share=share), limit, fields
        self._memory: Any = RULE.blank
        self._second = 0.0

    def look(
        self,
        used: int | None,
        sizes: dict[ProcessId, int],
        *workers: Worker,
        after_s: float = 1.0,
        asked: frozenset[ProcessId] = frozenset(),
    ) -> tuple[Fault, ...]:
        self._second += after_s
        around = Circumstances(
            limits=Limits(memory_bytes=self._limit),
            pressure=Pressure(memory_working_set_bytes=None if used is None else used * MIB),
            pss_bytes={who: size * MIB for who, size in sizes.items()},
        )
        both = workers or (worker(1), worker(2))
        seen = family(*both, at=AT + self._second, monotonic=MONOTONIC + self._second, **self._fields)
        sight = Sight(
            family=seen, before=None, terms=TERMS, policy=self._policy, closeups={}, around=around, asked=asked
        )
        verdict = RULE.judge(sight, self._memory)
        self._memory = verdict.memory
        return verdict.faults


def grown(story: Story) -> tuple[Fault, ...]:
    story.look(40, {FIRST: 20, SECOND: 20})
    return story.look(95, {FIRST: 30, SECOND: 65})


def test_the_worker_that_grew_most_is_recycled_and_gets_its_time() -> None:
    (fault,) = grown(Story())
    assert (fault.kind, fault.process, fault.slot, fault.target) == ("memory-limit", SECOND, 2, "worker")
    assert (fault.gentle_s, fault.serving) == (12.0, True)
    assert "95 MiB of its 100 MiB" in fault.summary
    assert "from 20 MiB to 65 MiB" in fault.summary


@pytest.mark.parametrize(
    ("fields", "gently", "spared"),
    [
        pytest.param({}, "SIGTERM", False, id="gunicorn"),
        pytest.param({"kind": "uwsgi"}, "SIGHUP", False, id="uWSGI breaks requests off on SIGTERM"),
        pytest.param({"kind": "uwsgi", "has_arbiter": False}, "SIGHUP", True, id="without a master nobody returns"),
    ],
)
def test_each_server_s_worker_is_asked_by_the_signal_that_it_finishes_on(
    fields: dict[str, Any], gently: str, spared: bool
) -> None:
    (fault,) = grown(Story(**fields))
    assert (fault.gently, fault.spare is not None) == (gently, spared)
    assert gently in decide((Case(id="memory-limit-1", fault=replace(fault, spare=None)),), SCENE)[0].reason


@pytest.mark.parametrize(
    "story", [Story(share=0.0), Story(share=0.96), Story(limit=UNLIMITED)], ids=["off", "not yet", "no limit"]
)
def test_nothing_is_recycled_that_nobody_asked_for(story: Story) -> None:
    assert grown(story) == ()


def test_unknown_memory_is_not_full_memory() -> None:
    story = Story()
    story.look(40, {FIRST: 20, SECOND: 20})
    assert story.look(None, {FIRST: 30, SECOND: 65}) == ()


def test_where_no_worker_has_grown_that_is_told_and_nobody_is_ended() -> None:
    story = Story()
    story.look(40, {FIRST: 45, SECOND: 45})
    assert story.look(95, {FIRST: 46, SECOND: 47}) == ()
    assert story.look(95, {FIRST: 46, SECOND: 47}, after_s=REST_S - 1) == ()
    (fault,) = story.look(95, {FIRST: 46, SECOND: 47}, after_s=1)
    assert (fault.process, fault.target) == (pid(100, 5000), None)
    assert "no worker has grown" in fault.summary


def test_one_at_a_time_and_the_next_after_a_rest() -> None:
    story = Story()
    grown(story)
    # while it finishes its requests it stays the one, although memory fell and the other one is larger now
    assert [f.process for f in story.look(50, {FIRST: 80, SECOND: 60})] == [SECOND]
    after = (worker(1), worker(3))
    sizes = {FIRST: 80, pid(103, 5003): 20}
    assert story.look(95, sizes, *after) == ()
    assert story.look(95, sizes, *after, after_s=REST_S - 1) == ()
    assert [f.process for f in story.look(95, sizes, *after, after_s=1)] == [FIRST]


FAULT = replace(grown(Story())[0], gentle_s=10.0)
CASE = Case(id="memory-limit-1", fault=FAULT)


def decided(*, asked_s: float | None = None, workers: int = 2, **policy: Any) -> Decision:
    asked = {} if asked_s is None else {SECOND: MONOTONIC - asked_s}
    seen = family(*(worker(slot) for slot in range(3 - workers, 3)))
    scene = Scene(family=seen, policy=Policy(**policy), past=(), monotonic=MONOTONIC, asked=asked)
    (decision,) = decide((CASE,), scene)
    return decision


def test_it_is_asked_once_then_given_time_then_killed() -> None:
    first, waiting, over = decided(), decided(asked_s=9.9), decided(asked_s=10.0)
    assert (first.verb, waiting.verb, over.verb) == ("ask", "wait", "kill")
    assert first.reason == waiting.reason, "a reason that lasts is logged once"
    assert "did not end within 10 s" in over.reason


def test_the_last_worker_is_not_even_asked() -> None:
    assert (decided(workers=1).verb, decided(mode="DryRun").verb) == ("wait", "dry-run")


def test_asking_counts_against_the_budget() -> None:
    assert decided(kills_per_minute=0).verb == "wait"


def test_who_could_not_be_killed_afterwards_is_not_struck_at_every_look() -> None:
    kill = Kill(
        id="kill-1", at=AT, target="worker", slot=2, process=SECOND, reason="memory-limit", message="", processes=0,
        outcome="refused", survivors=(), duration_s=0.0,
    )  # fmt: skip
    past = (Deed(kill=kill, monotonic=MONOTONIC - 1),)
    scene = Scene(
        family=family(worker(1), worker(2)), policy=Policy(), past=past, monotonic=MONOTONIC,
        asked={SECOND: MONOTONIC - 60},
    )  # fmt: skip
    assert decide((CASE,), scene)[0].verb == "wait"


def test_who_ends_by_itself_is_a_kill_with_its_time() -> None:
    both = family(worker(1), worker(2))
    asked = Asked(order=order(decided(), both, number=0), at=AT, monotonic=MONOTONIC)
    asking = still_asked({}, (asked,), {FIRST, SECOND})
    assert asking == {SECOND: asked}
    assert ended_gently(asking, {FIRST, SECOND}, both, number=4) == ()

    left = family(worker(1), worker(3), monotonic=MONOTONIC + 1.5)
    (kill,) = ended_gently(asking, {FIRST}, left, number=4)
    assert (kill.id, kill.process, kill.outcome, kill.processes, kill.duration_s) == (
        "kill-4",
        SECOND,
        "killed",
        1,
        1.5,
    )
    assert still_asked(asking, (), {FIRST}) == {}
    heir = family(worker(1), master=process(900))
    assert ended_gently(asking, {FIRST}, heir, number=4) == (), "the master changed: all went with it"


def test_who_let_go_of_its_heartbeat_has_not_ended_and_is_killed_when_its_time_is_over() -> None:
    story = Story()
    grown(story)
    both = family(worker(1), worker(2))
    asked = Asked(order=order(decided(), both, number=0), at=AT, monotonic=MONOTONIC)
    living, left = {FIRST, SECOND}, family(worker(1), worker(3))
    assert still_asked({SECOND: asked}, (), living) == {SECOND: asked}
    assert ended_gently({SECOND: asked}, living, left, number=4) == ()
    rest = (worker(1), worker(3))
    for _ in range(3):
        assert [f.process for f in story.look(95, {FIRST: 30}, *rest, asked=frozenset({SECOND}))] == [SECOND]
    assert story.look(95, {FIRST: 30}, *rest) == (), "it has ended"


def test_a_zombie_has_ended() -> None:
    seen = snapshot(process(101, state="S"), process(102, state="Z"))
    assert seen.living == {pid(101, 5000)}


def test_a_process_is_asked_only_if_it_is_the_one_that_is_meant() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        seen = read_process(child.pid)
        assert seen is not None
        stranger = ProcessId(pid=child.pid, started=seen.id.started - 1)
        assert ask(stranger) == "gone"
        assert child.poll() is None
        assert ask(seen.id) == "sent"
        assert child.wait(20) == -signal.SIGTERM
        assert ask(seen.id) == "gone"
    finally:
        child.kill()
        child.wait()
    assert ask(ProcessId(pid=1, started=0)) == "gone"
