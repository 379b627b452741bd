"""What the operator makes by itself: an app's Deployment, Service and PodDisruptionBudget, and PodMonitors.

In: a `Server`. Out: apply configurations, and per object what is to be done. Rule: all of it is owned by the
WSGIServer, so that it goes with it; an object of that name that somebody else made is told, never taken.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from wsgi_contract import names
from wsgi_operator.core.app import App, PodMonitor
from wsgi_operator.core.cover import covers
from wsgi_operator.core.digest import digest
from wsgi_operator.core.record import ANNOTATION_APPLIED
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.workload import Object

ChildKind = Literal["Service", "PodDisruptionBudget", "PodMonitor"]
CHILD_KINDS: Final[tuple[ChildKind, ...]] = ("Service", "PodDisruptionBudget", "PodMonitor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be done about one object.

    Attributes:
        config: to be applied; None: the object is to be deleted.
        version: of the live object that this was decided for; None: there is none.
    """

    config: Mapping[str, Any] | None
    version: str | None


def children(server: Server) -> Mapping[ChildKind, Object | None]:
    """Beside the workload, what shall be there, and (None) what shall not."""
    monitor = server.monitoring.pod_monitor
    wanted: dict[ChildKind, Object | None] = {"PodMonitor": _pod_monitor(server, monitor) if monitor else None}
    if server.app is not None:
        budget = _budget(server, server.app.disruption) if server.app.disruption else None
        wanted |= {"Service": _service(server, server.app), "PodDisruptionBudget": budget}
    return wanted


def step(server: Server, kind: str, wanted: Object | None, live: Object | None) -> Step | Obstacle | None:
    """What to do about one of them; None: it is as it shall be."""
    if wanted is None:
        theirs = live is None or not is_made_by(server, live)
        return None if theirs or live is None else Step(config=None, version=live["metadata"]["resourceVersion"])
    metadata = {**wanted["metadata"], "annotations": {**wanted["metadata"].get("annotations", {})}}
    metadata["annotations"][ANNOTATION_APPLIED] = digest(wanted)
    config = {**wanted, "metadata": metadata}
    if live is None:
        return Step(config=config, version=None)
    if not is_made_by(server, live):
        return not_made_by(server, kind)
    if covers(live, config):  # with the name of its content, so that what goes from the spec is missed, too
        return None
    return Step(config=config, version=live["metadata"]["resourceVersion"])


def is_made_by(server: Server, live: Object) -> bool:
    """Whether this very WSGIServer controls the object."""
    references = live["metadata"].get("ownerReferences") or ()
    return any(reference.get("controller") and reference["uid"] == server.uid for reference in references)


def not_made_by(server: Server, kind: str) -> Obstacle:
    """That somebody else's object has the name."""
    return Obstacle(
        reason="NotOurs",
        message=f"there is a {kind} {server.name} in namespace {server.namespace} that this WSGIServer did not make: "
        "it is left alone. Delete it, or give this WSGIServer another name; a Deployment that shall stay its owner's "
        "is named in spec.workload",
    )


def identity_of(server: Server, app: App | None = None) -> dict[str, Any]:
    """Name, labels and owner of everything that is made."""
    labels = {
        "app.kubernetes.io/name": server.name,
        "app.kubernetes.io/managed-by": names.FIELD_MANAGER,
    }
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": server.name,
        "uid": server.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    if app is not None:
        labels[names.LABEL_APP] = server.name
    return {"name": server.name, "namespace": server.namespace, "labels": labels, "ownerReferences": [owner]}


def _service(server: Server, app: App) -> dict[str, Any]:
    metadata = identity_of(server, app)
    if app.service.annotations:
        metadata["annotations"] = dict(app.service.annotations)
    port = {"name": "http", "port": app.service.port, "targetPort": "http", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": app.service.type, "selector": {names.LABEL_APP: server.name}, "ports": [port]},
    }


def _budget(server: Server, disruption: Mapping[str, int]) -> dict[str, Any]:
    """A pod that is not ready serves nobody, so a drain may take it whatever the budget says."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": identity_of(server, server.app),
        "spec": {
            "selector": {"matchLabels": {names.LABEL_APP: server.name}},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            **disruption,
        },
    }


def _pod_monitor(server: Server, monitor: PodMonitor) -> dict[str, Any]:
    metadata = identity_of(server, server.app)
    metadata["labels"] |= dict(monitor.labels)
    # The label that dashboard and alerts group by, as the chart's own PodMonitor gives it.
    server_label = re.sub(r"\W", "_", names.LABEL_SERVER)
    relabelling = {"sourceLabels": [f"__meta_kubernetes_pod_label_{server_label}"], "targetLabel": "wsgiserver"}
    endpoint = {
        "port": names.SIDECAR_PORT_NAME,
        "path": "/metrics",
        "interval": f"{monitor.interval_s}s",
        "relabelings": [relabelling],
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": {names.LABEL_SERVER: server.name}},
            "podMetricsEndpoints": [endpoint],
        },
    }
