"""Incident A end to end: an arbiter that blocks in its own loop, on releases that have it, and its twin on others.

The stories mostly wait, so they are told at the same time, each on a server of its own.
"""

import contextlib
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import pytest

from tests.servers.deaf import DEAF, DEAF_FILES, kill_workers_until_nobody_comes
from tests.servers.processes import alive
from tests.servers.rooms import prepare
from tests.servers.server import Server, eventually
from tests.servers.stories import telling
from tests.servers.watched import Beside, Event, Watched

pytestmark = pytest.mark.servers

TWINS = ("20.1.0", "23.0.0", "27.0.1")
PATCHED = ("20.1.0", "21.2.0", "22.0.0", "23.0.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the sidecar said of one stuck arbiter."""

    incident: Event
    kill: Event
    kills: float | None
    incidents: float | None
    exit_code: int | None
    alive: bool


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Story]]]:
    prepare([f"gunicorn-{release}-eventlet" for release in PATCHED])
    twins = {f"twin {release}": partial(tell_twin, release) for release in TWINS}
    patched = {f"eventlet {release}": partial(tell_patched, release) for release in PATCHED}
    dry_run = {"dry run": partial(tell_twin, "27.0.1", "--dry-run")}
    with telling(request, twins | patched | dry_run, at_once=8) as stories:
        yield stories


@pytest.mark.parametrize("name", [*(f"twin {release}" for release in TWINS), *(f"eventlet {r}" for r in PATCHED)])
def test_a_stuck_arbiter_is_told_and_its_server_ended(stories: Mapping[str, Future[Story]], name: str) -> None:
    story = stories[name].result()
    assert (story.kill["target"], story.kill["reason"], story.kill["outcome"]) == ("server", "stuck-arbiter", "killed")
    assert story.incident["kind"] == "stuck-arbiter"
    assert "respawns nobody" in story.incident["message"]
    assert not story.alive


@pytest.mark.parametrize("release", TWINS)
def test_a_stuck_arbiter_is_counted_once(stories: Mapping[str, Future[Story]], release: str) -> None:
    story = stories[f"twin {release}"].result()
    assert (story.kills, story.incidents) == (1, 1)


@pytest.mark.parametrize("release", PATCHED)
def test_run_ends_with_the_code_of_the_server_that_was_ended(
    stories: Mapping[str, Future[Story]], release: str
) -> None:
    assert stories[f"eventlet {release}"].result().exit_code == 128 + signal.SIGKILL


def test_a_dry_run_tells_the_stuck_arbiter_and_lets_it_be(stories: Mapping[str, Future[Story]]) -> None:
    story = stories["dry run"].result()
    assert story.kill["outcome"] == "dry-run"
    assert story.alive


def tell_twin(release: str, *options: str) -> Story:
    with (
        Server(release, "-w", "1", inside=DEAF, files=DEAF_FILES) as server,
        Beside("--pid", str(server.pid), *options) as beside,
    ):
        eventually("the sidecar sees the worker", lambda: len(beside.workers()) == 1)
        (server.folder / "deaf").touch()
        kill_workers_until_nobody_comes(server)
        (kill,) = eventually("the arbiter's kill is decided", lambda: beside.events("kill"))
        return Story(
            incident=beside.events("incident")[0],
            kill=kill,
            kills=beside.sample("wsgi_kills_total", target="server", reason="stuck-arbiter", outcome="killed"),
            incidents=beside.sample("wsgi_incidents_total", kind="stuck-arbiter"),
            exit_code=None,
            alive=bool(alive([server.master_pid])),
        )


def tell_patched(release: str) -> Story:
    config = {"gunicorn.conf.py": "import eventlet\neventlet.monkey_patch()\n"}
    arguments = ("-k", "eventlet", "-w", "1", "--max-requests", "10")
    with Watched(release, *arguments, files=config, suffix="-eventlet") as watched:
        for _ in range(25):
            with contextlib.suppress(OSError):
                watched.get(timeout_s=1)
            if not watched.worker_pids():
                break
        exit_code = watched.wait()
        return Story(
            incident=watched.events("incident")[0],
            kill=watched.events("kill")[0],
            kills=None,
            incidents=None,
            exit_code=exit_code,
            alive=bool(alive([watched.master_pid])),
        )
