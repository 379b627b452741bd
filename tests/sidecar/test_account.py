import json
from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_contract.report import Kill, KillOutcome, RestartReason, SidecarInfo, Unknown, dump_report
from wsgi_contract.settings import Setting
from wsgi_sidecar.core.account import KEPT_ENDED, KEPT_KILLS, Ledger, Step, account, account_failure
from wsgi_sidecar.core.departures import Departure
from wsgi_sidecar.core.diagnosis import Case, Diagnosis
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.lines import lines, server_lines
from wsgi_sidecar.core.remedy import Decision
from wsgi_sidecar.core.rules.rule import Fault
from wsgi_sidecar.core.stopwatch import BOUNDS_S, Stopwatch
from wsgi_sidecar.core.telling import Teller, View, tell
from wsgi_sidecar.testing import AT, MONOTONIC, family, listener, process, worker

TELLER = Teller(sidecar=SidecarInfo(version="0.1.0", started_at=AT - 60, uid=1000, gid=1000), pod=None)
WHO = worker(1).process.id


def case(number: int = 1) -> Case:
    fault = Fault(
        kind="frozen-worker", process=WHO, slot=1, since=AT - 5, summary="it spins", evidence=(), target="worker"
    )
    return Case(id=f"frozen-worker-{number}", fault=fault)


def kill(outcome: KillOutcome = "killed", number: int = 1, **fields: Any) -> Kill:
    defaults: dict[str, Any] = {
        "id": f"kill-{number}", "at": AT, "target": "worker", "slot": 1, "process": WHO, "reason": "frozen-worker",
        "message": "it spins", "outcome": outcome, "processes": 2, "survivors": (), "duration_s": 0.034,
    }  # fmt: skip
    return Kill(**(defaults | fields))


def step(second: float = 0, **fields: Any) -> Step:
    """A look; by default nothing happens in it."""
    defaults: dict[str, Any] = {
        "at": AT + second, "monotonic": MONOTONIC + second, "took_s": 0.002, "diagnosis": Diagnosis(),
        "family": family(),
    }  # fmt: skip
    return Step(**(defaults | fields))


def opens(number: int = 1) -> Diagnosis:
    return Diagnosis(open=(case(number),), opened=frozenset({case(number).id}))


def ends(number: int = 1) -> Diagnosis:
    return Diagnosis(ended=(case(number),))


KILLS = (Decision(case=case(), verb="kill", reason="the worker's whole process tree is killed"),)


def healed() -> tuple[Ledger, Ledger]:
    struck = account(Ledger(), step(diagnosis=opens(), decisions=KILLS, kills=(kill(),)))
    return struck, account(struck, step(1, diagnosis=ends()))


def test_an_incident_with_its_kill_is_counted_and_told() -> None:
    struck, _ = healed()
    assert struck.incidents == {"frozen-worker": 1}
    assert struck.kills == {("worker", "frozen-worker", "killed"): 1}
    incident = struck.open["frozen-worker-1"]
    assert incident.action == "the worker's whole process tree is killed: 2 processes ended in 0.03 s, none left"
    assert (incident.ended_at, incident.outcome) == (None, None)


def test_it_ends_with_what_cured_it() -> None:
    _, after = healed()
    assert after.open == {}
    (incident,) = after.ended
    assert incident.outcome == "cured: 2 processes ended in 0.03 s, none left"
    assert incident.ended_at == AT + 1
    assert after.incidents == {"frozen-worker": 1}


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (family(), "it recovered by itself"),
        (family(worker(2)), "the process ended by itself"),
        (None, "the process ended by itself"),
    ],
)
def test_without_a_kill_it_ends_by_itself(seen: Family | None, outcome: str) -> None:
    waits = (Decision(case=case(), verb="wait", reason="the budget is used up"),)
    before = account(Ledger(), step(diagnosis=opens(), decisions=waits))
    assert before.open["frozen-worker-1"].action == "the budget is used up"
    assert account(before, step(1, diagnosis=ends(), family=seen)).ended[0].outcome == outcome


