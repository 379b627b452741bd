"""How a roll of ours ended, if it did.

In: the workload with its record, its roll, its pods, what time it is. Out: None (it goes on), or `End`. Rule: only what
we changed is ours to undo. Where the owner changed the template meanwhile, or not all pods were ready before, a roll
that fails proves nothing against our change: then it is told, and left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wsgi_contract import names
from wsgi_operator.core.evidence import Pod
from wsgi_operator.core.record import Record
from wsgi_operator.core.roll import Outcome, Roll
from wsgi_operator.core.rollout import Rollout
from wsgi_operator.core.theirs import owners_part
from wsgi_operator.core.workload import Object

SILENT_FOR_S: Final = 600.0
"""How long pods that do not report after an upgrade keep it open: a bad image is seen by then, and one team's
NetworkPolicy does not stop the fleet's upgrade."""

_TOLD: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How it ended.

    Attributes:
        outcome: `Undone` asks for it to be undone.
        why: what the pods said; empty where they became ready.
    """

    outcome: Outcome
    why: str = ""


def end_of(
    record: Record,
    workload: Object,
    rollout: Rollout,
    pods: Sequence[Pod],
    within_s: float,
    *,
    silent: bool,
    now: float,
) -> End | None:
    """How the roll that the record tells of ended; None: it goes on.

    Args:
        record: with an open roll.
        workload: as it is now.
        rollout: of it.
        pods: that carry the sidecar.
        within_s: seconds without a new pod that became ready after which a roll has failed.
        silent: whether any of them does not report.
        now: Unix seconds.
    """
    roll = record.roll
    if roll is None or not roll.open:
        return None
    if rollout.done:
        waits = roll.kind == "upgrade" and silent and now - roll.began < SILENT_FOR_S
        return None if waits else End(outcome="Kept")
    if rollout.by_hand is not None:
        return None
    failure = _failure(roll, rollout, pods, within_s, now)
    if failure is None:
        return None
    why = f"{failure}; {_said(workload, _new(pods, roll))}"
    innocent = _innocent(record, roll, workload, _new(pods, roll))
    return End(outcome="Undone", why=why) if innocent is None else End(outcome="Failed", why=f"{why}. {innocent}")


def _failure(roll: Roll, rollout: Rollout, pods: Sequence[Pod], within_s: float, now: float) -> str | None:
    if rollout.failed and roll.kind != "undo":  # after undoing, the controller's word may still be of what was undone
        return "the Deployment's progressDeadlineSeconds passed without progress"
    new = _new(pods, roll)
    if new and all(pod.hopeless for pod in new):
        return "its new pods cannot become ready"
    steady = [pod.ready_since for pod in new if pod.ready_since is not None and not pod.restarts]
    if now - max([roll.began, *steady]) > within_s:
        return f"no new pod became ready within {within_s:g} s"
    return None


def _new(pods: Sequence[Pod], roll: Roll) -> list[Pod]:
    """Pods made since the roll began; the API server's times have whole seconds."""
    return [pod for pod in pods if pod.created >= roll.began - 1]


def _innocent(record: Record, roll: Roll, workload: Object, new: Sequence[Pod]) -> str | None:
    """Why the change is not to blame, or cannot be undone; None: it is, and can."""
    which = f"{workload['kind']} {workload['metadata']['name']}"
    if roll.kind == "undo":
        return f"This is the template of before: it is {which} itself that does not become ready, whatever we set"
    if record.app is not None and roll.kind == "adoption":
        return f"No pod of {which} was ever ready, so there is nothing to go back to: correct spec"
    if owners_part(workload) != roll.theirs:
        where = "correct spec.app" if record.app is not None else "mend it there"
        return f"The template of {which} was changed by its owner meanwhile, so nothing is undone: {where}"
    if not roll.calm and not _our_container(new):
        return f"Not all pods of {which} were ready before either, so nothing is undone: mend the workload first"
    if roll.kind == "identity":
        return "The sidecar now runs as the server does: set spec.sidecar.runAsUser and runAsGroup to what pods may be"
    if roll.kind != "adoption" and record.before is None:
        return "What was set before is not known any more, so nothing is undone: correct the spec"
    return None


def _our_container(new: Sequence[Pod]) -> bool:
    """Whether it is the sidecar that keeps every new pod from being ready: no owner's fault, whatever was before."""
    told = [pod.trouble or "" for pod in new if pod.hopeless]
    return bool(told) and all(trouble.startswith(f"container {names.SIDECAR_CONTAINER}") for trouble in told)


def _said(workload: Object, new: Sequence[Pod]) -> str:
    """What the new pods say, each different thing once."""
    refused = [c.get("message", "") for c in (workload.get("status") or {}).get("conditions") or () if _refuses(c)]
    if not new:
        return f"no new pod was made{f' ({refused[0]})' if refused else ''}"
    sick = {pod.trouble: pod.name for pod in reversed(new) if pod.ready_since is None and pod.trouble is not None}
    if not sick:
        return "its pods are silent"
    return "; ".join(f"pod {name}: {trouble}" for trouble, name in list(sick.items())[:_TOLD])


def _refuses(condition: Object) -> bool:
    return condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
