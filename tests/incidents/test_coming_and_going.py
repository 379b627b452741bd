"""Masters that sleep as a stuck one does, and come back: they start, reload or leave slowly, or are frozen.

The stories mostly wait, so they are told at the same time, each on a server of its own.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.servers.freezer_box import Version, freezer_box
from tests.servers.rooms import prepare
from tests.servers.server import HERE, Server, eventually, free_port
from tests.servers.stories import telling
from tests.servers.uwsgi import Uwsgi
from tests.servers.watched import COMMAND, Beside, Event, Told, Watched
from wsgi_contract.policy import Policy, dump_policy
from wsgi_contract.report import Kill

pytestmark = pytest.mark.servers

ASLEEP = "import time\ntime.sleep(8)\n"
AT_WORK = "import time\nend = time.process_time() + 1.5\nwhile time.process_time() < end: pass\n"
HOOK = "def {}({}):\n    import time\n    time.sleep(8)\n"
HASTY = Policy(boot_told_s=3.0, boot_limit_s=5.0)
APP = "from apps import app\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the sidecar said and did while nothing was wrong."""

    kills: list[Event]
    incidents: list[Event]
    exit_code: int | None = None


class Running(Uwsgi, Told):
    """A uWSGI under `wsgi-sidecar run`."""

    def command(self) -> tuple[str, ...]:
        """The whole command line."""
        own = ("--port", "0", "--scan-interval", "0.5", "--log-format", "json")
        return (*COMMAND, "run", *own, "--", *super().command())

    def spawned(self) -> int:
        """How many workers it has started so far."""
        return self.log.count("spawned uWSGI worker")


def story(server: Told, exit_code: int | None = None) -> Story:
    return Story(kills=server.events("kill"), incidents=server.events("incident"), exit_code=exit_code)


def tell_start(release: str, *arguments: str, **files: str) -> Story:
    """The server is up once its worker is seen."""
    named = {f"{name}.py": text for name, text in files.items()}
    config = ("-c", "own.py") if "own" in files else ()
    application = "slow:app" if "slow" in files else "apps:app"
    with Watched(release, *config, *arguments, files=named, application=application) as server:
        assert server.get().status == 200
        return story(server)


def tell_exit(release: str) -> Story:
    with Watched(release, "-c", "own.py", files={"own.py": HOOK.format("on_exit", "server")}) as server:
        os.kill(server.master_pid, signal.SIGTERM)
        code = server.wait()
        return story(server, code)


def tell_hook(release: str) -> Story:
    """The only worker ends, and the master is in a hook before it starts another."""
    with Watched(
        release, "-w", "1", "-c", "own.py", files={"own.py": HOOK.format("child_exit", "server, worker")}
    ) as server:
        (gone,) = server.worker_pids()
        os.kill(gone, signal.SIGTERM)
        eventually("another worker comes", lambda: _other_than(gone, server))
        return story(server)


def tell_frozen(version: Version) -> Story:
    """As `docker pause` does it, for longer than the only worker's timeout; its heartbeat is old and none serves."""
    with (
        freezer_box(version) as box,
        Server("27.0.1", "-w", "1", "--timeout", "3", inside=box.inside) as server,
        Beside("--pid", str(server.pid)) as sidecar,
    ):
        eventually("its worker is seen", sidecar.workers)
        with box.frozen():
            frozen_at = sidecar.report().counts.scans
            eventually("it is overdue", lambda: [worker.state for worker in sidecar.workers()] == ["overdue"])
            eventually("more looks than a window has", lambda: sidecar.report().counts.scans > frozen_at + 20)
        return story(sidecar)


def tell_frozen_boot() -> Kill:
    """A rule of its own would end the worker; whatever it saw of a frozen one proves nothing."""
    files = {"slow.py": "import time\ntime.sleep(600)\n", "policy.json": dump_policy(HASTY)}
    with (
        freezer_box("v2") as box,
        Server("27.0.1", "-w", "1", application="slow:app", files=files, inside=box.inside) as server,
        Beside("--pid", str(server.pid), "--policy-file", str(server.folder / "policy.json")) as sidecar,
    ):
        eventually("its worker is seen", sidecar.workers)
        with box.frozen():
            (kill,) = eventually("it is to be ended", lambda: sidecar.report().kills)
            assert server.worker_pids()
        return kill


def _other_than(gone: int, server: Server) -> list[int]:
    return [pid for pid in server.worker_pids() if pid != gone]


def tell_uwsgi(*, reload: bool) -> Story:
    """The master loads the app, at its start and again at each reload, for which it executes itself."""
    given = ("--pythonpath", str(HERE), "--wsgi-file", "slow.py", "--processes", "1")
    with Running(*given, files={"slow.py": AT_WORK + ASLEEP + APP}, port=free_port()) as server:
        eventually("its worker is seen", server.workers)
        if reload:
            spawned, told = server.spawned(), server.report().server
            assert told is not None
            os.kill(told.process.pid, signal.SIGHUP)
            eventually("it is up again", lambda: server.ended or server.spawned() > spawned)
            eventually("its worker is seen again", server.workers)
        return story(server)


TELLERS: Mapping[str, Callable[[], Any]] = {
    "preload 23.0.0": partial(tell_start, "23.0.0", "--preload", slow=ASLEEP + APP),
    "preload 27.0.1": partial(tell_start, "27.0.1", "--preload", slow=ASLEEP + APP),
    "preload after some work": partial(tell_start, "27.0.1", "--preload", slow=AT_WORK + ASLEEP + APP),
    "on_starting": partial(tell_start, "27.0.1", own=HOOK.format("on_starting", "server")),
    "when_ready": partial(tell_start, "27.0.1", own=HOOK.format("when_ready", "server")),
    "on_exit": partial(tell_exit, "23.0.0"),
    "uWSGI starts": partial(tell_uwsgi, reload=False),
    "uWSGI reloads": partial(tell_uwsgi, reload=True),
    "child_exit": partial(tell_hook, "23.0.0"),
    "frozen v1": partial(tell_frozen, "v1"),
    "frozen v2": partial(tell_frozen, "v2"),
    "frozen boot": tell_frozen_boot,
}
CALM = tuple(TELLERS)[:8]


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Any]]]:
    prepare(["gunicorn-23.0.0", "gunicorn-27.0.1", "uwsgi-2.0.31"])
    with telling(request, TELLERS, at_once=6) as stories:
        yield stories


@pytest.mark.parametrize("name", CALM)
def test_a_master_that_sleeps_while_it_comes_or_goes_is_left_alone(
    stories: Mapping[str, Future[Story]], name: str
) -> None:
    told = stories[name].result()
    assert (told.kills, told.incidents) == ([], [])
    assert not told.exit_code


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_server_in_a_frozen_cgroup_is_left_alone(stories: Mapping[str, Future[Story]], version: str) -> None:
    told = stories[f"frozen {version}"].result()
    assert told.kills == []
    assert [event for event in told.incidents if "stuck-arbiter" in event["message"]] == []


def test_nothing_in_a_frozen_cgroup_is_ended_whatever_a_rule_says(stories: Mapping[str, Future[Kill]]) -> None:
    kill = stories["frozen boot"].result()
    assert (kill.reason, kill.outcome) == ("boot-hang", "spared")
    assert "cgroup is frozen" in kill.message


def test_a_master_that_sleeps_in_a_hook_with_no_worker_left_is_told_and_given_time(
    stories: Mapping[str, Future[Story]],
) -> None:
    told = stories["child_exit"].result()
    assert told.kills == []
    assert "may be in a hook" in told.incidents[0]["message"] + told.incidents[0].get("reason", "")
