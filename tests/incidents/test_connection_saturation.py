"""More clients than a server can hold, end to end; and the number that an autoscaler reads.

One sync server that is filled beyond its backlog, one gthread server that hoards, one with idle keep-alive connections.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import pytest

from tests.servers.rooms import prepare
from tests.servers.server import PATIENCE_S, eventually
from tests.servers.stories import telling
from tests.servers.watched import Event, Watched
from wsgi_contract.report import Report

pytestmark = pytest.mark.servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was seen of one server."""

    report: Report
    ratio: float | None
    slots: float | None
    busy: Mapping[tuple[str, ...], float]
    events: list[Event]


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Story]]]:
    prepare(["gunicorn-23.0.0", "gunicorn-25.3.0", "gunicorn-27.0.1", "gunicorn-27.0.1+loops"])
    tellers = {
        "overflowing": partial(tell_overflowing, "27.0.1"),
        "hoarding": partial(tell_hoarding, "25.3.0"),
        "idle": partial(tell_idle, "27.0.1"),
        "half": partial(tell_half, "23.0.0"),
        "loop": partial(tell_full_loop, "27.0.1"),
    }
    with telling(request, tellers, at_once=5) as stories:
        yield stories


def test_clients_beyond_the_backlog_are_told_with_who_was_turned_away(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["overflowing"].result()
    (incident,) = story.report.incidents
    assert incident.kind == "connection-saturation"
    found = {each.name: each.value for each in incident.evidence}
    assert found["backlog"] == 4
    assert found["waiting in accept queues"] == 5
    assert found["slots"] == 1
    assert float(found["dropped"]) >= 1
    assert incident.action.startswith("nothing is killed")
    assert story.report.kills == ()
    assert story.ratio is not None
    assert story.ratio > 0.9


def test_requests_that_wait_inside_a_hoarding_worker_count(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["hoarding"].result()
    assert story.report.accept_queue is not None
    assert story.report.accept_queue.length == 0
    assert story.report.saturation is not None
    assert (story.report.saturation.busy, story.report.saturation.slots, story.report.saturation.waiting) == (2, 2, 6)
    assert story.busy == {("1",): 2}


def test_idle_keep_alive_connections_take_no_slot(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["idle"].result()
    assert sum(worker.connections or 0 for worker in story.report.workers or ()) == 12
    assert (story.ratio, story.slots) == (0, 8)
    assert story.report.incidents == ()


def test_one_of_two_sync_workers_is_half_of_the_server(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["half"].result()
    assert story.report.saturation is not None
    assert (story.report.saturation.busy, story.slots) == (1, 2)
    assert sorted(story.busy.values()) == [0, 1]
    assert story.report.incidents == ()


def test_an_event_loop_at_its_connection_limit_is_told(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["loop"].result()
    (incident,) = story.report.incidents
    assert incident.kind == "connection-saturation"
    assert "every worker holds the 3 connections that it may" in incident.summary
    assert story.report.saturation is not None
    assert (story.report.saturation.busy, story.report.saturation.slots, story.report.saturation.waiting) == (1, 1, 5)
    assert story.report.kills == ()


def tell_overflowing(release: str) -> Story:
    with Watched(release, "-w", "1", "--backlog", "4", "-t", "60") as watched, silent(watched.port, 10):
        eventually("the crowd is told", lambda: watched.events("incident"))
        eventually("the ratio has followed", lambda: (_ratio(watched) or 0) > 0.9)
        return _story(watched)


def tell_hoarding(release: str) -> Story:
    """Eight requests of 40 s on two threads of one worker, which accepts them all."""
    with Watched(release, "-w", "1", "-k", "gthread", "--threads", "2", "-t", "60") as watched, silent(
        watched.port, 8, b"GET /slow?s=40 HTTP/1.1\r\nHost: x\r\n\r\n"
    ):  # fmt: skip
        eventually("they were counted", lambda: _counted(watched, busy=2, waiting=6))
        return _story(watched)


def tell_full_loop(release: str) -> Story:
    """Eight requests that sleep, for a gevent worker that takes three."""
    arguments = ("-k", "gevent", "-w", "1", "--worker-connections", "3")
    with Watched(release, *arguments, suffix="+loops") as watched, silent(
        watched.port, 8, b"GET /slow?s=100 HTTP/1.1\r\nHost: x\r\n\r\n"
    ):  # fmt: skip
        eventually("the crowd is told", lambda: watched.events("incident"))
        eventually("they were counted", lambda: _counted(watched, busy=1, waiting=5))
        return _story(watched)


def tell_idle(release: str) -> Story:
    arguments = ("-w", "2", "-k", "gthread", "--threads", "4", "--keep-alive", "300")
    with Watched(release, *arguments) as watched:
        # The first count is told as it is, a later one damped: should it meet the twelve requests, they are forgotten
        # after 90 s.
        eventually("an idle server was counted", lambda: _counted(watched, busy=0, waiting=0))
        with silent(watched.port, 12, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            eventually("they are seen", lambda: sum(each.connections or 0 for each in watched.workers()) == 12)
            scans = watched.report().counts.scans
            eventually("they were counted", lambda: watched.report().counts.scans > scans + 12)
            eventually("the requests are forgotten", lambda: _ratio(watched) == 0, within_s=2 * PATIENCE_S)
            return _story(watched)


def tell_half(release: str) -> Story:
    with Watched(release, "-w", "2") as watched:
        request = threading.Thread(target=lambda: _ask(watched), daemon=True)
        request.start()
        eventually("it was counted", lambda: _counted(watched, busy=1, waiting=0))
        story = _story(watched)
    request.join(10)
    return story


def _ask(watched: Watched) -> None:
    with contextlib.suppress(OSError):
        watched.get("/slow?s=20", 30.0)


def _ratio(watched: Watched) -> float | None:
    return watched.sample("wsgi_saturation_ratio")


def _counted(watched: Watched, *, busy: int, waiting: int) -> bool:
    told = watched.report().saturation
    return told is not None and (told.busy, told.waiting) == (busy, waiting)


@contextlib.contextmanager
def silent(port: int, count: int, words: bytes = b"") -> Iterator[None]:
    """Connections that say these words and then nothing; those that the kernel does not take are left out."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(TimeoutError):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.5))
                client.sendall(words)
        yield


def _story(watched: Watched) -> Story:
    return Story(
        report=watched.report(),
        ratio=_ratio(watched),
        slots=watched.sample("wsgi_slots"),
        busy=watched.samples("wsgi_worker_busy_threads"),
        events=watched.events(),
    )
