"""The frozen gthread worker (gunicorn #3146), end to end: seen, told and cured where it happens."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Self

import pytest

from demo.load import SilentClients
from tests.servers.rooms import FREEZING, prepare
from tests.servers.server import Server, eventually
from tests.servers.stories import telling
from tests.servers.watched import Event, Watched
from wsgi_contract.policy import Policy
from wsgi_contract.report import Kill, Report, WorkerInfo

pytestmark = pytest.mark.servers

CONNECTIONS = 4
GTHREAD = ("-k", "gthread", "-w", "1", "--threads", "3", "--worker-connections", str(CONNECTIONS), "--timeout", "3")
WINDOW_S = Policy().frozen_window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was seen of one frozen worker, from before to after."""

    frozen: WorkerInfo
    master_pid: int
    master_pid_after: int
    failure: str
    report: Report
    samples: dict[tuple[str, ...], float]
    restarts: float | None
    incidents: list[Event]
    kills: list[Event]
    log: str

    @property
    def kill(self) -> Kill:
        return self.report.kills[0]


def freeze(server: Server) -> SilentClients:
    """Silent connections, one more than the worker takes."""
    return SilentClients("127.0.0.1", server.port, CONNECTIONS + 1)


def failure_of(server: Server, timeout_s: float = 1.0) -> str:
    """How a request fails; empty if it is served."""
    try:
        status = server.get("/", timeout_s).status
    except OSError as error:
        return type(error).__name__
    return "" if status == 200 else str(status)


def tell_story(release: str) -> Story:
    with Watched(release, *GTHREAD) as server:
        assert server.get("/").status == 200
        (frozen,) = server.workers()
        with freeze(server):
            failure = failure_of(server)
            eventually("the kill is told", lambda: server.events("kill"))
            eventually("requests are served again", lambda: not failure_of(server))
        eventually("the incident is over", lambda: server.events("incident-ended"))
        eventually("the new worker is known", lambda: [w for w in server.workers() if w.process != frozen.process])
        eventually("the restart is counted", lambda: dict(server.report().counts.restarts).get("watchdog"))
        report = server.report()
        assert report.server is not None
        return Story(
            frozen=frozen,
            master_pid=server.master_pid,
            master_pid_after=report.server.process.pid,
            failure=failure,
            report=report,
            samples={labels: value for labels, value in server.samples("wsgi_kills_total").items() if value},
            restarts=server.sample("wsgi_worker_restarts_total", reason="watchdog"),
            incidents=server.events("incident"),
            kills=server.events("kill"),
            log=server.log,
        )


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Story]]]:
    """Two at a time: a frozen worker burns a core."""
    prepare()
    with telling(request, {release: partial(tell_story, release) for release in FREEZING}, at_once=2) as stories:
        yield stories


@pytest.fixture(params=FREEZING)
def story(request: pytest.FixtureRequest, stories: Mapping[str, Future[Story]]) -> Story:
    return stories[request.param].result()


def test_a_frozen_worker_serves_nobody_until_it_is_killed_and_replaced(story: Story) -> None:
    assert story.failure == "TimeoutError"
    assert story.report.workers is not None
    (successor,) = story.report.workers
    assert (successor.slot, successor.process != story.frozen.process) == (story.frozen.slot, True)


def test_the_arbiter_stays(story: Story) -> None:
    assert story.master_pid_after == story.master_pid
    assert "WORKER TIMEOUT" not in story.log, "gunicorn itself saw nothing"


def test_the_kill_is_told_alike_in_report_log_and_metric(story: Story) -> None:
    (event,), kill = story.kills, story.kill
    assert len(story.report.kills) == 1
    assert (kill.target, kill.slot, kill.reason, kill.outcome) == (
        "worker",
        story.frozen.slot,
        "frozen-worker",
        "killed",
    )
    assert (kill.process, kill.survivors) == (story.frozen.process, ())
    assert (event["id"], event["pid"], event["reason"], event["outcome"]) == (
        kill.id, kill.process.pid, kill.reason, kill.outcome
    )  # fmt: skip
    assert story.samples == {("killed", "frozen-worker", "worker"): 1.0}, "labels: outcome, reason, target"


def test_the_incident_is_told_once_with_its_numbers_and_its_end(story: Story) -> None:
    (event,) = story.incidents
    incident = next(found for found in story.report.incidents if found.kind == "frozen-worker")
    assert (event["kind"], event["slot"], event["pid"]) == ("frozen-worker", 1, story.frozen.process.pid)
    assert (incident.id, incident.process, incident.slot) == (event["id"], story.frozen.process, story.frozen.slot)
    assert incident.evidence
    assert incident.outcome
    assert incident.ended_at is not None
    assert incident.since < story.kill.at <= incident.ended_at + 1
    assert dict(story.report.counts.incidents) == {"frozen-worker": 1}


def test_the_kill_comes_after_the_window_and_soon(story: Story) -> None:
    incident = next(found for found in story.report.incidents if found.kind == "frozen-worker")
    waited_s = story.kill.at - incident.since
    assert WINDOW_S - 1 <= waited_s <= WINDOW_S + 15, "the lower end is the rule, the upper end a busy machine"


def test_the_restart_is_counted_as_the_watchdog_s(story: Story) -> None:
    assert dict(story.report.counts.restarts) == {"watchdog": 1}
    assert story.restarts == 1
    assert story.report.counts.timeouts == 0


