"""From the previous chart to this one: nothing is made anew that need not be, and nothing adopted rolls for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.charts.rendered import CHART, CRD, helm, one, render
from tests.charts.schemas import kubeconform
from tests.charts.test_install import adopted_pods, is_ready, let_all_go, open_shop, stored_spec
from tests.cluster.kube import ROOT, Cluster, Images, eventually

PREVIOUS: Final = Path(__file__).parent / "previous"
SHOP: Final = {
    "apiVersion": "wsgi.dev/v1alpha1",
    "kind": "WSGIServer",
    "metadata": {"name": "shop"},
    "spec": {"workload": {"name": "shop", "container": "web"}, "watchdog": {"mode": "DryRun"}},
}


def template(chart: Path) -> list[dict[str, Any]]:
    """What a chart makes with its own values."""
    done = helm("template", "wsgi", str(chart), "--namespace", "wsgi-system")
    assert done.returncode == 0, done.stderr
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


def test_the_deployment_stays_the_one_it_was() -> None:
    """Its name and its selector: Kubernetes lets nobody change a selector."""
    before, after = one(template(PREVIOUS), "Deployment"), one(render({}), "Deployment")
    assert (before["metadata"]["name"], before["spec"]["selector"]) == (
        after["metadata"]["name"],
        after["spec"]["selector"],
    )


def test_each_value_of_the_previous_chart_is_still_one() -> None:
    values = yaml.safe_load((PREVIOUS / "values.yaml").read_text("utf-8"))
    assert render(values) == render({})


def test_values_that_are_reused_know_nothing_of_what_is_new(tmp_path: Path) -> None:
    """`helm upgrade --reuse-values` takes the old chart's values in the place of the new one's."""
    chart = tmp_path / "wsgi-operator"
    shutil.copytree(CHART, chart)
    shutil.copy(PREVIOUS / "values.yaml", chart / "values.yaml")
    things = template(chart)
    assert [thing["kind"] for thing in things] == [thing["kind"] for thing in render({})]
    done = kubeconform(stdin=yaml.safe_dump_all(things))
    assert done.returncode == 0, done.stdout


@pytest.fixture
def previous_crd(cluster: Cluster) -> Iterator[None]:
    """The CRD of the previous chart; afterwards that of this tree again."""
    apply_crd(cluster, PREVIOUS / "crds" / CRD.name)
    yield
    apply_crd(cluster, CRD)


def apply_crd(cluster: Cluster, path: Path) -> None:
    """As docs/operations.md says it: Helm never upgrades a CRD."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    cluster.established("wsgiservers.wsgi.dev")


@pytest.mark.cluster
@pytest.mark.alone
@pytest.mark.timeout(500)
def test_a_release_of_the_previous_chart_is_upgraded_where_it_stands(
    cluster: Cluster, images: Images, namespace: str, previous_crd: None
) -> None:
    words = settings(images, namespace)
    cluster.helm("install", namespace, str(PREVIOUS), "--skip-crds", "-n", namespace, *words)
    before = deployment(cluster, namespace)
    open_shop(cluster, namespace, cluster.load_image("shop", "dev", ROOT / "demo" / "app"))
    cluster.apply(SHOP, namespace=namespace)
    asked = stored_spec(cluster, namespace)
    try:
        apply_crd(cluster, CRD)
        cluster.helm("upgrade", namespace, str(CHART), "--reuse-values", "--wait", "-n", namespace)
        assert deployment(cluster, namespace)["metadata"]["uid"] == before["metadata"]["uid"]
        assert lost(asked, stored_spec(cluster, namespace)) == [], "what was asked for is still asked for"
        eventually(lambda: is_ready(cluster, namespace), within_s=120)
        pods = eventually(lambda: adopted_pods(cluster, namespace), within_s=60)

        everything = ("alerts.enabled=false", "dashboards.enabled=true", "networkPolicy.enabled=true", "replicas=2")
        more = [word for setting in everything for word in ("--set", setting)]
        cluster.helm("upgrade", namespace, str(CHART), "--wait", "-n", namespace, *words, *more)
        eventually(lambda: is_ready(cluster, namespace), within_s=120)
        assert adopted_pods(cluster, namespace) == pods, "an upgrade that brings no other sidecar rolls nothing"
        cluster.helm("test", namespace, "-n", namespace, "--timeout", "90s")
    finally:
        let_all_go(cluster, namespace)
        cluster.helm("uninstall", namespace, "-n", namespace, "--wait")


def lost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Fields of the first that the second does not have with that value; it may have more."""
    found = [name for name in before if name not in after]
    for name in before.keys() & after.keys():
        if isinstance(before[name], dict) and isinstance(after[name], dict):
            found += [f"{name}.{below}" for below in lost(before[name], after[name])]
        elif before[name] != after[name]:
            found.append(name)
    return found


def settings(images: Images, namespace: str) -> list[str]:
    """Values that both charts know."""
    chosen = (
        f"image.repository={images.operator.repository},image.tag={images.operator.tag}",
        f"sidecar.image.repository={images.sidecar.repository},sidecar.image.tag={images.sidecar.tag}",
        f"reports.intervalSeconds=1,watch.namespaces={{{namespace}}}",
    )
    return [word for setting in chosen for word in ("--set", setting)]


def deployment(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The operator's."""
    return cluster.get("deployments", f"{namespace}-wsgi-operator", namespace=namespace)


def test_the_previous_chart_is_a_chart() -> None:
    done = helm("lint", str(PREVIOUS), "--strict")
    assert done.returncode == 0, done.stdout
