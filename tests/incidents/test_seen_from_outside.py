"""What the sidecar says of a healthy server, held against the server and the kernel themselves."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from demo.load import SilentClients
from tests.servers.rooms import prepare
from tests.servers.server import eventually
from tests.servers.stories import telling
from tests.servers.watched import Watched
from wsgi_contract.report import AcceptQueue, ProcessId, Report, WorkerInfo
from wsgi_contract.servers.gunicorn import parse_release

pytestmark = pytest.mark.servers

RELEASES = ("20.1.0", "22.0.0", "23.0.0", "25.3.0", "27.0.1")
UVICORN = "uvicorn_worker.UvicornWorker"
SERVERS = (
    *((release, worker_class) for release in RELEASES for worker_class in ("sync", "gthread")),
    ("20.1.0", "gevent"), ("20.1.0", "tornado"),
    ("21.2.0", "gthread"), ("21.2.0", "eventlet"),
    ("22.0.0", "gevent"), ("22.0.0", UVICORN),
    ("23.0.0", "gevent"), ("23.0.0", "tornado"),
    ("24.1.1", "gthread"), ("24.1.1", "eventlet"),
    ("25.3.0", "eventlet"), ("25.3.0", "asgi"),
    ("26.2.0", "gthread"), ("26.2.0", "asgi"), ("26.2.0", "gevent"),
    ("27.0.1", "gevent"), ("27.0.1", "tornado"), ("27.0.1", "asgi"), ("27.0.1", UVICORN),
)  # fmt: skip
"""Every worker class that installs, each on its first and its last release here, and every major line."""
ASYNC = {
    "loop.py": """
async def app(scope, receive, send):
    await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"ok\\n"})
"""
}


@pytest.fixture(scope="module", autouse=True)
def _rooms() -> None:
    prepare()


# Slots, heartbeats and connections: one server per release and class, looked at once, several at a time.


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one server of three workers showed."""

    release: str | None
    pids: set[int]
    before: dict[int, ProcessId]
    after: dict[int, ProcessId]
    ages: list[tuple[float, float]]
    restarts: int
    samples: dict[tuple[str, ...], float]
    connections: int


def look(release: str, worker_class: str) -> Seen:
    threads = ("--threads", "2") if worker_class == "gthread" else ()
    asynchronous = worker_class in ("asgi", UVICORN)
    with Watched(
        release, "-k", worker_class, "-w", "3", *threads,
        application="loop:app" if asynchronous else "apps:app",
        files=ASYNC if asynchronous else {},
        suffix=_room_for(release, worker_class),
    ) as server:  # fmt: skip
        eventually("three workers are alive", lambda: _alive(server.workers()) == 3)
        assert server.get("/").body == "ok\n"
        workers, pids = server.workers(), set(server.worker_pids())
        ages = [heartbeat_ages(server, worker.slot) for worker in workers]
        victim = next(worker for worker in workers if worker.slot == 2)
        os.kill(victim.process.pid, signal.SIGKILL)
        report = eventually("slot 2 has a successor", lambda: _whole_without(server.report(), victim))
        with SilentClients("127.0.0.1", server.port, 3):
            eventually("three connections are held", lambda: sum(w.connections or 0 for w in server.workers()) == 3)
            connections = int(sum(server.samples("wsgi_connections").values()))
        return Seen(
            release=report.server.release if report.server else None,
            pids=pids,
            before=_by_slot(workers),
            after=_by_slot(report.workers or ()),
            ages=ages,
            restarts=sum(count for _, count in report.counts.restarts),
            samples=server.samples("wsgi_worker_heartbeat_age_seconds"),
            connections=connections,
        )


def _room_for(release: str, worker_class: str) -> str:
    if worker_class in ("sync", "gthread"):
        return ""
    return "-eventlet" if worker_class == "eventlet" and release < "24" else "+loops"


def _alive(workers: tuple[WorkerInfo, ...]) -> int:
    return sum(worker.state == "alive" for worker in workers)


def _whole_without(report: Report, victim: WorkerInfo) -> Report | None:
    """One Report that has three workers alive, and not the victim: two Reports may be of two moments."""
    workers = report.workers or ()
    return report if _alive(workers) == 3 and victim.process not in {worker.process for worker in workers} else None


def _by_slot(workers: tuple[WorkerInfo, ...]) -> dict[int, ProcessId]:
    return {worker.slot: worker.process for worker in workers}


def heartbeat_ages(server: Watched, slot: int) -> tuple[float, float]:
    """(what the sidecar says, what the arbiter computes), both for the moment of the sidecar's look.

    Only a look between two beats can be compared: the file is read before and after, until nothing changed meanwhile;
    and only with clocks that were read at one time.
    """

    def compared() -> tuple[float, float] | None:
        worker = next(worker for worker in server.workers() if worker.slot == slot)
        before = _beat(server.release, worker.process.pid)
        report = server.report()
        again = next(worker for worker in report.workers or () if worker.slot == slot)
        after = _beat(server.release, worker.process.pid)
        begun = time.monotonic()
        computed_s = _age(after) - (time.time() - report.taken_at)
        at_one_time = time.monotonic() - begun < 0.005
        if before != after or not at_one_time or again.heartbeat_age_s is None or computed_s < 0:
            return None
        return again.heartbeat_age_s, computed_s

    return eventually(f"a look at slot {slot} falls between two beats", compared)


