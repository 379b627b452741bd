"""Admission policies of the cluster's own, as platform teams have them: what meets our changes on their way.

In: a `Ground`, what the policy does. Out: the policy in force for its namespace while the block lasts. Rule: in force
is what the API server was seen to do, for a policy counts some moments after it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.cluster.kube import eventually
from tests.operator.ground import Ground

_API = "admissionregistration.k8s.io/v1"
_DEPLOYMENTS = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}


@contextmanager
def policy(
    here: Ground,
    kind: str,
    spec: Mapping[str, Any],
    *,
    heeded: Callable[[], object],
    only: Mapping[str, Any] | None = None,
    binding: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """A `MutatingAdmissionPolicy` or `ValidatingAdmissionPolicy` for changes of Deployments in the ground's namespace.

    Args:
        here: the ground.
        kind: of the policy.
        spec: what it does, without what it matches.
        heeded: whether it counts by now.
        only: further fields of the rule that it matches by, such as `resourceNames`.
        binding: further fields of its binding.
    """
    about = {"name": f"{kind[:3].lower()}-{here.namespace}"}
    rule = {**_DEPLOYMENTS, "operations": ["CREATE", "UPDATE"], **(only or {})}
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here.namespace}}}
    bound = {"policyName": about["name"], "matchResources": where, **(binding or {})}
    rules = {"matchConstraints": {"resourceRules": [rule]}}
    here.apply(
        {"apiVersion": _API, "kind": kind, "metadata": about, "spec": {**rules, **spec}},
        {"apiVersion": _API, "kind": f"{kind}Binding", "metadata": about, "spec": bound},
    )
    try:
        eventually(heeded, within_s=30)
        yield
    finally:
        here.kubectl("delete", f"{kind}Binding/{about['name']}", f"{kind}/{about['name']}")
