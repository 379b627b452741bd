"""What to do about each open case: kill its tree, or wait, and why.

In: the open cases, the family, the policy, and what was done before. Out: one `Decision` per case. Rule: a kill needs a
rule that asks for it, a budget, a rested slot and, if the victim may still serve, another worker that does. Waiting and
the dry run are decisions like the kill, with a reason; nobody downstream asks for the mode again.

A reason does not count down: it changes only when the decision does, so that it is logged once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from wsgi_contract.policy import Policy
from wsgi_contract.report import IncidentKind, Kill, KillTarget, ProcessId
from wsgi_sidecar.core.diagnosis import Case
from wsgi_sidecar.core.family import Family

BUDGET_WINDOW_S: Final = 60.0
REFUSED_PAUSE_S: Final = 300.0
"""The kernel's no does not change by asking: one try in five minutes costs nothing and notices a fixed pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One kill of the past, on the monotonic clock: the wall clock may jump, budgets may not."""

    kill: Kill
    monotonic: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about one case.

    Attributes:
        case: which.
        verb: `kill` its tree; `ask` it to end first; `dry-run`: would kill, says so once; `wait`.
        reason: why, as a person reads it.
    """

    case: Case
    verb: Literal["kill", "ask", "dry-run", "wait"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a decision is taken in.

    Attributes:
        family: the look that the cases were found in.
        policy: in force.
        past: kills of at least the last five minutes, and all that concern open cases; oldest first.
        monotonic: now.
        asked: living processes that were asked to end, and when.
    """

    family: Family
    policy: Policy
    past: tuple[Deed, ...]
    monotonic: float
    asked: Mapping[ProcessId, float] = field(default_factory=dict)


def decide(cases: Iterable[Case], scene: Scene) -> tuple[Decision, ...]:
    """One decision per case; each kill among them counts against the budget of those behind it."""
    decisions: list[Decision] = []
    for case in cases:
        if _was_asked(case, scene) and case.fault.gentle_s is not None and scene.policy.mode == "Enforce":
            decisions.append(_after_asking(case, scene))
            continue
        doomed = [decision.case for decision in decisions if decision.verb in ("kill", "ask")]
        why = _why_not(case, scene, doomed)
        decisions.append(Decision(case=case, verb="wait", reason=why) if why else _act(case, scene))
    return tuple(decisions)


def _was_asked(case: Case, scene: Scene) -> bool:
    return case.fault.process in scene.asked


def _act(case: Case, scene: Scene) -> Decision:
    tree = f"the {case.fault.target}'s whole process tree"
    if scene.policy.mode == "Enforce" and case.fault.gentle_s is not None:
        return Decision(case=case, verb="ask", reason=_asking(case))
    if scene.policy.mode == "Enforce":
        return Decision(case=case, verb="kill", reason=f"{tree} is killed")
    rehearsed_before = any(deed.kill.outcome == "dry-run" for deed in _about(case, scene))
    reason = f"dry run: {tree} would be killed; set watchdog mode to Enforce to have it done"
    return Decision(case=case, verb="wait" if rehearsed_before else "dry-run", reason=reason)


def _asking(case: Case) -> str:
    return (
        f"it is asked to end ({case.fault.gently}) and finishes its requests; if it still lives after "
        f"{case.fault.gentle_s:g} s, its whole process tree is killed"
    )


def _after_asking(case: Case, scene: Scene) -> Decision:
    if scene.family.untouchable is not None:
        return Decision(case=case, verb="wait", reason=scene.family.untouchable)
    gentle_s = case.fault.gentle_s or 0.0
    if scene.monotonic - scene.asked[case.fault.process] < gentle_s:
        return Decision(case=case, verb="wait", reason=_asking(case))
    if _refused(case, scene) or any(deed.kill.outcome == "survived" for deed in _about(case, scene)):
        return Decision(case=case, verb="wait", reason="it was asked to end and could not be killed")
    reason = f"it did not end within {gentle_s:g} s of being asked: its whole process tree is killed"
    return Decision(case=case, verb="kill", reason=reason)


