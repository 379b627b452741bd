"""How often a change by somebody else is undone before we only say so.

In: the record of the last apply, the live Deployment, what time it is. Out: the next record, or an `Obstacle`. Rule:
two controllers that undo each other roll a workload for ever, so each undoing in a row waits twice as long as the one
before: at once, then 10 s, 20 s, 40 s, up to an hour. Each quiet half hour forgives one: an owner who deploys twice an
hour is followed at once each time, and a GitOps tool that syncs every ten minutes soon makes two rolls an hour, not 12.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from wsgi_operator.core.cover import stray
from wsgi_operator.core.record import Record
from wsgi_operator.core.server import Obstacle
from wsgi_operator.core.times import moment
from wsgi_operator.core.workload import Object, is_ours

CONTESTED: Final = "Contested"
REWRITTEN: Final = "Rewritten"
FIRST_WAIT_S: Final = 10.0
LONGEST_WAIT_S: Final = 3600.0
FORGIVES_ONE_S: Final = 1800.0


def wait_s(drifts: int) -> float:
    """Seconds to wait after so many undoings in a row: 0, 10, 20, 40, ..., 3600."""
    return 0.0 if drifts == 0 else min(FIRST_WAIT_S * 2.0 ** min(drifts - 1, 10), LONGEST_WAIT_S)


def undo(record: Record, before: Record, deployment: Object, now: float, *, by_us: bool = False) -> Record | Obstacle:
    """Undo it now, counted; or not yet, with who it is and when we try again.

    Args:
        record: what we would write.
        before: what was written last, perhaps by another operator.
        deployment: as it is now.
        now: Unix seconds.
        by_us: what is written has changed, and nobody touched what was: operators of two configurations may be at work.
    """
    again_at = record.drift_at + wait_s(record.drifts)
    if now < again_at:
        who = _other(record, before, deployment, by_us=by_us)
        return Obstacle(
            reason=CONTESTED,
            message=f"{who} keeps changing what this WSGIServer sets in the template, {record.drifts} times in a row: "
            "leave GUNICORN_CMD_ARGS, shareProcessNamespace and the sidecar out of what it manages (in Argo CD: "
            f"ignoreDifferences), or delete this WSGIServer; tried again at {moment(again_at)}",
        )
    forgiven = int((now - record.drift_at) // FORGIVES_ONE_S)
    return replace(record, drifts=max(record.drifts - forgiven, 0) + 1, drift_at=now)


def rewritten(written: Object, config: Mapping[str, Any]) -> Obstacle | None:
    """Why the API server's answer to our own write is not what we wrote; None where it is.

    Args:
        written: the workload as the API server says that it is now.
        config: what was applied.
    """
    if (path := stray(written, config)) is None:
        return None
    return Obstacle(
        reason=REWRITTEN,
        message=f"what this WSGIServer applies does not arrive as it was applied: {path} is another. An admission "
        "webhook or policy of this cluster changes it (kubectl get mutatingwebhookconfigurations,"
        "mutatingadmissionpolicies): exempt this workload from it, or have spec.sidecar say what it makes of that "
        "(image, imagePullPolicy, resources)",
    )


def _other(record: Record, before: Record, deployment: Object, *, by_us: bool) -> str:
    if before.image != record.image:
        return f"another wsgi-operator, whose sidecar is {before.image},"
    if by_us:
        return "another wsgi-operator, or this one under another configuration (its report keys, its release),"
    entries = [
        entry
        for entry in deployment["metadata"].get("managedFields") or ()
        if not is_ours(entry) and not entry.get("subresource")
    ]
    return str(max(entries, key=lambda entry: entry.get("time", ""))["manager"]) if entries else "somebody"