def test_a_dry_run_tells_and_touches_nothing() -> None:
    with Watched("23.0.0", *GTHREAD, options=("--dry-run",)) as server, freeze(server):
        (frozen,) = server.workers()
        eventually("the incident is told", lambda: server.events("incident"))
        told = eventually("what would have been done is told", lambda: server.report().kills)
        assert [kill.outcome for kill in told] == ["dry-run"]
        assert server.report().policy.mode == "DryRun"
        assert server.worker_pids() == (frozen.process.pid,)
        assert failure_of(server) == "TimeoutError", "still frozen"
        assert server.sample("wsgi_kills_total", target="worker", reason="frozen-worker", outcome="killed") == 0


@pytest.mark.parametrize("release", ["21.2.0", "23.0.0"])
def test_clients_that_are_served_and_keep_their_connections_freeze_a_worker_too(release: str) -> None:
    """As browsers and load balancers do. gunicorn keeps worker_connections less threads of them; one more fills it."""
    keeping = ("--threads", "1", "--keep-alive", "75")
    with Watched(release, *GTHREAD, *keeping) as server, ExitStack() as stack:
        (frozen,) = server.workers()
        clients = [stack.enter_context(Client("127.0.0.1", server.port, timeout=60)) for _ in range(CONNECTIONS)]
        for client in clients[:-1]:
            assert client.ask() == 200
        with ThreadPoolExecutor(1) as last:
            last.submit(clients[-1].ask)
            (kill,) = eventually("it is killed", lambda: server.report().kills)
        assert (kill.process, kill.reason, kill.outcome) == (frozen.process, "frozen-worker", "killed")
        eventually("requests are served again", lambda: not failure_of(server))


class Client(HTTPConnection):
    """One that keeps its connection for as long as the block lasts."""

    def ask(self) -> int:
        """The status; 0 where there was no answer."""
        with suppress(OSError, HTTPException):
            self.request("GET", "/")
            answer = self.getresponse()
            answer.read()
            return answer.status
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_policy_lets_a_frozen_worker_be_until_somebody_waits() -> None:
    with Watched("23.0.0", *GTHREAD, policy=Policy(only_if_queue=True)) as server:
        (frozen,) = server.workers()
        with SilentClients("127.0.0.1", server.port, CONNECTIONS):
            eventually("it is told", lambda: server.events("incident"))
            assert "nobody waits in the accept queue" in server.events("incident")[0]["action"]
            scans = server.report().counts.scans
            eventually("it looks on", lambda: server.report().counts.scans > scans + 6)
            assert (server.report().kills, server.worker_pids()) == ((), (frozen.process.pid,))
            assert server.get("/", 30.0).status == 200, "whoever comes next is served, by another worker"
            (kill,) = eventually("the kill is told", lambda: server.report().kills)
            assert (kill.process, kill.reason, kill.outcome) == (frozen.process, "frozen-worker", "killed")


def test_a_frozen_worker_that_hardly_gets_a_cpu_is_healed_too() -> None:
    """As in a container with a small limit: what it would use if it could is what tells."""
    with Watched("23.0.0", *GTHREAD) as server, spinners(8) as cpu:
        (frozen,) = server.workers()
        os.sched_setaffinity(frozen.process.pid, {cpu})
        with freeze(server):
            eventually("it is killed", lambda: [kill for kill in server.report().kills if kill.outcome == "killed"])
        (incident,) = (one for one in server.report().incidents if one.kind == "frozen-worker")
        evidence = {one.name: one.value for one in incident.evidence}
        assert float(evidence["main thread CPU"]) < Policy().frozen_cpu, "or this test proves nothing"
        eventually("requests are served again", lambda: not failure_of(server))


@contextmanager
def spinners(count: int) -> Iterator[int]:
    """One CPU on which so many others want to run; each in a session of its own, for the kernel shares by session."""
    cpu = max(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    spinning = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(count)]
    try:
        yield cpu
    finally:
        for one in spinning:
            one.kill()
            one.wait()


def test_only_the_frozen_one_of_two_workers_is_killed() -> None:
    two = ("-k", "gthread", "-w", "2", *GTHREAD[4:])
    with Watched("23.0.0", *two) as server, ExitStack() as stack:
        eventually("both workers are known", lambda: len(server.workers()) == 2)
        before = {worker.slot: worker.process for worker in server.workers()}
        # The kernel deals connections out as it likes: one by one, until the first worker is full.
        for count in range(1, 2 * CONNECTIONS):
            stack.enter_context(SilentClients("127.0.0.1", server.port, 1))
            held = eventually(f"{count} are held", lambda count=count: held_by(server, count))  # type: ignore[misc]
            if max(held.values()) == CONNECTIONS:
                break
        (kill,) = eventually("one is killed", lambda: server.report().kills)
        eventually("there are two again", lambda: kill.process not in {w.process for w in server.workers()})
        after = {worker.slot: worker.process for worker in server.workers()}
        assert [slot for slot in before if after.get(slot) != before[slot]] == [kill.slot]
        assert kill.process == before[max(held, key=lambda slot: held[slot])]


def held_by(server: Watched, count: int) -> dict[int, int] | None:
    """Connections by slot, once all are counted."""
    held = {worker.slot: worker.connections or 0 for worker in server.workers()}
    return held if sum(held.values()) == count else None
