"""Reading a Deployment: its container, its environment, its ownership.

In: a Deployment as the API server gives it. Out: parts of it, or an `Obstacle`. Rule: nothing is guessed: a
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


def carries_sidecar(deployment: Object) -> bool:
    """Whether the template has the sidecar's container, whoever put it there."""
    return any(container["name"] == names.SIDECAR_CONTAINER for container in all_containers(deployment))


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
