"""The keys for reports: which pod is asked with which token, and how keys change without silence."""

import asyncio
import logging

import pytest
from aiohttp import web

from tests.operator.test_reports import GOOD, served
from wsgi_contract import names
from wsgi_contract.report import SidecarInfo
from wsgi_contract.report_token import token_of, verifier_of
from wsgi_operator.core.app_plan import plan_app
from wsgi_operator.core.conditions import verdicts
from wsgi_operator.core.evidence import Heard, Silence, gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.keyring import Keyring, KeyringError, keyring
from wsgi_operator.core.patch import plan
from wsgi_operator.core.pods import pods_of
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.server import Sidecar
from wsgi_operator.keys import KeyFolder
from wsgi_operator.reports import Reports
from wsgi_operator.testing import (
    IMAGE,
    NOW,
    app_server,
    container,
    deployment,
    env,
    heard,
    pod,
    report,
    server,
    sidecar_of,
)

OLD, NEW = b"o" * 32, b"n" * 32


def verifier(key, uid="uid-shop"):
    return verifier_of(token_of(key, uid))


def test_a_pod_is_asked_with_the_token_of_the_key_that_it_was_made_under():
    ring = Keyring(keys=(NEW, OLD), guards=True)
    assert ring.verifier("uid-shop") == verifier(NEW)
    young, aged = (ring.equip(pod(verifiers=(verifier(key),)), "uid-shop") for key in (NEW, OLD))
    assert (young.token, aged.token) == (token_of(NEW, "uid-shop"), token_of(OLD, "uid-shop"))
    assert (young.waiting, aged.waiting) == (None, None)


def test_a_pod_that_asks_for_nothing_is_sent_no_token():
    assert Keyring(keys=(NEW,), guards=True).equip(pod(), "uid-shop").token is None


@pytest.mark.parametrize("ring", [Keyring(), Keyring(keys=(NEW,), guards=True)], ids=["no keys", "other keys"])
@pytest.mark.parametrize("told", [verifier(OLD), verifier(NEW, "uid-of-another-team"), "nonsense"])
def test_a_pod_that_none_of_our_keys_opens_is_not_asked_and_says_why(ring, told):
    equipped = ring.equip(pod(verifiers=(told,)), "uid-shop")
    assert equipped.token is None
    assert "as `previous` in the Secret" in equipped.waiting


def test_a_pod_that_does_not_run_yet_keeps_its_own_reason():
    waiting = pod(waiting="the sidecar is waiting (ErrImagePull)", verifiers=(verifier(OLD),))
    assert Keyring(keys=(NEW,)).equip(waiting, "uid-shop") == waiting


def test_neither_keys_nor_tokens_are_shown_where_values_are_printed():
    ring = Keyring(keys=(NEW,), guards=True)
    assert "nnnn" not in repr(ring)
    equipped = ring.equip(pod(verifiers=(verifier(NEW),)), "uid-shop")
    assert equipped.token not in repr(equipped)


@pytest.mark.parametrize(
    ("current", "previous", "words"),
    [
        (None, None, "no `current` key"),
        (b" \n", OLD, "no `current` key"),
        (b"short", None, "32"),
        (NEW, b"short", "32"),
    ],
)
def test_keys_that_are_missing_or_short_are_refused(current, previous, words):
    with pytest.raises(KeyringError, match=words):
        keyring(current, previous, guards=True)


def test_the_folder_is_followed_and_a_bad_change_keeps_the_last_good_keys(tmp_path, caplog):
    with pytest.raises(KeyringError, match="no `current` key"):
        KeyFolder(tmp_path, guards=True)
    (tmp_path / "current").write_bytes(OLD + b"\n")
    folder = KeyFolder(tmp_path, guards=True)
    assert folder.read() == Keyring(keys=(OLD,), guards=True)
    (tmp_path / "current").write_bytes(NEW)
    (tmp_path / "previous").write_bytes(OLD)
    assert folder.read() == Keyring(keys=(NEW, OLD), guards=True)
    (tmp_path / "current").write_bytes(b"oops")
    caplog.set_level(logging.ERROR)
    assert [folder.read(), folder.read()] == [Keyring(keys=(NEW, OLD), guards=True)] * 2
    assert len(caplog.records) == 1
    assert "oops" not in caplog.text
    assert KeyFolder(None, guards=False).read() == Keyring()


