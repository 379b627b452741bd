"""How to give a Deployment back to its owner, byte for byte.

In: the live Deployment. Out: at most three steps: a write that takes all of ours out of the template and puts the
owner's own values back, at once (one roll, no flapping); a patch that takes away the record, and with it what the write
had to leave because somebody wiped managedFields; then, where values were put back, a patch of metadata alone that
hands their ownership back. Rule: each step can be done again; what the owner changed meanwhile stays.

The last step is needed because giving up a field in an apply removes it, unless somebody else owns it too.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from wsgi_contract import names
from wsgi_operator.core.admission import ORDERS
from wsgi_operator.core.record import ANNOTATION_APPLIED, Kept, Original, Record, dump, original_of, record_of
from wsgi_operator.core.server import Obstacle
from wsgi_operator.core.sidecar import ANNOTATION_CONFIG, LIVE_VOLUME, POLICY_VOLUME
from wsgi_operator.core.standing import ANNOTATION_STANDING
from wsgi_operator.core.workload import (
    SHARE_PATH,
    Object,
    Owner,
    annotations,
    env_entry,
    env_path,
    find_container,
    is_ours,
    pod_spec,
)

TEMPLATE_ANNOTATIONS: Final = (names.ANNOTATION_POLICY, names.ANNOTATION_VERIFIERS, ANNOTATION_CONFIG, *ORDERS)
OUR_VOLUMES: Final = (POLICY_VOLUME, LIVE_VOLUME)


def is_anothers(deployment: Object, server: str) -> bool:
    """Whether another WSGIServer than this (its uid) has the workload: it was there first, or has taken it since."""
    record = record_of(deployment)
    return record is not None and record.server != server


def taken_out(deployment: Object, keep: Record | None = None) -> Mapping[str, Any] | None:
    """The apply configuration that leaves the template as its owner wrote it.

    Args:
        deployment: as it is now.
        keep: what is to be remembered on the workload all the same; None: nothing.

    Returns:
        None where the template holds nothing of ours any more.
    """
    record, original = record_of(deployment), original_of(deployment)
    if not _ours(deployment) or (record is None and original is not None):
        return None
    metadata: dict[str, Any] = {
        "name": deployment["metadata"]["name"],
        "namespace": deployment["metadata"]["namespace"],
    }
    config: dict[str, Any] = {"apiVersion": "apps/v1", "kind": deployment["kind"], "metadata": metadata}
    if keep is not None:
        metadata["annotations"] = {ANNOTATION_APPLIED: dump(keep)}
    elif record is not None:
        # the record stays until `cut_out` has looked: where somebody wiped managedFields, giving up takes nothing out
        metadata["annotations"] = {ANNOTATION_APPLIED: annotations(deployment)[ANNOTATION_APPLIED]}
    if record is None or not original:
        return config
    metadata["annotations"] = metadata.get("annotations", {}) | {names.ANNOTATION_ORIGINAL: dump(original)}
    spec = _put_back(deployment, record, original)
    return config | ({"spec": {"template": {"spec": spec}}} if spec else {})


def _put_back(deployment: Object, record: Record, original: Original) -> dict[str, Any]:
    """The owner's values, unless he wrote others meanwhile; also those that a write cut off before put back already."""
    spec: dict[str, Any] = {}
    container = find_container(deployment, original.container)
    env = [] if isinstance(container, Obstacle) else list(_own_entries(container, record, original))
    if env:
        spec["containers"] = [{"name": original.container, "env": env}]
    if original.share is not None and pod_spec(deployment).get("shareProcessNamespace") is not None:
        spec["shareProcessNamespace"] = original.share.value
    return spec


def _own_entries(container: Object, record: Record, original: Original) -> Iterator[Object]:
    for name, kept in original.variables.items():
        entry = env_entry(container, name)
        if entry is not None and entry.get("value") in (record.variables.get(name) or None, kept.value):
            yield _entry(name, kept)


def _entry(name: str, kept: Kept) -> Object:
    return {"name": name} | ({"value": kept.value} if kept.value is not None else {})


