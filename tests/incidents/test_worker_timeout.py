"""Worker timeouts end to end: counted each, told as a storm with what requests waited on, or as one never ended."""

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.servers.asking import Mute
from tests.servers.rooms import prepare
from tests.servers.server import PATIENCE_S, eventually
from tests.servers.stories import Tellers, telling
from tests.servers.watched import Watched
from wsgi_contract.report import Incident, Report

pytestmark = pytest.mark.servers

STORMY = ("20.1.0", "23.0.0", "27.0.1")
WORKERS = 3
SYNC = ("-k", "sync", "-w", str(WORKERS), "--timeout", "3")
UNENDED = "22.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was told."""

    peer: str
    incident: Incident
    report: Report
    samples: Mapping[tuple[str, ...], float]


def tell_storm(release: str) -> Story:
    """As many requests as workers, all to a database that never answers."""
    with (
        ThreadPoolExecutor(WORKERS) as clients,
        Mute() as mute,
        Watched(release, *SYNC, application="asker:app", files=mute.files()) as server,
    ):
        eventually("all workers are there", lambda: len(server.workers()) == WORKERS)
        for _ in range(WORKERS):
            clients.submit(ask_in_vain, server)
        eventually("it is told", lambda: server.events("incident"))
        eventually("the workers are back", lambda: len(server.worker_pids()) == WORKERS)
        return story(server, mute)


def story(server: Watched, mute: Mute) -> Story:
    report = server.report()
    incident = next(each for each in report.incidents if each.kind == "worker-timeout")
    samples = server.samples("wsgi_worker_restarts_total")
    return Story(peer=mute.address, incident=incident, report=report, samples=samples)


def ask_in_vain(server: Watched) -> None:
    with suppress(OSError):
        server.get("/ask", PATIENCE_S)


def tell_single() -> Report:
    """One request too long: an accident."""
    with (
        ThreadPoolExecutor(1) as client,
        Mute() as mute,
        Watched("27.0.1", *SYNC, application="asker:app", files=mute.files()) as server,
    ):
        client.submit(ask_in_vain, server)
        eventually("it is counted", lambda: server.report().counts.timeouts)
        return server.report()


def tell_unended() -> Story:
    """An arbiter that is stopped ends nobody."""
    with (
        ThreadPoolExecutor(1) as client,
        Mute() as mute,
        Watched(UNENDED, *SYNC, application="asker:app", files=mute.files()) as server,
    ):
        eventually("all workers are there", lambda: len(server.workers()) == WORKERS)
        # First of all: an arbiter that still runs ends a late worker within a second of when that is seen.
        os.kill(server.master_pid, signal.SIGSTOP)
        client.submit(ask_in_vain, server)
        eventually("it is told", lambda: server.events("incident"))
        told = story(server, mute)
        os.kill(server.master_pid, signal.SIGCONT)
        eventually("it is over", lambda: server.events("incident-ended"))
        return told


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Any]]]:
    prepare()
    storms: Tellers = {release: partial(tell_storm, release) for release in STORMY}
    with telling(request, storms | {"single": tell_single, "unended": tell_unended}, at_once=5) as stories:
        yield stories


@pytest.mark.parametrize("release", STORMY)
def test_a_storm_is_told_with_what_the_requests_waited_on(release: str, stories: Mapping[str, Future[Story]]) -> None:
    told = stories[release].result()
    assert told.incident.slot is None
    assert f"reads from {told.peer}" in told.incident.summary
    assert "timeout is 3 s" in told.incident.summary
    assert told.peer in told.incident.action, "what to look at"
    assert told.report.kills == ()


@pytest.mark.parametrize("release", STORMY)
def test_each_timeout_of_a_storm_is_counted(release: str, stories: Mapping[str, Future[Story]]) -> None:
    told = stories[release].result()
    assert told.report.counts.timeouts == WORKERS
    assert {reason: count for reason, count in told.samples.items() if count} == {("timeout",): WORKERS}


def test_one_timeout_is_counted_and_no_incident(stories: Mapping[str, Future[Report]]) -> None:
    report = stories["single"].result()
    assert dict(report.counts.restarts) == {"timeout": 1}
    assert report.incidents == ()


def test_a_worker_that_the_arbiter_fails_to_end_is_told(stories: Mapping[str, Future[Story]]) -> None:
    told = stories["unended"].result()
    assert told.incident.slot is not None
    assert f"reads from {told.peer}" in told.incident.summary
    assert "the arbiter's stopped by a signal" in told.incident.summary
    assert "SIGCONT" in told.incident.action
    assert told.report.kills == ()
