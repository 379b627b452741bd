"""Reports behind a token, with real pods: only the operator is answered, and keys change without a silent pod."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import ROOT, Cluster, eventually
from tests.operator.ground import Ground, deployment
from wsgi_contract import names
from wsgi_contract.report_token import token_of, verifier_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FIRST, SECOND, OTHER = b"1" * 32, b"2" * 32, b"3" * 32


@pytest.fixture(scope="module")
def keys(here: Ground) -> Path:
    """What the kubelet makes of the Secret."""
    folder = here.folder / "keys"
    folder.mkdir()
    (folder / "current").write_bytes(FIRST)
    return folder


@pytest.fixture(autouse=True, scope="module")
def guarded(here: Ground, reached: Cluster, app: str, keys: Path) -> Iterator[None]:
    """A workload that was adopted with an open report, under an operator that was then told to guard it."""
    here.image = reached.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref
    told = [{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000"}]
    here.apply(deployment("shop", replicas=1, image=app, env=told))
    here.start()
    here.adopt("shop", settings={"workers": 1})
    here.until("shop", "Ready", "True", within_s=180)
    assert asked(here, None) == 200
    assert here.stop() == 0
    here.start(WSGI_OPERATOR_REPORT_AUTH="token", WSGI_OPERATOR_REPORT_KEYS=str(keys))
    yield
    assert here.stop() == 0


def pod(here: Ground) -> dict[str, Any]:
    """The one pod that stays."""
    items = here.get("pods", selector="wsgi.dev/server=shop")["items"]
    staying = [item for item in items if "deletionTimestamp" not in item["metadata"]]
    assert len(staying) == 1, "the roll has not ended"
    return dict(staying[0])


def asked(here: Ground, token: str | None, path: str = "/report") -> int:
    """The status with which the pod answers."""
    address = pod(here)["status"].get("podIP")
    assert address, "it has no address yet"
    connection = http.client.HTTPConnection(address, names.SIDECAR_PORT, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    except OSError as error:
        raise AssertionError(f"nobody answers yet: {error}") from error
    finally:
        connection.close()


def token(here: Ground, key: bytes) -> str:
    return token_of(key, here.server("shop")["metadata"]["uid"])


def verifier(here: Ground) -> str | None:
    template = here.deployment("shop")["spec"]["template"]["metadata"]
    return template.get("annotations", {}).get(names.ANNOTATION_VERIFIERS)


def rolled_to(here: Ground, key: bytes) -> None:
    """Wait until the pod knows the token of this key, and reports."""
    knows = verifier_of(token(here, key))
    eventually(lambda: verifier(here) == knows, within_s=60)
    # Other keys are no other generation: until the roll has begun the status is still that of the old pod.
    eventually(lambda: pod(here)["metadata"]["annotations"].get(names.ANNOTATION_VERIFIERS) == knows, within_s=180)
    here.until("shop", "Ready", "True", within_s=180)
    eventually(lambda: asked(here, token(here, key)) == 200, within_s=60)


@contextmanager
def overheard(here: Ground) -> Iterator[set[str]]:
    """Every reason for which a pod was silent meanwhile."""
    reasons: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.3):
            pods = here.server("shop").get("status", {}).get("pods", {})
            reasons.update(line["reason"] for line in pods.get("silent", ()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield reasons
    finally:
        done.set()
        looking.join()


def test_a_report_behind_a_token_is_given_to_the_operator_and_to_nobody_else(here: Ground):
    rolled_to(here, FIRST)
    assert asked(here, None) == 401
    assert asked(here, token_of(FIRST, "uid-of-another-team")) == 401
    assert [asked(here, None, path) for path in ("/metrics", "/livez", "/server/livez")] == [200, 200, 200]
    assert here.condition("shop", "Degraded")[1] != "ReportsOpen"
    everything = here.kubectl("get", "deployments,pods,replicasets,events,wsgi", "-o", "yaml") + here.log.read_text()
    assert token(here, FIRST) not in everything
    assert FIRST.decode() not in everything


def test_a_change_of_keys_rolls_once_and_silences_no_pod(here: Ground, keys: Path):
    before = here.replica_sets("shop")
    with overheard(here) as reasons:
        (keys / "previous").write_bytes(FIRST)
        (keys / "current").write_bytes(SECOND)
        rolled_to(here, SECOND)
        (keys / "previous").unlink()
        here.until("shop", "Ready", "True", within_s=60)
    assert not [reason for reason in reasons if "token" in reason or "401" in reason]
    assert asked(here, token(here, FIRST)) == 401
    assert here.replica_sets("shop") == before + 1


def test_an_operator_with_another_key_says_so_and_hears_again_once_it_has_the_old_one(here: Ground, keys: Path):
    here.adopt("shop", settings={"workers": 1}, sidecar={"upgrade": "Manual"})
    here.until("shop", "Ready", "True", within_s=60)
    (keys / "current").write_bytes(OTHER)
    message = here.until("shop", "Ready", "False", "PodsSilent", within_s=60)
    assert "asks for a token of a key that this operator does not have" in message
    (keys / "previous").write_bytes(SECOND)
    here.until("shop", "Ready", "True", within_s=60)
