"""An operator that is killed at any moment: the next one finishes what it began, and nothing twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment, free_port
from wsgi_contract import names
from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import load_configuration
from wsgi_operator.core.restore import taken_out

pytestmark = pytest.mark.cluster

MOMENTS_S = (0.0, 0.05, 0.2)
"""After the first visible change: before its answer is read, before the status, before the Events."""


@pytest.fixture(autouse=True)
def ended(here: Ground) -> Iterator[None]:
    yield
    here.kill()


def test_a_restart_changes_nothing(here: Ground):
    here.apply(deployment("calm", env=[{"name": "GUNICORN_CMD_ARGS", "value": "-w 2"}]))
    here.start()
    here.adopt("calm", settings={"workers": 3})
    here.until("calm", "Ready", "True")
    before = here.deployment("calm")["metadata"]["resourceVersion"], here.server("calm")["metadata"]["resourceVersion"]
    told = here.events("WSGIServer", "calm")
    here.kill()
    here.start()
    time.sleep(3)
    after = here.deployment("calm")["metadata"]["resourceVersion"], here.server("calm")["metadata"]["resourceVersion"]
    assert after == before
    assert here.events("WSGIServer", "calm") == told


@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_an_injection_that_was_cut_off_is_finished_once(here: Ground, moment_s: float):
    name = f"cut-{MOMENTS_S.index(moment_s)}"
    here.apply(deployment(name))
    before = here.deployment(name)["metadata"]["generation"]
    here.start()
    here.adopt(name, settings={"workers": 3})
    eventually(lambda: here.deployment(name)["metadata"]["generation"] > before, every_s=0.01)
    time.sleep(moment_s)
    here.kill()
    here.start()
    here.until(name, "Ready", "True")
    assert here.replica_sets(name) == 2
    assert [reason for reason, _ in here.events("WSGIServer", name)] == ["Injected"]
    assert [line["what"] for line in here.server(name)["status"]["lastChanges"]] == ["sidecar", "workers"]


@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_a_restore_that_was_cut_off_is_finished_to_the_byte(here: Ground, moment_s: float):
    name = f"back-{MOMENTS_S.index(moment_s)}"
    here.apply(deployment(name, env=[{"name": "GUNICORN_CMD_ARGS", "value": "-w 2"}]))
    owners = here.template(name)
    here.start()
    here.adopt(name, settings={"workers": 3})
    here.until(name, "Ready", "True")
    here.kubectl("delete", "wsgi", name, "--wait=false")
    time.sleep(moment_s)
    here.kill()
    here.start()
    here.kubectl("wait", "--for=delete", f"wsgi/{name}", "--timeout=60s")
    assert here.template(name) == owners
    assert not [key for key in here.deployment(name)["metadata"]["annotations"] if key.startswith("wsgi.dev/")]
    assert here.replica_sets(name) == 2


async def first_write(deployment: dict[str, Any]) -> None:
    """As the operator makes it: kubectl's own server-side apply would take over what its client-side apply owns."""
    config = taken_out(deployment)
    assert config is not None
    async with Cluster(await load_configuration()) as cluster:
        await cluster.apply(config, deployment["metadata"]["resourceVersion"])


def test_a_restore_that_was_cut_off_between_its_two_writes_is_finished(here: Ground, monkeypatch: pytest.MonkeyPatch):
    here.apply(deployment("between", env=[{"name": "GUNICORN_CMD_ARGS", "value": "-w 2"}]))
    owners = here.template("between")
    here.start()
    here.adopt("between", settings={"workers": 3})
    here.until("between", "Ready", "True")
    here.kill()
    here.kubectl("delete", "wsgi", "between", "--wait=false")
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(here.kubeconfig()))
    asyncio.run(first_write(here.deployment("between")))
    assert here.template("between") == owners
    here.start()
    here.kubectl("wait", "--for=delete", "wsgi/between", "--timeout=60s")
    assert here.template("between") == owners
    assert names.FIELD_MANAGER not in {
        entry["manager"] for entry in here.deployment("between")["metadata"]["managedFields"]
    }


def test_a_resource_that_was_deleted_while_nobody_looked_is_let_go(here: Ground):
    here.apply(deployment("alone"))
    owners = here.template("alone")
    here.start()
    here.adopt("alone", settings={"workers": 3})
    here.until("alone", "Ready", "True")
    here.kill()
    here.kubectl("delete", "wsgi", "alone", "--wait=false")
    assert here.template("alone") != owners
    here.start()
    here.kubectl("wait", "--for=delete", "wsgi/alone", "--timeout=60s")
    assert here.template("alone") == owners


def test_an_operator_that_cannot_work_says_why_and_ends(here: Ground):
    here.start(wait=False, WSGI_OPERATOR_SIDECAR_IMAGE="wsgi-sidecar:latest")
    assert here.process is not None
    assert here.process.wait(timeout=60) == 2
    here.process = None
    assert "give it a version" in here.log.read_text()


def test_an_operator_that_is_told_to_stop_before_it_works_ends_as_one_that_was_told(here: Ground, tmp_path: Path):
    config = yaml.safe_load(here.kubeconfig().read_text())
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{free_port()}"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    here.start(wait=False, KUBECONFIG=str(tmp_path / "kubeconfig"))
    eventually(lambda: "asking again" in here.said()[here.said_before :])
    assert here.stop() == 0
    assert "told to stop before the work has begun" in here.said()
