"""Incident C end to end: what a worker killed on timeout leaves behind is told and ended, however it was started.

The stories mostly wait, so they are told at the same time, each on a server of its own.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import psutil
import pytest

from tests.servers.container import container
from tests.servers.server import Server, eventually
from tests.servers.stories import telling
from tests.servers.watched import Beside, Event, Told, Watched
from wsgi_contract.policy import Policy

pytestmark = pytest.mark.servers

HOW = ("fork", "spawn", "forkserver", "popen", "session", "daemon")
RELEASES = {"fork": "20.1.0", "spawn": "22.0.0", "forkserver": "23.0.0", "popen": "25.3.0", "session": "27.0.1"}
TIMEOUT = ("-k", "sync", "-w", "1", "--timeout", "3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What became of one worker's children.

    Attributes:
        left: pids that outlived the worker, as the test itself sees them.
        kills: the sidecar's.
        incidents: likewise.
        alive: of `left`, at the end.
        count: the metric of orphans at the end.
    """

    left: frozenset[int]
    kills: list[Event]
    incidents: list[Event]
    alive: frozenset[int]
    count: float | None


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Story]]]:
    ended = {how: partial(orphaned, how) for how in HOW}
    exempt = {"exempt": partial(orphaned, "fork", Policy(orphan_exempt=("*",)))}
    late = {f"{how}, sidecar afterwards": partial(inherited, how) for how in HOW}
    with telling(request, ended | exempt | late, at_once=4) as stories:
        yield stories


def orphaned(how: str, policy: Policy | None = None) -> Story:
    """A request starts children and blocks; gunicorn ends its worker."""
    with Watched(RELEASES.get(how, "27.0.1"), *TIMEOUT, policy=policy) as watched:
        (doomed,) = watched.worker_pids()
        with contextlib.suppress(OSError):
            watched.get(f"/children?how={how}&n=2&s=300&block=60", timeout_s=0.5)
        family = frozenset(eventually("the children are there", lambda: _strangers(watched, doomed)))
        eventually("the worker is replaced", lambda: doomed not in watched.worker_pids() and watched.worker_pids())
        if policy is None:
            eventually("nobody is left", lambda: not _alive(family))
            eventually("the sidecar tells it", lambda: watched.events("kill"))
            eventually("the metric is 0 again", lambda: watched.sample("wsgi_orphan_processes") == 0)
        else:
            eventually("it looks a few times", lambda: watched.report().counts.scans > 12)
        return Story(
            left=family,
            kills=watched.events("kill"),
            incidents=watched.events("incident"),
            alive=_alive(family),
            count=watched.sample("wsgi_orphan_processes"),
        )


def inherited(how: str) -> Story:
    """As above, but nobody watches until the worker is dead; the container's cgroup tells who was its."""
    with container() as inside, Server(RELEASES.get(how, "27.0.1"), *TIMEOUT, inside=inside) as server:
        (doomed,) = server.worker_pids()
        with contextlib.suppress(OSError):
            server.get(f"/children?how={how}&n=2&s=300&block=60", timeout_s=0.5)
        family = frozenset(eventually("the children are there", lambda: _strangers(server, doomed)))
        eventually("the worker is replaced", lambda: doomed not in server.worker_pids() and server.worker_pids())
        with Beside("--pid", str(server.master_pid)) as sidecar:
            eventually("nobody is left", lambda: not _alive(family))
            eventually("the sidecar tells it", lambda: sidecar.events("kill"))
            return Story(
                left=family,
                kills=sidecar.events("kill"),
                incidents=sidecar.events("incident"),
                alive=_alive(family),
                count=sidecar.sample("wsgi_orphan_processes"),
            )


def _strangers(watched: Server, worker: int) -> set[int]:
    """Two or more processes that are neither the sidecar, the master nor a worker."""
    found = set(watched.all_pids()) - {watched.pid, watched.master_pid, worker, *watched.worker_pids()}
    return found if len(found) >= 2 else set()


def _alive(pids: frozenset[int]) -> frozenset[int]:
    def lives(pid: int) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    return frozenset(filter(lives, pids))


@pytest.mark.parametrize("how", HOW)
def test_what_a_dead_worker_left_behind_is_ended(stories: Mapping[str, Future[Story]], how: str) -> None:
    story = stories[how].result()
    assert len(story.left) >= 2
    assert story.alive == frozenset()
    assert story.count == 0
    assert {(kill["target"], kill["reason"], kill["outcome"]) for kill in story.kills} == {
        ("orphan", "orphan-processes", "killed")
    }
    assert {incident["kind"] for incident in story.incidents} >= {"orphan-processes"}


@pytest.mark.parametrize("how", HOW)
def test_what_was_left_behind_before_the_sidecar_came_is_ended(stories: Mapping[str, Future[Story]], how: str) -> None:
    story = stories[f"{how}, sidecar afterwards"].result()
    assert len(story.left) >= 2
    assert story.alive == frozenset()
    assert {(kill["target"], kill["reason"], kill["outcome"]) for kill in story.kills} == {
        ("orphan", "orphan-processes", "killed")
    }