def test_a_guarded_template_tells_the_sidecar_where_its_verifier_is_and_never_the_token():
    guarded = server(sidecar=Sidecar(image=IMAGE, verifier=verifier(NEW)))
    made = plan(guarded, deployment(container(env=env(GUNICORN_CMD_ARGS=""))))
    template = made.config["spec"]["template"]
    assert template["metadata"]["annotations"][names.ANNOTATION_VERIFIERS] == verifier(NEW)
    assert {"name": names.ENV_VERIFIERS_FILE, "value": "/etc/wsgi-sidecar/report-verifiers"} in sidecar_of(made.config)[
        "env"
    ]
    paths = [item["path"] for item in template["spec"]["volumes"][0]["downwardAPI"]["items"]]
    assert paths == ["policy.json", "report-verifiers"]
    assert token_of(NEW, "uid-shop") not in str(made)


def test_an_apps_template_is_guarded_as_an_adopted_one():
    guarded = app_server(sidecar=Sidecar(image=IMAGE, verifier=verifier(NEW)))
    template = plan_app(guarded, guarded.app, None, now=NOW).config["spec"]["template"]
    assert template["metadata"]["annotations"][names.ANNOTATION_VERIFIERS] == verifier(NEW)
    assert "report-verifiers" in str(template["spec"]["volumes"])


def test_an_open_template_has_nothing_of_it():
    made = plan(server(), deployment(container(env=env(GUNICORN_CMD_ARGS=""))))
    assert "verifier" not in str(made.config)


def test_the_verifiers_of_a_pod_are_read_from_its_annotation():
    body = {"metadata": {"name": "a", "uid": "u", "annotations": {names.ANNOTATION_VERIFIERS: "sha256:a sha256:b"}}}
    assert pods_of([body | {"spec": {"containers": []}}])[0].verifiers == ("sha256:a", "sha256:b")


def test_a_pod_that_answers_anybody_although_told_otherwise_is_told():
    told = pod(verifiers=(verifier(NEW),))

    def degraded(guarded):
        said = report(sidecar=SidecarInfo(version="1", started_at=NOW, uid=1000, gid=1000, guarded=guarded))
        evidence = gather([Heard(pod=told, report=said), heard("web-2")], server().wanted)
        facts = Facts(generation=1, evidence=evidence, rollout=rollout(deployment()))
        return next(v for v in verdicts(server(), facts) if v.type == "Degraded")

    assert (degraded(guarded=True).status, degraded(guarded=True).reason) == (False, "Well")
    assert degraded(guarded=False).reason == "ReportsOpen"
    assert "1 pods, such as web-1, give their report to anybody" in degraded(guarded=False).message


def ask(*pods):
    """What these pods answer where one token is asked for, and what tokens were sent."""
    sent = []

    async def handler(request):
        sent.append(request.headers.get("Authorization"))
        good = sent[-1] == f"Bearer {token_of(NEW, 'uid-shop')}"
        return web.Response(body=GOOD) if good else web.Response(status=401, text="this token opens another report\n")

    async def run():
        reports = Reports(timeout_s=10)
        async with served(handler) as port:
            return await reports.read(pods, port)

    return asyncio.run(run()), sent


def test_the_token_is_sent_as_a_bearer_and_a_refusal_is_silence_in_the_pods_own_words():
    ring = Keyring(keys=(NEW,), guards=True)
    right = ring.equip(pod(ip="127.0.0.1", verifiers=(verifier(NEW),)), "uid-shop")
    wrong = Keyring(keys=(OLD,)).equip(pod("web-2", ip="127.0.0.1", verifiers=(verifier(OLD),)), "uid-shop")
    answers, sent = ask(right, wrong, pod("web-3", ip="127.0.0.1"))
    assert [type(answer) for answer in answers] == [Heard, Silence, Silence]
    assert answers[1].reason.endswith("answers with status 401: this token opens another report")
    assert sorted(map(str, sent)) == sorted(
        [f"Bearer {token_of(NEW, 'uid-shop')}", f"Bearer {token_of(OLD, 'uid-shop')}", "None"]
    )
