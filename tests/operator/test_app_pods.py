"""Apps, uWSGI and counted requests in real pods, under Pod Security "restricted"."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import ROOT, Cluster, eventually
from tests.operator.ground import RESTRICTED, Ground, deployment
from wsgi_contract import names

pytestmark = pytest.mark.cluster

HERE = Path(__file__).parent / "app"
SERVING = {"env": [{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000"}]}
OWN_STATSD = [{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000 --statsd-host=127.0.0.1:8125"}]
CLOSED = RESTRICTED | {"readOnlyRootFilesystem": True}
SCRATCH = {"name": "scratch", "mountPath": "/tmp"}
PINNED = [
    "uwsgi", "--plugin=python3", "--master", "--die-on-term", "--http-socket=:8000", "--wsgi-file=app.py",
    "--callable=app", "--processes=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(reached: Cluster) -> dict[str, str]:
    return {
        "gunicorn": reached.load_image("operator-test-app", "2", HERE, "gunicorn").ref,
        "again": reached.load_image("operator-test-app", "3", HERE, "gunicorn").ref,
        "uwsgi": reached.load_image("operator-test-uwsgi", "1", HERE, "uwsgi").ref,
        "sidecar": reached.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref,
    }


@pytest.fixture(autouse=True, scope="module")
def owners(here: Ground, images: dict[str, str]) -> Iterator[str]:
    """All workloads at once, since each needs seconds to roll. The uWSGI's template as its owner wrote it."""
    here.image = images["sidecar"]
    here.give_policy()
    app, counted = images["gunicorn"], {"requests": {}}
    here.apply(
        deployment("counted", replicas=1, image=app, **SERVING),
        deployment("own-statsd", replicas=1, image=app, env=OWN_STATSD),
        deployment("uwsgi", replicas=1, image=images["uwsgi"], env=[{"name": "UWSGI_HARAKIRI", "value": "20"}]),
        crowd(app),
        deployment("pinned", replicas=1, image=images["uwsgi"], env=[], command=PINNED),
    )
    owners = here.template("uwsgi")
    here.start(WSGI_OPERATOR_ADMISSION="true")
    make(here, app)
    here.adopt("counted", settings={"workers": 1}, monitoring=counted)
    here.adopt("own-statsd", settings={"workers": 1}, monitoring=counted)
    here.adopt("uwsgi", settings={"workers": 2, "timeoutSeconds": 45})
    here.adopt("crowd", workload={"name": "crowd", "container": "web"}, settings={"workers": 2})
    here.adopt("pinned", server="pinned", settings={"workers": 3})
    yield owners
    assert here.stop() == 0