def test_an_exempt_process_is_left_alone(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["exempt"].result()
    assert story.alive == story.left
    assert story.kills == []


def test_a_daemon_that_left_a_living_worker_is_not_ended() -> None:
    with Watched("27.0.1", "-k", "sync", "-w", "1") as watched:
        (worker,) = watched.worker_pids()
        watched.get("/children?how=daemon&n=2&s=300")
        family = frozenset(eventually("the daemons are there", lambda: _strangers(watched, worker)))
        (incident, *_) = eventually("the sidecar tells them", lambda: watched.events("incident"))
        assert incident["kind"] == "orphan-processes"
        assert "may be a daemon" in incident["message"]
        assert watched.events("kill") == []
        assert _alive(family) == family


def test_a_daemon_that_left_a_living_worker_outlives_a_restart_of_the_sidecar() -> None:
    with container() as inside, Server("27.0.1", "-k", "sync", "-w", "1", inside=inside) as server:
        (worker,) = server.worker_pids()
        server.get("/children?how=daemon&n=2&s=300")
        family = frozenset(eventually("the daemons are there", lambda: _strangers(server, worker)))
        for _ in range(2):
            with Beside("--pid", str(server.master_pid)) as sidecar:
                (incident, *_) = eventually("the sidecar tells them", partial(sidecar.events, "incident"))
                assert "may be a daemon" in incident["message"]
                _look_on(sidecar)
                assert (sidecar.events("kill"), _alive(family)) == ([], family)


@pytest.mark.parametrize("release", ["23.0.0", "27.0.1"])
def test_a_worker_that_leaves_in_good_order_finishes_its_pool_s_job(release: str) -> None:
    with Watched(release, "-k", "sync", "-w", "1") as watched:
        (worker,) = watched.worker_pids()
        watched.get("/pool?s=8")
        _look_on(watched, scans=2)
        os.kill(watched.master_pid, signal.SIGHUP)
        eventually("the new worker is there", lambda: _new_worker(watched, worker))
        eventually("the job is done", lambda: "the job is done" in watched.log)
        eventually("the old worker has ended", lambda: not _alive(frozenset({worker})))
        assert watched.events("kill") == []


ENTRYPOINT = {
    "entrypoint.sh": 'sh helpers.sh && shift && exec "$@"',
    "helpers.sh": "sleep 300 & setsid sleep 300 & (sleep 300 & exec sleep 300) &",
}
"""Helpers that outlive the script that started them, before the entrypoint becomes gunicorn: `shift` takes a `--`."""


def test_what_the_entrypoint_started_outlives_a_recycled_worker() -> None:
    with Watched("27.0.1", "-w", "1", options=("--", "sh", "entrypoint.sh"), files=ENTRYPOINT) as watched:
        (worker,) = watched.worker_pids()
        helpers = frozenset(_strangers(watched, worker))
        assert len(helpers) == 4
        os.kill(worker, signal.SIGKILL)
        eventually("the worker is replaced", lambda: _new_worker(watched, worker))
        _look_on(watched)
        assert (watched.events("kill"), watched.events("incident"), _alive(helpers)) == ([], [], helpers)


def test_what_the_entrypoint_started_outlives_a_sidecar_that_comes_afterwards() -> None:
    with (
        container() as inside,
        Server("27.0.1", "-w", "1", inside=(*inside, "sh", "entrypoint.sh", "--"), files=ENTRYPOINT) as server,
    ):
        (worker,) = server.worker_pids()
        helpers = frozenset(_strangers(server, worker))
        os.kill(worker, signal.SIGKILL)
        eventually("the worker is replaced", lambda: _new_worker(server, worker))
        with Beside("--pid", str(server.master_pid)) as sidecar:
            _look_on(sidecar)
            assert (len(helpers), sidecar.events("kill"), _alive(helpers)) == (4, [], helpers)


PRELOADED = {
    "preloaded.py": """
import subprocess, time
from apps import app
subprocess.run(["sh", "-c", "sleep 300 & setsid sleep 300 &"], check=True)  # daemons: their parent ends at once
time.sleep(1.5)
"""
}


def test_a_daemon_that_a_preloaded_application_started_outlives_a_sidecar_that_comes_afterwards() -> None:
    with (
        container() as inside,
        Server("27.0.1", "-w", "1", "--preload", inside=inside, application="preloaded:app", files=PRELOADED) as server,
    ):
        (worker,) = server.worker_pids()
        daemons = frozenset(eventually("the daemons are there", lambda: _strangers(server, worker)))
        os.kill(worker, signal.SIGKILL)
        eventually("the worker is replaced", lambda: _new_worker(server, worker))
        with Beside("--pid", str(server.master_pid)) as sidecar:
            (incident, *_) = eventually("the sidecar tells them", lambda: sidecar.events("incident"))
            assert "or the master's: it may be a daemon" in incident["message"]
            _look_on(sidecar)
            assert (sidecar.events("kill"), _alive(daemons)) == ([], daemons)


def _look_on(sidecar: Told, *, scans: int = 6) -> None:
    """Until it has looked so often; the default is longer than an orphan's grace."""
    before = sidecar.report().counts.scans
    eventually("it looks a few times", lambda: sidecar.report().counts.scans > before + scans)


def _new_worker(server: Server, old: int) -> bool:
    return any(pid != old for pid in server.worker_pids())


def test_children_of_a_living_worker_are_nobody_s_orphans() -> None:
    with Watched("27.0.1", "-k", "gthread", "-w", "1", "--threads", "2") as watched:
        (worker,) = watched.worker_pids()
        for how in ("fork", "spawn", "popen", "session"):
            watched.get(f"/children?how={how}&s=300")
        eventually("the children are there", lambda: len(_strangers(watched, worker)) >= 4)
        scans = watched.report().counts.scans
        eventually("it looks a few times", lambda: watched.report().counts.scans > scans + 6)
        assert watched.events("incident") == []
        assert watched.sample("wsgi_orphan_processes") == 0
