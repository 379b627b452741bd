"""Which roll an apply begins, and what is remembered of it.

In: the record before, the one that would be written, the live workload. Out: why the template changes, and the record
with the roll that begins. Rule: what to go back to is the last that is known to have worked; where no roll begins, what
is remembered of the last one stays.
"""

from dataclasses import replace
from typing import Literal

from wsgi_contract import names
from wsgi_operator.core.record import Record
from wsgi_operator.core.roll import Kind, Roll, Undone
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.theirs import owners_part
from wsgi_operator.core.workload import Object, all_containers

Reason = Kind | Literal["repair"]
"""repair: somebody else changed what is ours, and it is put back."""


def kind_of(
    before: Record | None, after: Record, deployment: Object, template: Object, *, stays: bool
) -> Reason | None:
    """Why the template changes; None: it stays.

    The same wish and yet another template is an upgraded operator, an owner's change, or another operator at work.

    Args:
        before: None: nothing was applied yet.
        after: what would be written.
        deployment: as it is now.
        template: what we would apply to its template.
        stays: whether the live template holds all of that already.
    """
    if before is None:
        return "adoption"
    if after.config == before.config:
        return None if stays else "repair"
    if (after.server, after.generation) != (before.server, before.generation):
        return "settings"
    if after.inherited != before.inherited or dict(after.settings) != dict(before.settings):
        return "staged"
    if (after.learnt, after.runs) != (before.learnt, before.runs):
        return "identity"
    if dict(after.variables) != dict(before.variables) or not _runs_alike(deployment, template):
        return "repair"
    return "upgrade"


def remembered(
    ours: Record, deployment: Object, *, before: Record | None, kind: Reason | None, undone: Undone | None, now: float
) -> Record:
    """The record with the roll that begins, and what to go back to from it.

    Args:
        ours: what would be written, without that.
        deployment: as it is now.
        before: what was written last.
        kind: why the template changes.
        undone: what this takes back.
        now: Unix seconds.
    """
    same = before is not None and before.undone is not None and before.undone.generation == ours.generation
    kept = before.undone if before is not None and same else None
    if kind is None or kind == "repair":
        return replace(ours, roll=before.roll, before=before.before, undone=kept) if before is not None else ours
    there = "spec" in deployment  # the workload of an app is made by its first apply
    theirs, calm = (owners_part(deployment), rollout(deployment).done) if there else ("", False)
    roll = Roll(kind=kind, began=now, theirs=theirs, calm=calm)
    if before is None or kind == "undo":
        return replace(ours, roll=roll, undone=undone)
    good = before.roll is None or before.roll.outcome == "Kept" or before.roll.kind == "undo"
    goes_on = kind in ("staged", "identity")
    return replace(ours, roll=roll, before=before.wish if good else before.before, undone=kept if goes_on else None)


def _runs_alike(deployment: Object, template: Object) -> bool:
    """Whether a sidecar is there and runs as it shall: if not, the owner took it out, or changed the server's user."""
    live = next((c for c in all_containers(deployment) if c["name"] == names.SIDECAR_CONTAINER), None)
    ours = template["spec"]["initContainers"][0]
    return live is not None and bool(live.get("securityContext") == ours["securityContext"])
