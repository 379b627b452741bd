"""What only running pods can tell: real gunicorn, real sidecars, reports over the pod network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.cluster.kube import ROOT, Cluster, CommandError, eventually
from tests.operator.ground import Ground, deployment

pytestmark = pytest.mark.cluster

PINNED = ["gunicorn", "--worker-class=gthread", "--workers=2", "app:app"]
ABSENT = "localhost/wsgi-sidecar:absent"
ADMIN = ["gunicorn", "--name=admin", "--workers=3", "--bind=0.0.0.0:8001", "app:app"]
KILL_ALL_BUT_ADMIN = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    words = (folder / "cmdline").read_bytes()
    if b"gunicorn" in words and b"--name=admin" not in words and int(folder.name) != os.getpid():
        os.kill(int(folder.name), signal.SIGKILL)
"""
ROOM = 4
"""Connections that one worker accepts; on gunicorn 23 one more freezes it."""


@pytest.fixture(autouse=True, scope="module")
def adopted(here: Ground, reached: Cluster, app: str) -> Iterator[None]:
    """All workloads at once, since each needs seconds to roll."""
    here.image = reached.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref
    told = {"env": [{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000"}]}
    here.apply(
        deployment("silent-image", replicas=1, image=app, env=[]),
        deployment("pinned", replicas=1, image=app, command=PINNED, **told),
        deployment("no-sidecar", replicas=1, image=app, **told),
    )
    pair = deployment("pair", replicas=1, image=app, **told)
    containers = pair["spec"]["template"]["spec"]["containers"]
    containers.insert(0, containers[0] | {"name": "admin", "command": ADMIN, "env": []})  # it starts first
    here.apply(pair)
    here.start()
    here.adopt("pair", workload={"name": "pair", "container": "web"}, settings={"workers": 2})
    here.adopt("silent-image", settings={"workers": 2, "threads": 2, "workerConnections": ROOM})
    here.adopt("pinned", settings={"workers": 3})
    here.adopt("no-sidecar", settings={"workers": 1}, sidecar={"image": ABSENT, "imagePullPolicy": "Never"})
    yield
    assert here.stop() == 0


def in_force(here: Ground, name: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in here.server(name)["status"]["effective"]}


def test_a_pinned_setting_is_told_with_the_flag(here: Ground):
    message = here.until("pinned", "Stalled", "True", "SettingPinned", within_s=120)
    assert "workers is pinned to 2 by --workers 2 on the container's command line" in message
    line = in_force(here, "pinned")["workers"]
    assert (line["pinned"], line["value"], line["wanted"]) == (True, "2", "3")


def test_of_two_gunicorns_in_a_pod_the_adopted_containers_is_watched_also_after_it_restarted(here: Ground):
    here.until("pair", "Ready", "True", within_s=120)
    assert in_force(here, "pair")["workers"]["value"] == "2"  # the other one has three
    eventually(lambda: len(here.get("pods", selector="app=pair")["items"]) == 1, within_s=60)  # the old one has ended
    with suppress(CommandError):  # the container ends with its first process, and may take this one along
        here.kubectl("exec", "deployment/pair", "-c", "web", "--", "python", "-c", KILL_ALL_BUT_ADMIN)
    seen = set()

    def back() -> bool:
        status = here.server("pair")["status"]
        seen.update(line.get("value") for line in status["effective"] if line["name"] == "workers")
        (pod,) = here.get("pods", selector="app=pair")["items"]
        restarts = {one["name"]: one["restartCount"] for one in pod["status"]["containerStatuses"]}
        return restarts == {"admin": 0, "web": 1} and here.condition("pair", "Ready")[0] == "True"

    eventually(back, within_s=60)
    assert seen <= {"2", None}


def test_a_sidecar_that_cannot_start_is_taken_out_again_with_the_kubelets_reason(here: Ground):
    message = here.until("no-sidecar", "Stalled", "True", "RolledBack", within_s=120)
    assert "container wsgi-sidecar: ErrImageNeverPull" in message
    assert "The template is its owner's again; it is not tried again until spec changes" in message
    here.adopt("no-sidecar", settings={"workers": 1})
    here.until("no-sidecar", "Ready", "True", within_s=120)


def test_what_only_the_image_says_is_found_out_and_kept(here: Ground):
    here.until("silent-image", "Ready", "True", within_s=180)
    spec = here.deployment("silent-image")["spec"]["template"]["spec"]
    assert spec["containers"][0]["env"] == [
        {
            "name": "GUNICORN_CMD_ARGS",
            "value": f"--bind=0.0.0.0:8000 --workers=2 --threads=2 --worker-connections={ROOM}",
        }
    ]
    assert spec["initContainers"][0]["securityContext"]["runAsUser"] == 1234
    lines = in_force(here, "silent-image")
    assert [(lines[name]["value"], lines[name]["source"]) for name in ("workers", "threads", "workerConnections")] == [
        ("2", "environment"), ("2", "environment"), (str(ROOM), "environment"),
    ]  # fmt: skip
    assert here.server("silent-image")["status"]["pods"]["summary"] == "1/1"
    assert here.condition("silent-image", "Degraded")[0] == "False"


def test_a_kill_is_told_once_on_the_server_and_on_the_pod(here: Ground):
    here.until("silent-image", "Ready", "True", within_s=180)
    pod = here.get("pods", selector="wsgi.dev/server=silent-image")["items"][0]
    with ExitStack() as silent:
        for _ in range(2 * ROOM + 2):
            silent.enter_context(socket.create_connection((pod["status"]["podIP"], 8000), timeout=10))
        eventually(lambda: kills(here, "WSGIServer", "silent-image"), within_s=90)
    summary = here.server("silent-image")["status"]["incidents"]
    assert summary["total"] >= 1
    before = eventually(lambda: settled(here, pod["metadata"]["name"]), within_s=60)
    assert "frozen-worker" in before[0]
    assert len(set(before)) == len(before)
    here.kill()
    here.start()
    here.until("silent-image", "Ready", "True")
    eventually(lambda: here.server("silent-image")["status"]["incidents"]["kills"] >= len(before))
    after = kills(here, "WSGIServer", "silent-image")
    assert set(before) <= set(after)
    assert len(set(after)) == len(after)


def kills(here: Ground, kind: str, name: str) -> list[str]:
    return sorted(message for reason, message in here.events(kind, name) if reason == "WorkerKilled")


def settled(here: Ground, pod: str) -> list[str]:
    """The Events of kills, once the server and the pod have one for each that the status counts."""
    on_server, on_pod = kills(here, "WSGIServer", "silent-image"), kills(here, "Pod", pod)
    told = here.server("silent-image")["status"]["incidents"]
    return on_server if len(on_server) == len(on_pod) == told["kills"] and told["open"] == 0 else []