def cut_out(deployment: Object, keep: Record | None = None) -> Mapping[str, Any] | None:
    """The merge patch that takes ours out where giving up our fields does not.

    That is where somebody wiped managedFields: then the API server holds all that stood there for somebody else's. None
    where nothing of ours is left.
    """
    record = record_of(deployment)
    if record is None:
        return None
    original = original_of(deployment) or Original(container="")
    spec, metadata = pod_spec(deployment), deployment["metadata"]
    standing = {ANNOTATION_STANDING: None} if ANNOTATION_STANDING in annotations(deployment) else {}
    pod: dict[str, Any] = {
        "initContainers": without(spec.get("initContainers"), names.SIDECAR_CONTAINER),
        "volumes": without(spec.get("volumes"), *OUR_VOLUMES),
        "containers": [cleared(container, record, original) for container in spec["containers"]],
    }
    if record.share:
        pod["shareProcessNamespace"] = original.share.value if original.share else None
    kept = None if keep is None else dump(keep)
    theirs = {"labels": {names.LABEL_SERVER: None}, "annotations": dict.fromkeys(TEMPLATE_ANNOTATIONS)}
    return {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "annotations": {ANNOTATION_APPLIED: kept} | standing,
        },
        "spec": {"template": {"metadata": theirs, "spec": pod}},
    }


def without(items: Sequence[Object] | None, *called: str) -> list[Object] | None:
    """The items but those; None for none."""
    return [item for item in items or () if item["name"] not in called] or None


def cleared(container: Object, record: Record, original: Original) -> Object:
    """The container without mounts of ours, and with the owner's own variables, or none, where ours stand."""
    if mounts := container.get("volumeMounts"):
        left = without(mounts, *OUR_VOLUMES)
        rest = {key: value for key, value in container.items() if key != "volumeMounts"}
        container = container if left == list(mounts) else rest | ({"volumeMounts": left} if left else {})
    ours = [
        entry
        for entry in container.get("env") or ()
        if entry["name"] in record.variables and entry.get("value") == (record.variables[entry["name"]] or None)
    ]
    if not ours:
        return container
    kept = original.variables if original.container == container["name"] else {}
    own = [
        _entry(item["name"], kept[item["name"]]) if item in ours else item
        for item in container["env"]
        if item not in ours or item["name"] in kept
    ]
    return {key: value for key, value in container.items() if key != "env"} | ({"env": own} if own else {})


def handed_back(deployment: Object) -> Mapping[str, Any] | None:
    """The merge patch of metadata that ends our ownership and returns it to those who had it.

    None where we own nothing and left no annotation. To be sent only after `taken_out` says None.
    """
    original = original_of(deployment)
    entries: Sequence[Mapping[str, Any]] = deployment["metadata"].get("managedFields") or ()
    if not _ours(deployment) and original is None:
        return None
    kept = [copy.deepcopy(dict(entry)) for entry in entries if entry["manager"] != names.FIELD_MANAGER]
    for value, path in _paths(original):
        for owner in value.owners:
            _give(kept, owner, path)
    return {
        "metadata": {
            "resourceVersion": deployment["metadata"]["resourceVersion"],
            "annotations": {names.ANNOTATION_ORIGINAL: None},
            "managedFields": kept,
        }
    }


def _ours(deployment: Object) -> bool:
    return any(is_ours(entry) for entry in deployment["metadata"].get("managedFields") or ())


def _paths(original: Original | None) -> list[tuple[Kept, tuple[str, ...]]]:
    if original is None:
        return []
    found = [(kept, env_path(original.container, name)) for name, kept in original.variables.items()]
    return found + ([(original.share, SHARE_PATH)] if original.share is not None else [])


def _give(entries: list[dict[str, Any]], owner: Owner, path: Sequence[str]) -> None:
    """Add a field to a manager's entry; one that went away meanwhile gets nothing."""
    for entry in entries:
        if (entry["manager"], entry["operation"]) == (owner.manager, owner.operation) and not entry.get("subresource"):
            fields = entry.setdefault("fieldsV1", {})
            for part in path:
                fields = fields.setdefault(part, {})
