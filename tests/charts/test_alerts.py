"""The alert rules, without any server: their form, Prometheus' own check of them, and their unit tests."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.charts.expressions import RULES, Alert, alerts
from tests.charts.prometheus import promtool
from tests.charts.rendered import one, render
from tests.cluster.kube import ROOT
from wsgi_contract.report import INCIDENT_KINDS

UNIT_TESTS = Path(__file__).parent / "alerts.test.yaml"
SEVERITIES = {"critical", "warning", "info"}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_each_alert_tells_a_person_what_and_how_much_and_where_to_read_on(alert: Alert) -> None:
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert alert.severity in SEVERITIES
    assert re.search(r"\d|\$value", alert.annotations["description"]), "a number"
    page = alert.annotations["runbook_url"]
    if "$labels.reason" in page:
        assert all((ROOT / re.sub(r"\{\{.*?\}\}", kind, page)).exists() for kind in INCIDENT_KINDS)
    else:
        assert (ROOT / page).exists()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_each_alert_says_in_the_file_why_it_waits_that_long(alert: Alert) -> None:
    rule = RULES.read_text(encoding="utf-8").partition(f"alert: {alert.name}\n")[2].partition("- alert:")[0]
    assert re.search(r"^ +(for: \w+ # .+|# no `for`: .+)$", rule, re.MULTILINE)


def test_each_kind_of_incident_has_an_alert_of_its_own_page() -> None:
    pages = {alert.annotations["runbook_url"] for alert in alerts()}
    assert {f"docs/incidents/{kind}.md" for kind in INCIDENT_KINDS} <= pages


def test_the_page_of_dashboards_lists_each_alert_under_its_severity() -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (\w+) \| [^|]+ \| (Wsgi[^|]+) \|$", page, re.MULTILINE))
    assert listed.keys() == SEVERITIES
    for severity, row in listed.items():
        assert set(row.split(", ")) == {alert.name for alert in alerts() if alert.severity == severity}
    assert f"{len(alerts())}, in four groups" in page
    assert f"{len(alerts())} alerts" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_each_page_of_an_incident_names_the_alerts_that_lead_to_it(alert: Alert) -> None:
    page = alert.annotations["runbook_url"]
    if page.removeprefix("docs/incidents/").removesuffix(".md") in INCIDENT_KINDS:
        assert f"`{alert.name}` ({alert.severity}" in (ROOT / page).read_text(encoding="utf-8")


def test_no_two_alerts_share_a_name() -> None:
    assert max(Counter(alert.name for alert in alerts()).values()) == 1


def test_prometheus_itself_finds_no_fault_with_the_rules() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


def test_the_rules_pass_their_unit_tests(tmp_path: Path) -> None:
    done = promtool("test", "rules", str(UNIT_TESTS), cwd=UNIT_TESTS.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_unit_test_that_sees_it_fire() -> None:
    cases = yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]
    fired = {check["alertname"] for case in cases for check in case["alert_rule_test"] if check["exp_alerts"]}
    quiet = {check["alertname"] for case in cases for check in case["alert_rule_test"] if not check["exp_alerts"]}
    assert fired == quiet == {alert.name for alert in alerts()}


def test_the_prometheusrule_holds_the_very_rules_of_the_plain_file() -> None:
    made = one(render({"alerts": {"enabled": True, "labels": {"release": "stack"}}}), "PrometheusRule")
    assert made["metadata"]["labels"]["release"] == "stack"
    assert made["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))


def test_a_prefix_makes_each_page_an_address() -> None:
    place = "https://git.example.com/wsgi-operator/blob/v0.1.0/"
    made = one(render({"alerts": {"enabled": True, "runbookPrefix": place}}), "PrometheusRule")
    pages = [rule["annotations"]["runbook_url"] for group in made["spec"]["groups"] for rule in group["rules"]]
    assert pages == [f"{place}{alert.annotations['runbook_url']}" for alert in alerts()]
