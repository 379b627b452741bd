"""Requests that no timeout ends, end to end: told with what they wait on, ended only where the owner set a limit."""

import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from tests.servers.asking import Mute
from tests.servers.rooms import prepare
from tests.servers.server import PATIENCE_S, eventually
from tests.servers.stories import Tellers, telling
from tests.servers.watched import Event, Watched
from wsgi_contract.policy import Policy
from wsgi_contract.report import Incident, Report

pytestmark = pytest.mark.servers

TOLD_S = 3.0
TOLD = Policy(request_told_s=TOLD_S)
LIMITED = Policy(request_told_s=TOLD_S, request_limit_s=4.0)
GTHREAD = ("-k", "gthread", "-w", "1", "--threads", "3", "--timeout", "2")
GEVENT = ("-k", "gevent", "-w", "1", "--timeout", "2")
SYNC = ("-k", "sync", "-w", "1", "--timeout", "0")

STUCK: Mapping[str, tuple[str, tuple[str, ...], Policy]] = {
    "gthread 20.1.0": ("20.1.0", GTHREAD, TOLD),
    "gthread 27.0.1": ("27.0.1", GTHREAD, TOLD),
    "sync without a timeout 23.0.0": ("23.0.0", SYNC, TOLD),
    "gevent 23.0.0": ("23.0.0", GEVENT, TOLD),
    "limited gevent 27.0.1": ("27.0.1", GEVENT, LIMITED),
    "limited 23.0.0": ("23.0.0", GTHREAD, LIMITED),
    "limited 27.0.1": ("27.0.1", GTHREAD, LIMITED),
    "limited beside another 23.0.0": ("23.0.0", (*GTHREAD, "-w", "2"), LIMITED),
    "limited without stacks 27.0.1": ("27.0.1", GTHREAD, replace(LIMITED, stacks=False)),
}
THREADED = ("-k", "gthread", "-w", "1", "--threads", "8", "--keep-alive", "60")
HEALTHY: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "20.1.0": ("20.1.0", THREADED),
    "23.0.0": ("23.0.0", THREADED),
    "27.0.1": ("27.0.1", THREADED),
    "gevent 20.1.0": ("20.1.0", ("-k", "gevent", "-w", "1", "--keep-alive", "60")),
    "gevent 27.0.1": ("27.0.1", ("-k", "gevent", "-w", "1", "--keep-alive", "60")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was told of one stuck request."""

    peer: str
    pid: int
    incident: Incident
    report: Report
    pids_after: tuple[int, ...]
    stacks: list[Event]


def tell(release: str, arguments: tuple[str, ...], policy: Policy) -> Story:
    with (
        ThreadPoolExecutor(1) as client,
        Mute() as mute,
        Watched(
            release, *arguments, policy=policy, application="asker:app", files=mute.files(), suffix=room_for(arguments)
        ) as server,
    ):
        assert server.get("/").status == 200
        client.submit(ask_in_vain, server)
        eventually("it is told", lambda: server.events("incident"))
        if policy.request_limit_s:
            eventually("the worker was ended", lambda: server.report().kills)
            eventually("it is served again", lambda: server.get("/").status == 200)
        report = server.report()
        incident = next(each for each in report.incidents if each.kind == "stuck-request")
        assert incident.process is not None
        return Story(
            peer=mute.address,
            pid=incident.process.pid,
            incident=incident,
            report=report,
            pids_after=server.worker_pids(),
            stacks=server.events("stack"),
        )


def room_for(arguments: tuple[str, ...]) -> str:
    return "+loops" if "gevent" in arguments else ""


def ask_in_vain(server: Watched) -> None:
    with suppress(OSError):
        server.get("/ask", PATIENCE_S)


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Any]]]:
    prepare()
    stuck: Tellers = {name: partial(tell, *how) for name, how in STUCK.items()}
    healthy: Tellers = {name: partial(watch_healthy, *how) for name, how in HEALTHY.items()}
    with telling(request, stuck | healthy, at_once=8) as stories:
        yield stories


@pytest.mark.parametrize("name", STUCK)
def test_a_stuck_request_is_told_with_what_it_waits_on(name: str, stories: Mapping[str, Future[Story]]) -> None:
    story = stories[name].result()
    evidence = {each.name: each.value for each in story.incident.evidence}
    assert story.peer in story.incident.summary, "what the request waits for"
    assert TOLD_S <= float(evidence["oldest request"]) < TOLD_S + 20
    assert str(evidence["client"]).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", [name for name in STUCK if "limited" not in name])
def test_it_is_not_ended_without_a_limit(name: str, stories: Mapping[str, Future[Story]]) -> None:
    story = stories[name].result()
    assert story.report.kills == ()
    assert story.pids_after == (story.pid,)
    assert "request_limit_s" in story.incident.action


@pytest.mark.parametrize("name", [name for name in STUCK if "limited" in name])
def test_with_a_limit_the_worker_is_ended_and_its_stacks_are_kept(
    name: str, stories: Mapping[str, Future[Story]]
) -> None:
    story = stories[name].result()
    (kill,) = story.report.kills
    assert (kill.reason, kill.outcome, kill.process.pid) == ("stuck-request", "killed", story.pid)
    assert story.pid not in story.pids_after
    if "without stacks" in name:
        assert (kill.stack, story.stacks) == (None, [])
        return
    assert kill.stack is not None
    # A green thread that waits has no stack that anybody sees from outside: only the loop has.
    innermost = "Hub.run (gevent/hub.py:" if "gevent" in name else "ask (asker.py:"
    assert innermost in kill.stack
    assert any(innermost in event["stack"] for event in story.stacks), "in the log, too"
    assert story.peer not in kill.stack, "names of functions, never values"


def watch_healthy(release: str, arguments: tuple[str, ...]) -> Report:
    """What is told of slow, silent and talkative clients over three thresholds."""
    with (
        ThreadPoolExecutor(1) as client,
        Watched(release, *arguments, policy=TOLD, suffix=room_for(arguments)) as server,
        ExitStack() as stack,
    ):
        idle, half, upload = (stack.enter_context(connect(server.port)) for _ in range(3))
        idle.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        if "gevent" not in arguments:  # in an event loop half a request looks like a whole one: docs/incidents
            half.sendall(b"GET / HTTP/1.1\r\nHos")
        upload.sendall(b"POST /upload HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n")
        client.submit(server.get, "/stream?s=60", 90.0)
        until = server.report().taken_at + 3 * TOLD_S
        while server.report().taken_at < until:
            upload.sendall(b"x")
            server.get("/slow?s=0.5")
        return server.report()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.mark.parametrize("name", HEALTHY)
def test_slow_silent_and_talkative_clients_are_no_stuck_requests(
    name: str, stories: Mapping[str, Future[Report]]
) -> None:
    report = stories[name].result()
    assert report.incidents == ()
    assert report.counts.scan_errors == 0
