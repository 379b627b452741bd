"""How full a server is, in one number, and when that is an incident."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_contract.report import ProcessId, Saturation
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.demand import Demand, Effort, demand, saturation
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.rules.connection_saturation import CROWDED_S, ROOM_S, RULE
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms
from wsgi_sidecar.testing import AT, MONOTONIC, family, listener, pid, process, worker

FIRST, SECOND = pid(101, 5001), pid(102, 5002)


def terms(worker_class: str | None, limit: int | None = None) -> Terms:
    return Terms(release="27.0.1", worker_class=worker_class, connection_limit=limit, timeout_s=30)


def two(first: int | None, second: int | None, *, queue: int = 0, **fields: Any) -> Family:
    """Two workers with these connections."""
    return family(
        worker(1, connections=first), worker(2, connections=second), listeners=(listener(queue=queue),), **fields
    )


SYNC, GTHREAD, GEVENT = terms("sync", 1), terms("gthread", 1000), terms("gevent", 1000)
IDLE_KEEPALIVE = {FIRST: Effort(busy=0, unread=0)}


@pytest.mark.parametrize(
    ("its", "seen", "efforts", "ratio"),
    [
        (SYNC, two(0, 0), {}, 0.0),
        (SYNC, two(1, 0), {}, 0.5),
        (SYNC, two(1, 1, queue=1), {}, 1.5),
        (SYNC, two(1, 1, queue=2000), {}, 2.0),
        (GTHREAD, two(0, 0), {}, 0.0),
        (GTHREAD, two(100, 0), IDLE_KEEPALIVE, 0.0),
        (GTHREAD, two(100, 0), {FIRST: Effort(busy=2, unread=2)}, 0.5),
        # hoarding: one worker is full and four more wait inside it, the other one idles
        (GTHREAD, two(100, 0), {FIRST: Effort(busy=4, unread=4)}, 1.0),
        (GTHREAD, two(4, 4, queue=8), {FIRST: Effort(busy=4, unread=0), SECOND: Effort(busy=4, unread=0)}, 2.0),
        # an application's own threads never count beyond the connections, nor beyond the pool
        (GTHREAD, two(1, 0), {FIRST: Effort(busy=9, unread=0)}, 1 / 8),
        (GTHREAD, two(50, 0), {FIRST: Effort(busy=9, unread=0)}, 0.5),
        (GEVENT, two(500, 100), {}, 0.3),
        (terms("uvicorn.workers.UvicornWorker"), two(500, 100), {}, 0.0),
    ],
)
def test_the_ratio_is_what_the_page_says(
    its: Terms, seen: Family, efforts: Mapping[ProcessId, Effort], ratio: float
) -> None:
    found = demand(seen, None, its, 4, efforts)
    assert found is not None
    assert found.ratio == pytest.approx(ratio)
    assert found.waiting >= 0


def test_an_event_loop_counts_by_its_cpu_where_that_is_more() -> None:
    def look(at: float, cpu_s: float) -> Family:
        busy = worker(1, connections=10, process=process(101, started=5001, cpu_s=cpu_s))
        return family(busy, worker(2, connections=10), monotonic=MONOTONIC + at)

    found = demand(look(5, 4.5), look(0, 0.0), GEVENT, None, {})
    assert found is not None
    assert found.busy == pytest.approx(0.9 + 0.01)


@pytest.mark.parametrize(
    ("seen", "its", "threads", "efforts"),
    [
        (two(0, 0), terms("my.own.Worker"), 1, {}),
        (two(0, 0), terms(None), 1, {}),
        (two(1, 0), GTHREAD, None, {}),
        (two(1, 0), GTHREAD, 4, {}),
        (two(1, 0), GTHREAD, 4, {FIRST: Effort(busy=None, unread=0)}),
        (two(None, 0), SYNC, 1, {}),
        (replace(two(0, 0), listeners=None), SYNC, 1, {}),
        (family(worker(1, state="booting")), SYNC, 1, {}),
    ],
    ids=["class unknown to us", "class unknown", "threads unknown", "not looked into", "refused", "connections unknown",
         "queue unknown", "nobody serves"],
)  # fmt: skip
def test_what_is_not_known_gives_no_number(
    seen: Family, its: Terms, threads: int | None, efforts: Mapping[ProcessId, Effort]
) -> None:
    assert demand(seen, None, its, threads, efforts) is None


def test_a_moment_does_not_move_the_number_much_and_a_minute_does() -> None:
    full = Demand(busy=4, slots=4, waiting=4, by_worker={})
    told = saturation(Demand(busy=0, slots=4, waiting=0, by_worker={}), None, 0.0)
    assert told.ratio == 0
    told = saturation(full, told, 5.0)
    assert told.ratio == pytest.approx(0.567, abs=0.001)
    for _ in range(11):
        told = saturation(full, told, 5.0)
    assert told.ratio > 1.95


@pytest.mark.parametrize("pause_s", [0.05, 0.5, 4.5, 15.0], ids=lambda pause_s: f"every {pause_s:g} s")
@pytest.mark.parametrize("busy", [0, 4], ids=["idle", "full"])
def test_what_stays_as_it_is_is_told_exactly_within_two_minutes(busy: int, pause_s: float) -> None:
    now = Demand(busy=busy, slots=4, waiting=busy, by_worker={})
    told = Saturation(ratio=2.0 if busy == 0 else 0.0, busy=0, slots=4, waiting=0)
    for _ in range(int(120 / pause_s)):
        told = saturation(now, told, pause_s)
    assert told.ratio == now.ratio


class Story:
    """Looks a second apart."""

    def __init__(self, its: Terms = SYNC) -> None:
        self._terms = its
        self._memory = RULE.blank
        self._second = 0

    def look(
        self, *, queue: int = 0, backlog: int | None = 100, told: Saturation | None = None, held: int = 1,
        dropped: int | None = 0,
    ) -> tuple[Fault, ...]:  # fmt: skip
        workers: tuple[Worker, ...] = (worker(1, connections=held), worker(2, connections=held))
        seen = family(
            *workers, at=AT + self._second, monotonic=MONOTONIC + self._second,
            listeners=(listener(queue=queue, backlog=backlog),),
        )  # fmt: skip
        around = Circumstances(saturation=told, dropped=dropped)
        sight = Sight(family=seen, before=None, terms=self._terms, policy=Policy(), closeups={}, around=around)
        verdict = RULE.judge(sight, self._memory)
        self._memory, self._second = verdict.memory, self._second + 1
        return verdict.faults

    def looks(self, seconds: float, **fields: Any) -> tuple[Fault, ...]:
        faults: tuple[Fault, ...] = ()
        for _ in range(int(seconds)):
            faults = self.look(**fields)
        return faults


FULL = Saturation(ratio=2.0, busy=2, slots=2, waiting=2)


@pytest.mark.parametrize(
    ("its", "fields"),
    [
        (SYNC, {"queue": 50}),
        (SYNC, {"queue": 2, "told": FULL}),
        (SYNC, {"queue": 2, "told": FULL, "backlog": None}),
        (terms("gthread", 8), {"queue": 1, "held": 8}),
        (GTHREAD, {"queue": 0, "told": FULL}),
    ],
    ids=["a deep queue", "all slots taken", "the same without a known backlog", "at the connection limit", "hoarding"],
)
def test_a_crowd_that_stays_is_told_and_nobody_is_killed(its: Terms, fields: dict[str, Any]) -> None:
    story = Story(its)
    assert story.looks(CROWDED_S, **fields) == ()
    (fault,) = story.look(**fields)
    assert (fault.kind, fault.target, fault.since) == ("connection-saturation", None, AT)


@pytest.mark.parametrize(
    "fields",
    [{"queue": 49}, {"queue": 1, "told": replace(FULL, waiting=1)}, {"queue": 2, "told": replace(FULL, busy=1)}, {}],
    ids=["half a queue", "less wait than are served", "a slot is free", "busy, and nobody waits"],
)
def test_a_busy_server_is_no_crowd(fields: dict[str, Any]) -> None:
    assert Story().looks(60, **fields) == ()


def test_a_peak_of_some_seconds_is_what_a_queue_is_for() -> None:
    story = Story()
    for _ in range(5):
        assert story.looks(CROWDED_S, queue=90) == ()
        assert story.look() == ()


def test_connections_that_are_turned_away_are_told_at_once() -> None:
    story = Story()
    assert story.look(queue=101, dropped=7) == ()
    (fault,) = story.look(queue=101, dropped=30)
    assert "turned 23 connections away" in fault.summary
    assert {e.name: e.value for e in fault.evidence}["dropped"] == 23


def test_a_server_at_the_edge_is_one_incident() -> None:
    story = Story()
    assert story.looks(CROWDED_S + 1, queue=90)
    for _ in range(5):
        assert story.looks(ROOM_S - 1)
        assert story.look(queue=90)
    assert story.looks(ROOM_S + 1) == ()
