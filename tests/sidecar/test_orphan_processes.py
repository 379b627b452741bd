"""Stories of looks at a server whose workers leave processes behind, one second apart."""

from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_contract.report import Orphan, ProcessId
from wsgi_sidecar.core.descent import Descent, Origin
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.orphans import Memory
from wsgi_sidecar.core.rules.orphan_processes import RULE
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms
from wsgi_sidecar.testing import AT, MONOTONIC, closeup, family, pid, process, worker

TERMS = Terms(release="23.0.0", worker_class="sync", connection_limit=1, timeout_s=3)
CHILD, OTHER = pid(201, 6001), pid(202, 6002)


def orphan(who: ProcessId, name: str = "python3") -> Orphan:
    return Orphan(process=who, name=name, since=AT, rss_bytes=50 * 2**20)


def sight(second: float, workers: tuple[Worker, ...], *orphans: Orphan, policy: Policy | None = None) -> Sight:
    now = replace(family(at=AT + second, monotonic=MONOTONIC + second, orphans=orphans), workers=workers)
    return Sight(family=now, before=None, terms=TERMS, policy=policy or Policy(), closeups={})


def descended(look: Sight, descents: dict[ProcessId, Descent]) -> Sight:
    return replace(look, family=replace(look.family, descents=descents))


def parent(slot: int = 1, *children: ProcessId, started: int = 5001) -> Worker:
    tree = tuple(replace(process(child.pid), id=child) for child in children)
    return worker(slot, process=process(100 + slot, ppid=100, started=started), tree=tree)


def story(*looks: Sight) -> tuple[Fault, ...]:
    memory: Any = RULE.blank
    faults: tuple[Fault, ...] = ()
    for look in looks:
        verdict = RULE.judge(look, memory)
        memory, faults = verdict.memory, verdict.faults
    return faults


def test_children_of_a_dead_worker_are_ended_together_after_the_grace() -> None:
    young = parent(1, started=7000)
    left = (orphan(CHILD), orphan(OTHER))
    looks = (sight(0, (parent(1, CHILD, OTHER),)), sight(1, (young,), *left), sight(2.5, (young,), *left))
    assert story(*looks[:2]) == ()
    (fault,) = story(*looks)
    assert (fault.kind, fault.process, fault.others, fault.target, fault.spare) == (
        "orphan-processes", CHILD, (OTHER,), "orphan", None,
    )  # fmt: skip
    assert "2 processes (python3; pid 201, 202)" in fault.summary
    assert "100 MiB" in fault.summary


def test_the_grace_is_looked_at_when_it_ends() -> None:
    memory = RULE.judge(sight(0, (parent(1, CHILD),)), RULE.blank).memory
    verdict = RULE.judge(sight(1, (parent(1, started=7000),), orphan(CHILD)), memory)
    assert verdict.again_at == pytest.approx(MONOTONIC + 2.5)


def test_a_process_that_left_a_living_worker_is_told_but_not_ended() -> None:
    seen = sight(0, (parent(1, CHILD),))
    (fault,) = story(seen, sight(1, (parent(1),), orphan(CHILD)), sight(3, (parent(1),), orphan(CHILD)))
    assert "may be a daemon" in (fault.spare or "")
    assert "nothing proves that a dead worker left it" in fault.summary
    assert "outlived" not in fault.summary


def test_one_never_seen_before_is_not_ended_while_every_worker_lives() -> None:
    (fault,) = story(
        sight(0, (parent(1),)), sight(1, (parent(1),), orphan(CHILD)), sight(3, (parent(1),), orphan(CHILD))
    )
    assert fault.spare is not None


BOTH, ONE, YOUNG = (parent(1), parent(2, started=5002)), (parent(2, started=5002),), (parent(1, started=7000),)


def test_one_never_seen_before_is_ended_once_no_worker_that_lived_at_its_birth_is_left() -> None:
    told = (sight(0, BOTH), sight(1, ONE, orphan(CHILD)), sight(3, ONE, orphan(CHILD)))
    (fault,) = story(*told)
    assert "may be a daemon" in (fault.spare or ""), "the worker that still lives may have started it"
    (fault,) = story(*told, sight(5, YOUNG, orphan(CHILD)))
    assert fault.spare is None


def test_one_that_was_there_before_us_is_ended_unless_a_living_worker_may_have_set_it_free() -> None:
    (fault,) = story(sight(0, YOUNG, orphan(CHILD)), sight(2, YOUNG, orphan(CHILD)))
    assert fault.spare is None
    (fault,) = story(sight(0, (parent(1),), orphan(CHILD)), sight(2, (parent(1),), orphan(CHILD)))
    assert "may be a daemon" in (fault.spare or ""), "a restart of the sidecar does not doom what was left alone"


def from_(origin: Origin, root: ProcessId, *orphans: ProcessId) -> dict[ProcessId, Descent]:
    return {each: Descent(root=root, origin=origin) for each in orphans}


