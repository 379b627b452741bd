"""What the operator makes by itself: an app's Deployment, Service and budget, PodMonitors. No API server."""

import re
from typing import Any

import pytest
import yaml

from tests.charts.rendered import CHART
from wsgi_contract import names
from wsgi_contract.settings import Wanted
from wsgi_operator.core.app import Monitoring, PodMonitor, Requests, Service
from wsgi_operator.core.app_plan import plan_app
from wsgi_operator.core.made import Step, children, step
from wsgi_operator.core.patch import Plan
from wsgi_operator.core.record import Change
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.sidecar import Identity
from wsgi_operator.testing import NOW, app_server, applied, deployment, env, server, sidecar_of

CMD = "GUNICORN_CMD_ARGS"
SOURCE: dict[str, Any] = {"configMapKeyRef": {"name": "c", "key": "k"}}


def planned(of: Server, live: Any = None, **more: Any) -> Plan:
    assert of.app is not None
    made = plan_app(of, of.app, live, **more)
    assert isinstance(made, Plan), made
    return made


def pod_of(made: Plan) -> dict[str, Any]:
    return made.config["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def web_of(made: Plan) -> dict[str, Any]:
    return pod_of(made)["containers"][0]  # type: ignore[no-any-return]


def live_of(made: Plan, live: Any = None) -> dict[str, Any]:
    """The Deployment after the plan was applied."""
    body = applied(live or {"metadata": {"managedFields": []}, "status": {}}, made.config)
    body["spec"].setdefault("replicas", 1)
    return body


def variables(made: Plan) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in web_of(made)["env"]}


def test_an_app_has_the_sidecar_and_its_settings_from_the_start():
    made = planned(app_server(args=("--access-logfile=-",), env=tuple(env(A="1"))))
    assert (made.needed, made.pending) == (True, False)
    assert web_of(made)["command"] == ["gunicorn"]
    assert web_of(made)["args"] == ["--bind=0.0.0.0:8000", "--worker-tmp-dir=/tmp", "--access-logfile=-", "shop:app"]
    assert variables(made) == {"A": "1", "XDG_RUNTIME_DIR": "/tmp", CMD: "--workers=3"}
    assert pod_of(made)["shareProcessNamespace"] is True
    assert sidecar_of(made.config)["restartPolicy"] == "Always"
    assert made.config["metadata"]["ownerReferences"][0]["uid"] == "uid-shop"


def test_an_apps_pods_are_what_restricted_asks_for_and_their_disk_is_read_only():
    made = planned(app_server(run_as_user=1234, run_as_group=5))
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 1234, "runAsGroup": 5}
    assert pod_of(made)["securityContext"] == security
    assert web_of(made)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod_of(made)["volumes"][0] == {"name": "tmp", "emptyDir": {"medium": "Memory"}}
    ours = sidecar_of(made.config)["securityContext"]
    assert (ours["runAsUser"], ours["runAsGroup"]) == (1234, 5)


def test_an_apps_probes_are_answered_by_the_sidecar():
    web = web_of(planned(app_server()))
    asked = {kind: (web[kind]["httpGet"]["path"], web[kind]["httpGet"]["port"]) for kind in web if "Probe" in kind}
    assert asked == {
        "startupProbe": ("/server/startupz", names.SIDECAR_PORT),
        "readinessProbe": ("/server/readyz", names.SIDECAR_PORT),
        "livenessProbe": ("/server/livez", names.SIDECAR_PORT),
    }


def test_an_app_drains_before_it_ends_and_a_roll_takes_no_pod_before_its_time():
    made = planned(app_server(drain_s=7, grace_s=40))
    assert web_of(made)["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert pod_of(made)["terminationGracePeriodSeconds"] == 40
    assert made.config["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "lifecycle" not in web_of(planned(app_server(drain_s=0)))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (env(A="2", GUNICORN_CMD_ARGS="-k gthread", B="1"), [("A", "2"), (CMD, "-k gthread --workers=3"), ("B", "1")]),
        (
            [{"name": CMD, "valueFrom": SOURCE}],
            [("WSGI_OWNERS_CMD_ARGS", SOURCE), (CMD, "$(WSGI_OWNERS_CMD_ARGS) --workers=3")],
        ),
    ],
    ids=["a value", "a reference"],
)  # fmt: skip
def test_our_flags_stand_behind_those_of_the_spec_at_their_place(own: list[Any], expected: list[Any]):
    made = planned(app_server(env=tuple(own)))
    found = [(entry["name"], entry.get("value", entry.get("valueFrom"))) for entry in web_of(made)["env"]]
    assert found == [*expected, ("XDG_RUNTIME_DIR", "/tmp")]


def test_without_settings_the_variable_is_left_alone():
    made = planned(app_server(wanted=Wanted(), env=({"name": CMD, "valueFrom": SOURCE},)))
    assert variables(made)[CMD] == SOURCE


def test_an_app_is_pointed_at_the_sidecars_statsd():
    made = planned(app_server(monitoring=Monitoring(requests=Requests())))
    assert variables(made)[CMD] == f"--workers=3 --statsd-host=127.0.0.1:{names.STATSD_PORT}"
    (told,) = planned(app_server(monitoring=Monitoring(requests=Requests()), args=("--statsd-host=x:1",))).told
    assert told.reason == "StatsdTaken"


