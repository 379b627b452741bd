"""Restarts by cause on real servers: what ends workers in good order is counted by its cause, and is no incident."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial

import psutil
import pytest

from tests.servers.processes import alive
from tests.servers.rooms import prepare
from tests.servers.server import Server, eventually
from tests.servers.stories import telling
from tests.servers.watched import Beside, Watched
from wsgi_contract.report import ProcessId, Report
from wsgi_sidecar.ends import Ends

pytestmark = pytest.mark.servers

SYNC = ("-k", "sync", "-w", "2", "--timeout", "30")
GTHREAD = ("-k", "gthread", "-w", "2", "--threads", "2", "--timeout", "30", "--graceful-timeout", "5")
DRAINING = (*GTHREAD[:-1], "30")
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


def drain(server: Watched) -> None:
    """A reload that finds requests under way: who serves one goes on until it is answered."""
    with ThreadPoolExecutor(2) as clients:
        for _ in range(2):
            clients.submit(server.get, "/slow?s=8", 30.0)
        eventually("they are served", lambda: sum(worker.connections or 0 for worker in server.workers()) == 2)
        eventually("it is no new generation any more", lambda: min(ages(server)) > GENERATION_S)
        os.kill(server.master_pid, signal.SIGHUP)
        # From 24 on a gthread worker drains with its listening socket open and beats: it looks alive until it ends.
        eventually("two generations live", lambda: len(server.workers()) > 2)
        eventually("the generation has gone", lambda: ended(server) >= 2)


def break_application(server: Watched) -> None:
    """Whoever comes now fails to boot, and gunicorn gives up; while it waits for the other's request it still runs."""
    (server.folder / "broken").touch()
    with ThreadPoolExecutor(1) as client:
        client.submit(ask_in_vain, server, "/slow?s=20")
        eventually("it is served", lambda: busy(server))
        os.kill(next(pid for pid in server.worker_pids() if pid not in busy(server)), signal.SIGKILL)
        eventually("both have ended", lambda: ended(server) >= 2)


def ask_in_vain(server: Watched, path: str) -> None:
    with suppress(OSError):
        server.get(path, 30.0)


def busy(server: Watched) -> set[int]:
    return {worker.process.pid for worker in server.workers() if worker.connections}


def ages(server: Watched) -> list[float]:
    report = server.report()
    return [report.taken_at - worker.started_at for worker in report.workers or ()]


def ended(server: Watched) -> int:
    return sum(count for _, count in server.report().counts.restarts)


GENERATION_S = 2.0
"""Longer than two generations have to be apart, to be told apart."""
Deed = Callable[[Watched], None]
STORIES: Mapping[str, tuple[str, tuple[str, ...], Deed, set[str]]] = {
    # release, arguments, what is done, causes where the kernel tells wait statuses
    "reload 20.1.0 sync": ("20.1.0", SYNC, reload, {"reload"}),
    "reload 27.0.1 gthread": ("27.0.1", GTHREAD, reload, {"reload"}),
    "drain 23.0.0 gthread": ("23.0.0", DRAINING, drain, {"reload"}),
    "drain 27.0.1 gthread": ("27.0.1", DRAINING, drain, {"reload"}),
    "max_requests 20.1.0 sync": ("20.1.0", (*SYNC, *ROLLING), load, {"max_requests"}),
    "max_requests 27.0.1 gthread": ("27.0.1", (*GTHREAD, *ROLLING), load, {"max_requests"}),
    "SIGKILL 23.0.0": ("23.0.0", SYNC, kill_one, {"signal"}),
    "SIGTERM 23.0.0": ("23.0.0", SYNC, stop_one, {"signal"}),
    "TTIN and TTOU 27.0.1": ("27.0.1", SYNC, scale, {"signal"}),
    "boot error 20.1.0": ("20.1.0", SYNC, break_application, {"signal", "boot-error"}),
    "boot error 27.0.1": ("27.0.1", SYNC, break_application, {"signal", "boot-error"}),
}
BREAKING = """
import os, time
if os.path.exists("broken"):
    time.sleep(2)
    raise RuntimeError("broken")
from apps import app
"""


def tell(release: str, arguments: tuple[str, ...], deed: Deed) -> Report:
    with Watched(release, *arguments, application="breaking:app", files={"breaking.py": BREAKING}) as server:
        eventually("both are alive", lambda: [w.state for w in server.workers()] == ["alive"] * 2)
        deed(server)
        return server.report()


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Report]]]:
    prepare()
    tellers = {name: partial(tell, *how[:3]) for name, how in STORIES.items()}
    with telling(request, tellers, at_once=len(tellers)) as stories:
        yield stories


@pytest.mark.parametrize("name", STORIES)
def test_a_restart_has_its_cause(name: str, stories: Mapping[str, Future[Report]]) -> None:
    causes = STORIES[name][3]
    seen = {cause for cause, count in stories[name].result().counts.restarts if count}
    assert seen == causes or (not kernel_tells() and seen <= {*causes, "unknown"})


@pytest.mark.parametrize("name", STORIES)
def test_it_is_no_incident(name: str, stories: Mapping[str, Future[Report]]) -> None:
    report = stories[name].result()
    assert (report.incidents, report.kills, report.counts.scan_errors) == ((), (), 0)


INIT = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # like a container's first process it gets whose parent died
subprocess.Popen(sys.argv[1:])
while True:
    try:
        os.wait()
    except ChildProcessError:
        sys.exit()
"""


@pytest.mark.parametrize("release", ["20.1.0", "23.0.0", "27.0.1"])
def test_an_upgrade_in_place_is_followed_and_no_incident(release: str) -> None:
    """USR2: a new arbiter with workers of its own beside the old one, which then is asked to end."""
    inside = (sys.executable, "init.py")
    with (
        Server(release, "-w", "2", inside=inside, files={"init.py": INIT}) as server,
        Beside("--pid", str(server.pid)) as sidecar,
    ):
        old = server.master_pid
        eventually(
            "both workers are told", lambda: {w.process.pid for w in sidecar.workers()} == {*server.worker_pids()}
        )
        os.kill(old, signal.SIGUSR2)
        new = eventually("there is a new arbiter with workers", lambda: successor(server))
        scans = sidecar.report().counts.scans
        eventually("it looks a few times", lambda: sidecar.report().counts.scans > scans + 4)
        os.kill(old, signal.SIGTERM)
        eventually("the old one has ended", lambda: not alive([old]))
        eventually("the new one is watched", lambda: master_of(sidecar.report()) == new)
        eventually("with its workers", lambda: [w.state for w in sidecar.workers()] == ["alive"] * 2)
        report = sidecar.report()
        assert (report.incidents, report.kills, report.orphans, report.counts.scan_errors) == ((), (), (), 0)
        assert server.get("/").status == 200


def successor(server: Server) -> int | None:
    """The pid of an arbiter that the arbiter started, once its two workers are there."""
    pids = [pid for pid in server.worker_pids() if len(psutil.Process(pid).children()) == 2]
    return pids[0] if pids else None


def master_of(report: Report) -> int | None:
    return report.server.process.pid if report.server else None