def _beat(release: str, pid: int) -> tuple[str, float]:
    """The clock and the time of a worker's last beat, as `gunicorn/workers/workertmp.py` reads it."""
    links = (link for link in Path(f"/proc/{pid}/fd").iterdir() if "wgunicorn-" in os.readlink(link))
    status = os.stat(next(links))
    return ("wall", status.st_ctime) if (parse_release(release) or ()) < (22,) else ("monotonic", status.st_mtime)


def _age(beat: tuple[str, float]) -> float:
    clock, at = beat
    return (time.time() if clock == "wall" else time.monotonic()) - at


@pytest.fixture(scope="module")
def looks(request: pytest.FixtureRequest) -> Iterator[Mapping[tuple[str, str], Future[Seen]]]:
    with telling(request, {one: partial(look, *one) for one in SERVERS}, at_once=4) as stories:
        yield stories


@pytest.fixture(params=SERVERS, ids="-".join)
def seen(request: pytest.FixtureRequest, looks: Mapping[tuple[str, str], Future[Seen]]) -> Seen:
    return looks[request.param].result()


def test_exactly_the_server_s_workers_are_listed_in_slots_from_one(seen: Seen) -> None:
    assert set(seen.before) == {1, 2, 3}
    assert {process.pid for process in seen.before.values()} == seen.pids


def test_the_release_is_read_from_outside(seen: Seen, request: pytest.FixtureRequest) -> None:
    assert seen.release == request.node.callspec.params["seen"][0]


def test_a_respawned_worker_takes_its_predecessor_s_slot(seen: Seen) -> None:
    assert set(seen.after) == {1, 2, 3}
    assert [slot for slot in seen.before if seen.before[slot] != seen.after[slot]] == [2]
    assert seen.restarts == 1


def test_the_heartbeat_s_age_is_the_arbiter_s_own(seen: Seen) -> None:
    for said_s, computed_s in seen.ages:
        assert said_s == pytest.approx(computed_s, abs=0.05)


def test_connections_are_counted_whatever_the_worker_class(seen: Seen) -> None:
    assert seen.connections == 3


def test_every_slot_has_its_sample(seen: Seen) -> None:
    assert set(seen.samples) == {("1",), ("2",), ("3",)}


# Settings: what is in force, and who said so.


@pytest.mark.parametrize("release", RELEASES)
def test_settings_come_from_command_line_environment_and_file(release: str) -> None:
    with Watched(
        release,
        "-w2",
        environment={"GUNICORN_CMD_ARGS": "--threads 3 -w 5 --backlog=64"},
        files={"gunicorn.conf.py": "timeout = 40\nthreads = 9\nkeepalive = 1 if threads else 2\n"},
    ) as server:

        def told(name: str) -> tuple[object, str]:
            setting = server.report().setting(name)
            return ("absent", "absent") if setting is None else (setting.value, setting.source)

        names = ("workers", "threads", "timeout_s", "max_requests")
        assert {name: told(name) for name in names} == {
            "workers": (2, "command-line"),
            "threads": (3, "environment"),
            "timeout_s": (40, "config-file"),
            "max_requests": (0, "default"),
        }
        # an expression is not carried out; from 25.1 on the arbiter says what came of it, once its socket is there
        speaks = (parse_release(release) or ()) >= (25, 1)
        computed = (1, "control-socket") if speaks else (None, "unknown")
        eventually("what only gunicorn computes is told", lambda: told("keepalive_s") == computed, within_s=20)
        report = server.report()
        assert server.sample("wsgi_workers_configured") == 2
        assert report.setting("worker_class") is not None
        assert report.accept_queue is not None
        assert report.accept_queue.limit == 64


# Queues and connections: every number has a known truth.


def test_a_blocked_sync_worker_shows_in_the_accept_queue() -> None:
    with Watched("23.0.0", "-k", "sync", "-w", "1", "--backlog", "7", "--timeout", "60") as server:
        with ThreadPoolExecutor(1) as client, SilentClients("127.0.0.1", server.port, 1):
            eventually("the worker holds the silent one", lambda: server.workers()[0].connections == 1)
            with SilentClients("127.0.0.1", server.port, 4):
                queue = eventually("four wait", lambda: waiting(server, 4))
                assert (queue.limit, queue.listeners) == (7, (f"127.0.0.1:{server.port}",))
                assert server.sample("wsgi_accept_queue_length") == 4
                assert server.sample("wsgi_accept_queue_limit") == 7
                answer = client.submit(server.get, "/", 60.0)
                eventually("five wait", lambda: waiting(server, 5))
        assert answer.result().status == 200
        eventually("nobody waits", lambda: waiting(server, 0))


def waiting(server: Watched, length: int) -> AcceptQueue | None:
    queue = server.report().accept_queue
    return queue if queue is not None and queue.length == length else None


def test_each_worker_s_connections_are_counted() -> None:
    with Watched("23.0.0", "-k", "gthread", "-w", "2", "--threads", "4", "--worker-connections", "50") as server:
        eventually("both workers are known", lambda: len(server.workers()) == 2)
        with SilentClients("127.0.0.1", server.port, 9):
            eventually("all nine are counted", lambda: sum(w.connections or 0 for w in server.workers()) == 9)
            assert server.report().connection_limit == 50
            assert sum(server.samples("wsgi_connections").values()) == 9
            assert server.sample("wsgi_connection_limit") == 50
        eventually("none are left", lambda: sum(w.connections or 0 for w in server.workers()) == 0)
