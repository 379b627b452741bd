"""A new sidecar: who gets it, when, and how many at a time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment
from wsgi_operator import testing
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.server import Server, Sidecar
from wsgi_operator.core.upgrade import SILENT_FOR_S, Turn, held_back
from wsgi_operator.core.workload import Rollout
from wsgi_operator.testing import applied, server

DONE = Rollout(done=True, failed=False, message="all pods carry the template")
GOING = Rollout(done=False, failed=False, message="1 of 2 pods carry the new template")
NEW = "registry.example/wsgi-sidecar:2"


def planned(of: Server, live: dict[str, Any]) -> Plan:
    made = plan(of, live)
    assert isinstance(made, Plan), made
    return made


def adopted() -> dict[str, Any]:
    live = testing.deployment()
    return applied(live, planned(server(), live).config)


def renewed(**fields: Any) -> Sidecar:
    return Sidecar(image=NEW, **fields)


def image_of(made: Plan) -> str:
    return str(made.config["spec"]["template"]["spec"]["initContainers"][0]["image"])


def test_another_image_by_default_is_an_upgrade_and_one_that_was_asked_for_is_not():
    assert planned(server(sidecar=renewed()), adopted()).upgrade
    assert not planned(server(sidecar=renewed(named=True), generation=2), adopted()).upgrade
    assert not planned(server(), adopted()).upgrade
    assert not planned(server(), testing.deployment()).upgrade


def test_a_sidecar_that_somebody_took_out_is_put_back_without_waiting():
    live = adopted()
    live["spec"]["template"]["spec"]["initContainers"] = []
    assert not planned(server(sidecar=renewed()), live).upgrade


def test_manual_keeps_the_image_also_when_something_else_changes():
    of = server(sidecar=renewed(upgrade="Manual"), generation=2)
    assert image_of(planned(of, adopted())) == testing.IMAGE
    assert image_of(planned(server(sidecar=renewed(upgrade="Manual", named=True), generation=2), adopted())) == NEW


def test_on_next_change_brings_it_with_the_change():
    assert image_of(planned(server(sidecar=renewed(upgrade="OnNextChange"), generation=2), adopted())) == NEW


@pytest.mark.parametrize(
    ("policy", "rollout", "words"),
    [
        ("Automatic", DONE, None),
        ("Automatic", GOING, "until the roll that is under way has ended"),
        ("OnNextChange", DONE, "with the next change"),
        ("Manual", DONE, "waits for spec.sidecar.image"),
    ],
)
def test_an_upgrade_is_held_back_by_policy_with_its_reason(policy: Any, rollout: Rollout, words: str | None):
    why = held_back(server(sidecar=renewed(upgrade=policy)), rollout, Turn(), 0.0)
    assert why is None if words is None else why is not None and words in why


def test_one_workload_has_the_turn_until_its_pods_report():
    turn, first, second = Turn(), server(sidecar=renewed()), server(uid="other", name="other", sidecar=renewed())
    assert held_back(first, DONE, turn, 0.0) is None
    assert "WSGIServer default/shop is being upgraded" in str(held_back(second, DONE, turn, 1.0))
    turn.settle(first.uid, GOING, silent=False, now=10_000.0)
    turn.settle(first.uid, DONE, silent=True, now=SILENT_FOR_S)
    assert held_back(second, DONE, turn, 2.0) is not None
    turn.settle(second.uid, DONE, silent=False, now=3.0)  # not its own to give
    assert held_back(second, DONE, turn, 3.0) is not None
    turn.settle(first.uid, DONE, silent=False, now=4.0)
    assert held_back(second, DONE, turn, 4.0) is None


def test_pods_that_stay_silent_do_not_stop_the_others_for_ever():
    turn = Turn()
    assert held_back(server(), DONE, turn, 0.0) is None
    turn.settle(server().uid, DONE, silent=True, now=SILENT_FOR_S + 1)
    assert turn.uid is None


@pytest.mark.cluster
def test_a_new_sidecar_comes_to_calm_workloads_and_waits_for_the_others(here: Ground):
    names = ["a", "b", "c", "manual"]
    for name in names:
        here.apply(deployment(name))
        here.adopt(name, sidecar={"upgrade": "Manual" if name == "manual" else "Automatic"})
    here.start()
    for name in names:
        here.until(name, "Ready", "True")
    here.stop()
    old, here.image = here.image, "localhost/wsgi-sidecar:newer"
    here.kubectl(
        "scale", "deployment", "a", "b", "c", "--replicas=1"
    )  # pods that never start: their image is not there
    for name in ("a", "b", "c"):
        eventually(lambda name=name: here.deployment(name)["status"].get("replicas") == 1)
    here.kubectl("scale", "deployment", "b", "c", "--replicas=0")
    here.start()
    eventually(lambda: [image(here, name) for name in ("b", "c")] == [here.image] * 2, within_s=60)
    assert "waits until the roll that is under way has ended" in here.until("a", "Injected", "True")
    assert "waits for spec.sidecar.image to name it" in here.until("manual", "Injected", "True")
    assert (image(here, "a"), image(here, "manual")) == (old, old)
    here.kubectl("scale", "deployment", "a", "--replicas=0")
    eventually(lambda: image(here, "a") == here.image, within_s=30)
    here.adopt("manual", sidecar={"upgrade": "Manual", "image": here.image})
    eventually(lambda: image(here, "manual") == here.image, within_s=30)


def image(here: Ground, name: str) -> str:
    return str(here.deployment(name)["spec"]["template"]["spec"]["initContainers"][0]["image"])
