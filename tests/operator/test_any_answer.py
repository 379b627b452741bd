"""Whatever the one who took a pod over answers: it breaks no round, no status, no Event and no template."""

import json
import re
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.contract.reports import REPORT
from tests.operator.evil import EVIL, TERMINAL, places, put
from wsgi_contract.policy import MOST_PATTERNS
from wsgi_contract.report import PodIdentity, dump_report
from wsgi_operator.answers import VALUES_LIMIT, parse_answer
from wsgi_operator.core import excess
from wsgi_operator.core.evidence import Heard, Silence, gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.notices import event_of, kill_notices
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.seen import look_at
from wsgi_operator.core.status import status_of
from wsgi_operator.status_model import Status
from wsgi_operator.testing import container, deployment, pod, server

WHOLE = json.loads(dump_report(REPORT)) | {"pod": None}
BODY = {"metadata": {"name": "shop", "namespace": "default", "uid": "uid-shop"}}
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
STATUS_LIMIT = 512 * 1024
"""Bytes; etcd takes 1.5 MB for an object."""

PLACES = list(places(WHOLE))
USED = [path for path in PLACES if path[0] in ("incidents", "kills", "counts", "settings", "server", "unknowns")]
"""What ends up in status, Events and templates."""


@st.composite
def answers(draw):
    """The bytes of a report in which somebody changed something, or repeated something often."""
    raw = WHOLE
    for path in draw(st.lists(st.one_of(st.sampled_from(USED), st.sampled_from(PLACES)), max_size=6)):
        evil = draw(EVIL)
        change = draw(
            st.sampled_from([lambda _, evil=evil: evil, lambda old: (old * 60)[:60] if isinstance(old, list) else old])
        )
        raw = put(raw, path, change)
    return json.dumps(raw).encode()


def shown(value):
    """Every text in a status or Event."""
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from shown(part)


def with_evil(path, evil):
    return json.dumps(put(WHOLE, path, lambda _: evil)).encode()


@example(bodies=[with_evil(("incidents", 0, "since"), -6.2e10)])
@example(bodies=[with_evil(("kills", 0, "id"), "\ud800")])
@example(bodies=[with_evil(("counts", "incidents", 0, 1), 2**53 - 1)] * 2)
@given(bodies=st.lists(answers(), min_size=1, max_size=3))
@settings(max_examples=300)
def test_whatever_a_pod_answers_the_round_goes_on(bodies):
    told = [parse_answer(pod(f"web-{n}"), body) for n, body in enumerate(bodies)]
    evidence, wanted = gather(told, server().wanted), server()
    live = deployment(container())
    seen = look_at(answer.report for answer in evidence.heard)
    facts = Facts(generation=1, evidence=evidence, rollout=rollout(live), changes=(0.0, ()))
    status = status_of(wanted, facts, {}, "2026-01-01T00:00:00Z")
    Status.model_validate(status)
    assert status["incidents"]["total"] < 2**53
    assert len(json.dumps(status, ensure_ascii=False).encode()) < STATUS_LIMIT
    assert all(text.isprintable() for text in shown(status))
    assert all(DATE.fullmatch(line[key]) for line in status["incidents"]["recent"] for key in ("since",) if key in line)
    now = REPORT.kills[0].at + 1
    for event in (event_of(notice, BODY) for notice in kill_notices(wanted, evidence, now)):
        assert event["message"].isprintable()
        assert len(event["message"]) <= 1024
        assert re.fullmatch(r"[-.a-z0-9]{1,253}", event["metadata"]["name"])
    made = plan(wanted, live, seen=seen)
    if isinstance(made, Plan):
        text = json.dumps(made.config)
        assert len(text) < 128 * 1024
        assert "\\u0000" not in text


def changed(**fields):
    return json.dumps(WHOLE | fields).encode()


def longer(path, most):
    """The report with one thing more in that list than there may be."""
    return put(WHOLE, path, lambda old: ((old or ["convert"]) * (most + 1))[: most + 1])


