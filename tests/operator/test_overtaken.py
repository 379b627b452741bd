"""Rolls that something else gets in the way of, with real pods: the owner's manifest, a freeze, a corrected spec."""

from __future__ import annotations

from functools import partial

import pytest

from tests.cluster.kube import CommandError
from tests.operator.ground import Ground
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
    patient = {"readyWithinSeconds": 60}  # the newest spec's patience judges the roll that is under way, too
    here.adopt("corrected", settings={"workers": 3}, tuning=patient)
    here.until("corrected", "Ready", "True", within_s=180)
    assert outcomes(here, "corrected")[:2] == [("workers 3", "Kept"), (f"workers {UNLUCKY}", "Failed")]
    assert here.replica_sets("corrected") == sets + 2
