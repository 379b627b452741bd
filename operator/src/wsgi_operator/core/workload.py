"""Reading a Deployment: its container, its environment, its ownership, its roll.

In: a Deployment as the API server gives it. Out: parts of it, `Rollout`, or an `Obstacle`. Rule: nothing is guessed: a
container that cannot be told from others is an obstacle with their names in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wsgi_contract import names
from wsgi_operator.core.server import Obstacle

Object = Mapping[str, Any]

SHARE_PATH: Final = ("f:spec", "f:template", "f:spec", "f:shareProcessNamespace")


def pod_spec(deployment: Object) -> Object:
    """The pod spec inside the Deployment's template."""
    return deployment["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def annotations(deployment: Object) -> Mapping[str, str]:
    """The Deployment's own annotations (not the template's)."""
    return deployment["metadata"].get("annotations") or {}


def find_container(deployment: Object, name: str | None) -> Object | Obstacle:
    """The container that the server runs in: the named one, or the only one.

    Returns:
        The container, or an obstacle that lists what there is.
    """
    containers = [c for c in pod_spec(deployment)["containers"] if c["name"] != names.SIDECAR_CONTAINER]
    if name is None and len(containers) == 1:
        return containers[0]  # type: ignore[no-any-return]
    known = ", ".join(c["name"] for c in containers)
    which = f"{deployment['kind']} {deployment['metadata']['name']}"
    if name is None:
        return Obstacle(
            reason="ContainerAmbiguous",
            message=f"{which} has several containers ({known}): name the one that runs the server in "
            "spec.workload.container",
        )
    found = next((c for c in containers if c["name"] == name), None)
    if found is not None:
        return found  # type: ignore[no-any-return]
    return Obstacle(
        reason="ContainerNotFound",
        message=f"{which} has no container {name!r}; it has {known}. Delete this WSGIServer and create one "
        "that names one of them, or give the workload that container",
    )


def all_containers(deployment: Object) -> Iterator[Object]:
    """Containers and init containers."""
    spec = pod_spec(deployment)
    yield from spec.get("initContainers") or ()
    yield from spec["containers"]


def env_entry(container: Object, name: str) -> Object | None:
    """The container's own entry for an environment variable, of several the one that the kubelet takes: the last."""
    return next((entry for entry in reversed(container.get("env") or ()) if entry["name"] == name), None)


def env_path(container: str, variable: str) -> tuple[str, ...]:
    """Path of an environment variable's value inside managedFields."""
    return (
        "f:spec", "f:template", "f:spec", "f:containers", f'k:{{"name":"{container}"}}',
        "f:env", f'k:{{"name":"{variable}"}}', "f:value",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Owner:
    """Who owns a field, as managedFields names them."""

    manager: str
    operation: str


def owners(deployment: Object, path: Sequence[str]) -> tuple[Owner, ...]:
    """The managers, other than we, that own the field at this managedFields path."""
    found = (
        Owner(manager=entry["manager"], operation=entry["operation"])
        for entry in deployment["metadata"].get("managedFields") or ()
        if not is_ours(entry) and _has(entry.get("fieldsV1") or {}, path)
    )
    return tuple(sorted(found))


def is_ours(entry: Object) -> bool:
    """Whether this managedFields entry is our applied configuration."""
    return bool(entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply")


def _has(fields: Object, path: Sequence[str]) -> bool:
    for part in path:
        if part not in fields:
            return False
        fields = fields[part]
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far the Deployment's own rolling update is.

    Attributes:
        done: all pods are of the current template and available.
        failed: the Deployment's controller gave up (progressDeadlineSeconds).
        message: as a person reads it.
    """

    done: bool
    failed: bool
    message: str


def rollout(workload: Object) -> Rollout:
    """How far the roll is, by the rules of `kubectl rollout status`."""
    status, replicas = workload.get("status") or {}, workload["spec"].get("replicas", 1)
    stuck = next((c for c in status.get("conditions") or () if c.get("reason") == "ProgressDeadlineExceeded"), None)
    if stuck is not None:
        return Rollout(done=False, failed=True, message=f"the roll does not go on: {stuck.get('message', '')}")
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return Rollout(done=False, failed=False, message="the roll is about to begin")
    missing = _stateful(workload, replicas) if workload["kind"] == "StatefulSet" else _stateless(status, replicas)
    if missing is not None:
        return Rollout(done=False, failed=False, message=missing)
    return Rollout(done=True, failed=False, message=f"all {replicas} pods carry the template")


def _stateless(status: Object, replicas: int) -> str | None:
    """What a Deployment's roll still misses."""
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    if updated < replicas:
        return f"{updated} of {replicas} pods carry the new template"
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