def test_a_second_plan_changes_nothing_and_whatever_goes_from_the_spec_is_a_change():
    ours = app_server(args=("--access-logfile=-",), env=tuple(env(A="1")), env_from=({"configMapRef": {"name": "c"}},))
    live = live_of(planned(ours))
    assert not planned(ours, live, now=NOW).needed
    for change in ({"args": ()}, {"env": ()}, {"env_from": ()}):
        fields = {"args": ("--access-logfile=-",), "env": tuple(env(A="1")), "env_from": ours.app.env_from} | change
        assert planned(app_server(generation=2, **fields), live).needed


def test_another_image_is_told_with_before_and_after():
    again = planned(app_server(image="registry.example/shop:2", generation=2), live_of(planned(app_server())), now=NOW)
    assert again.record.changes == (
        Change(name="app.image", before="registry.example/shop:1", after="registry.example/shop:2"),
    )


def test_whom_only_the_image_knows_is_learnt():
    again = planned(app_server(), live_of(planned(app_server())), seen=Seen(identity=Identity(uid=33, gid=34)))
    assert sidecar_of(again.config)["securityContext"]["runAsUser"] == 33
    assert "runAsUser" not in pod_of(again)["securityContext"]


def test_replicas_belong_to_whoever_scales_unless_the_spec_names_them():
    assert "replicas" not in planned(app_server()).config["spec"]
    named = planned(app_server(replicas=3))
    live = live_of(named)
    live["metadata"]["managedFields"][-1]["fieldsV1"] = {"f:spec": {"f:replicas": {}}}
    left = planned(app_server(generation=2), live)
    assert left.needed
    assert left.handed_over is not None
    assert left.handed_over["spec"] == {"replicas": 3}
    assert planned(app_server(replicas=4, generation=2), live).handed_over is None


@pytest.mark.parametrize(
    ("of", "live", "reason", "words"),
    [
        (app_server(), deployment(), "NotOurs", "a Deployment shop in namespace default that this WSGIServer did not"),
        (app_server(port=names.SIDECAR_PORT), None, "PortTaken", "spec.sidecar.port"),
        (app_server(env=tuple(env(GUNICORN_CMD_ARGS="-w 'two"))), None, "CmdArgsUnreadable", "mend it"),
        (
            app_server(env=({"name": CMD, "valueFrom": {"secretKeyRef": {"name": "s", "optional": True}}},)),
            None,
            "CmdArgsFromReference",
            "plain value",
        ),
    ],
)  # fmt: skip
def test_what_is_in_an_apps_way_is_told(of: Server, live: Any, reason: str, words: str):
    assert of.app is not None
    made = plan_app(of, of.app, live)
    assert isinstance(made, Obstacle)
    assert made.reason == reason
    assert words in made.message


BALANCED = Service(type="LoadBalancer", port=443, annotations={"a": "b"})


def test_an_app_has_a_service_and_a_budget_if_it_asks_for_one():
    wanted = children(app_server(service=BALANCED, disruption={"maxUnavailable": 1}))
    service, budget = wanted["Service"], wanted["PodDisruptionBudget"]
    assert service is not None
    assert budget is not None
    assert service["spec"]["ports"] == [{"name": "http", "port": 443, "targetPort": "http", "protocol": "TCP"}]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == {names.LABEL_APP: "shop"}
    assert (service["metadata"]["annotations"], service["spec"]["type"]) == ({"a": "b"}, "LoadBalancer")
    assert budget["spec"]["maxUnavailable"] == 1
    assert children(app_server())["PodDisruptionBudget"] is None
    assert list(children(server())) == ["PodMonitor"]


def test_a_pod_monitor_chooses_the_pods_by_their_server():
    monitor = children(server(monitoring=Monitoring(pod_monitor=PodMonitor(labels={"release": "x"}))))["PodMonitor"]
    assert monitor is not None
    assert monitor["metadata"]["labels"]["release"] == "x"
    assert monitor["spec"]["selector"] == {"matchLabels": {names.LABEL_SERVER: "shop"}}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("wsgi-report", "/metrics", "15s")
    (chart_s,) = re.findall(
        r"relabelings:\n((?: {8}.*\n)+)", (CHART / "templates" / "monitoring.yaml").read_text("utf-8")
    )
    assert endpoint["relabelings"] == yaml.safe_load(chart_s), "dashboard and alerts group by it"


def applied_step(of: Server, live: Any = None) -> dict[str, Any]:
    made = step(of, "Service", children(of)["Service"], live)
    assert isinstance(made, Step)
    assert made.config is not None
    body = applied(live or {"metadata": {}}, made.config)
    body["metadata"]["resourceVersion"] = "7"
    return body


def test_what_is_made_is_applied_once_then_changed_then_taken_away():
    ours, live = app_server(service=BALANCED), applied_step(app_server(service=BALANCED))
    assert step(ours, "Service", children(ours)["Service"], live) is None
    bare = app_server(service=Service(type="LoadBalancer", port=443))
    assert isinstance(step(bare, "Service", children(bare)["Service"], live), Step)
    plain = app_server()
    assert isinstance(step(plain, "Service", children(plain)["Service"], live), Step)
    assert step(plain, "Service", None, live) == Step(config=None, version="7")
    assert step(plain, "Service", None, None) is None


def test_what_somebody_else_made_is_neither_taken_nor_taken_away():
    ours, theirs = app_server(), {"metadata": {"name": "shop", "resourceVersion": "1"}}
    found = step(ours, "Service", children(ours)["Service"], theirs)
    assert isinstance(found, Obstacle)
    assert found.reason == "NotOurs"
    assert step(ours, "Service", None, theirs) is None
    former = applied_step(app_server(uid="uid-of-an-earlier-shop"))
    assert isinstance(step(ours, "Service", children(ours)["Service"], former), Obstacle)
