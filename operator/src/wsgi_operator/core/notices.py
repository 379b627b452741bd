"""Which Events to post: every kill once, on the WSGIServer and on the pod.

In: Evidence, and what time it is. Out: `Notice` values. Rule: a notice's key is made from
what it tells of (pod uid, the kill's id and time; the time of the apply), never from when it is told: so a restarted
operator makes the same names, and the API server refuses the second.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from wsgi_contract import names
from wsgi_contract.report import Kill, KillOutcome
from wsgi_operator.core.changes import setting_changes
from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Evidence, Pod
from wsgi_operator.core.record import all_told
from wsgi_operator.core.server import Server
from wsgi_operator.core.standing import Standing
from wsgi_operator.core.times import moment

HORIZON_S: Final = 1800.0
"""Older things are not told. An API server forgets Events after an hour by default; half of that leaves no moment in
which an old kill that a report still lists would be told a second time."""

_REASONS: Final[Mapping[KillOutcome, str]] = {
    "killed": "WorkerKilled",
    "survived": "KillIncomplete",
    "dry-run": "WouldKill",
    "refused": "KillRefused",
    "spared": "KillSpared",
}
_TARGETS: Final = {"worker": "WorkerKilled", "server": "ServerKilled", "orphan": "OrphanKilled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One Event to post.

    Attributes:
        key: the same for the same thing, always.
        pod: the pod it is about; None: the WSGIServer.
        kind: how Kubernetes ranks it.
        reason: CamelCase, for programs.
        note: for people; a stranger's words, until it is an Event.
        at: Unix seconds at which it happened.
    """

    key: str
    pod: Pod | None
    kind: Literal["Normal", "Warning"]
    reason: str
    note: str
    at: float

    def name(self, server: str) -> str:
        """The Event's name: the pod's or, if it is about none, the WSGIServer's, and a digest of the key."""
        about = server if self.pod is None else self.pod.name
        key = self.key.encode(errors="backslashreplace")  # a pod may say halves of surrogate pairs
        return f"{about[:200]}.{hashlib.sha256(key).hexdigest()[:16]}"


def kill_notices(server: Server, evidence: Evidence, now: float) -> Iterator[Notice]:
    """What to tell of the kills in the reports, one after the other: there may be thousands."""
    recent = ((pod, kill) for pod, kill in evidence.kills() if abs(now - kill.at) < HORIZON_S)
    told = ((pod, kill) for pod, kill in recent if kill.outcome in _REASONS)
    return (notice for pod, kill in told for notice in _kill(server, pod, kill))


def _kill(server: Server, pod: Pod, kill: Kill) -> Iterator[Notice]:
    identity = f"{pod.uid}/{kill.id}/{kill.at:.3f}"
    reason = _TARGETS[kill.target] if kill.outcome == "killed" else _REASONS[kill.outcome]
    note = f"{kill.reason}: {kill.message}{_end(kill)}"
    for about, words in ((None, f"pod {pod.name}: {note}"), (pod, note)):
        yield Notice(
            key=f"{identity}/{server.uid if about is None else 'pod'}",
            pod=about,
            kind="Normal" if kill.outcome == "spared" else "Warning",
            reason=reason,
            note=words,
            at=kill.at,
        )


def _end(kill: Kill) -> str:
    if kill.outcome == "survived":
        return f" ({len(kill.survivors)} processes survived: {', '.join(str(p.pid) for p in kill.survivors[:5])})"
    count = "1 process" if kill.processes == 1 else f"{kill.processes} processes"
    return f" ({count} ended in {kill.duration_s:.2f} s)" if kill.outcome == "killed" else ""


def in_place_notices(server: Server, standing: Standing | None, now: float) -> tuple[Notice, ...]:
    """What to tell of the last change in place, once it has come to an end."""
    if standing is None or standing.phase == "Changing" or now - standing.at > HORIZON_S:
        return ()
    reason = {"Applied": "SettingsChanged", "Stopped": "InPlaceStopped", "Unable": "InPlaceUnable"}[standing.phase]
    words = all_told(setting_changes(standing.before, standing.settings))
    return (
        Notice(
            key=f"{server.uid}/in-place/{standing.order}/{standing.phase}/{standing.at:.3f}",
            pod=None,
            kind="Normal" if standing.phase == "Applied" else "Warning",
            reason=reason,
            note=f"{server.kind} {server.workload}, in place: {words}: {standing.reason}",
            at=standing.at,
        ),
    )


def restored_notice(server_uid: str, workload: str, at: float) -> Notice:
    """That the workload has its own template back."""
    return Notice(
        key=f"{server_uid}/restored",
        pod=None,
        kind="Normal",
        reason="Restored",
        note=f"{workload} has the template that its owner wrote",
        at=at,
    )


def event_of(notice: Notice, server: Mapping[str, Any]) -> dict[str, Any]:
    """The Event object.

    Args:
        notice: what to tell.
        server: the WSGIServer object that it is told of, or whose pod.
    """
    metadata = server["metadata"]
    about = (
        {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": metadata["name"], "uid": metadata["uid"]}
        if notice.pod is None
        else {"apiVersion": "v1", "kind": "Pod", "name": notice.pod.name, "uid": notice.pod.uid}
    )
    at = moment(notice.at)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": notice.name(metadata["name"]), "namespace": metadata["namespace"]},
        "involvedObject": about | {"namespace": metadata["namespace"]},
        "type": notice.kind,
        "reason": notice.reason,
        "message": clip(notice.note),
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "reportingInstance": names.FIELD_MANAGER,
    }
