"""What a template carries so that its pods' settings can change without a roll: plain objects in, plain objects out."""

from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract import names
from wsgi_contract.servers.gunicorn_in_place import parse_boot
from wsgi_contract.settings import Wanted
from wsgi_operator.core.admission import ANNOTATION_FLAGS
from wsgi_operator.core.boot import boots
from wsgi_operator.core.patch import Plan
from wsgi_operator.core.restore import cut_out
from wsgi_operator.core.sidecar import ANNOTATION_CONFIG, CONFIG_PATH
from wsgi_operator.core.standing import ANNOTATION_STANDING, Standing, dump_standing
from wsgi_operator.core.template import plan_template
from wsgi_operator.testing import applied, container, deployment, env, server, sidecar_of

IN_PLACE = server(apply="InPlace", wanted=Wanted(workers=4, timeout_s=60))
OURS = f"--config={CONFIG_PATH}"


def planned(of: Any, live: Any, **more: Any) -> Plan:
    made = plan_template(of, live, **more)
    assert isinstance(made, Plan), made
    return made


def adopted(*, admission: bool, **variables: str) -> dict[str, Any]:
    live = deployment(container(env=env(**(variables or {"GUNICORN_CMD_ARGS": "--threads 2 -c own.py"}))))
    return applied(live, planned(IN_PLACE, live, admission=admission).config)


def standing(phase: Any = "Applied", **settings: int) -> Standing:
    return Standing(
        order="g1-a", generation=1, settings=settings, before={"workers": 4}, phase=phase, reason="why", at=1.0
    )


def stood(live: dict[str, Any], what: Standing) -> dict[str, Any]:
    live["metadata"]["annotations"][ANNOTATION_STANDING] = dump_standing(what)
    return live


def settings_of(wish: Any, live: Any) -> Wanted:
    """Those of the config file in the template that would roll."""
    made = plan_template(wish, live, admission=True)
    assert isinstance(made, Plan)
    assert made.rolls(live)
    boot = parse_boot(made.config["spec"]["template"]["metadata"]["annotations"][ANNOTATION_CONFIG])
    assert boot is not None
    return boot.settings


@pytest.mark.parametrize("admission", [False, True])
def test_the_settings_stand_in_a_config_file_that_the_pod_brings_along(admission: bool):
    live = adopted(admission=admission, GUNICORN_CMD_ARGS="-c own.py")
    annotations = live["spec"]["template"]["metadata"]["annotations"]
    boot = parse_boot(annotations[ANNOTATION_CONFIG])
    assert boot is not None
    assert boot.settings == IN_PLACE.wanted
    volumes = {volume["name"]: volume for volume in live["spec"]["template"]["spec"]["volumes"]}
    paths = [item["path"] for item in volumes["wsgi-policy"]["downwardAPI"]["items"]]
    assert paths == ["policy.json", "order.json", "gunicorn.conf.py"]
    assert volumes["wsgi-in-place"]["emptyDir"]["medium"] == "Memory"
    assert boots(live)
    sidecar = sidecar_of(live)
    assert {"name": "WSGI_SIDECAR_IN_PLACE", "value": "/run/wsgi-sidecar"} in sidecar["env"]
    assert {"name": "wsgi-in-place", "mountPath": "/run/wsgi-sidecar"} in sidecar["volumeMounts"]
    assert names.ANNOTATION_ORDER not in annotations, "an order is for one pod, never for a template"


def test_without_the_policy_the_template_says_it_and_the_owner_gets_his_back():
    live = adopted(admission=False, GUNICORN_CMD_ARGS="-c own.py")
    (web,) = live["spec"]["template"]["spec"]["containers"]
    assert web["env"] == env(GUNICORN_CMD_ARGS=f"-c own.py {OURS}")
    assert [mount["mountPath"] for mount in web["volumeMounts"]] == ["/etc/wsgi-sidecar", "/run/wsgi-sidecar"]
    assert all(mount["readOnly"] for mount in web["volumeMounts"])
    cut = cut_out(live)
    assert cut is not None
    assert "volumeMounts" not in cut["spec"]["template"]["spec"]["containers"][0]
    assert not cut["spec"]["template"]["spec"]["volumes"]


def test_with_the_policy_the_owners_container_is_untouched():
    live = adopted(admission=True, GUNICORN_CMD_ARGS="-c own.py")
    assert live["spec"]["template"]["spec"]["containers"] == [container(env=env(GUNICORN_CMD_ARGS="-c own.py"))]
    assert live["spec"]["template"]["metadata"]["annotations"][ANNOTATION_FLAGS] == OURS


@pytest.mark.parametrize("admission", [False, True])
def test_other_settings_do_not_change_the_template(admission: bool):
    live = adopted(admission=admission, GUNICORN_CMD_ARGS="")
    wish = replace(IN_PLACE, generation=2, wanted=Wanted(workers=8))
    made = planned(wish, live, admission=admission)
    assert made.needed, "it remembers the generation"
    assert not made.rolls(live)
    live = applied(live, made.config)
    assert not planned(wish, live, admission=admission).needed


def test_a_roll_for_another_reason_takes_along_what_was_proved():
    live = stood(adopted(admission=True, GUNICORN_CMD_ARGS=""), standing(workers=8))
    wish = replace(IN_PLACE, generation=2, wanted=Wanted(workers=8), sidecar=replace(IN_PLACE.sidecar, image="new:2"))
    assert settings_of(wish, live) == Wanted(workers=8)
    unproved = stood(live, standing("Changing", workers=9))
    assert settings_of(wish, unproved) == IN_PLACE.wanted


@pytest.mark.parametrize(
    ("variables", "words"),
    [({"GUNICORN_CMD_ARGS": "-w 2"}, "-w 2 in the owner's GUNICORN_CMD_ARGS is stronger than any config file")],
)
def test_what_cannot_change_in_place_comes_by_a_roll_and_says_why(variables: dict[str, str], words: str):
    live = deployment(container(env=env(**variables)))
    made = planned(IN_PLACE, live, admission=True)
    assert [one.reason for one in made.told] == ["InPlaceUnable"]
    assert words in made.told[0].message
    assert made.config["spec"]["template"]["metadata"]["annotations"][ANNOTATION_FLAGS] == "--workers=4 --timeout=60"


def test_what_a_pod_refused_comes_by_a_roll():
    live = stood(adopted(admission=True, GUNICORN_CMD_ARGS=""), standing("Unable", workers=8))
    wish = replace(IN_PLACE, generation=2, wanted=Wanted(workers=8))
    made = planned(wish, live, admission=True)
    assert made.rolls(live)
    live = applied(live, made.config)
    annotations = live["spec"]["template"]["metadata"]["annotations"]
    assert annotations[ANNOTATION_FLAGS] == "--workers=8"
    assert ANNOTATION_STANDING in live["metadata"]["annotations"], "and is not tried again"
    assert made.told[0].reason == "InPlaceUnable"


def test_where_the_image_is_not_known_yet_nothing_is_said_and_all_waits():
    made = planned(IN_PLACE, deployment(container()), admission=True)
    assert (made.pending, made.told) == (True, ())