def crowd(image: str) -> dict[str, Any]:
    """A pod with more in it than a server: another container, one that runs before, volumes of the owner's own."""
    other = {"image": image, "securityContext": RESTRICTED}
    pod = {
        "initContainers": [{"name": "migrate", "command": ["true"]} | other],
        "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}],
    }
    web = {"securityContext": CLOSED, "volumeMounts": [SCRATCH]} | SERVING
    manifest = deployment("crowd", replicas=1, image=image, pod=pod, **web)
    manifest["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "command": ["sleep", "600"]} | other)
    return manifest


def make(here: Ground, image: str) -> None:
    app = {"image": image, "module": "app:app", "runAsUser": 1234, "runAsGroup": 1234, "replicas": 1, "drainSeconds": 1}
    spec = {"app": app, "settings": {"workers": 2, "gracefulTimeoutSeconds": 10}, "monitoring": {"requests": {}}}
    here.apply({"apiVersion": "wsgi.dev/v1alpha1", "kind": "WSGIServer", "metadata": {"name": "made"}, "spec": spec})


def pods(here: Ground, server: str) -> list[dict[str, Any]]:
    found = here.get("pods", selector=f"{names.LABEL_SERVER}={server}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def ask(here: Ground, server: str, port: int, path: str) -> str:
    (pod,) = pods(here, server)
    where = f"/api/v1/namespaces/{here.namespace}/pods/{pod['metadata']['name']}:{port}/proxy{path}"
    return here.kubectl("get", "--raw", where)


def in_force(here: Ground, name: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in here.server(name)["status"]["effective"]}


def counted(here: Ground, server: str) -> float:
    """Requests that the sidecar counted, of status 200."""
    text = ask(here, server, names.SIDECAR_PORT, "/metrics")
    return sum(map(float, re.findall(r'^wsgi_requests_total\{[^}]*status="200"[^}]*\} (\S+)$', text, re.MULTILINE)))


def at_rest(here: Ground, server: str) -> float:
    """The same, once some are counted and none more come in; 0 before."""
    first = counted(here, server)
    time.sleep(1.5)
    return first if counted(here, server) == first else 0.0


def test_an_app_serves_by_its_service_without_a_second_roll(here: Ground):
    here.until("made", "Ready", "True", within_s=180)
    assert here.replica_sets_of("wsgi.dev/app=made") == 1
    where = f"/api/v1/namespaces/{here.namespace}/services/made:80/proxy/"
    assert eventually(lambda: here.kubectl("get", "--raw", where)) == "ok\n"
    lines = in_force(here, "made")
    assert (lines["workers"]["value"], lines["gracefulTimeoutSeconds"]["value"]) == ("2", "10")
    assert here.condition("made", "Tuned")[:2] == ("True", "AsWanted")
    (pod,) = pods(here, "made")
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_an_apps_other_image_rolls_and_serves_on(here: Ground, images: dict[str, str]):
    here.until("made", "Ready", "True", within_s=180)
    before = pods(here, "made")[0]["metadata"]["uid"]
    make(here, images["again"])
    eventually(lambda: here.condition("made", "Reconciling")[0] == "True", within_s=30)
    here.until("made", "Ready", "True", within_s=120)
    (pod,) = pods(here, "made")
    assert pod["metadata"]["uid"] != before
    assert pod["spec"]["containers"][0]["image"] == images["again"]


@pytest.mark.parametrize("name", ["made", "counted"])
def test_requests_are_counted_where_that_is_asked_for(here: Ground, name: str):
    here.until(name, "Ready", "True", within_s=180)
    eventually(lambda: ask(here, name, 8000, "/") == "ok\n")  # Ready is also who does not listen yet
    before = eventually(lambda: at_rest(here, name), within_s=20)
    for _ in range(5):
        assert ask(here, name, 8000, "/") == "ok\n"
    eventually(lambda: counted(here, name) == before + 5, within_s=20)


def test_an_owners_own_statsd_is_left_alone_and_told(here: Ground):
    here.until("own-statsd", "Ready", "True", within_s=180)
    assert "spec.monitoring.requests.forward: 127.0.0.1:8125" in here.until(
        "own-statsd", "Degraded", "True", "StatsdTaken"
    )
    (pod,) = pods(here, "own-statsd")
    assert "9178" not in json.dumps(pod["spec"])


def test_a_uwsgi_gets_its_settings_by_variables_and_its_template_back(here: Ground, owners: str):
    here.until("uwsgi", "Ready", "True", within_s=180)
    lines = in_force(here, "uwsgi")
    assert [(lines[name]["value"], lines[name]["source"]) for name in ("workers", "timeoutSeconds")] == [
        ("2", "environment"), ("45", "environment"),
    ]  # fmt: skip
    web = here.deployment("uwsgi")["spec"]["template"]["spec"]["containers"][0]
    assert web["env"] == [{"name": "UWSGI_HARAKIRI", "value": "20"}]
    here.release("uwsgi")
    assert here.template("uwsgi") == owners


def test_a_server_among_others_on_a_read_only_disk_is_adopted_and_a_job_beside_it_is_not_counted(here: Ground):
    here.until("crowd", "Ready", "True", within_s=180)
    template = here.deployment("crowd")["spec"]["template"]["spec"]
    job = {"restartPolicy": "Never", "containers": [template["containers"][0] | {"command": ["sleep", "600"]}]}
    marked = {"metadata": {"labels": {names.LABEL_SERVER: "crowd"}}, "spec": job | {"volumes": template["volumes"]}}
    here.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "beside"}, "spec": {"template": marked}})
    eventually(lambda: len(pods(here, "crowd")) == 2)
    here.until("crowd", "Ready", "True")
    assert here.server("crowd")["status"]["pods"]["summary"] == "1/1"
    assert in_force(here, "crowd")["workers"]["value"] == "2"
    assert [container["name"] for container in template["initContainers"]] == ["migrate", names.SIDECAR_CONTAINER]
    assert [volume["name"] for volume in template["volumes"]] == ["scratch", "wsgi-policy"]


def test_a_uwsgi_that_pins_a_setting_says_by_what_and_what_to_do(here: Ground):
    message = here.until("pinned", "Stalled", "True", "SettingPinned", within_s=180)
    assert "workers is pinned to 2 by --processes=2" in message
    assert "UWSGI_INI" in message
