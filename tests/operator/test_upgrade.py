"""A new sidecar: who gets it, when, and how many at a time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment
from wsgi_operator import testing
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.server import Server, Sidecar
from wsgi_operator.testing import applied, server

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
    assert planned(server(sidecar=renewed()), adopted()).kind == "upgrade"
    assert planned(server(sidecar=renewed(named=True), generation=2), adopted()).kind == "settings"
    assert planned(server(), adopted()).kind is None
    assert planned(server(), testing.deployment()).kind == "adoption"


def test_a_sidecar_that_somebody_took_out_is_put_back_without_waiting():
    live = adopted()
    live["spec"]["template"]["spec"]["initContainers"] = []
    assert planned(server(sidecar=renewed()), live).kind == "repair"


def test_manual_keeps_the_image_also_when_something_else_changes():
    of = server(sidecar=renewed(upgrade="Manual"), generation=2)
    assert image_of(planned(of, adopted())) == testing.IMAGE
    assert image_of(planned(server(sidecar=renewed(upgrade="Manual", named=True), generation=2), adopted())) == NEW


def test_on_next_change_brings_it_with_the_change():
    assert image_of(planned(server(sidecar=renewed(upgrade="OnNextChange"), generation=2), adopted())) == NEW


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
