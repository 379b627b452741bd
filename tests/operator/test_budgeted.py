"""Changes that wait for disruption budgets, with real pods: one that is used up, and some that may not be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.kube import CommandError, eventually
from tests.operator.ground import ACCOUNT, Ground, deployment
from tests.operator.unlucky import serving

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.usefixtures("fresh_operator")]


def test_a_change_waits_for_a_budget_that_something_else_has_used_up(here: Ground, app: str):
    labels = {"matchLabels": {"app": "budgeted"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "budgeted"}}
    manifest = serving(here, app, "budgeted")
    manifest["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    here.apply(manifest, budget | {"spec": {"minAvailable": 2, "selector": labels}})
    here.adopt("budgeted", settings={"workers": 2})
    here.until("budgeted", "Ready", "True", within_s=180)
    words = "PodDisruptionBudget budgeted allows 0 even when all are well"
    eventually(lambda: words in here.condition("budgeted", "RollSafe")[2], within_s=90)  # budgets are told for a minute
    broken = deployment("broken")["spec"]["template"]
    here.apply({"apiVersion": "v1", "kind": "Pod", "spec": broken["spec"],
                "metadata": {"name": "broken", "labels": {"app": "budgeted", "not": "ours"}}})  # fmt: skip
    eventually(lambda: json.loads(here.kubectl("get", "pdb", "budgeted", "-o", "json"))["status"]["expectedPods"] == 3)
    here.adopt("budgeted", settings={"workers": 3})
    waits = here.until("budgeted", "Ready", "False", "Waiting")
    assert "waits until PodDisruptionBudget budgeted allows a disruption again" in waits
    here.kubectl("delete", "pod", "broken", "--grace-period=0", "--force")
    here.until("budgeted", "Ready", "True", within_s=180)


def test_a_change_waits_for_budgets_that_the_operator_may_not_read_and_says_what_to_grant(here: Ground, app: str):
    manifest = serving(here, app, "unread")
    manifest["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    here.apply(manifest)
    here.adopt("unread", settings={"workers": 2})
    here.until("unread", "Ready", "True", within_s=180)
    role = {key: here.get("roles", ACCOUNT)[key] for key in ("apiVersion", "kind", "rules")}
    role["metadata"] = {"name": ACCOUNT}
    here.apply(role | {"rules": [rule for rule in role["rules"] if not lists_budgets(rule)]})
    eventually(lambda: not may_list_budgets(here))  # the API server reads roles a moment later
    here.adopt("unread", settings={"workers": 3})
    waits = here.until("unread", "Ready", "False", "Waiting")
    assert 'cannot list resource "poddisruptionbudgets"' in waits
    assert "let the operator's role list poddisruptionbudgets of the group policy" in waits
    here.apply(role)
    here.until("unread", "Ready", "True", within_s=180)


def may_list_budgets(here: Ground) -> bool:
    who = f"--as=system:serviceaccount:{here.namespace}:{ACCOUNT}"
    try:
        return here.kubectl("auth", "can-i", "list", "poddisruptionbudgets.policy", who).strip() == "yes"
    except CommandError:  # its way to say no
        return False


def lists_budgets(rule: dict[str, Any]) -> bool:
    return "poddisruptionbudgets" in rule["resources"] and "list" in rule["verbs"]
