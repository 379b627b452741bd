"""What the operator reads and must not tell: values of the owner's environment, its own token, its keys."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.operator.ground import Ground, deployment
from wsgi_contract.report_token import token_of

pytestmark = pytest.mark.cluster

PASSWORD, VARIABLE, KEY = "hunter2-of-the-database", "s3cret-of-the-app", "k3y-of-the-reports" * 3


def test_every_line_of_the_log_says_in_json_what_happened_and_about_whom(here: Ground):
    here.apply(deployment("told"))
    here.start()
    here.adopt("told", settings={"workers": 3})
    here.until("told", "Ready", "True")
    here.adopt("told", settings={"workers": 3}, sidecar={"image": "evil.example/x:1"})
    here.until("told", "Stalled", "True", "ImageNotAllowed")
    here.release("told")
    lines = [json.loads(line) for line in here.log.read_text().splitlines()]
    assert here.stop() == 0
    assert all({"time", "level", "event", "message"} <= line.keys() for line in lines)
    about = f"{here.namespace}/told"
    ours = [(line["event"], line.get("object"), line.get("reason")) for line in lines]
    assert ("started", None, None) in ours
    assert ("applied", about, None) in ours
    assert ("condition", about, "AsWanted") in ours
    assert ("condition", about, "ImageNotAllowed") in ours


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_secret_is_in_a_log_line_an_event_or_a_status(here: Ground, level: str):
    name, keys = f"discreet-{level}", here.folder / level
    keys.mkdir()
    (keys / "current").write_text(KEY)
    env = [
        {"name": "SECRET_KEY", "value": VARIABLE},
        {"name": "GUNICORN_CMD_ARGS", "value": f"-w 2 --env DATABASE=postgres://shop:{PASSWORD}@db/shop"},
    ]
    here.apply(deployment(name, env=env))
    told = {"WSGI_OPERATOR_REPORT_AUTH": "token", "WSGI_OPERATOR_REPORT_KEYS": str(keys)}
    here.start(WSGI_OPERATOR_LOG_LEVEL=level, **told)
    uid = None
    try:
        here.adopt(name, settings={"workers": 3})
        here.until(name, "Ready", "True")
        uid = here.server(name)["metadata"]["uid"]
        here.adopt(name, settings={"workers": 4}, sidecar={"image": "evil.example/x:1"})
        here.until(name, "Stalled", "True", "ImageNotAllowed")
        here.adopt(name, settings={"workers": 4})
        here.until(name, "Ready", "True")
        status = json.dumps(here.server(name)["status"])
        here.release(name)
    finally:
        assert here.stop() == 0
    log, events = here.log.read_text(), here.kubectl("get", "events", "-o", "yaml")
    account = yaml.safe_load(here.kubeconfig().read_text())["users"][0]["user"]["token"]
    for secret in (PASSWORD, VARIABLE, KEY, token_of(KEY.encode(), uid), account):
        assert secret not in log
        assert secret not in events
        assert secret not in status
