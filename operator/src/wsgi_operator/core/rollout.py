"""How far a workload's own rolling update is.

In: a Deployment or StatefulSet as the API server gives it. Out: `Rollout`. Rule: it is judged as `kubectl rollout
status` does, and never guessed ahead: a status that tells of an older template says nothing of this one.
"""

from dataclasses import dataclass
from typing import Final

from wsgi_operator.core.workload import Object

_FINISHED: Final = "NewReplicaSetAvailable"
"""The Deployment controller's word, under Progressing, for a roll that came to its end, whatever its pods did since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far the workload's own rolling update is.

    Attributes:
        done: all pods are of the current template and available.
        failed: the Deployment's controller gave up (progressDeadlineSeconds).
        message: as a person reads it.
        finished: the roll came to its end, perhaps long ago; pods may be missing or unavailable all the same.
        by_hand: why pods are not replaced without somebody's doing; None: they are.
    """

    done: bool
    failed: bool
    message: str
    finished: bool = False
    by_hand: str | None = None

    @property
    def under_way(self) -> bool:
        """Whether pods are being replaced, or were and it did not come to an end."""
        return not self.done and not self.finished


def rollout(workload: Object) -> Rollout:
    """How far the roll is, by the rules of `kubectl rollout status`."""
    status, replicas, by_hand = workload.get("status") or {}, workload["spec"].get("replicas", 1), _by_hand(workload)
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return Rollout(done=False, failed=False, message="the roll is about to begin", by_hand=by_hand)
    stuck = next((c for c in status.get("conditions") or () if c.get("reason") == "ProgressDeadlineExceeded"), None)
    if stuck is not None:
        message = f"the roll does not go on: {stuck.get('message', '')}"
        return Rollout(done=False, failed=True, message=message, by_hand=by_hand)
    missing = _stateful(workload, replicas) if workload["kind"] == "StatefulSet" else _stateless(workload, replicas)
    if missing is not None:
        finished = _finished(workload)
        return Rollout(done=False, failed=False, message=missing, finished=finished, by_hand=by_hand)
    return Rollout(
        done=True, failed=False, message=f"all {replicas} pods carry the template", finished=True, by_hand=by_hand
    )


def _by_hand(workload: Object) -> str | None:
    if workload["spec"].get("paused"):
        return "the Deployment is paused (spec.paused)"
    strategy = workload["spec"].get("updateStrategy") or {}
    return "the StatefulSet's updateStrategy is OnDelete" if strategy.get("type") == "OnDelete" else None


def _finished(workload: Object) -> bool:
    """Whether a roll to this template ended at some time."""
    status = workload.get("status") or {}
    if workload["kind"] == "StatefulSet":
        return bool(status.get("currentRevision") == status.get("updateRevision"))
    ended = any(c.get("reason") == _FINISHED for c in status.get("conditions") or ())
    return ended and bool(status.get("replicas", 0) <= status.get("updatedReplicas", 0))


def _stateless(workload: Object, replicas: int) -> str | None:
    """What a Deployment's roll still misses."""
    status = workload.get("status") or {}
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    if updated < replicas:
        paused = ": the Deployment is paused, kubectl rollout resume it" if workload["spec"].get("paused") else ""
        return f"{updated} of {replicas} pods carry the new template{paused}"
    if total > updated:
        return f"{total - updated} old pods are still to end"
    return f"{available} of {replicas} pods are available" if available < replicas else None


def _stateful(workload: Object, replicas: int) -> str | None:
    """What a StatefulSet's roll still misses; its pods are replaced one by one, or by hand."""
    status, strategy = workload.get("status") or {}, workload["spec"].get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    same = status.get("currentRevision") == status.get("updateRevision")
    updated = status.get("currentReplicas", 0) if same else status.get("updatedReplicas", 0)
    available = status.get("availableReplicas", 0)
    wanted = replicas if strategy.get("type") == "OnDelete" else max(replicas - partition, 0)
    if updated < wanted:
        by_hand = ": its updateStrategy is OnDelete, delete the others" if strategy.get("type") == "OnDelete" else ""
        return f"{updated} of {wanted} pods carry the new template{by_hand}"
    return f"{available} of {replicas} pods are available" if available < replicas else None
