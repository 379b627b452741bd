"""Settings that pods get at their creation, so that nothing of the owner's template is overridden.

In: the flags that we want. Out: the annotations that order them, and whether a pod has got them. Rule: the template
carries only annotations of ours; the chart's MutatingAdmissionPolicy (templates/admission.yaml) writes the flags behind
the owner's own in each pod that is made from it. So whoever applies the owner's manifest again, by whatever tool, meets
no value of ours, and giving the template back is giving up our fields.
"""

from collections.abc import Mapping
from typing import Any, Final

from wsgi_contract import names
from wsgi_contract.servers.gunicorn import CMD_ARGS
from wsgi_operator.core.workload import env_entry

ANNOTATION_CONTAINER: Final = f"{names.GROUP}/container"
"""On pods: the container that the orders are for. The policy heeds no pod without it."""

ANNOTATION_FLAGS: Final = f"{names.GROUP}/flags"
"""On pods: what is written behind the owner's flags."""

ANNOTATION_INHERITED: Final = f"{names.GROUP}/inherited-flags"
"""On pods: what the image or envFrom has in the variable, for a container whose own env has none."""


def orders(container: str, flags: str | None, inherited: str | None) -> dict[str, str]:
    """The annotations for the pod template; without flags only the shared process namespace is ordered."""
    told = {ANNOTATION_CONTAINER: container}
    if flags:
        told[ANNOTATION_FLAGS] = flags
        if inherited:
            told[ANNOTATION_INHERITED] = inherited
    return told


def unheeded(pod: Mapping[str, Any]) -> bool:
    """Whether a pod was made without what its annotations order, as it is while the policy is not there."""
    annotations = pod["metadata"].get("annotations") or {}
    if ANNOTATION_CONTAINER not in annotations:
        return False
    spec = pod["spec"]
    name, flags = annotations[ANNOTATION_CONTAINER], annotations.get(ANNOTATION_FLAGS, "")
    found = [c for c in spec["containers"] if c["name"] == name]
    entry = (env_entry(found[0], CMD_ARGS) if found else None) or {}
    return not spec.get("shareProcessNamespace") or not str(entry.get("value") or "").endswith(flags)
