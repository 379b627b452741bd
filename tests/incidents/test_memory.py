"""Memory, end to end: the kernel kills a worker, and a policy that has it recycled before that.

Real servers in a cgroup with a limit; the sidecar stands beside it, as it does in a pod.
"""

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.servers.memory_box import memory_box
from tests.servers.rooms import room_of
from tests.servers.server import Server, eventually
from tests.servers.stories import Tellers, telling
from tests.servers.uwsgi import Uwsgi
from tests.servers.watched import Beside, Event
from wsgi_contract.policy import Policy
from wsgi_contract.report import Kill, Report

pytestmark = pytest.mark.servers

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was seen of one server in its box."""

    report: Report
    restarts: Mapping[tuple[str, ...], float]
    oom_kills: float | None
    kills: float | None
    limit: float | None
    events: list[Event]
    log: str


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Any]]]:
    for release in ("23.0.0", "27.0.1"):
        room_of(release)
    tellers: Tellers = {
        "oom": partial(tell_oom, "23.0.0"),
        "sigkill": partial(tell_sigkill, "23.0.0"),
        "recycled": partial(tell_recycled, "27.0.1"),
        "busy uwsgi": tell_uwsgi_recycled,
    }
    with telling(request, tellers, at_once=4) as stories:
        yield stories


def kinds(story: Story, event: str = "incident") -> list[str]:
    return [each["kind"] for each in story.events if each["event"] == event]


def test_a_worker_that_the_kernel_kills_for_memory_is_told_and_counted(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["oom"].result()
    told = [each for each in story.report.incidents if each.kind == "oom-kill"]
    assert {incident.slot for incident in told} <= {1, 2}
    assert all("memory limit of 160 MiB" in incident.summary for incident in told)
    assert story.oom_kills is not None
    assert 1 <= len(told) <= story.oom_kills, "the kernel may take another before anybody looks, but we never tell more"
    assert story.restarts[("oom",)] == len(told)
    assert story.limit == 160 * MIB
    assert story.report.kills == ()
    assert story.report.container is not None
    assert story.report.container.memory_limit_bytes == 160 * MIB


def test_gunicorns_guess_about_a_sigkill_is_not_believed(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["sigkill"].result()
    assert "Perhaps out of memory?" in story.log
    assert kinds(story) == []
    assert story.restarts[("oom",)] == 0
    assert story.oom_kills == 0


def test_a_policy_has_a_growing_worker_recycled_before_the_kernel_takes_one(
    stories: Mapping[str, Future[Story]],
) -> None:
    story = stories["recycled"].result()
    incident = next(each for each in story.report.incidents if each.kind == "memory-limit")
    assert "grew most" in incident.summary
    assert incident.outcome is not None
    assert incident.outcome.startswith("cured: 1 process ended")
    (kill,) = story.report.kills
    assert (kill.reason, kill.outcome, kill.target) == ("memory-limit", "killed", "worker")
    assert "ended by itself when it was asked to" in kill.message
    assert (story.kills, story.oom_kills) == (1, 0)
    assert story.restarts[("watchdog",)] == 1


def test_a_growing_uwsgi_worker_finishes_its_requests_before_it_is_recycled(
    stories: Mapping[str, Future[tuple[list[int], tuple[Kill, ...]]]],
) -> None:
    answers, (kill,) = stories["busy uwsgi"].result()
    assert answers == [200, 200, 200]
    assert (kill.reason, kill.outcome) == ("memory-limit", "killed")
    assert "ended by itself when it was asked to" in kill.message


@contextlib.contextmanager
def boxed(release: str, limit: int, policy: Policy) -> Iterator[tuple[Server, Beside]]:
    """Two sync workers in a box, and a sidecar outside of it."""
    with memory_box(limit) as box, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.json"
        path.write_text(json.dumps(asdict(policy)))
        with (
            Server(release, "-w", "2", inside=box.inside) as server,
            Beside("--pid", str(server.master_pid), "--policy-file", str(path)) as beside,
        ):
            eventually("both workers are seen", lambda: len(beside.workers()) == 2)
            yield server, beside


def tell_oom(release: str) -> Story:
    with boxed(release, 160 * MIB, Policy()) as (server, beside):
        eventually("the kernel has killed", lambda: _grown(server, beside))
        return _story(server, beside)


def tell_sigkill(release: str) -> Story:
    with boxed(release, 160 * MIB, Policy()) as (server, beside):
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        eventually("it is replaced", lambda: _two_without(beside, victim))
        eventually("gunicorn guesses", lambda: "Perhaps out of memory?" in server.log)
        seen = beside.report().counts.scans
        eventually("some looks went by", lambda: beside.report().counts.scans > seen + 4)
        return _story(server, beside)


def tell_recycled(release: str) -> Story:
    with boxed(release, 200 * MIB, Policy(memory_recycle_share=0.5)) as (server, beside):
        eventually("it was weighed", lambda: beside.report().counts.scans > 3)
        assert server.get("/memory?mb=100").status == 200
        eventually("it grew past the share", lambda: _filled(beside) > 0.5)
        eventually("it was recycled", lambda: beside.events("incident-ended"))
        return _story(server, beside)


def tell_uwsgi_recycled() -> tuple[list[int], tuple[Kill, ...]]:
    """A uWSGI worker has grown past the share, and is asked to end while both have requests: answers and kills."""
    with memory_box(200 * MIB) as box, tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(3) as clients:
        path = Path(folder) / "policy.json"
        path.write_text(json.dumps(asdict(Policy(memory_recycle_share=0.5))))
        with (
            Uwsgi("--processes", "2", "--threads", "2", inside=box.inside) as server,
            Beside("--pid", str(server.pid), "--policy-file", str(path)) as beside,
        ):
            eventually("both workers are weighed", lambda: beside.report().counts.scans > 3)
            slow = [clients.submit(server.get, "/slow?s=20", timeout_s=60) for _ in range(3)]
            assert server.get("/memory?mb=100").status == 200
            eventually("it was recycled", lambda: beside.events("kill"))
            return [request.result().status for request in slow], beside.report().kills


def _grown(server: Server, beside: Beside) -> bool:
    _ask(server, "/memory?mb=50")
    return bool(beside.events("incident"))


def _filled(beside: Beside) -> float:
    container = beside.report().container
    if container is None or not isinstance(container.memory_limit_bytes, (int, float)):
        return 0.0
    return (container.memory_working_set_bytes or 0) / container.memory_limit_bytes


def _two_without(beside: Beside, pid: int) -> bool:
    pids = [worker.process.pid for worker in beside.workers()]
    return len(pids) == 2 and pid not in pids


def _ask(server: Server, path: str) -> Any:
    with contextlib.suppress(OSError):
        return server.get(path).status == 200
    return None


def _story(server: Server, beside: Beside) -> Story:
    return Story(
        report=beside.report(),
        restarts=beside.samples("wsgi_worker_restarts_total"),
        oom_kills=beside.sample("wsgi_container_oom_kills_total"),
        kills=beside.sample("wsgi_kills_total", target="worker", reason="memory-limit", outcome="killed"),
        limit=beside.sample("wsgi_container_memory_limit_bytes"),
        events=beside.events(),
        log=server.log,
    )
