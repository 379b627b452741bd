"""The chart without a cluster: what it makes of several sets of values, and what it grants."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.charts.rendered import CHART, VARIANTS, Values, container, helm, one, render

GRANTED = {
    ("wsgi.dev", "wsgiservers"): {"get", "list", "watch", "patch"},
    ("wsgi.dev", "wsgiservers/status"): {"get", "patch"},
    ("apps", "deployments"): {"get", "list", "watch", "patch", "create"},
    ("apps", "statefulsets"): {"get", "list", "watch", "patch"},
    ("", "pods"): {"list", "watch", "patch"},
    ("", "pods/eviction"): {"create"},
    ("", "events"): {"create"},
    ("", "services"): {"get", "create", "patch"},
    ("policy", "poddisruptionbudgets"): {"list", "get", "create", "patch", "delete"},
    ("monitoring.coreos.com", "podmonitors"): {"get", "create", "patch", "delete"},
}

pytestmark = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())


def test_lint_finds_no_fault(values: Values) -> None:
    done = helm("lint", str(CHART), "--strict", "--values", "-", stdin=yaml.safe_dump(values))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_the_pod_is_what_restricted_pod_security_asks_for(values: Values) -> None:
    things = render(values)
    pod = one(things, "Deployment")["spec"]["template"]["spec"]
    guarded = values.get("reports", {}).get("auth") == "token"
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    } | ({"fsGroup": 65532} if guarded else {})
    assert container(things)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [list(volume) for volume in pod.get("volumes", ())] == ([["name", "secret"]] if guarded else [])
    assert {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"}.isdisjoint(pod)


def test_every_role_grants_what_the_operator_needs_and_no_more(values: Values) -> None:
    things = render(values)
    for role in (thing for thing in things if thing["kind"] in ("Role", "ClusterRole")):
        assert granted(role["rules"]) == GRANTED
        assert "*" not in json.dumps(role["rules"])
        assert not any("secrets" in rule["resources"] for rule in role["rules"])


def test_every_binding_names_the_account_of_the_pod(values: Values) -> None:
    things = render(values)
    account = one(things, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    for binding in (thing for thing in things if thing["kind"] in ("RoleBinding", "ClusterRoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "wsgi-system"}]
        wanted = (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        role = next(thing for thing in things if (thing["kind"], thing["metadata"]["name"]) == wanted)
        assert role["metadata"]["name"] == binding["metadata"]["name"]


def test_every_object_carries_the_recommended_labels(values: Values) -> None:
    for thing in render(values):
        labels = thing["metadata"]["labels"]
        assert {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version"} <= labels.keys()


def test_namespaces_get_a_role_each_and_the_cluster_none(values: Values) -> None:
    kinds = [(thing["kind"], thing["metadata"].get("namespace")) for thing in render(values) if "Role" in thing["kind"]]
    wanted = values.get("watch", {}).get("namespaces", [])
    if not values.get("rbac", {}).get("create", True):
        assert kinds == []
    elif wanted:
        assert sorted(kinds) == sorted((kind, name) for name in wanted for kind in ("Role", "RoleBinding"))
    else:
        assert kinds == [("ClusterRole", None), ("ClusterRoleBinding", None)]


def granted(rules: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """Rules as (group, resource) -> verbs."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        for kind in ((group, resource) for group in rule["apiGroups"] for resource in rule["resources"]):
            verbs[kind] = verbs.get(kind, set()) | set(rule["verbs"])
    return verbs
