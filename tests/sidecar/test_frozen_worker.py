"""Stories of looks: each closeup one second after the one before, unless said otherwise."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_sidecar.core.rules import frozen_worker
from wsgi_sidecar.core.rules.frozen_worker import RULE
from wsgi_sidecar.core.rules.rule import Sight, Terms, Verdict
from wsgi_sidecar.core.snapshot import Closeup
from wsgi_sidecar.testing import AT, MONOTONIC, closeup, family, thread, worker

FULL = frozenset({11, 12, 13, 14})
TERMS = Terms(release="23.0.0", worker_class="gthread", connection_limit=4, timeout_s=30)
WHO = worker(1).process.id


def frozen(second: float, **changes: Any) -> Closeup:
    """The worker after so many seconds of being frozen, all of them spent in its main thread."""
    main = thread(101, cpu_s=7.0 + 0.98 * second, switches=5000 + int(90 * second), wchan="")
    pool = (thread(102, cpu_s=0.4, switches=70), thread(103, cpu_s=0.05, switches=40))
    fields = {"monotonic": MONOTONIC + second, "connections": FULL} | changes
    return closeup(*fields.pop("threads", (main, *pool)), **fields)


def sight(look: Closeup, *, terms: Terms = TERMS, policy: Policy | None = None, **fields: Any) -> Sight:
    second = look.monotonic - MONOTONIC
    seen = worker(1, **({"connections": len(look.connections or ())} | fields))
    now = family(seen, at=AT + second, monotonic=look.monotonic)
    a_second_less = replace(seen, process=replace(seen.process, cpu_s=seen.process.cpu_s - 0.98))
    then = family(a_second_less, monotonic=look.monotonic - 1)
    return Sight(family=now, before=then, terms=terms, policy=policy or Policy(), closeups={look.process: look})


def story(looks: Iterable[Closeup], **fields: Any) -> Verdict:
    verdict = Verdict(faults=(), memory=RULE.blank)
    for look in looks:
        verdict = RULE.judge(sight(look, **fields), verdict.memory)
    return verdict


def seconds(*times: float) -> list[Closeup]:
    return [frozen(second) for second in times]


def test_a_worker_that_spins_on_the_same_connections_for_the_whole_window_is_frozen() -> None:
    (fault,) = story(seconds(0, 1, 2, 3, 4, 5)).faults
    assert (fault.kind, fault.slot, fault.process, fault.target, fault.spare) == (
        "frozen-worker", 1, WHO, "worker", None,
    )  # fmt: skip
    assert fault.since == AT
    evidence = {e.name: e.value for e in fault.evidence}
    assert evidence["main thread CPU"] == 0.98
    assert evidence["unchanged connections"] == 4
    assert "5.0 s" in fault.summary
    assert "0.98 cores" in fault.summary
    assert "its connections stayed the same (4 of at most 4)" in fault.summary


def test_nothing_is_said_before_the_window_is_over() -> None:
    verdict = story(seconds(0, 1, 2, 3, 4, 4.99))
    assert verdict.faults == ()


def test_a_suspicion_asks_to_be_looked_at_when_its_window_ends() -> None:
    assert story(seconds(0.4)).again_at == pytest.approx(MONOTONIC + 5.4)
    assert story(seconds(0.4, 1, 2)).again_at == pytest.approx(MONOTONIC + 5.4)


def test_a_look_right_behind_another_one_still_settles_the_suspicion() -> None:
    assert len(story(seconds(0.05, 1, 2, 3, 4, 5, 5.06)).faults) == 1


def test_it_stays_a_finding_for_as_long_as_it_lasts() -> None:
    verdict = story(seconds(*range(9)))
    assert len(verdict.faults) == 1
    assert verdict.again_at is None


def test_clients_that_gave_up_do_not_thaw_it() -> None:
    # CLOSE_WAIT keeps the inode; the eyes count it as held.
    assert len(story(seconds(*range(6))).faults) == 1


def others(*pool: tuple[int, float, int | None], main: float = 9.94) -> dict[str, Any]:
    """Three seconds in: a main thread and others as (tid, CPU seconds, switches)."""
    rest = (thread(tid, cpu_s=cpu_s, switches=switches) for tid, cpu_s, switches in pool)
    return {"threads": (thread(101, cpu_s=main), *rest)}


MOVED = {
    "a connection came": {"connections": FULL | {15}},
    "one went": {"connections": FULL - {14}},
    "all went": {"connections": frozenset()},
    "one was swapped for another": {"connections": (FULL - {14}) | {15}},
    "its descriptors were refused": {"connections": None},
    "the main thread rested": others((102, 0.4, 70), (103, 0.05, 40), main=9.2),
    "the pool served": others((102, 0.4, 300), (103, 0.05, 41)),
    "the pool computed": others((102, 0.55, 70), (103, 0.05, 40)),
    "the switches could not be read": others((102, 0.4, None), (103, 0.05, 40)),
}
STIRRED = {
    "another thread switched once": others((102, 0.4, 71), (103, 0.05, 40)),
    "another thread worked": others((102, 0.42, 70), (103, 0.05, 40)),
    "a thread was born": others((102, 0.4, 70), (103, 0.05, 40), (104, 0.0, 0)),
    "a thread went": others((102, 0.4, 70)),
}
UNSURE = {
    "the limit is unknown": replace(TERMS, connection_limit=None),
    "the release is unknown": replace(TERMS, release=None),
    "the release does not freeze": replace(TERMS, release="27.0.1"),
}


def with_a_sign_of_life(changes: dict[str, Any]) -> list[Closeup]:
    looks = seconds(*range(8))
    looks[3] = frozen(3, **changes)
    return looks


@pytest.mark.parametrize("changes", MOVED.values(), ids=MOVED)
def test_one_sign_of_life_within_the_window_begins_it_anew(changes: dict[str, Any]) -> None:
    assert story(with_a_sign_of_life(changes)).faults == ()


@pytest.mark.parametrize("changes", STIRRED.values(), ids=STIRRED)
def test_the_apps_own_threads_do_not_hide_a_full_worker_of_a_release_that_freezes(changes: dict[str, Any]) -> None:
    assert len(story(with_a_sign_of_life(changes)).faults) == 1


@pytest.mark.parametrize("terms", UNSURE.values(), ids=UNSURE)
@pytest.mark.parametrize("changes", STIRRED.values(), ids=STIRRED)
def test_where_that_is_not_sure_the_slightest_stir_is_a_sign_of_life(changes: dict[str, Any], terms: Terms) -> None:
    assert story(with_a_sign_of_life(changes), terms=terms).faults == ()


def test_it_is_found_again_a_window_after_the_last_sign_of_life() -> None:
    looks = [frozen(0), frozen(1), frozen(2, connections=frozenset({1, 2, 3, 4})), *seconds(*range(3, 9))]
    assert len(story(looks).faults) == 1


@pytest.mark.parametrize("state", ["booting", "draining", "overdue"])
def test_a_worker_whose_heartbeat_is_not_fresh_is_the_arbiters_business(state: str) -> None:
    assert story(seconds(*range(8)), state=state).faults == ()


def test_a_worker_whose_heartbeat_cannot_be_read_is_not_judged() -> None:
    assert story(seconds(*range(8)), heartbeat_age_s=None).faults == ()


@pytest.mark.parametrize("worker_class", ["sync", "gevent", "uvicorn.workers.UvicornWorker", None])
def test_only_gthread_can_freeze(worker_class: str | None) -> None:
    assert story(seconds(*range(8)), terms=replace(TERMS, worker_class=worker_class)).faults == ()


def test_below_its_connection_limit_a_worker_is_busy_not_frozen() -> None:
    assert story(seconds(*range(8)), terms=replace(TERMS, connection_limit=5)).faults == ()


def test_where_the_limit_is_unknown_the_release_has_to_be_known() -> None:
    no_limit = replace(TERMS, connection_limit=None)
    assert story(seconds(*range(8)), terms=no_limit).faults[0].spare is None
    (doubtful,) = story(seconds(*range(8)), terms=replace(no_limit, release=None)).faults
    assert "stays a suspicion" in (doubtful.spare or "")


@pytest.mark.parametrize("release", ["20.1.0", "24.0.0", "27.0.1"])
def test_a_release_that_cannot_freeze_is_told_and_spared(release: str) -> None:
    (fault,) = story(seconds(*range(6)), terms=replace(TERMS, release=release)).faults
    assert release in (fault.spare or "")


def test_an_unknown_release_that_is_full_is_not_spared() -> None:
    assert story(seconds(*range(6)), terms=replace(TERMS, release=None)).faults[0].spare is None


def test_the_policy_says_how_long_and_how_much() -> None:
    assert story(seconds(0, 1, 2), policy=Policy(frozen_window_s=2.0)).faults
    assert not story(seconds(*range(8)), policy=Policy(frozen_cpu=0.99)).faults


def suspected(*, cpu: float, connections: int | None, before: float | None = 1.0, **fields: Any) -> bool:
    now = worker(1, connections=connections, process=_with_cpu(1.0 + cpu), **fields)
    then = family(worker(1, process=_with_cpu(before)), monotonic=MONOTONIC - 1) if before is not None else None
    look = Sight(family=family(now), before=then, terms=TERMS, policy=Policy(), closeups={})
    return RULE.suspects(look, RULE.blank) == {now.process.id}


def _with_cpu(cpu_s: float | None) -> Any:
    return replace(worker(1).process, cpu_s=cpu_s)


@pytest.mark.parametrize(
    ("cpu", "connections", "expected"),
    [
        (0.9, 2, True),  # spins
        (0.16, 2, True),  # froze late between two looks
        (0.14, 2, False),
        (0.0, 4, True),  # full: the window may begin before the CPU shows
        (0.9, 0, False),  # nobody waits
        (0.9, None, False),
    ],
)
def test_suspicion_costs_nothing_and_comes_early(cpu: float, connections: int | None, expected: bool) -> None:
    assert suspected(cpu=cpu, connections=connections) is expected


def test_at_first_sight_only_fullness_makes_a_suspect() -> None:
    assert not suspected(cpu=0.9, connections=3, before=None)
    assert suspected(cpu=0.0, connections=4, before=None)


def test_a_reused_pid_begins_its_own_window() -> None:
    looks = seconds(0, 1, 2, 3)
    other = replace(worker(1).process, id=replace(WHO, started=9999))
    verdict = story(looks)
    for second in (4, 5, 6):
        look = replace(frozen(second), process=other.id)
        verdict = RULE.judge(sight(look, process=other), verdict.memory)
    assert verdict.faults == ()


def test_memory_holds_only_who_is_suspected_now() -> None:
    verdict = story(seconds(0, 1, 2))
    calm = Sight(family=family(worker(1)), before=None, terms=TERMS, policy=Policy(), closeups={})
    assert RULE.judge(calm, verdict.memory).memory == {}


def test_the_second_look_confirms_what_still_spins() -> None:
    assert frozen_worker.doubt(frozen(5), frozen(5.1), TERMS, Policy()) is None


@pytest.mark.parametrize("changes", MOVED.values(), ids=MOVED)
def test_the_second_look_spares_what_moved(changes: dict[str, Any]) -> None:
    assert frozen_worker.doubt(frozen(2), frozen(3, **changes), TERMS, Policy()) is not None


def test_two_looks_at_once_prove_nothing() -> None:
    assert "lie between" in (frozen_worker.doubt(frozen(5), frozen(5.05), TERMS, Policy()) or "")


def test_a_worker_beside_the_frozen_one_is_left_alone() -> None:
    verdict = Verdict(faults=(), memory=RULE.blank)
    for second in range(6):
        look = frozen(second)
        idle = closeup(thread(202, cpu_s=1.0), process=worker(2).process.id, monotonic=look.monotonic, connections=FULL)
        both = family(worker(1, connections=4), worker(2, connections=4), at=AT + second, monotonic=MONOTONIC + second)
        seen = replace(sight(look), family=both, closeups={look.process: look, idle.process: idle})
        verdict = RULE.judge(seen, verdict.memory)
    assert [fault.slot for fault in verdict.faults] == [1]


def starved(second: float, **main: Any) -> Closeup:
    """A worker in a container with a limit of .15 cores: it runs .15 s in a second and waits for its CPU .85 s."""
    spinning = {"cpu_s": 7.0 + 0.15 * second, "state": "R", "sleeps": 3, "waited_s": 2.0 + 0.85 * second} | main
    return frozen(second, threads=(thread(101, switches=90 * int(second), wchan="", **spinning),))


def test_a_worker_that_spins_without_getting_a_cpu_is_frozen_too() -> None:
    (fault,) = story([starved(second) for second in range(6)]).faults
    evidence = {e.name: e.value for e in fault.evidence}
    assert (evidence["main thread CPU"], evidence["main thread wanted CPU"]) == (0.15, 1.0)
    assert "spun on 0.15 cores (and would have used 1.00 if it had got them)" in fault.summary


def test_waits_for_a_cpu_count_although_it_slept_now_and_then() -> None:
    assert len(story([starved(second, sleeps=second) for second in range(6)]).faults) == 1


def test_a_wait_that_is_not_over_at_the_second_look_does_not_spare_the_starved() -> None:
    first, second = starved(5, cpu_s=7.75, waited_s=6.25), starved(5.1, cpu_s=7.75, waited_s=6.25)
    assert RULE.doubt(first, second, TERMS, Policy()) is None


@pytest.mark.parametrize(
    "main",
    [
        {"waited_s": None, "sleeps": None},  # a kernel that does not say: what it used is all that is known
        {"waited_s": 0.0, "sleeps": 9, "state": "S"},
        {"waited_s": 0.0, "state": "S"},
    ],
)
def test_little_cpu_without_a_wait_for_it_is_no_freeze(main: dict[str, Any]) -> None:
    assert story([starved(second, **main) for second in range(6)]).faults == ()


def test_a_pool_thread_that_waits_for_a_cpu_is_at_work_unless_the_freeze_is_sure() -> None:
    looks = [frozen(s, threads=(thread(101, cpu_s=0.9 * s), thread(102, waited_s=0.2 * s))) for s in range(6)]
    assert story(looks, terms=replace(TERMS, release=None)).faults == ()
    assert len(story(looks).faults) == 1
