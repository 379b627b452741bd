"""An operator that is newer than the CustomResourceDefinition: it works, tells what it can, and says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.operator.conftest import CRD
from tests.operator.ground import Ground, deployment

pytestmark = [pytest.mark.cluster, pytest.mark.alone]  # the CRD is everybody's


@pytest.fixture
def older(here: Ground) -> Iterator[None]:
    """A CRD whose status has no `effective` and no `lastChanges`."""
    crd = yaml.safe_load(CRD.read_text())
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["effective"], status["lastChanges"]
    give(here, json.dumps(crd))
    yield
    give(here, CRD.read_text())


def give(here: Ground, text: str) -> None:
    here.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


@pytest.mark.usefixtures("older")
def test_a_crd_that_is_too_old_is_told_and_all_is_told_once_it_is_new(here: Ground):
    here.apply(deployment("modern"))
    here.start()
    here.adopt("modern", settings={"workers": 3})
    message = here.until("modern", "Degraded", "True", "CustomResourceDefinitionTooOld")
    assert ".status.effective" in message or ".status.lastChanges" in message
    assert "kubectl apply --server-side -f charts/wsgi-operator/crds" in message
    here.until("modern", "Ready", "True")
    assert "--workers=3" in here.template("modern")
    version = here.server("modern")["metadata"]["resourceVersion"]
    give(here, CRD.read_text())
    here.until("modern", "Degraded", "False", within_s=120)
    changed = here.server("modern")
    assert [line["name"] for line in changed["status"]["effective"]]
    assert int(changed["metadata"]["resourceVersion"]) > int(version)
    assert here.stop() == 0