@pytest.mark.parametrize(
    ("origin", "workers", "spared"),
    [
        pytest.param("worker", YOUNG, False, id="of a worker, and all are younger"),
        pytest.param("worker", (parent(1),), True, id="of a worker, and one is older"),
        pytest.param("unknown", YOUNG, True, id="nothing proves that it is a worker's"),
        pytest.param("dead worker", (parent(1),), False, id="its own worker is dead, whoever else lives"),
    ],
)
def test_what_was_there_before_us_is_judged_by_where_it_comes_from(
    origin: Origin, workers: tuple[Worker, ...], spared: bool
) -> None:
    looks = (sight(second, workers, orphan(CHILD)) for second in (0, 2))
    (fault,) = story(*(descended(look, from_(origin, CHILD, CHILD)) for look in looks))
    assert (fault.spare is not None) == spared


@pytest.mark.parametrize(
    ("maybe_masters", "master_loads", "spared"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_what_the_master_may_have_started_before_us_is_told_and_not_ended(
    maybe_masters: bool, master_loads: bool, spared: bool
) -> None:
    origin = {CHILD: Descent(root=CHILD, origin="worker", maybe_masters=maybe_masters)}
    looks = (descended(sight(second, YOUNG, orphan(CHILD)), origin) for second in (0, 2))
    (fault,) = story(*(replace(look, terms=replace(TERMS, master_loads=master_loads)) for look in looks))
    assert (fault.spare is not None) == spared


def test_a_worker_that_was_there_at_its_birth_and_died_is_proof_whatever_the_master_loads() -> None:
    origin = {CHILD: Descent(root=CHILD, origin="worker", maybe_masters=True)}
    looks = (sight(0, (parent(1),), orphan(CHILD)), sight(2, YOUNG, orphan(CHILD)), sight(4, YOUNG, orphan(CHILD)))
    (fault,) = story(*(descended(look, origin) for look in looks))
    assert fault.spare is None


def test_a_tree_is_judged_by_its_root() -> None:
    young_child, descents = pid(202, 8000), from_("worker", CHILD, CHILD, pid(202, 8000))
    left = (orphan(CHILD), orphan(young_child))
    middle = (parent(1, started=5001), parent(2, started=7500))
    looks = (sight(0, middle, *left), sight(2, middle, *left), sight(4, middle[1:], *left))
    (fault,) = story(*(descended(look, descents) for look in looks))
    assert (fault.spare, set(fault.others)) == (None, {young_child}), (
        "7500 is younger than the root, not than its child"
    )


def test_a_worker_that_is_leaving_is_not_dead() -> None:
    leaving = Memory(workers=frozenset({parent(1).process.id}))
    told = [sight(0, (parent(1, CHILD),)), *(sight(second, YOUNG, orphan(CHILD)) for second in (1, 3))]
    for number, look in enumerate(told):
        told[number] = replace(look, family=replace(look.family, memory=leaving))
    (fault,) = story(*told)
    assert "may be a daemon" in (fault.spare or "")
    (fault,) = story(*told, sight(5, YOUNG, orphan(CHILD)))
    assert fault.spare is None, "its process has ended"


def test_the_children_of_a_worker_that_leaves_are_remembered_as_its_own() -> None:
    memory = Memory(workers=frozenset({parent(1).process.id}), kin=frozenset({CHILD}))
    leaving = sight(1, YOUNG)
    leaving = replace(leaving, family=replace(leaving.family, memory=memory))
    looks = (sight(0, (parent(1, CHILD), parent(2))), leaving, sight(2, (parent(2),), orphan(CHILD)))
    (fault,) = story(*looks, sight(4, (parent(2),), orphan(CHILD)))
    assert fault.spare is None, "worker 2 is older, but known not to be the one"


def test_an_exempt_name_is_not_even_told() -> None:
    policy = Policy(orphan_exempt=("celery*", "redis-server"))
    left = (orphan(CHILD, "celeryd"), orphan(OTHER, "redis-server"))
    assert story(sight(0, (parent(1),), *left, policy=policy), sight(9, (parent(1),), *left, policy=policy)) == ()


def test_the_policy_may_say_to_tell_only() -> None:
    policy = Policy(end_orphans=False)
    left = orphan(CHILD)
    (fault,) = story(sight(0, YOUNG, left, policy=policy), sight(9, YOUNG, left, policy=policy))
    assert "end_orphans" in (fault.spare or "")


def test_orphans_that_cannot_be_told_are_no_fault() -> None:
    blind = replace(sight(0, (parent(1),)).family, orphans=None)
    assert story(replace(sight(0, (parent(1),)), family=blind)) == ()


def test_memory_stays_bounded_however_many_workers_come_and_go() -> None:
    memory: Any = RULE.blank
    for second in range(2000):
        memory = RULE.judge(sight(second, (parent(1, started=6000 + second),)), memory).memory
    assert len(memory.dead) <= 256
    assert memory.owners == {}


def test_a_second_look_does_not_give_an_orphan_back() -> None:
    assert RULE.doubt(closeup(), closeup(), TERMS, Policy()) is None
