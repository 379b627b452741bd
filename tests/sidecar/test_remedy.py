from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_contract.report import Kill, KillOutcome, ProcessId
from wsgi_sidecar.core.diagnosis import Case
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.remedy import Decision, Deed, Scene, decide, order, rehearsed
from wsgi_sidecar.core.rules.rule import Fault
from wsgi_sidecar.testing import AT, MONOTONIC, family, listener, process, worker


def case(slot: int = 1, **fields: Any) -> Case:
    defaults: dict[str, Any] = {
        "kind": "frozen-worker", "process": worker(slot).process.id, "slot": slot, "since": AT, "summary": "it spins",
        "evidence": (), "target": "worker",
    }  # fmt: skip
    return Case(id=f"frozen-worker-{slot}", fault=Fault(**(defaults | fields)))


def deed(slot: int = 1, *, ago_s: float, outcome: KillOutcome = "killed", who: ProcessId | None = None) -> Deed:
    kill = Kill(
        id="kill-1", at=AT, target="worker", slot=slot, process=who or ProcessId(pid=1, started=1),
        reason="frozen-worker", message="it spins", outcome=outcome, processes=1, survivors=(), duration_s=0.1,
    )  # fmt: skip
    return Deed(kill=kill, monotonic=MONOTONIC - ago_s)


def decided(
    *cases: Case,
    past: tuple[Deed, ...] = (),
    seen: Family | None = None,
    asked: frozenset[ProcessId] = frozenset(),
    **policy: Any,
) -> list[Decision]:
    scene = Scene(
        family=seen or family(worker(1), worker(2)), policy=Policy(**policy), past=past, monotonic=MONOTONIC,
        asked=dict.fromkeys(asked, MONOTONIC - 1),
    )  # fmt: skip
    return list(decide(cases, scene))


def verbs(*cases: Case, **fields: Any) -> list[str]:
    return [decision.verb for decision in decided(*cases, **fields)]


def test_a_frozen_worker_is_killed() -> None:
    (decision,) = decided(case())
    assert (decision.verb, decision.reason) == ("kill", "the worker's whole process tree is killed")


def test_the_only_worker_may_be_killed_when_it_serves_nobody() -> None:
    assert verbs(case(), seen=family(worker(1))) == ["kill"]


def test_two_frozen_workers_are_both_killed() -> None:
    assert verbs(case(1), case(2)) == ["kill", "kill"]


def test_of_workers_that_still_serve_the_last_one_stays() -> None:
    one, two = decided(case(1, serving=True), case(2, serving=True))
    assert (one.verb, two.verb) == ("kill", "wait")
    assert "last worker" in two.reason


@pytest.mark.parametrize("state", ["booting", "draining", "overdue"])
def test_a_worker_that_does_not_serve_does_not_count_as_another_one(state: str) -> None:
    seen = family(worker(1), worker(2, state=state))
    assert verbs(case(1, serving=True), seen=seen) == ["wait"]


def test_what_the_rule_spares_waits_with_the_rules_reason() -> None:
    (decision,) = decided(case(spare="gunicorn 27.0.1 is not known to freeze"))
    assert (decision.verb, decision.reason) == ("wait", "gunicorn 27.0.1 is not known to freeze")


@pytest.mark.parametrize("target", ["worker", "orphan"])
def test_of_a_server_that_is_watched_only_nothing_is_ended(target: str) -> None:
    (decision,) = decided(case(target=target), seen=replace(family(worker(1)), untouchable="it is watched only"))
    assert (decision.verb, decision.reason) == ("wait", "it is watched only")


def test_one_that_was_asked_to_end_is_not_ended_once_its_server_may_not_be_touched() -> None:
    seen = replace(family(worker(1), worker(2)), untouchable="it may be another's")
    asked = {worker(1).process.id: MONOTONIC - 60}
    scene = Scene(family=seen, policy=Policy(), past=(), monotonic=MONOTONIC, asked=asked)
    (decision,) = decide([case(gentle_s=32.0)], scene)
    assert (decision.verb, decision.reason) == ("wait", "it may be another's")


def test_what_no_kill_cures_is_not_killed() -> None:
    assert verbs(case(target=None)) == ["wait"]


def test_a_worker_may_be_ended_only_while_somebody_waits() -> None:
    calm, crowded, unread = (replace(family(worker(1), worker(2)), listeners=each) for each in (
        (listener(queue=0), listener(queue=0)), (listener(queue=0), listener(queue=1)), None,
    ))  # fmt: skip
    assert verbs(case(), seen=crowded, only_if_queue=True) == ["kill"]
    (decision,) = decided(case(), seen=calm, only_if_queue=True)
    assert (decision.verb, "nobody waits" in decision.reason) == ("wait", True)
    (decision,) = decided(case(), seen=unread, only_if_queue=True)
    assert (decision.verb, "could not be read" in decision.reason) == ("wait", True)
    assert verbs(case(), seen=calm, only_if_queue=True, mode="DryRun") == ["wait"]
    assert verbs(case(), seen=calm) == ["kill"]


