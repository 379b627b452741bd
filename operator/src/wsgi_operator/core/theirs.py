"""The owner's part of a pod template: the template without what is ours.

In: a live workload. Out: a digest. Rule: what we add, change or take out leaves it as it is; whatever the owner
changes, changes it. So a roll with the same digest at its end as at its beginning is our doing alone.
"""

import hashlib
import json
from typing import Any

from wsgi_contract import names
from wsgi_operator.core.record import Original, original_of, record_of
from wsgi_operator.core.restore import OUR_VOLUMES, TEMPLATE_ANNOTATIONS, cleared, without
from wsgi_operator.core.workload import Object, pod_spec


def owners_part(workload: Object) -> str:
    """The digest."""
    canonical = json.dumps(_template(workload), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _template(workload: Object) -> dict[str, Any]:
    record, original = record_of(workload), original_of(workload) or Original(container="")
    metadata, spec = dict(workload["spec"]["template"].get("metadata") or {}), dict(pod_spec(workload))
    metadata["labels"] = _but(metadata.get("labels"), (names.LABEL_SERVER,))
    metadata["annotations"] = _but(metadata.get("annotations"), TEMPLATE_ANNOTATIONS)
    if record is not None and not record.out:
        spec["initContainers"] = without(spec.get("initContainers"), names.SIDECAR_CONTAINER)
        spec["volumes"] = without(spec.get("volumes"), *OUR_VOLUMES)
        spec["containers"] = [cleared(container, record, original) for container in spec["containers"]]
        if record.share:
            spec["shareProcessNamespace"] = original.share.value if original.share else None
    return {"metadata": _filled(metadata), "spec": _filled(spec)}


def _but(items: Object | None, ours: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in (items or {}).items() if key not in ours}


def _filled(fields: Object) -> dict[str, Any]:
    """Without what is empty: an empty list and no list are the same to the API server."""
    return {key: value for key, value in fields.items() if value not in (None, {}, [])}
