"""How a Deployment is given back, step by step, without an API server."""

import asyncio
import json
from typing import Any

import pytest
from kubernetes.aio import client

from wsgi_contract import names
from wsgi_operator.bells import Bells
from wsgi_operator.cluster import Cluster
from wsgi_operator.config import Config
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.record import ANNOTATION_APPLIED
from wsgi_operator.core.restore import cut_out, handed_back, is_anothers, taken_out
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Sidecar
from wsgi_operator.desk import Desk
from wsgi_operator.giving_back import restore
from wsgi_operator.reports import Reports
from wsgi_operator.testing import applied, container, deployment, env, server

CMD = "GUNICORN_CMD_ARGS"
KUBECTL = {
    "manager": "kubectl",
    "operation": "Update",
    "fieldsV1": {
        "f:spec": {
            "f:template": {
                "f:spec": {
                    "f:containers": {'k:{"name":"web"}': {"f:env": {f'k:{{"name":"{CMD}"}}': {"f:value": {}}}}},
                    "f:shareProcessNamespace": {},
                }
            }
        }
    },
}


def adopted(live: dict[str, Any], *, container: str | None = None, seen: Seen | None = None) -> dict[str, Any]:
    made = plan(server(container=container), live, seen=seen)
    assert isinstance(made, Plan)
    return applied(live, made.config)


def test_what_we_only_added_goes_with_a_configuration_that_holds_but_the_record():
    live = adopted(deployment(container()))
    record = live["metadata"]["annotations"][ANNOTATION_APPLIED]
    assert taken_out(live) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "annotations": {ANNOTATION_APPLIED: record}},
    }


def test_what_we_overrode_comes_back_in_the_same_write():
    owner = deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2")), pod={"shareProcessNamespace": False})
    config = taken_out(adopted(owner))
    assert config is not None
    assert config["spec"]["template"]["spec"] == {
        "containers": [{"name": "web", "env": [{"name": CMD, "value": "-w 2"}]}],
        "shareProcessNamespace": False,
    }
    assert names.ANNOTATION_ORIGINAL in config["metadata"]["annotations"]


def test_a_value_that_is_back_already_is_not_lost_when_the_step_is_done_again():
    live = adopted(deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2")), pod={"shareProcessNamespace": False}))
    once = taken_out(live)
    assert once is not None
    assert taken_out(applied(live, once)) == once


def test_an_empty_variable_comes_back_empty():
    config = taken_out(adopted(deployment(container(env=env(GUNICORN_CMD_ARGS="")))))
    assert config is not None
    assert config["spec"]["template"]["spec"]["containers"] == [{"name": "web", "env": [{"name": CMD}]}]


def test_what_the_owner_changed_meanwhile_stays():
    live = adopted(deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))))
    live["spec"]["template"]["spec"]["containers"][0]["env"] = env(GUNICORN_CMD_ARGS="-w 9")
    config = taken_out(live)
    assert config is not None
    assert "spec" not in config


def test_a_container_that_is_gone_does_not_come_back():
    live = adopted(deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))))
    live["spec"]["template"]["spec"]["containers"] = [container("other")]
    config = taken_out(live)
    assert config is not None
    assert "spec" not in config


def test_ownership_goes_back_to_who_had_it():
    owner = deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2")), managedFields=[json.loads(json.dumps(KUBECTL))])
    live = adopted(owner)
    items = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    del items['k:{"name":"web"}']["f:env"][f'k:{{"name":"{CMD}"}}']["f:value"]
    patch = handed_back(live)
    assert patch is not None
    assert patch["metadata"]["managedFields"] == [KUBECTL]
    assert patch["metadata"]["annotations"] == {names.ANNOTATION_ORIGINAL: None}


def test_between_the_steps_only_the_second_is_left():
    live = adopted(deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))))
    del live["metadata"]["annotations"]["wsgi.dev/applied"]
    assert taken_out(live) is None
    assert handed_back(live) is not None


def test_a_deployment_that_was_never_ours_needs_nothing():
    assert taken_out(deployment()) is None
    assert handed_back(deployment(managedFields=[KUBECTL])) is None


def test_what_nobody_owns_any_more_is_cut_out():
    proxy = container("proxy", env=env(GUNICORN_CMD_ARGS="-w 9"))
    prepare, tmp = container("prepare"), {"name": "tmp", "emptyDir": {}}
    for variables in (env(A="1", GUNICORN_CMD_ARGS="-w 2", B="2"), env(GUNICORN_CMD_ARGS="")):
        web = container(env=variables)
        owner = deployment(
            web, proxy, pod={"initContainers": [prepare], "volumes": [tmp], "shareProcessNamespace": False}
        )
        patch = cut_out(adopted(owner, container="web"))
        assert patch is not None
        assert patch["metadata"]["annotations"] == {"wsgi.dev/applied": None}
        assert patch["spec"]["template"]["spec"] == {
            "initContainers": [prepare],
            "volumes": [tmp],
            "containers": [web, proxy],
            "shareProcessNamespace": False,
        }


def test_a_list_that_was_ours_alone_is_cut_out_whole():
    live = adopted(deployment(container()))
    live = adopted(live, seen=Seen(cmd_args=""))
    patch = cut_out(live)
    assert patch is not None
    spec = patch["spec"]["template"]["spec"]
    assert (spec["initContainers"], spec["volumes"], spec["shareProcessNamespace"]) == (None, None, None)
    assert spec["containers"] == [container()]


def test_who_has_a_workload_is_told_from_its_record():
    live = adopted(deployment())
    assert is_anothers(live, "uid-other")
    assert not is_anothers(live, "uid-shop")
    assert not is_anothers(deployment(), "uid-other")


class OneWorkload(Cluster):
    """A workload, as it is, and the Events that are posted; nobody may write."""

    def __init__(self, live: dict[str, Any] | None) -> None:
        super().__init__(client.Configuration())
        self.live = live
        self.events: list[str] = []

    async def workload(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.live

    async def post_event(self, event: Any) -> None:
        self.events.append(event["reason"])


@pytest.mark.parametrize(("live", "told"), [
    (deployment(), 1),
    (adopted(deployment()), 0),
    (None, 0),
], ids=["its owner's", "another WSGIServer's", "gone"])  # fmt: skip
def test_only_a_workload_that_its_owner_has_again_is_called_restored(live: dict[str, Any] | None, told: int):
    cluster = OneWorkload(live)
    config = Config(sidecar=Sidecar(image="x:1"), repositories=("x",))
    desk = Desk(config=config, cluster=cluster, reports=Reports(timeout_s=1), bells=Bells())
    metadata = {"name": "second", "namespace": "default", "uid": "uid-second"}
    asyncio.run(restore(desk, {"metadata": metadata, "spec": {"workload": {"name": "web"}}}))
    assert cluster.events == ["Restored"] * told
    assert f"wsgi_operator_restores_total {told}.0" in desk.meters.text().decode()