def test_orphans_servers_and_recycling_do_not_wait_for_a_queue() -> None:
    calm = replace(family(worker(1), worker(2)), listeners=(listener(queue=0),))
    assert verbs(case(1, target="orphan"), case(2, target="server"), seen=calm, only_if_queue=True) == ["kill", "kill"]
    assert verbs(case(gentle_s=32.0), seen=calm, only_if_queue=True) == ["ask"]


ASKED = frozenset({worker(1).process.id})


def test_who_was_asked_to_end_keeps_its_time_whatever_else_is_wrong_with_it() -> None:
    gentle, frozen = decided(case(kind="memory-limit", gentle_s=32.0), case(), asked=ASKED)
    assert (gentle.verb, frozen.verb) == ("wait", "wait")
    assert "asked to end already" in frozen.reason


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        pytest.param({"target": None}, {}, id="no kill cures it"),
        pytest.param({"spare": "it is spared"}, {}, id="the rule spares it"),
        pytest.param({}, {"kills_per_minute": 0}, id="the budget is used up"),
        pytest.param({}, {"mode": "DryRun"}, id="nothing is rehearsed on it"),
    ],
)
def test_having_been_asked_overrules_no_reason_to_wait(fields: dict[str, Any], policy: dict[str, Any]) -> None:
    assert verbs(case(**fields), asked=ASKED, **policy) == ["wait"]
    assert verbs(case(2), asked=ASKED) == ["kill"], "another worker was not asked"


def test_a_slot_rests_between_two_kills() -> None:
    (decision,) = decided(case(), past=(deed(ago_s=9.9),), cooldown_s=10.0)
    assert decision.verb == "wait"
    assert "10 s" in decision.reason
    assert verbs(case(), past=(deed(ago_s=10.1),), cooldown_s=10.0) == ["kill"]
    assert verbs(case(), past=(deed(slot=2, ago_s=1),), cooldown_s=10.0) == ["kill"]


def test_a_worker_that_the_second_look_spared_rests_too_but_costs_no_budget() -> None:
    assert verbs(case(), past=(deed(ago_s=1, outcome="spared"),)) == ["wait"]
    assert verbs(case(), past=(deed(slot=2, ago_s=1, outcome="spared"),), kills_per_minute=1) == ["kill"]


def test_the_budget_is_kills_in_the_last_minute() -> None:
    past = tuple(deed(slot=9, ago_s=ago) for ago in (70, 50, 30))
    assert verbs(case(), past=past, kills_per_minute=3) == ["kill"]
    (decision,) = decided(case(), past=past, kills_per_minute=2)
    assert decision.verb == "wait"
    assert "2 kills a minute" in decision.reason


def test_kills_of_one_stroke_share_the_budget() -> None:
    assert verbs(case(1), case(2), kills_per_minute=1) == ["kill", "wait"]
    assert verbs(case(1), kills_per_minute=0) == ["wait"]


def test_a_dry_run_says_once_what_it_would_do_and_needs_no_budget() -> None:
    (decision,) = decided(case(), mode="DryRun", kills_per_minute=0)
    assert decision.verb == "dry-run"
    assert "would be killed" in decision.reason
    past = (deed(ago_s=1, outcome="dry-run", who=worker(1).process.id),)
    (again,) = decided(case(), mode="DryRun", past=past)
    assert (again.verb, again.reason) == ("wait", decision.reason)


def test_a_rehearsal_holds_back_no_real_kill() -> None:
    past = (deed(ago_s=1, outcome="dry-run", who=worker(1).process.id),)
    assert verbs(case(), past=past, kills_per_minute=1) == ["kill"]


def test_after_a_refusal_the_same_process_is_left_for_five_minutes() -> None:
    refused = deed(ago_s=299, outcome="refused", who=worker(1).process.id)
    (decision,) = decided(case(), past=(refused,))
    assert decision.verb == "wait"
    assert "runAsUser" in decision.reason
    assert verbs(case(), past=(replace(refused, monotonic=MONOTONIC - 301),)) == ["kill"]


def test_a_reason_to_wait_does_not_count_down() -> None:
    reasons = {decided(case(), past=(deed(ago_s=ago),))[0].reason for ago in (1.0, 2.5, 9.0)}
    assert len(reasons) == 1


def test_the_order_names_who_must_outlive_the_worker_and_how_its_forks_are_known() -> None:
    seen = family(worker(1), worker(2))
    what = order(decided(case())[0], seen, number=7)
    assert (what.id, what.slot, what.process, what.message) == ("kill-7", 1, worker(1).process.id, "it spins")
    assert what.bystanders == {seen.master.id, worker(2).process.id}
    assert what.mark == 1  # the builders' worker 1 holds heartbeat inode 1


def test_where_the_whole_server_is_to_end_nobody_is_a_bystander() -> None:
    master = family().master.id
    whole = replace(case().fault, kind="stuck-arbiter", target="server", process=master, slot=None)
    (decision,) = decided(Case(id="stuck-arbiter-1", fault=whole))
    assert order(decision, family(), number=1).bystanders == frozenset()


def test_a_rehearsed_kill_counts_the_tree() -> None:
    seen = family(worker(1, tree=(process(301), process(302))))
    kill = rehearsed(order(decided(case())[0], seen, number=1), seen, at=AT)
    assert (kill.outcome, kill.processes, kill.at, kill.duration_s) == ("dry-run", 3, AT, 0.0)
