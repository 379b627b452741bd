"""What an apply changes, told for people.

In: the record before and the new one. Out: `Change` values, and the new record with them. Rule: where nothing changes
that somebody asked for, the record goes on telling of the last change.
"""

from collections.abc import Mapping
from dataclasses import replace

from wsgi_operator.core.record import Change, Record
from wsgi_operator.core.server import SPEC_NAMES
from wsgi_operator.core.sidecar import Identity


def told(before: Record | None, ours: Record, now: float) -> Record:
    """The new record with what it changes; where it changes nothing, it tells of the last change still."""
    changes = _changes(before, ours)
    if before is not None:
        ours = replace(ours, drifts=before.drifts, drift_at=before.drift_at)
    if before is not None and not changes:
        return replace(ours, at=before.at, changes=before.changes)
    return replace(ours, at=now, changes=changes)


def _changes(before: Record | None, after: Record) -> tuple[Change, ...]:
    if before is None:
        return (Change(name="sidecar", before=None, after=after.image), *setting_changes({}, after.settings))
    others = (
        ("app.image", before.app, after.app),
        ("watchdog", before.policy, after.policy),
        ("image", before.image, after.image),
        ("identity", _words(before.learnt), _words(after.learnt)),
        ("server", before.runs, after.runs),
        ("requests", before.requests, after.requests),
    )
    return setting_changes(before.settings, after.settings) + tuple(
        Change(name=name, before=old, after=new) for name, old, new in others if old != new
    )


def setting_changes(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Change, ...]:
    """What becomes of the settings, by the resource's names."""
    return tuple(
        Change(name=spec_name, before=_text(before.get(name)), after=_text(after.get(name)))
        for name, spec_name in SPEC_NAMES.items()
        if before.get(name) != after.get(name)
    )


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


def _words(identity: Identity) -> str | None:
    return None if identity == Identity() else f"uid {identity.uid}, gid {identity.gid}"