def _why_not(case: Case, scene: Scene, doomed: list[Case]) -> str | None:
    fault, policy = case.fault, scene.policy
    if fault.target is None:
        return fault.spare or "killing is no cure for this"
    if fault.spare is not None:
        return fault.spare
    if scene.family.untouchable is not None:
        return scene.family.untouchable
    # Whoever asked gave it time for its requests; whatever else is wrong with it, that time ends in a kill.
    if _was_asked(case, scene):
        return "it was asked to end already, and is ended when the time is over that it was given"
    if policy.only_if_queue and (why := _nobody_waits(case, scene)) is not None:
        return why
    if policy.mode == "DryRun":
        return None
    if _refused(case, scene):
        return "the kernel refused the kill: the sidecar needs the server's runAsUser and runAsGroup; next try in 300 s"
    if _rests(case, scene, doomed):
        return f"slot {fault.slot} was dealt with less than {policy.cooldown_s:g} s ago and gets that long to recover"
    if _spent(scene) + len(doomed) >= policy.kills_per_minute:
        return f"the budget of {policy.kills_per_minute} kills a minute is used up; the cause needs a person"
    return _last_one(case, scene, doomed)


def _nobody_waits(case: Case, scene: Scene) -> str | None:
    """Why a worker that the policy lets be ended for others' sake alone need not be; None where somebody waits."""
    if case.fault.target != "worker" or case.fault.gentle_s is not None:
        return None
    if scene.family.listeners is None:
        return "it is ended only while somebody waits (only_if_queue), and the accept queue could not be read"
    if any(listener.queue for listener in scene.family.listeners):
        return None
    return "nobody waits in the accept queue; it is ended once somebody does (only_if_queue)"


def _about(case: Case, scene: Scene) -> list[Deed]:
    return [deed for deed in scene.past if deed.kill.process == case.fault.process]


def _refused(case: Case, scene: Scene) -> bool:
    refused = (deed for deed in _about(case, scene) if deed.kill.outcome == "refused")
    return any(scene.monotonic - deed.monotonic < REFUSED_PAUSE_S for deed in refused)


def _rests(case: Case, scene: Scene, doomed: list[Case]) -> bool:
    slot = case.fault.slot
    if slot is None:
        return False
    # A worker that the second look spared rests, too: asking it again every second tells nothing new.
    recent = (deed for deed in scene.past if deed.kill.outcome in ("killed", "survived", "spared"))
    rested = {deed.kill.slot for deed in recent if scene.monotonic - deed.monotonic < scene.policy.cooldown_s}
    return slot in rested or any(slot == other.fault.slot for other in doomed)


def _spent(scene: Scene) -> int:
    landed = (deed for deed in scene.past if deed.kill.outcome in ("killed", "survived"))
    return sum(scene.monotonic - deed.monotonic < BUDGET_WINDOW_S for deed in landed)


def _last_one(case: Case, scene: Scene, doomed: list[Case]) -> str | None:
    if not case.fault.serving or case.fault.target != "worker":
        return None
    ending = {case.fault.process, *(other.fault.process for other in doomed)}
    left = [worker for worker in scene.family.workers if worker.state == "alive" and worker.process.id not in ending]
    return None if left else "it is the last worker that may still serve; another one must be up before it is ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the door `kill` needs to know to end one process tree, and to tell of it.

    Attributes:
        id: of the `Kill` that will come back.
        target: what is ended.
        slot: the worker's, if a worker.
        process: root of the tree.
        reason: the incident's kind.
        message: the incident's sentence.
        bystanders: processes that must outlive it, whatever the walk finds: the master and the other workers, where
            one worker is the target.
        also: roots of more trees that the same stroke ends.
        mark: inode of a file that only this tree holds open (the worker's heartbeat): finds forks that left the tree.
    """

    id: str
    target: KillTarget
    slot: int | None
    process: ProcessId
    reason: IncidentKind
    message: str
    bystanders: frozenset[ProcessId]
    also: frozenset[ProcessId] = frozenset()
    mark: int | None = None


def order(decision: Decision, family: Family, *, number: int) -> Order:
    """The order for a kill, numbered within this sidecar's life."""
    fault = decision.case.fault
    worker = family.worker(fault.process)
    others = {family.master.id, *(other.process.id for other in family.workers)} - {fault.process}
    return Order(
        id=f"kill-{number}",
        target=fault.target or "worker",
        slot=fault.slot,
        process=fault.process,
        reason=fault.kind,
        message=fault.summary,
        bystanders=frozenset() if fault.target == "server" else frozenset(others),
        also=frozenset(fault.others),
        mark=worker.heartbeat.inode if worker and worker.heartbeat else None,
    )


def rehearsed(what: Order, family: Family, *, at: float) -> Kill:
    """The `Kill` of a dry run: what an Enforce policy would have ended at this moment."""
    worker = family.worker(what.process)
    return Kill(
        id=what.id,
        at=at,
        target=what.target,
        slot=what.slot,
        process=what.process,
        reason=what.reason,
        message=what.message,
        outcome="dry-run",
        processes=1 + len(worker.tree) if worker else 1,
        survivors=(),
        duration_s=0.0,
    )
