"""Stories of looks at a master, one second apart."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_sidecar.core.descent import LOADING_S
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Sight, Terms, Verdict
from wsgi_sidecar.core.rules.stuck_arbiter import PATIENCE_S, RULE
from wsgi_sidecar.core.snapshot import Listener
from wsgi_sidecar.testing import AT, MONOTONIC, closeup, family, pid, process, thread, worker

TERMS = Terms(release="23.0.0", worker_class="sync", connection_limit=1, timeout_s=30)
MASTER = pid(100, 5000)
NOBODY: tuple[Worker, ...] = ()

Look = tuple[float, int]


def sight(
    look: Look,
    workers: tuple[Worker, ...],
    *,
    state: str = "S",
    wchan: str = "do_epoll_wait",
    frozen: bool | None = None,
    **fields: Any,
) -> Sight:
    second, switches = look
    main = thread(100, switches=switches, wchan=wchan)
    close = closeup(main, process=MASTER, monotonic=MONOTONIC + second)
    master = process(100, state=state)
    now = replace(family(at=AT + second, monotonic=MONOTONIC + second, master=master, **fields), workers=workers)
    return Sight(family=now, before=None, terms=TERMS, policy=Policy(), closeups={MASTER: close}, frozen=frozen)


def story(looks: Iterable[Look], workers: tuple[Worker, ...] = NOBODY, **fields: Any) -> Verdict:
    verdict = RULE.judge(sight((-1.0, 1), (worker(1), worker(2))), RULE.blank)
    verdict = RULE.judge(sight((0.0, 2), (worker(1), worker(2))), verdict.memory)
    for look in looks:
        verdict = RULE.judge(sight(look, workers, **fields), verdict.memory)
    return verdict


def asleep(until: float) -> list[Look]:
    return [(float(second), 2) for second in range(1, int(until) + 1)]


def test_an_arbiter_that_sleeps_through_the_window_with_no_worker_left_is_stuck_and_ended() -> None:
    (fault,) = story(asleep(5)).faults
    assert (fault.kind, fault.process, fault.slot, fault.target, fault.spare) == (
        "stuck-arbiter", MASTER, None, "server", None,
    )  # fmt: skip
    assert fault.since == AT
    assert "do_epoll_wait" in fault.summary
    assert "5.0 s" in fault.summary
    assert {e.name: e.value for e in fault.evidence}["workers missing"] == 2


def test_nothing_is_said_before_the_window_is_over() -> None:
    verdict = story(asleep(4))
    assert verdict.faults == ()
    assert verdict.again_at == pytest.approx(MONOTONIC + 5)


def test_a_single_context_switch_begins_the_window_anew() -> None:
    assert story([*asleep(4), (5.0, 3), (6.0, 3), (9.0, 3)]).faults == ()


def test_an_idle_arbiter_that_wakes_up_every_second_is_healthy() -> None:
    assert story([(float(second), 2 + second) for second in range(1, 60)]).faults == ()


@pytest.mark.parametrize(
    ("state", "wchan"),
    [
        ("T", "do_signal_stop"),
        ("t", "ptrace_stop"),
        ("R", ""),
        ("D", "__refrigerator"),
        ("S", "do_freezer_trap"),
        ("S", "get_signal"),
    ],
)
def test_one_that_is_stopped_starved_or_in_a_frozen_cgroup_is_not_stuck(state: str, wchan: str) -> None:
    assert story(asleep(60), state=state, wchan=wchan).faults == ()


def test_one_in_a_frozen_cgroup_is_not_stuck_wherever_it_waits_and_its_window_begins_when_that_is_over() -> None:
    frozen = story(asleep(600), frozen=True)
    assert frozen.faults == ()
    assert RULE.judge(sight((604.0, 2), NOBODY), frozen.memory).faults == ()
    (fault,) = RULE.judge(sight((605.0, 2), NOBODY), frozen.memory).faults
    assert {e.name: e.value for e in fault.evidence}["workers missing"] == 2


@pytest.mark.parametrize(("second", "asked"), [(1.0, False), (2.5, True), (9.0, True)])
def test_the_freezer_is_asked_only_about_one_that_sleeps_longer_than_a_beat(second: float, asked: bool) -> None:
    memory = story([]).memory
    assert RULE.wishes(sight((second, 2), NOBODY), memory).freezer is asked
    assert not RULE.wishes(seen(second, turns=8, before=7), memory).freezer


def test_one_whose_workers_all_live_is_told_but_never_ended() -> None:
    (fault,) = story(asleep(600), (worker(1), worker(2))).faults
    assert "none was lost yet" in (fault.spare or "")


def test_one_that_lost_a_worker_is_ended_only_when_nobody_serves_or_patience_is_over() -> None:
    (early,) = story(asleep(PATIENCE_S - 1), (worker(1),)).faults
    assert "1 workers still serve" in (early.spare or "")
    (late,) = story(asleep(PATIENCE_S), (worker(1),)).faults
    assert late.spare is None


def test_one_that_lets_a_worker_outlive_its_timeout_did_harm_too() -> None:
    (fault,) = story(asleep(PATIENCE_S), (worker(1), worker(2, state="overdue"))).faults
    assert fault.spare is None


@pytest.mark.parametrize("turns", [(7, 7), (7, 8)])
def test_one_that_never_had_a_worker_may_still_import_its_app_also_after_some_work(turns: tuple[int, int]) -> None:
    before, now = turns
    memory = RULE.judge(seen(0.0, turns=now, before=before, closely=True), RULE.blank).memory
    faults = []
    for second in range(10, int(LOADING_S) + 1, 10):
        verdict = RULE.judge(sight((float(second), 2), NOBODY), memory)
        memory = verdict.memory
        faults.append(len(verdict.faults))
    assert faults == [0] * (len(faults) - 1) + [1]


@pytest.mark.parametrize("listeners", [(), None])
def test_one_that_closed_its_listeners_leaves_and_may_take_its_time_for_it(listeners: tuple[Listener, ...]) -> None:
    assert story(asleep(LOADING_S - 1), listeners=listeners).faults == ()
    assert len(story(asleep(LOADING_S), listeners=listeners).faults) == 1


def test_a_uwsgi_without_workers_may_load_its_app_again() -> None:
    assert story(asleep(LOADING_S - 1), kind="uwsgi", wchan="hrtimer_nanosleep").faults == ()
    assert story(asleep(LOADING_S - 1), kind="uwsgi").faults == ()
    assert len(story(asleep(LOADING_S), kind="uwsgi").faults) == 1


def test_a_uwsgi_that_writes_to_a_log_nobody_reads_is_stuck() -> None:
    (fault,) = story(asleep(5), kind="uwsgi", wchan="anon_pipe_write").faults
    assert fault.spare is None


@pytest.mark.parametrize("wchan", ["hrtimer_nanosleep", "wait_woken", ""])
def test_one_that_may_be_in_a_hook_of_its_owner_s_is_told_and_given_patience(wchan: str) -> None:
    (early,) = story(asleep(PATIENCE_S - 1), wchan=wchan).faults
    assert "may be in a hook" in (early.spare or "")
    (late,) = story(asleep(PATIENCE_S), wchan=wchan).faults
    assert late.spare is None


def test_one_whose_workers_still_load_the_application_is_given_patience() -> None:
    boots = (worker(1, state="booting"), worker(2, state="booting"))
    (early,) = story(asleep(PATIENCE_S - 1), boots).faults
    assert "still load" in (early.spare or "")
    (late,) = story(asleep(PATIENCE_S), boots).faults
    assert late.spare is None


def seen(
    second: float,
    *,
    turns: int | None,
    before: int | None,
    closely: bool = False,
    workers: tuple[Worker, ...] = NOBODY,
) -> Sight:
    """A look that knows how often the arbiter was given a CPU, and by the look before."""
    look = sight((second, 2), workers)
    now = replace(look.family, master=replace(look.family.master, turns=turns))
    earlier = replace(now, master=replace(now.master, turns=before))
    return replace(look, family=now, before=earlier, closeups=look.closeups if closely else {})


@pytest.mark.parametrize(
    ("before", "turns", "closely"), [(7, 8, False), (7, 7, True), (None, 8, True), (7, None, True), (None, None, True)]
)
def test_an_arbiter_that_was_given_a_cpu_needs_no_closer_look(
    before: int | None, turns: int | None, closely: bool
) -> None:
    looked_at = RULE.suspects(seen(0.0, turns=turns, before=before), RULE.blank)
    assert looked_at == (frozenset({MASTER}) if closely else frozenset())


def test_the_window_begins_at_the_last_look_that_found_it_awake() -> None:
    verdict = RULE.judge(seen(0.0, turns=8, before=7, workers=(worker(1),)), RULE.blank)
    for second in range(1, 5):
        verdict = RULE.judge(seen(float(second), turns=8, before=8, closely=True), verdict.memory)
        assert verdict.faults == ()
    (fault,) = RULE.judge(seen(5.0, turns=8, before=8, closely=True), verdict.memory).faults
    assert fault.since == AT


def test_a_turn_within_the_window_begins_it_anew() -> None:
    verdict = RULE.judge(seen(0.0, turns=8, before=7, workers=(worker(1),)), RULE.blank)
    verdict = RULE.judge(seen(4.0, turns=8, before=8, closely=True), verdict.memory)
    verdict = RULE.judge(seen(4.5, turns=9, before=8), verdict.memory)
    assert RULE.judge(seen(6.0, turns=9, before=9, closely=True), verdict.memory).faults == ()


def test_a_new_master_begins_anew() -> None:
    verdict = story(asleep(4))
    other = replace(sight((5.0, 2), NOBODY))
    stranger = pid(100, 9999)
    moved = replace(
        other,
        family=replace(other.family, master=process(100, started=9999)),
        closeups={stranger: replace(other.closeups[MASTER], process=stranger)},
    )
    assert RULE.judge(moved, verdict.memory).faults == ()


def test_a_master_whose_switches_cannot_be_read_is_never_called_stuck() -> None:
    blind = [(float(second), None) for second in range(1, 60)]
    assert story(blind).faults == ()  # type: ignore[arg-type]


def test_a_wake_up_at_the_second_look_calls_the_kill_off() -> None:
    then = closeup(thread(100, switches=2), process=MASTER)
    assert RULE.doubt(then, then, TERMS, Policy()) is None
    frozen = closeup(thread(100, switches=2, wchan="get_signal"), process=MASTER)
    assert "frozen" in (RULE.doubt(then, frozen, TERMS, Policy()) or "")
    woke = closeup(thread(100, switches=3), process=MASTER)
    assert "woke up" in (RULE.doubt(then, woke, TERMS, Policy()) or "")
