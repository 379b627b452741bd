"""What the sidecar has to say: totals that outlive every worker, incidents with their ends, and the Report.

In: the `Ledger` of the looks before, and what this look brought. Out: the next `Ledger`; from it and the look, the
contract's `Report`. Rule: totals only grow; what was not seen is None; history is bounded, totals are not forgotten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from wsgi_contract.in_place import State
from wsgi_contract.report import Counts, Incident, IncidentKind, Kill, KillOutcome, KillTarget, ProcessId, RestartReason
from wsgi_sidecar.core.asking import Asked, Asking, still_asked
from wsgi_sidecar.core.departures import Departure
from wsgi_sidecar.core.diagnosis import Case, Diagnosis
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.remedy import BUDGET_WINDOW_S, REFUSED_PAUSE_S, Decision, Deed
from wsgi_sidecar.core.stopwatch import Stopwatch

KEPT_ENDED: Final = 20
"""Ended incidents in the Report: enough for a bad night, some 20 KB of JSON at most."""
KEPT_KILLS: Final = 20
"""Kills in the Report, newest last."""
KEPT_STACKS: Final = 3
"""Kills that keep their stacks: 16 KB each at most."""
REMEMBERED_S: Final = max(BUDGET_WINDOW_S, REFUSED_PAUSE_S)

KillLabels = tuple[KillTarget, IncidentKind, KillOutcome]
K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Everything counted since the sidecar started.

    Attributes:
        scans: looks taken, failed ones included.
        scan_errors: looks that failed as a whole.
        restarts: workers that ended, by reason.
        incidents: cases opened, by kind.
        kills: by target, reason and outcome.
        stopwatch: how long looks took.
        open: open incidents by id.
        ended: the last ended ones, newest first.
        deeds: kills that decisions still need to know, oldest first, and at least the last `KEPT_KILLS`.
        struck: kills ever told: numbers the next one.
        asking: living processes that were asked to end.
        changes: orders to change settings in place, by how they ended.
    """

    scans: int = 0
    scan_errors: int = 0
    restarts: Mapping[RestartReason, int] = field(default_factory=dict)
    incidents: Mapping[IncidentKind, int] = field(default_factory=dict)
    kills: Mapping[KillLabels, int] = field(default_factory=dict)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    open: Mapping[str, Incident] = field(default_factory=dict)
    ended: tuple[Incident, ...] = ()
    deeds: tuple[Deed, ...] = ()
    struck: int = 0
    asking: Asking = field(default_factory=dict)
    changes: Mapping[State, int] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """The totals as the Report tells them."""
        return Counts(
            restarts=tuple(sorted(self.restarts.items())),
            timeouts=self.restarts.get("timeout", 0),
            incidents=tuple(sorted(self.incidents.items())),
            scans=self.scans,
            scan_errors=self.scan_errors,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one look brought.

    Attributes:
        at: wall clock.
        monotonic: the other one.
        took_s: duration of the look, kills not included.
        diagnosis: of this look.
        decisions: one per open case.
        kills: what came of them.
        departures: workers that ended since the look before.
        family: the look; None where no server was found.
        asked: who was asked to end.
        living: all processes of the look, zombies aside.
        changed: how an order to change settings in place ended now; None where none did.
    """

    at: float
    monotonic: float
    took_s: float
    diagnosis: Diagnosis
    decisions: tuple[Decision, ...] = ()
    kills: tuple[Kill, ...] = ()
    departures: tuple[Departure, ...] = ()
    family: Family | None = None
    asked: tuple[Asked, ...] = ()
    living: frozenset[ProcessId] = frozenset()
    changed: State | None = None


def account(ledger: Ledger, step: Step) -> Ledger:
    """The ledger with this look in it."""
    actions = {decision.case.id: _action(decision, step.kills) for decision in step.decisions}
    is_open = {case.id: _incident(case, actions.get(case.id, "watched")) for case in step.diagnosis.open}
    ended = tuple(
        _ended(ledger.open[case.id], case, ledger, step) for case in step.diagnosis.ended if case.id in ledger.open
    )
    opened = [case.fault.kind for case in step.diagnosis.open if case.id in step.diagnosis.opened]
    return replace(
        ledger,
        scans=ledger.scans + 1,
        restarts=_added(ledger.restarts, (departure.reason for departure in step.departures)),
        incidents=_added(ledger.incidents, opened),
        kills=_added(ledger.kills, ((kill.target, kill.reason, kill.outcome) for kill in step.kills)),
        stopwatch=ledger.stopwatch.with_lap(step.took_s),
        open=is_open,
        ended=(ended + ledger.ended)[:KEPT_ENDED],
        deeds=_deeds(ledger, step),
        struck=ledger.struck + len(step.kills),
        asking=still_asked(ledger.asking, step.asked, step.living),
        changes=_added(ledger.changes, (step.changed,) if step.changed else ()),
    )


def account_failure(ledger: Ledger) -> Ledger:
    """The ledger after a look that failed as a whole."""
    return replace(ledger, scans=ledger.scans + 1, scan_errors=ledger.scan_errors + 1)


def _added(counts: Mapping[K, int], keys: Iterable[K]) -> Mapping[K, int]:
    total = dict(counts)
    for key in keys:
        total[key] = total.get(key, 0) + 1
    return total


def _deeds(ledger: Ledger, step: Step) -> tuple[Deed, ...]:
    deeds = ledger.deeds + tuple(Deed(kill=kill, monotonic=step.monotonic) for kill in step.kills)
    concerned = {case.fault.process for case in step.diagnosis.open}
    needed = [
        deed
        for number, deed in enumerate(deeds)
        if number >= len(deeds) - KEPT_KILLS
        or step.monotonic - deed.monotonic < REMEMBERED_S
        or deed.kill.process in concerned
    ]
    return tuple(_without_stack(deed) for deed in needed[:-KEPT_STACKS]) + tuple(needed[-KEPT_STACKS:])


def _without_stack(deed: Deed) -> Deed:
    return deed if deed.kill.stack is None else replace(deed, kill=replace(deed.kill, stack=None))


def _incident(case: Case, action: str) -> Incident:
    fault = case.fault
    return Incident(
        id=case.id,
        kind=fault.kind,
        since=fault.since,
        slot=fault.slot,
        process=fault.process,
        summary=fault.summary,
        evidence=fault.evidence,
        action=action,
    )


def _action(decision: Decision, kills: tuple[Kill, ...]) -> str:
    kill = next((kill for kill in kills if kill.process == decision.case.fault.process), None)
    if kill is None or kill.outcome == "dry-run":
        return decision.reason
    return f"{decision.reason}: {told(kill)}"


def told(kill: Kill) -> str:
    """The outcome of a kill in a few words."""
    processes = f"{kill.processes} process{'' if kill.processes == 1 else 'es'}"
    left = ", ".join(str(process.pid) for process in kill.survivors)
    return {
        "killed": f"{processes} ended in {kill.duration_s:.2f} s, none left",
        "survived": f"{processes} ended in {kill.duration_s:.2f} s, still alive: pid {left}",
        "gone": "it had ended by itself before the first signal",
        "spared": "it was spared, for the second look found it changed",
        "dry-run": f"{processes} would have been ended",
        "refused": "refused, not allowed to signal it: the sidecar needs the server's runAsUser and runAsGroup",
    }[kill.outcome]


def _ended(incident: Incident, case: Case, ledger: Ledger, step: Step) -> Incident:
    outcome = case.fault.outcome or _outcome(incident, ledger, step)
    return replace(incident, outcome=outcome, ended_at=step.at)


def _outcome(incident: Incident, ledger: Ledger, step: Step) -> str:
    known = (*(deed.kill for deed in ledger.deeds), *step.kills)
    kills = [kill for kill in known if kill.process == incident.process]
    mine = [kill for kill in kills if kill.reason == incident.kind]
    landed = [kill for kill in mine if kill.outcome in ("killed", "survived")]
    if landed:
        return f"cured: {told(landed[-1])}"
    if not _lives(incident.process, step.family):
        return "the process ended by itself"
    if any(kill.outcome == "spared" for kill in mine):
        return "not killed: the second look found it changed; it is watched on"
    return "it recovered by itself"


def _lives(process: ProcessId | None, family: Family | None) -> bool:
    if family is None or process is None:
        return False
    return process == family.master.id or family.worker(process) is not None
