"""What the documents name exists: metrics, values, examples, files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import ROOT, Cluster
from tests.contract.reports import REPORT
from wsgi_operator.metrics import Meters
from wsgi_sidecar.core.account import Ledger
from wsgi_sidecar.metrics import Published, StateCollector

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOT_METRICS = {"wsgi_contract", "wsgi_operator", "wsgi_sidecar", "wsgi_tuning"}


def examples(text: str) -> list[dict[str, Any]]:
    """The WSGIServers in a page's blocks of YAML."""
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    found = [thing for block in blocks for thing in yaml.safe_load_all(block)]
    return [thing for thing in found if thing and thing.get("kind") == "WSGIServer"]


def page_id(page: Path) -> str:
    """The page's path in the tree."""
    return str(page.relative_to(ROOT))


def test_the_page_of_metrics_names_every_metric_of_the_sidecar_and_no_other() -> None:
    rows = re.findall(r"^\| `(wsgi_\w+)` \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.MULTILINE)
    assert dict(rows) == families()


def operator_families() -> set[str]:
    """Names of the operator's own metrics."""
    made = Meters().registry.collect()
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in made}


def test_the_page_of_operations_names_every_metric_of_the_operator() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    ours = {name for name in operator_families() if name.startswith("wsgi_")}
    assert set(re.findall(r"`(wsgi_operator_[a-z_]+)[`{]", page)) == ours


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"\bwsgi_[a-z_]+\b", page.read_text("utf-8"))) - NOT_METRICS
    known = {
        name
        for family in (*families(), *operator_families())
        for name in (family, *(family + end for end in ("_bucket", "_sum", "_count")))
    }
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.cluster
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page.read_text("utf-8"))], ids=page_id)
def test_every_example_of_a_wsgiserver_is_one_that_the_api_server_takes(
    page: Path, cluster: Cluster, namespace: str
) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "charts/wsgi-operator/crds"))
    cluster.established("wsgiservers.wsgi.dev")
    for example in examples(page.read_text("utf-8")):
        example["metadata"]["namespace"] = namespace
        cluster.apply(example, namespace=namespace, args=("--dry-run=server", "--validate=strict"))


def families() -> dict[str, str]:
    """Every metric that the sidecar makes of a Report with all its parts, and its type."""
    made = StateCollector(lambda: Published(tell=lambda _: REPORT, ledger=Ledger())).collect()
    ends = {"counter": "_total", "info": "_info"}
    return {family.name + ends.get(family.type, ""): family.type for family in made}
