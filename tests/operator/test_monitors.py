"""PodMonitors, and who may have apps made: what depends on what else is installed in the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.kube import ROOT, CommandError, eventually
from tests.operator.ground import ACCOUNT, Ground, deployment

# It gives the cluster a CRD and takes it away.
pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.usefixtures("operator")]

PLURAL = "podmonitors.monitoring.coreos.com"
MINIMAL: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": PLURAL, "labels": {"wsgi.dev/minimal-form-for-a-test": "true"}},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {
            "kind": "PodMonitor",
            "listKind": "PodMonitorList",
            "plural": "podmonitors",
            "singular": "podmonitor",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}
"""The real CRD's name, group, version and kind, without its 20,000 lines of schema."""


@pytest.fixture
def without_monitors(here: Ground) -> Iterator[None]:
    """No PodMonitor in the cluster, and none of ours afterwards; a real Prometheus operator's is left alone."""
    found = here.kubectl("get", "crd", PLURAL, "--ignore-not-found", "-o", "name")
    if found and not here.kubectl("get", "crd", PLURAL, "-l", "wsgi.dev/minimal-form-for-a-test", "-o", "name"):
        pytest.skip("this cluster has a Prometheus operator")
    here.kubectl("delete", "crd", PLURAL, "--ignore-not-found")
    yield
    here.kubectl("delete", "crd", PLURAL, "--ignore-not-found")


def monitor(here: Ground, name: str) -> dict[str, Any] | None:
    said = here.kubectl("get", PLURAL, name, "--ignore-not-found", "-o", "json")
    return dict(json.loads(said)) if said else None


@pytest.mark.usefixtures("without_monitors")
def test_a_pod_monitor_is_made_where_the_cluster_knows_that_and_told_where_it_does_not(here: Ground):
    here.apply(deployment("watched"))
    here.adopt("watched", monitoring={"podMonitor": {"labels": {"release": "x"}, "intervalSeconds": 30}})
    assert "does not know PodMonitor" in here.until("watched", "Degraded", "True", "PodMonitorUnknown")
    here.until("watched", "Ready", "True")
    here.apply(MINIMAL)
    here.cluster.established(PLURAL)
    made = eventually(lambda: monitor(here, "watched"))
    assert made is not None
    assert made["metadata"]["labels"]["release"] == "x"
    assert made["metadata"]["ownerReferences"][0]["name"] == "watched"
    assert made["spec"]["selector"]["matchLabels"] == {"wsgi.dev/server": "watched"}
    (endpoint,) = made["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("wsgi-report", "/metrics", "30s")
    assert [each["targetLabel"] for each in endpoint["relabelings"]] == ["wsgiserver"]
    here.until("watched", "Degraded", "False")
    here.adopt("watched")
    eventually(lambda: monitor(here, "watched") is None)
    here.adopt("watched", monitoring={"podMonitor": {}})
    eventually(lambda: monitor(here, "watched"))
    here.release("watched")
    eventually(lambda: monitor(here, "watched") is None)


@pytest.fixture
def asked_for_rights(here: Ground) -> Iterator[None]:
    """The chart's policy for this namespace."""
    values = ("--set", f"watch.namespaces={{{here.namespace}}},admission=always,rbac.create=false")
    chart = here.cluster.helm("template", here.namespace, str(ROOT / "charts/wsgi-operator"), *values)
    made = [thing for thing in yaml.safe_load_all(chart) if thing and "ValidatingAdmission" in thing["kind"]]
    names = [f"{thing['kind']}/{thing['metadata']['name']}" for thing in made]
    assert len(names) == 2
    here.apply(*made)
    yield
    here.kubectl("delete", *names)


APP = {"image": "localhost/nothing:1", "module": "app:app", "replicas": 0}


@pytest.mark.usefixtures("asked_for_rights")
def test_an_app_is_for_whoever_may_create_deployments_himself(here: Ground):
    here.kubectl("create", "serviceaccount", "dev")
    here.kubectl("create", "role", "dev", "--verb=get,create,patch", "--resource=wsgiservers.wsgi.dev")
    here.kubectl("create", "rolebinding", "dev", "--role=dev", f"--serviceaccount={here.namespace}:dev")

    def create(name: str, **spec: Any) -> str:
        body = {"apiVersion": "wsgi.dev/v1alpha1", "kind": "WSGIServer", "metadata": {"name": name}, "spec": spec}
        who = f"--as=system:serviceaccount:{here.namespace}:dev"
        return here.kubectl("apply", who, "-f", "-", stdin=json.dumps(body))

    def refused() -> bool:
        try:
            create("devs", app=APP)
        except CommandError as error:
            return "may not create Deployments in namespace" in str(error)
        here.release("devs")  # the API server has not heard of the policy yet
        return False

    eventually(refused)
    assert "created" in create("adopts", workload={"name": "absent"})
    here.kubectl("create", "role", "makes", "--verb=create", "--resource=deployments.apps")
    here.kubectl("create", "rolebinding", "makes", "--role=makes", f"--serviceaccount={here.namespace}:dev")
    assert "created" in eventually(lambda: create("devs", app=APP))
    here.until("devs", "Ready", "True")
    here.kubectl("delete", "rolebinding", "makes")
    here.kubectl("delete", "wsgi", "devs", "adopts")


def test_an_operator_without_the_right_to_make_apps_says_so(here: Ground):
    rules = here.get("roles", ACCOUNT)
    less = [rule for rule in rules["rules"] if "create" not in rule["verbs"] or "deployments" not in rule["resources"]]
    assert len(less) == len(rules["rules"]) - 1
    here.apply({"apiVersion": rules["apiVersion"], "kind": "Role", "metadata": {"name": ACCOUNT}, "rules": less})
    body = {"apiVersion": "wsgi.dev/v1alpha1", "kind": "WSGIServer", "metadata": {"name": "none"}, "spec": {"app": APP}}
    here.apply(body)
    assert "cannot create resource" in here.until("none", "Stalled", "True", "Refused")
    here.release("none")