def test_a_spared_worker_is_not_said_to_have_recovered() -> None:
    spared = account(Ledger(), step(diagnosis=opens(), decisions=KILLS, kills=(kill("spared"),)))
    assert account(spared, step(1, diagnosis=ends())).ended[0].outcome == (
        "not killed: the second look found it changed; it is watched on"
    )


@pytest.mark.parametrize("outcome", ["survived", "gone", "spared", "refused"])
def test_every_outcome_of_a_kill_is_told_in_words(outcome: KillOutcome) -> None:
    struck = kill(outcome, survivors=(WHO,) if outcome == "survived" else ())
    ledger = account(Ledger(), step(diagnosis=opens(), decisions=KILLS, kills=(struck,)))
    words = {"survived": "still alive: pid 101", "gone": "ended by itself", "spared": "spared", "refused": "runAsUser"}
    assert words[outcome] in ledger.open["frozen-worker-1"].action


def test_totals_outlive_the_history() -> None:
    ledger = Ledger()
    for number in range(1, 51):
        second = 1000.0 * number
        ledger = account(ledger, step(second, diagnosis=opens(number), decisions=KILLS, kills=(kill(number=number),)))
        ledger = account(ledger, step(second + 1, diagnosis=ends(number)))
    assert ledger.incidents == {"frozen-worker": 50}
    assert ledger.kills == {("worker", "frozen-worker", "killed"): 50}
    assert len(ledger.ended) == KEPT_ENDED
    assert ledger.ended[0].id == "frozen-worker-50"
    assert [deed.kill.id for deed in ledger.deeds] == [f"kill-{n}" for n in range(51 - KEPT_KILLS, 51)]
    assert ledger.struck == 50


def test_kills_that_decisions_still_need_are_remembered_beyond_what_is_told() -> None:
    many = tuple(kill(number=number) for number in range(1, 41))
    ledger = account(Ledger(), step(kills=many))
    assert len(account(ledger, step(299)).deeds) == 40
    assert len(account(ledger, step(301)).deeds) == KEPT_KILLS


def test_departures_are_counted_by_reason_and_timeouts_twice() -> None:
    reasons: tuple[RestartReason, ...] = ("timeout", "timeout", "unknown", "watchdog")
    gone = tuple(Departure(slot=slot, process=WHO, reason=reason) for slot, reason in enumerate(reasons))
    counts = account(Ledger(), step(departures=gone)).counts
    assert counts.restarts == (("timeout", 2), ("unknown", 1), ("watchdog", 1))
    assert counts.timeouts == 2


def test_a_failed_look_is_counted_and_changes_nothing_else() -> None:
    struck, _ = healed()
    failed = account_failure(struck)
    assert (failed.scans, failed.scan_errors) == (2, 1)
    assert replace(failed, scans=struck.scans, scan_errors=0) == struck


def test_the_stopwatch_puts_each_duration_into_its_bucket() -> None:
    watch = Stopwatch()
    for seconds in (0.0, BOUNDS_S[0], 0.0011, 99.0):
        watch = watch.with_lap(seconds)
    assert (watch.laps[0], watch.laps[2], watch.laps[-1]) == (2, 1, 1)
    assert watch.total_s == pytest.approx(99.0016)


def view(seen: Family | None = None, **fields: Any) -> View:
    defaults: dict[str, Any] = {
        "at": AT, "family": seen, "before": None, "release": "23.0.0" if seen else None, "settings": (),
        "unknowns": (), "policy": Policy(),
    }  # fmt: skip
    return View(**(defaults | fields))


def test_without_a_server_the_report_knows_nothing_of_it() -> None:
    report = tell(view(None), Ledger(), TELLER)
    assert (report.server, report.workers, report.orphans, report.accept_queue) == (None, None, None, None)
    assert json.loads(dump_report(report))["workers"] is None


