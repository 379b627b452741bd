from collections.abc import Sequence
from dataclasses import replace

from wsgi_contract.policy import Policy
from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.diagnosis import RULES, Diagnosis, Memory, diagnose, lost, rule_of, suspects
from wsgi_sidecar.core.rules.rule import Sight, Terms
from wsgi_sidecar.testing import AT, MONOTONIC, closeup, family, thread, worker

TERMS = Terms(release="23.0.0", worker_class="gthread", connection_limit=1, timeout_s=30)


def sight(second: int, *frozen: int) -> Sight:
    """Two workers, some of them frozen."""
    workers = [worker(slot, connections=int(slot in frozen)) for slot in (1, 2)]
    looks = {}
    for slot in frozen:
        who = workers[slot - 1].process.id
        looks[who] = closeup(
            thread(who.pid, cpu_s=float(second), wchan=""),
            process=who, monotonic=MONOTONIC + second, connections=frozenset({slot}),
        )  # fmt: skip
    seen = family(*workers, at=AT + second, monotonic=MONOTONIC + second)
    return Sight(family=seen, before=None, terms=TERMS, policy=Policy(frozen_window_s=2), closeups=looks)


def story(frozen: Sequence[tuple[int, ...]]) -> list[Diagnosis]:
    told: list[Diagnosis] = []
    for second, slots in enumerate(frozen):
        told.append(diagnose(sight(second, *slots), told[-1].memory if told else Memory()))
    return told


def ids(told: Sequence[Diagnosis]) -> list[list[str]]:
    return [[case.id for case in diagnosis.open] for diagnosis in told]


def test_an_incident_opens_once_lasts_and_ends_once() -> None:
    told = story([(1,), (1,), (1,), (1,), (), ()])
    assert ids(told) == [[], [], ["frozen-worker-1"], ["frozen-worker-1"], [], []]
    assert [sorted(diagnosis.opened) for diagnosis in told] == [[], [], ["frozen-worker-1"], [], [], []]
    assert [[case.id for case in diagnosis.ended] for diagnosis in told] == [[], [], [], [], ["frozen-worker-1"], []]


def test_since_stays_where_the_first_look_put_it() -> None:
    told = story([(), (1,), (1,), (1,), (1,), (1,)])
    assert {case.fault.since for diagnosis in told for case in diagnosis.open} == {AT + 1}


def test_a_rule_that_changes_its_mind_about_the_beginning_does_not_move_it() -> None:
    memory = story([(1,), (1,), (1,)])[-1].memory
    ((key, case),) = memory.open.items()
    earlier = replace(case, fault=replace(case.fault, since=AT - 100))
    (later,) = diagnose(sight(3, 1), replace(memory, open={key: earlier})).open
    assert later.fault.since == AT - 100


def test_what_comes_again_is_another_incident() -> None:
    told = story([(1,), (1,), (1,), (), (1,), (1,), (1,)])
    assert ids(told)[2] == ["frozen-worker-1"]
    assert ids(told)[6] == ["frozen-worker-2"]


def test_two_workers_are_two_incidents() -> None:
    assert ids(story([(1, 2)] * 3))[2] == ["frozen-worker-1", "frozen-worker-2"]


def test_when_the_server_is_lost_its_incidents_end() -> None:
    before = story([(1,), (1,), (1,)])[-1]
    after = lost(before.memory)
    assert [case.id for case in after.ended] == ["frozen-worker-1"]
    assert (after.open, after.memory.open, after.memory.rules) == ((), {}, {})
    assert after.memory.opened == 1


def test_a_suspicion_is_looked_at_closely_in_the_same_look() -> None:
    asking = replace(sight(0, 1), closeups={})
    assert ProcessId(pid=101, started=5001) in suspects(asking, Memory())


def test_every_fault_finds_the_rule_that_made_it() -> None:
    (case,) = story([(1,), (1,), (1,)])[-1].open
    assert rule_of(case.fault).kind == "frozen-worker"
    assert len({rule.kind for rule in RULES}) == len(RULES)
