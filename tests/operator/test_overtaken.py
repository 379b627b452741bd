"""Rolls that something else gets in the way of, with real pods: the owner's manifest, a corrected spec, a budget."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from tests.cluster.kube import CommandError, eventually
from tests.operator.ground import ACCOUNT, Ground, deployment
from tests.operator.policies import policy
from tests.operator.unlucky import PATIENCE, UNLUCKY, outcomes, serving, template

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.usefixtures("fresh_operator")]


def test_an_owners_broken_manifest_is_not_ours_to_undo(here: Ground, app: str):
    manifest = serving(here, app, "owners")
    here.adopt("owners", settings={"workers": 2})
    here.until("owners", "Ready", "True", within_s=180)
    here.adopt("owners", settings={"workers": UNLUCKY}, tuning=PATIENCE)
    here.until("owners", "Reconciling", "True", "RollingOut")
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/nothing:1"
    here.apply(manifest)
    message = here.until("owners", "Stalled", "True", "RolloutFailed", within_s=180)
    assert "The template of Deployment owners was changed by its owner meanwhile, so nothing is undone" in message
    assert f"--workers={UNLUCKY}" in template(here, "owners")
    assert "localhost/nothing:1" in template(here, "owners")


def test_a_freeze_of_changes_in_the_middle_of_a_roll_is_told_and_the_pods_are_watched_on(here: Ground, app: str):
    manifest = serving(here, app, "frozen")
    manifest["spec"]["minReadySeconds"] = 5
    here.apply(manifest)
    here.adopt("frozen", settings={"workers": 2})
    here.until("frozen", "Ready", "True", within_s=180)
    here.adopt("frozen", settings={"workers": 3})
    here.until("frozen", "Reconciling", "True", "RollingOut")
    freeze = {"validations": [{"expression": "false", "message": "no changes before Monday"}]}
    only, deny = {"resourceNames": ["frozen"], "operations": ["UPDATE"]}, {"validationActions": ["Deny"]}
    kind, heeded = "ValidatingAdmissionPolicy", partial(refused, here, "frozen")
    with policy(here, kind, freeze, heeded=heeded, only=only, binding=deny):
        message = here.until("frozen", "Stalled", "True", "Refused", within_s=180)
        assert "no changes before Monday" in message
        assert here.server("frozen")["status"]["pods"]["summary"] == "2/2"
        assert here.condition("frozen", "Injected")[0] == "True"
    here.until("frozen", "Ready", "True", within_s=180)
    assert outcomes(here, "frozen")[0] == ("workers 3", "Kept")


def refused(here: Ground, name: str) -> bool:
    """Whether nobody may change that Deployment now."""
    try:
        here.kubectl("annotate", "--dry-run=server", "deployment", name, "anything=new")
    except CommandError:
        return True
    return False


def test_a_spec_that_is_corrected_takes_the_place_of_one_that_fails(here: Ground, app: str):
    serving(here, app, "corrected")
    here.adopt("corrected", settings={"workers": 2})
    here.until("corrected", "Ready", "True", within_s=180)
    sets = here.replica_sets("corrected")
    here.adopt("corrected", settings={"workers": UNLUCKY}, tuning=PATIENCE)
    here.until("corrected", "Reconciling", "True", "RollingOut")
    patient = {"readyWithinSeconds": 90}  # the newest spec's patience judges the roll that is under way, too
    here.adopt("corrected", settings={"workers": 3}, tuning=patient)
    here.until("corrected", "Ready", "True", within_s=180)
    assert outcomes(here, "corrected")[:2] == [("workers 3", "Kept"), (f"workers {UNLUCKY}", "Failed")]
    assert here.replica_sets("corrected") == sets + 2


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