def test_the_report_tells_the_look_and_the_ledger() -> None:
    struck, after = healed()
    used = replace(worker(1), process=replace(worker(1).process, cpu_s=1.5))
    now = family(used, worker(2), monotonic=MONOTONIC + 2, listeners=(listener(queue=3), listener(queue=4)))
    settings = (Setting(name="worker_class", value="sync", source="default"),)
    report = tell(view(now, before=family(worker(1)), settings=settings), after, TELLER)
    assert report.server is not None
    assert (report.server.release, report.server.process.pid) == ("23.0.0", 100)
    assert report.workers is not None
    assert [w.slot for w in report.workers] == [1, 2]
    assert report.workers[0].cpu_cores == pytest.approx(0.25)
    assert report.workers[1].cpu_cores is None
    assert report.accept_queue is not None
    assert (report.accept_queue.length, report.accept_queue.limit) == (7, 4096)
    assert report.connection_limit == 1
    assert [i.outcome is None for i in tell(view(now), struck, TELLER).incidents] == [True]
    assert [i.outcome is None for i in report.incidents] == [False]
    assert [k.id for k in report.kills] == ["kill-1"]
    json.loads(dump_report(report))


def test_what_the_kernel_did_not_tell_is_not_zero() -> None:
    deaf = family(listeners=(listener(backlog=None),))
    queue = tell(view(deaf), Ledger(), TELLER).accept_queue
    assert queue is not None
    assert queue.limit is None
    for none in ((), None):
        assert tell(view(family(listeners=none)), Ledger(), TELLER).accept_queue is None
    assert tell(view(family(orphans=None)), Ledger(), TELLER).orphans is None


def test_a_healing_is_three_lines_in_order() -> None:
    struck, after = healed()
    told = [*lines(Ledger(), struck), *lines(struck, after)]
    assert [line.event for line in told] == ["incident", "kill", "incident-ended"]
    incident, death, end = told
    assert incident.message == (
        "frozen-worker: it spins. What is done: the worker's whole process tree is killed: "
        "2 processes ended in 0.03 s, none left"
    )
    assert death.message == (
        "killed: worker in slot 1 (pid 101) for frozen-worker: 2 processes ended in 0.03 s, none left"
    )
    assert end.message == "frozen-worker in slot 1 ended after 6.0 s: cured: 2 processes ended in 0.03 s, none left"
    assert "message" not in death.fields
    assert death.fields["why"] == "it spins"


def test_an_incident_that_lasts_is_told_once_and_again_when_the_decision_changes() -> None:
    lasting = Diagnosis(open=(case(),))
    waits = (Decision(case=case(), verb="wait", reason="the budget is used up"),)
    first = account(Ledger(), step(diagnosis=opens(), decisions=waits))
    second = account(first, step(1, diagnosis=lasting, decisions=waits))
    third = account(second, step(2, diagnosis=lasting, decisions=KILLS, kills=(kill("survived"),)))
    assert [line.event for line in lines(first, second)] == []
    assert [(line.event, line.level) for line in lines(second, third)] == [("incident", "warning"), ("kill", "error")]


def test_the_server_is_told_when_it_comes_goes_and_is_another_one() -> None:
    one, two = view(family()), view(family(master=process(500)))
    assert [line.event for line in server_lines(None, one)] == ["server-found"]
    assert [line.event for line in server_lines(one, one)] == []
    assert [line.event for line in server_lines(one, two)] == ["server-lost", "server-found"]
    assert [line.event for line in server_lines(two, view(None))] == ["server-lost"]
    assert "gunicorn 23.0.0, master pid 100, 1 worker" in server_lines(None, one)[0].message


def test_what_cannot_be_seen_is_told_once_and_not_while_the_server_starts() -> None:
    blind = Unknown(what="heartbeats", why="another uid", remedy="runAsUser: 1000")
    young = view(family(master=process(100, started_at=AT - 1)), unknowns=(blind,))
    grown = view(family(), unknowns=(blind,))
    assert [line.event for line in server_lines(None, young)] == ["server-found"]
    assert [line.event for line in server_lines(young, grown)] == ["unknown"]
    assert server_lines(grown, grown) == ()
    assert server_lines(young, grown)[0].message == "heartbeats unknown: another uid; runAsUser: 1000"
