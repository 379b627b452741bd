"""A worker that never finishes its import, end to end; an import that is only long is left alone."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.servers.asking import Mute
from tests.servers.rooms import prepare
from tests.servers.server import eventually
from tests.servers.stories import Tellers, telling
from tests.servers.watched import Watched
from wsgi_contract.policy import Policy
from wsgi_contract.report import Incident, Kill, Report

pytestmark = pytest.mark.servers

HANGING = ("22.0.0", "27.0.1")
HASTY = Policy(boot_told_s=3.0, boot_limit_s=8.0)
ONE = ("-k", "sync", "-w", "1", "--timeout", "2")

COMPUTING = """
import time
end = time.thread_time() + 4
while time.thread_time() < end:
    sum(range(1000))
from apps import app
"""
WAITING = "import time\ntime.sleep(8)\nfrom apps import app\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was told of one import that waits for ever."""

    peer: str
    pid: int
    incident: Incident
    action_first: str
    kill: Kill
    report: Report


def tell(release: str) -> Story:
    with Mute() as mute, Watched(release, *ONE, policy=HASTY, application="importer:app", files=mute.files()) as server:
        (pid,) = server.worker_pids()
        first = eventually("it is told", lambda: server.events("incident"))[0]
        (kill, *_) = eventually("it is ended", lambda: server.report().kills)
        eventually("there is another one", lambda: set(server.worker_pids()) - {pid})
        eventually("it is counted", lambda: server.report().counts.restarts)
        report = server.report()
        incident = next(each for each in report.incidents if each.process == kill.process)
        return Story(
            peer=mute.address, pid=pid, incident=incident, action_first=first["action"], kill=kill, report=report
        )


def watch_long(text: str, policy: Policy) -> Report:
    """What is told until an application that takes its time has been imported."""
    with Watched("27.0.1", *ONE, policy=policy, application="long:app", files={"long.py": text}) as server:
        eventually("it is booting", lambda: [w for w in server.workers() if w.state == "booting"])
        eventually("it is up", lambda: [w for w in server.workers() if w.state == "alive"])
        assert server.get("/").status == 200
        return server.report()


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Any]]]:
    prepare()
    hanging: Tellers = {release: partial(tell, release) for release in HANGING}
    healthy: Tellers = {
        "computing": partial(watch_long, COMPUTING, Policy(boot_told_s=3.0)),
        "waiting": partial(watch_long, WAITING, Policy()),
    }
    with telling(request, hanging | healthy, at_once=4) as stories:
        yield stories


@pytest.mark.parametrize("release", HANGING)
def test_a_hanging_import_is_told_with_what_it_waits_on(release: str, stories: Mapping[str, Future[Story]]) -> None:
    story = stories[release].result()
    assert (story.incident.kind, story.incident.slot) == ("boot-hang", 1)
    assert f"reads from {story.peer}" in story.incident.summary
    assert "ended after 8 s" in story.action_first, "told before it is ended"


@pytest.mark.parametrize("release", HANGING)
def test_it_is_ended_at_its_limit_with_its_stack(release: str, stories: Mapping[str, Future[Story]]) -> None:
    story = stories[release].result()
    assert (story.kill.reason, story.kill.outcome, story.kill.process.pid) == ("boot-hang", "killed", story.pid)
    assert story.kill.at - story.incident.since >= HASTY.boot_limit_s - 1
    assert "ask (asker.py" in (story.kill.stack or "") or "ask (importer.py" in (story.kill.stack or "")
    assert dict(story.report.counts.restarts) == {"watchdog": 1}


@pytest.mark.parametrize("name", ["computing", "waiting"])
def test_a_long_import_is_healthy(name: str, stories: Mapping[str, Future[Report]]) -> None:
    """One computes for longer than an idle one may wait, the other waits for less than the default."""
    report = stories[name].result()
    assert (report.incidents, report.kills) == ((), ())
