"""Settings that pods get at their creation: what is ordered, and whether a pod has got it. No API server."""

from __future__ import annotations

from typing import Any

import pytest

from wsgi_contract.settings import Wanted
from wsgi_operator.core.admission import ANNOTATION_CONTAINER, ANNOTATION_FLAGS, ANNOTATION_INHERITED, unheeded
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.record import original_of, record_of
from wsgi_operator.core.restore import cut_out, taken_out
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.testing import applied, container, deployment, env, server

CMD = "GUNICORN_CMD_ARGS"
OWNERS = env(GUNICORN_CMD_ARGS="-w 2")


def planned(of: Server, live: dict[str, Any], **more: Any) -> Plan:
    made = plan(of, live, **({"admission": True} | more))
    assert isinstance(made, Plan), made
    return made


def ordered(made: Plan) -> dict[str, str]:
    """What the plan orders of the policy, without the sidecar's own annotation."""
    annotations = made.config["spec"]["template"]["metadata"]["annotations"]
    mine = (ANNOTATION_CONTAINER, ANNOTATION_FLAGS, ANNOTATION_INHERITED)
    return {key: value for key, value in annotations.items() if key in mine}


def reference(**source: Any) -> list[dict[str, Any]]:
    return [{"name": CMD, "valueFrom": source}]


@pytest.mark.parametrize(
    "variables",
    [OWNERS, env(GUNICORN_CMD_ARGS=""), reference(configMapKeyRef={"name": "c", "key": "k"})],
    ids=["value", "empty", "reference"],
)
def test_what_the_owner_wrote_is_left_alone_and_ours_is_ordered_behind_it(variables: list[dict[str, Any]]):
    made = planned(server(), deployment(container(env=variables), pod={"shareProcessNamespace": False}))
    assert ordered(made) == {ANNOTATION_CONTAINER: "web", ANNOTATION_FLAGS: "--workers=3"}
    assert made.config["spec"]["template"]["spec"].keys() == {"initContainers", "volumes"}
    assert original_of(applied(deployment(), made.config)) is None


def test_what_only_the_image_has_is_looked_for_first_and_then_ordered_too():
    live = deployment(container())
    first = planned(server(), live)
    assert (first.pending, ordered(first)) == (True, {ANNOTATION_CONTAINER: "web"})
    second = planned(server(), applied(live, first.config), seen=Seen(cmd_args="--bind=:80"))
    flags = {ANNOTATION_FLAGS: "--workers=3", ANNOTATION_INHERITED: "--bind=:80"}
    assert ordered(second) == {ANNOTATION_CONTAINER: "web"} | flags
    live = applied(applied(live, first.config), second.config)
    assert not planned(server(), live, seen=Seen(cmd_args="--bind=:80 --workers=3")).needed


def test_an_owner_who_changes_his_words_makes_us_write_nothing():
    live = applied(deployment(container(env=OWNERS)), planned(server(), deployment(container(env=OWNERS))).config)
    live["spec"]["template"]["spec"]["containers"][0]["env"] = env(GUNICORN_CMD_ARGS="-w 9 --log-level=debug")
    assert not planned(server(), live).needed


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (env(GUNICORN_CMD_ARGS="-w 2 --"), "CmdArgsUnreadable"),
        (reference(secretKeyRef={"name": "s", "key": "k", "optional": True}), "CmdArgsFromReference"),
    ],
)
def test_what_cannot_be_continued_is_an_obstacle(variables: list[dict[str, Any]], reason: str):
    made = plan(server(), deployment(container(env=variables)), admission=True)
    assert isinstance(made, Obstacle)
    assert made.reason == reason


def test_a_template_that_overrides_already_stays_with_that_until_it_is_given_back():
    owners = deployment(container(env=OWNERS))
    live = applied(owners, planned(server(), owners, admission=False).config)
    made = planned(server(), live)
    assert not made.needed
    assert ordered(made) == {}


def test_a_template_that_overrides_nothing_moves_over():
    owners = deployment(container())
    live = applied(owners, planned(server(), owners, admission=False, seen=Seen(cmd_args="--bind=:80")).config)
    made = planned(server(), live)
    assert ordered(made)[ANNOTATION_INHERITED] == "--bind=:80"
    assert "containers" not in made.config["spec"]["template"]["spec"]


def test_without_the_policy_the_template_takes_over():
    live = applied(deployment(container(env=OWNERS)), planned(server(), deployment(container(env=OWNERS))).config)
    made = planned(server(), live, admission=False)
    assert made.config["spec"]["template"]["spec"]["containers"] == [
        {"name": "web", "env": env(GUNICORN_CMD_ARGS="-w 2 --workers=3")}
    ]
    assert ordered(made) == {}


def test_giving_back_is_giving_up():
    owners = deployment(container(env=OWNERS), pod={"shareProcessNamespace": False})
    live = applied(owners, planned(server(), owners).config)
    config, patch = taken_out(live), cut_out(live)
    assert config is not None
    assert patch is not None
    assert "spec" not in config
    annotations = patch["spec"]["template"]["metadata"]["annotations"]
    assert {ANNOTATION_CONTAINER, ANNOTATION_FLAGS, ANNOTATION_INHERITED} <= annotations.keys()
    assert patch["spec"]["template"]["spec"]["containers"] == [container(env=OWNERS)]


def test_without_wanted_settings_no_flags_are_ordered():
    made = planned(server(wanted=Wanted()), deployment(container(env=OWNERS)))
    assert ordered(made) == {ANNOTATION_CONTAINER: "web"}
    record = record_of(applied(deployment(), made.config))
    assert record is not None
    assert record.ordered == {}


@pytest.mark.parametrize(
    ("annotations", "value", "share", "expected"),
    [
        ({}, "-w 2", None, False),
        ({ANNOTATION_CONTAINER: "web", ANNOTATION_FLAGS: "--workers=3"}, "-w 2 --workers=3", True, False),
        ({ANNOTATION_CONTAINER: "web", ANNOTATION_FLAGS: "--workers=3"}, "-w 2", True, True),
        ({ANNOTATION_CONTAINER: "web"}, "-w 2", True, False),
        ({ANNOTATION_CONTAINER: "web"}, "-w 2", False, True),
        ({ANNOTATION_CONTAINER: "gone", ANNOTATION_FLAGS: "--workers=3"}, "-w 2 --workers=3", True, True),
    ],
)
def test_a_pod_tells_whether_it_got_what_was_ordered(annotations: Any, value: str, share: Any, expected: bool):
    pod = {
        "metadata": {"name": "web-1", "annotations": annotations},
        "spec": {"shareProcessNamespace": share, "containers": [container(env=env(GUNICORN_CMD_ARGS=value))]},
    }
    assert unheeded(pod) is expected
