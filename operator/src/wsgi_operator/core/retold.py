"""What to apply so that the record changes and the template does not.

In: a live workload, its next record. Out: the apply configuration; None where the template carries something of ours
that the API server does not hold for ours. Rule: an apply that leaves out a field gives it up; so all that is ours is
named again, by managedFields, as it stands there now.
"""

import json
from collections.abc import Mapping
from typing import Any

from wsgi_operator.core.record import ANNOTATION_APPLIED, Record, dump
from wsgi_operator.core.workload import Object, is_ours


def retold(workload: Object, record: Record) -> dict[str, Any] | None:
    """The apply configuration."""
    metadata = workload["metadata"]
    entry = next((e for e in metadata.get("managedFields") or () if is_ours(e)), None)
    if entry is None and not record.out:
        return None
    config = (
        dict(_held(workload, entry["fieldsV1"])) if entry is not None else {}
    )  # taken out: the record alone is ours
    named = dict(config.get("metadata") or {}) | {"name": metadata["name"], "namespace": metadata["namespace"]}
    named["annotations"] = {**(named.get("annotations") or {}), ANNOTATION_APPLIED: dump(record)}
    return config | {"apiVersion": "apps/v1", "kind": workload["kind"], "metadata": named}


def _held(live: Any, fields: Mapping[str, Any]) -> Any:
    """The part of a live value that these fields name; all of it where they name no part."""
    inner = {key: value for key, value in fields.items() if key != "."}
    if not inner:
        return live
    if isinstance(live, list):
        return [part for item in live for key, value in inner.items() if (part := _item(item, key, value)) is not None]
    named = ((key.removeprefix("f:"), value) for key, value in inner.items())
    return {name: _held(live[name], value) for name, value in named if isinstance(live, Mapping) and name in live}


def _item(item: Any, key: str, fields: Mapping[str, Any]) -> Any:
    """The part of one item of a list that is ours; None: this is not the item that the key means."""
    kind, _, text = key.partition(":")
    meant = json.loads(text)
    if kind == "v":
        return item if item == meant else None
    if not isinstance(item, Mapping) or any(item.get(name) != value for name, value in meant.items()):
        return None
    part = _held(item, fields) if set(fields) != {"."} else {}
    return dict(part) | meant