TOO_MUCH = [
    (longer(path, most), f"{most} {what}")
    for path, most, what in [
        (("settings",), excess.FEW, "settings"),
        (("workers",), excess.WORKERS, "workers"),
        (("accept_queue", "listeners"), excess.WORKERS, "listeners"),
        (("orphans",), excess.ORPHANS, "orphans"),
        (("incidents",), excess.INCIDENTS, "incidents"),
        (("incidents", 0, "evidence"), excess.EVIDENCE, "facts behind an incident"),
        (("kills",), excess.KILLS, "kills"),
        (("kills", 0, "survivors"), excess.SURVIVORS, "survivors of kills"),
        (("counts", "restarts"), excess.FEW, "reasons of restarts"),
        (("counts", "incidents"), excess.FEW, "kinds of incidents"),
        (("unknowns",), excess.FEW, "things that cannot be seen"),
        (("policy", "orphan_exempt"), MOST_PATTERNS, "exempt names"),
        (("findings",), excess.FEW, "findings"),
        (("shared_sockets",), excess.SOCKETS, "shared sockets"),
        (("shared_sockets", 0, "holders"), excess.HOLDERS, "holders of shared sockets"),
        (("requests", "by_status"), excess.STATUSES, "statuses of requests"),
        (("requests", "durations"), excess.BUCKETS, "buckets of durations"),
        (("requests", "by_slot"), excess.WORKERS, "slots with requests"),
        (("requests", "log_lines"), excess.FEW, "levels of a log"),
        (("in_place", "ordered"), excess.FEW, "settings changed in place"),
    ]
]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (changed(taken_at=0).replace(b'"taken_at": 0', b'"taken_at": 1e999'), "1e999 is no number"),
        (changed(taken_at=2**53), "9007199254740992 is no number"),
        (changed(taken_at=0).replace(b'"taken_at": 0', b'"taken_at": -Infinity'), "-Infinity is no number"),
        (changed(schema=0), "of version 0, this operator reads 1: roll the workload"),
        (changed(kills=[{}] * 50_000), "kills.0.id: Field required"),
        (changed(kills=[[]] * VALUES_LIMIT), "more than 100000 values"),
        (changed(counts=WHOLE["counts"] | {"timeouts": -1}), "it counts below zero"),
        (changed(counts=WHOLE["counts"] | {"incidents": [["oom-kill", -5]]}), "it counts below zero"),
        (changed(server=WHOLE["server"] | {"uid": 2**31}), "nobody has such a user"),
        (changed(sidecar=WHOLE["sidecar"] | {"gid": -1}), "nobody has such a user"),
        (changed(server=WHOLE["server"] | {"cmd_args": "-w 2\x00"}), "characters that no flag has"),
        (changed(server=WHOLE["server"] | {"cmd_args": "-w 2 " * 2000}), "GUNICORN_CMD_ARGS of more than 8192"),
        (changed(pod={"namespace": "a", "name": TERMINAL, "uid": "x"}), "somebody else answers at its address"),
        ('{"schema": 1}'.encode("utf-16"), "not JSON"),
        *((json.dumps(raw).encode(), f"cannot be true: it holds more than {words}") for raw, words in TOO_MUCH),
    ],
)
def test_what_cannot_be_true_is_silence_with_the_reason(body, words):
    answer = parse_answer(pod(), body)
    assert isinstance(answer, Silence)
    assert words in answer.reason
    assert answer.reason.isprintable()


def test_a_newer_sidecar_may_say_more_and_an_older_one_less():
    older = {
        key: value for key, value in WHOLE.items() if key not in ("findings", "container", "saturation", "requests")
    }
    assert isinstance(parse_answer(pod(), json.dumps(older).encode()), Heard)
    assert isinstance(parse_answer(pod(), changed(moon="full", server=WHOLE["server"] | {"mood": [1]})), Heard)


def test_a_report_of_its_own_pod_is_heard():
    own = PodIdentity(namespace="default", name="web-1", uid=pod().uid)
    assert isinstance(parse_answer(pod(), changed(pod={"namespace": "d", "name": "web-1", "uid": own.uid})), Heard)


@pytest.mark.parametrize("part", ["kills", "unknowns", "incidents", "workers"])
def test_a_megabyte_of_nothing_costs_little_memory(part):
    body = changed(**{part: [{}] * 300_000})[: 2**20]
    body = body if body.endswith(b"}") else body.rpartition(b",")[0] + b"]}"
    tracemalloc.start()
    try:
        assert isinstance(parse_answer(pod(), body), Silence)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
