"""Pods as the reader of reports needs them.

In: pods as the API server gives them. Out: `Pod` values. Rule: a pod that is ending or has ended is not there any more;
one that cannot answer yet says why, in the kubelet's words.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from wsgi_contract import names
from wsgi_contract.in_place import OrderError, parse_order
from wsgi_operator.core.admission import unheeded
from wsgi_operator.core.evidence import Pod
from wsgi_operator.core.times import seconds
from wsgi_operator.core.unready import is_hopeless, trouble_of, unscheduled


def pods_of(objects: Iterable[Mapping[str, Any]]) -> tuple[Pod, ...]:
    """The pods that live, or are about to."""
    return tuple(_pod(body) for body in objects if _lives(body))


def pods_for(pods: Iterable[Pod], kind: str, name: str) -> tuple[Pod, ...]:
    """Those of this workload: a Job that was made from its template carries the label, too, and is somebody else's."""
    return tuple(pod for pod in pods if pod.workload in (None, (kind, name)))


def _lives(body: Mapping[str, Any]) -> bool:
    ended = body.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and "deletionTimestamp" not in body["metadata"]


def _pod(body: Mapping[str, Any]) -> Pod:
    status, annotations = body.get("status") or {}, body["metadata"].get("annotations") or {}
    return Pod(
        name=body["metadata"]["name"],
        uid=body["metadata"]["uid"],
        ip=status.get("podIP"),
        waiting=_waiting(status),
        unheeded=unheeded(body),
        verifiers=tuple(annotations.get(names.ANNOTATION_VERIFIERS, "").split()),
        workload=_workload(body["metadata"]),
        order=_order(annotations.get(names.ANNOTATION_ORDER, "")),
        created=seconds(body["metadata"].get("creationTimestamp")) or 0.0,
        ready_since=_ready_since(status),
        restarts=sum(container.get("restartCount", 0) for container in _containers(status)),
        trouble=trouble_of(status),
        hopeless=is_hopeless(status),
        revision=(body["metadata"].get("labels") or {}).get("controller-revision-hash"),
    )


def _ready_since(status: Mapping[str, Any]) -> float | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "True":
            return seconds(condition.get("lastTransitionTime")) or 0.0
    return None


def _containers(status: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))


def _order(text: str) -> str | None:
    """Id of the order that it was given; one that its sidecar could not read either is none."""
    try:
        return parse_order(text).id if text else None
    except OrderError:
        return None


def _workload(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """What controls it; for a ReplicaSet, whose name ends with the template's hash, the Deployment behind it."""
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is None:
        return None
    suffix = f"-{(metadata.get('labels') or {}).get('pod-template-hash')}"
    if owner["kind"] == "ReplicaSet" and owner["name"].endswith(suffix):
        return "Deployment", owner["name"].removesuffix(suffix)
    return owner["kind"], owner["name"]


def _waiting(status: Mapping[str, Any]) -> str | None:
    """Why its sidecar cannot answer; None where it runs."""
    containers = status.get("initContainerStatuses") or ()
    sidecar = next((c for c in containers if c["name"] == names.SIDECAR_CONTAINER), None)
    if sidecar is None:
        return unscheduled(status) or "the sidecar has not started yet"
    state = sidecar.get("state") or {}
    if "running" in state:
        return None
    word = next(iter(state), "waiting")
    detail = state.get(word) or {}
    said = ": ".join(part for part in (detail.get("reason"), detail.get("message")) if part)
    return f"the sidecar is {word}" + (f" ({said})" if said else "")
