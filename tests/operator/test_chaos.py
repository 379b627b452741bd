"""The operator killed twelve times at random moments of one workload's life; `make chaos` does it longer and harder."""

from __future__ import annotations

import random
import time

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment

pytestmark = pytest.mark.cluster

SEED = 12
KILLS_PER_STEP = 3


@pytest.mark.timeout(600)
def test_whenever_the_operator_is_killed_each_step_is_done_once_and_the_end_is_right(here: Ground):
    dice = random.Random(SEED)
    here.apply(deployment("fired-at", env=[{"name": "GUNICORN_CMD_ARGS", "value": "-w 2"}]))
    owners, revision = here.template("fired-at"), eventually(lambda: here.revision("fired-at"))
    for workers in (3, 5, 4):
        under_fire(here, dice, lambda workers=workers: here.adopt("fired-at", settings={"workers": workers}))
        here.until("fired-at", "Ready", "True")
        revision += 1
        assert here.revision("fired-at") == revision, "one step, one template"
        assert f"-w 2 --workers={workers}" in here.template("fired-at")
    under_fire(here, dice, lambda: here.kubectl("delete", "wsgi", "fired-at", "--wait=false"))
    here.kubectl("wait", "--for=delete", "wsgi/fired-at", "--timeout=120s")
    assert here.template("fired-at") == owners
    eventually(lambda: here.revision("fired-at") == revision + 1)
    assert here.replica_sets("fired-at") == 4
    eventually(here.works)
    assert here.stop() == 0


def under_fire(here: Ground, dice: random.Random, step) -> None:
    """Ask for a step, and kill the operator at random moments after it, and after each of its starts."""
    if here.process is None:
        here.start()
    step()
    for longest_s in (1.0, 4.0, 4.0)[:KILLS_PER_STEP]:
        time.sleep(dice.uniform(0.0, longest_s))  # a start takes a second or two, so some are cut off in it
        here.kill()
        here.start(wait=False)
    assert here.alive()
