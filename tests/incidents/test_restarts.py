"""Restarts by cause on real servers: what ends workers in good order is counted by its cause, and is no incident."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import pytest

from tests.servers.rooms import prepare
from tests.servers.server import eventually
from tests.servers.watched import Watched
from wsgi_contract.report import ProcessId, Report
from wsgi_sidecar.ends import Ends

pytestmark = pytest.mark.servers

SYNC = ("-k", "sync", "-w", "2", "--timeout", "30")
GTHREAD = ("-k", "gthread", "-w", "2", "--threads", "2", "--timeout", "30", "--graceful-timeout", "5")
# Spread wide: two workers replaced within a moment look like a reload.
ROLLING = ("--max-requests", "3", "--max-requests-jitter", "20")


@cache
def kernel_tells() -> bool:
    """Whether this kernel keeps wait statuses for whoever holds the pidfd."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with open(f"/proc/{child.pid}/stat") as stat:
        who = ProcessId(pid=child.pid, started=int(stat.read().rpartition(")")[2].split()[19]))
    ends = Ends()
    ends.look([who])
    child.communicate(b"\n")
    return ends.look([])[who].status is not None


def reload(server: Watched) -> None:
    """Two generations leave."""
    for done in (2, 4):
        eventually("it is no new generation any more", lambda: min(ages(server)) > GENERATION_S)
        os.kill(server.master_pid, signal.SIGHUP)
        eventually("a generation has gone", lambda done=done: ended(server) >= done)  # type: ignore[misc]


def load(server: Watched) -> None:
    """Requests until some workers had theirs."""
    while ended(server) < 4:
        server.get("/slow?s=0.1")


def kill_one(server: Watched) -> None:
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    eventually("it is gone", lambda: ended(server))


def stop_one(server: Watched) -> None:
    os.kill(server.worker_pids()[0], signal.SIGTERM)
    eventually("it is gone", lambda: ended(server))


def scale(server: Watched) -> None:
    """One more, and one less."""
    os.kill(server.master_pid, signal.SIGTTIN)
    eventually("there is one more", lambda: len(server.workers()) == 3)
    os.kill(server.master_pid, signal.SIGTTOU)
    eventually("there is one less", lambda: ended(server))


def ages(server: Watched) -> list[float]:
    report = server.report()
    return [report.taken_at - worker.started_at for worker in report.workers or ()]


def ended(server: Watched) -> int:
    return sum(count for _, count in server.report().counts.restarts)


GENERATION_S = 2.0
"""Longer than two generations have to be apart, to be told apart."""
Deed = Callable[[Watched], None]
STORIES: Mapping[str, tuple[str, tuple[str, ...], Deed, str]] = {
    # release, arguments, what is done, cause where the kernel tells wait statuses
    "reload 20.1.0 sync": ("20.1.0", SYNC, reload, "reload"),
    "reload 27.0.1 gthread": ("27.0.1", GTHREAD, reload, "reload"),
    "max_requests 20.1.0 sync": ("20.1.0", (*SYNC, *ROLLING), load, "max_requests"),
    "max_requests 27.0.1 gthread": ("27.0.1", (*GTHREAD, *ROLLING), load, "max_requests"),
    "SIGKILL 23.0.0": ("23.0.0", SYNC, kill_one, "signal"),
    "SIGTERM 23.0.0": ("23.0.0", SYNC, stop_one, "signal"),
    "TTIN and TTOU 27.0.1": ("27.0.1", SYNC, scale, "signal"),
}


def tell(release: str, arguments: tuple[str, ...], deed: Deed) -> Report:
    with Watched(release, *arguments) as server:
        eventually("both are alive", lambda: [w.state for w in server.workers()] == ["alive"] * 2)
        deed(server)
        return server.report()


@pytest.fixture(scope="module")
def stories() -> Iterator[Mapping[str, Future[Report]]]:
    """All stories, begun at the same time."""
    prepare()
    with ThreadPoolExecutor(len(STORIES)) as pool:
        yield {name: pool.submit(tell, *how[:3]) for name, how in STORIES.items()}


@pytest.mark.parametrize("name", STORIES)
def test_a_restart_has_its_cause(name: str, stories: Mapping[str, Future[Report]]) -> None:
    cause = STORIES[name][3]
    seen = dict(stories[name].result().counts.restarts)
    assert seen
    allowed = {cause} if kernel_tells() else {cause, "unknown"}
    assert set(seen) <= allowed


@pytest.mark.parametrize("name", STORIES)
def test_it_is_no_incident(name: str, stories: Mapping[str, Future[Report]]) -> None:
    report = stories[name].result()
    assert (report.incidents, report.kills, report.counts.scan_errors) == ((), (), 0)
