"""Settings that pods get at their creation, so that nothing of the owner's template is overridden.

In: what we want in variables of the container. Out: the annotations that order it, and whether a pod has got it. Rule:
the template carries only annotations of ours; the chart's MutatingAdmissionPolicy (templates/admission.yaml) writes
flags behind the owner's own, and other variables in the owner's place, in each pod that is made from it. So whoever
applies the owner's manifest again, by whatever tool, meets no value of ours, and giving the template back is giving up
our fields.
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

ANNOTATION_VARIABLES: Final = f"{names.GROUP}/variables"
"""On pods: variables with their values, `NAME=VALUE` and a blank between them; no value has a blank in it."""

OWNERS_VARIABLE: Final = "WSGI_OWNERS_CMD_ARGS"
"""In the container: the owner's own, where he takes it from a ConfigMap, Secret or field."""

ORDERS: Final = (ANNOTATION_CONTAINER, ANNOTATION_FLAGS, ANNOTATION_INHERITED, ANNOTATION_VARIABLES)


def orders(container: str, ordered: Mapping[str, str], inherited: str | None) -> dict[str, str]:
    """The annotations for the pod template; where nothing is ordered, only the shared process namespace is."""
    told = {ANNOTATION_CONTAINER: container}
    flags = ordered.get(CMD_ARGS)
    if flags:
        told[ANNOTATION_FLAGS] = flags
        if inherited:
            told[ANNOTATION_INHERITED] = inherited
    variables = " ".join(f"{name}={value}" for name, value in ordered.items() if name != CMD_ARGS)
    return told | ({ANNOTATION_VARIABLES: variables} if variables else {})


def unheeded(pod: Mapping[str, Any]) -> bool:
    """Whether a pod was made without what its annotations order, as it is while the policy is not there."""
    annotations = pod["metadata"].get("annotations") or {}
    if ANNOTATION_CONTAINER not in annotations:
        return False
    spec = pod["spec"]
    found: Mapping[str, Any] = next(
        (c for c in spec["containers"] if c["name"] == annotations[ANNOTATION_CONTAINER]), {}
    )
    variables = [word.partition("=") for word in annotations.get(ANNOTATION_VARIABLES, "").split()]
    missed = any(_value(found, name) != value for name, _, value in variables)
    flags = annotations.get(ANNOTATION_FLAGS, "")
    return missed or not spec.get("shareProcessNamespace") or not _value(found, CMD_ARGS).endswith(flags)


def _value(container: Mapping[str, Any], variable: str) -> str:
    return str((env_entry(container, variable) or {}).get("value") or "")
