"""Every manifest that we ship, held strictly against the schemas of Kubernetes and of the CRDs, without a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.examples import MANIFESTS, VALUES
from tests.charts.rendered import VARIANTS, Values, render
from tests.charts.schemas import kubeconform
from tests.cluster.kube import ROOT


def checked(things: list[dict[str, Any]]) -> str:
    """What kubeconform says of objects; its last line."""
    done = kubeconform(stdin=yaml.safe_dump_all(things))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_chart_makes_nothing_that_a_schema_does_not_know(values: Values) -> None:
    things = render(values)
    found = re.search(r"Valid: (\d+), Invalid: 0, Errors: 0, Skipped: 0", checked(things))
    assert found
    assert int(found[1]) == len(things)


def test_one_release_with_everything_on_has_each_kind_of_object() -> None:
    kinds = {thing["kind"] for thing in render(VARIANTS["everything on"])}
    assert kinds >= {"PodMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy", "Service", "Pod"}
    small = {thing["kind"] for thing in render({})}
    assert small == {"Deployment", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Service", "Pod"}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_example_holds_nothing_that_a_schema_does_not_know(path: Path) -> None:
    done = kubeconform(path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Skipped: 0" in done.stdout


def test_the_values_for_gitops_render() -> None:
    checked(render(yaml.safe_load(VALUES.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("apps/v1 Deployment", {"replicas": 1, "selecter": {}}),
        ("wsgi.dev/v1alpha1 WSGIServer", {"workload": {"name": "shop", "continer": "web"}}),
        ("wsgi.dev/v1alpha1 WSGIServer", {"workload": {"name": "shop"}, "settings": {"workers": "3"}}),
        ("monitoring.coreos.com/v1 PodMonitor", {"selector": {}, "podMetricsEndpoint": []}),
        ("monitoring.coreos.com/v1 PrometheusRule", {"groups": [{"name": "x", "rule": []}]}),
    ],
)
def test_a_misspelt_field_is_found(kind: str, spec: dict[str, Any]) -> None:
    """Or the tests above would prove nothing."""
    version, name = kind.split()
    thing = {"apiVersion": version, "kind": name, "metadata": {"name": "x"}, "spec": spec}
    assert kubeconform(stdin=yaml.safe_dump(thing)).returncode != 0
