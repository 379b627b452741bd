"""Settings changed in a running server, on real releases: applied under load, taken back, refused.

All stories run at the same time; each has a server of its own. A reload is seen in the arbiter's own log.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.servers.rooms import room_of
from tests.servers.server import Server, eventually
from tests.servers.started import under_load
from tests.servers.watched import Beside, Event, Told, Watched
from wsgi_contract.in_place import InPlace, InPlaceOrder, dump_order
from wsgi_contract.report import Report
from wsgi_contract.servers.gunicorn_in_place import Boot, point_config, render_boot
from wsgi_contract.settings import Wanted

pytestmark = pytest.mark.servers

ENDS = ("Applied", "RolledBack", "Refused", "Failed")
OPTIONS = ("--order-file", "order.json", "--in-place", "live")
GTHREAD = ("-k", "gthread", "--graceful-timeout", "10")
OWN = "workers = 2\nthreads = 2\n"
YOUNG_S = 1.5
RELEASES = ("20.1.0", "23.0.0", "27.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was seen of one server."""

    told: InPlace
    report: Report
    statuses: tuple[object, ...] = ()
    events: list[Event] = field(default_factory=list)
    log: str = ""
    ends: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    more: Any = None

    @property
    def reloads(self) -> int:
        return self.log.count("Handling signal: hup")


def order(name: str = "a", within_s: float = 60.0, **settings: int) -> str:
    return dump_order(InPlaceOrder(id=name, settings=Wanted(**settings), within_s=within_s))


def settled(sidecar: Told, name: str = "a") -> InPlace:
    def look() -> InPlace | None:
        told = sidecar.report().in_place
        done = told is not None and told.order == name and told.state in ENDS
        return told if done and told is not None and "were written again" not in told.reason[-40:] else None

    return eventually(f"order {name} is settled", look, within_s=90)


def story(server: Watched, told: InPlace, **more: Any) -> Story:
    ends = server.samples("wsgi_in_place_changes_total")
    return Story(told=told, report=server.report(), events=server.events("in-place"), log=server.log, ends=ends, **more)


@contextmanager
def watched(release: str, *arguments: str, files: Mapping[str, str] | None = None, **others: Any) -> Iterator[Watched]:
    own = {"own.py": OWN, "order.json": ""} | dict(files or {})
    environment = {"GUNICORN_CMD_ARGS": "-c own.py"} | others.pop("environment", {})
    with Watched(release, *arguments, files=own, options=OPTIONS, environment=environment, **others) as server:
        eventually("two workers are up", lambda: [w.state for w in server.workers()] == ["alive"] * 2)
        yield server


def changed_under_load(release: str, *arguments: str, **settings: int) -> Story:
    with watched(release, *arguments) as server, under_load(server) as seen:
        time.sleep(YOUNG_S)
        (server.folder / "order.json").write_text(order(**settings))
        told = settled(server)
        time.sleep(YOUNG_S)
        return story(server, told, statuses=tuple(seen))


def slow_to_boot(release: str) -> Story:
    """A timeout shorter than the import: this release ends its workers while they load, again and again."""
    app = "import time\ntime.sleep(3)\nfrom apps import app\n"
    with watched(release, application="heavy:app", files={"heavy.py": app}) as server, under_load(server, 2) as seen:
        (server.folder / "order.json").write_text(order(within_s=8, timeout_s=1))
        told = settled(server)
        served = len(seen)
        eventually("it serves as before", lambda: len(seen) > served + 20)
        return story(server, told, statuses=tuple(seen[served:]))


PICKY = """
import os, time
path = "LIVE/in-place.json"
if os.path.exists(path) and '"settings": {"workers": 5}' in open(path).read():
    DOES
from apps import app
"""
"""An application that does not load with a certain setting."""


def never_up(release: str) -> Story:
    app = PICKY.replace("LIVE", "live").replace("DOES", "time.sleep(600)")
    with watched(release, application="picky:app", files={"picky.py": app}) as server:
        (server.folder / "order.json").write_text(order(within_s=6, workers=5))
        told = settled(server)
        eventually("it serves as before", lambda: server.get().status == 200)
        return story(server, told)


def ended_under_it(release: str) -> Story:
    """An import that fails ends the whole server, on every release; the next one finds the last good settings."""
    with TemporaryDirectory() as folder:
        app = PICKY.replace("LIVE", folder).replace("DOES", "raise RuntimeError")
        files = {"own.py": OWN, "picky.py": app}
        options = ("--order-file", f"{folder}/order.json", "--in-place", folder)
        again: dict[str, Any] = {"application": "picky:app", "files": files, "options": options}
        again["environment"] = {"GUNICORN_CMD_ARGS": "-c own.py"}
        with Watched(release, **again) as server:
            (Path(folder) / "order.json").write_text(order(workers=5))
            code = server.wait()
        with Watched(release, **again) as server:
            return story(server, settled(server), more=code)


def refused(release: str) -> Story:
    """What its command line says, an unreadable order, a config file that was changed."""
    with watched(release, "--timeout", "33") as server:
        seen = []
        for number, text in enumerate((order("b", timeout_s=40), "{", order("c", workers=0))):
            (server.folder / "order.json").write_text(text)
            if number == 0:
                settled(server, "b")
            else:
                looks = server.report().counts.scans
                eventually("it was looked at", lambda looks=looks: server.report().counts.scans > looks + 3)  # type: ignore[misc]
            report = server.report()
            seen.append((report.in_place, [each.why for each in report.unknowns if each.what == "order"]))
        time.sleep(YOUNG_S)
        (server.folder / "own.py").write_text("workers = = 2\n")
        (server.folder / "order.json").write_text(order("d", threads=5))
        return story(server, settled(server, "d"), more=seen)


def broken_by_its_owner(release: str) -> Story:
    """HUP from a person, with a config file that plain gunicorn would end over."""
    with watched(release) as server:
        for text in ("workers = = 2\n", "workers = 'two'\n", "raise SystemExit\n"):
            (server.folder / "own.py").write_text(text)
            told, old = server.log.count("stay what they were"), set(server.worker_pids())
            os.kill(server.master_pid, signal.SIGHUP)
            eventually("it was read", lambda told=told: server.log.count("stay what they were") > told)  # type: ignore[misc]
            eventually("the old ones have gone", lambda old=old: _two_besides(server, old))  # type: ignore[misc]
        return story(server, server.report().in_place or InPlace(means="none"), more=server.get().status)


def _two_besides(server: Server, old: set[int]) -> bool:
    pids = server.worker_pids()
    return len(pids) == 2 and old.isdisjoint(pids)


def by_signals(release: str) -> Story:
    """A config file on the command line hides ours."""
    with watched(release, "-c", "own.py", environment={"GUNICORN_CMD_ARGS": ""}) as server:
        (server.folder / "order.json").write_text(order("a", workers=4, threads=4))
        first = settled(server)
        (server.folder / "order.json").write_text(order("b", workers=4, threads=2))
        more = settled(server, "b")
        (server.folder / "order.json").write_text(order("c", workers=1))
        return story(server, settled(server, "c"), more=(first, more))


@contextmanager
def beside(release: str, folder: Path, *arguments: str, live: str = "in-place.json", **others: Any) -> Iterator[Server]:
    """A server that reads what a sidecar beside it writes into the folder, as in a pod."""
    (folder / "gunicorn.conf.py").write_text(render_boot(Boot(live=str(folder / live), settings=Wanted(workers=2))))
    pointed = point_config("--graceful-timeout 5", str(folder / "gunicorn.conf.py"))
    with Server(release, *arguments, environment={"GUNICORN_CMD_ARGS": pointed}, **others) as server:
        yield server


def sidecar(folder: Path, server: Server) -> Beside:
    given = ("--pid", str(server.master_pid), "--order-file", str(folder / "order.json"), "--in-place", str(folder))
    return Beside(*given)


def verifying(told: Beside) -> Any:
    return eventually("it is verified", lambda: (p := told.report().in_place) and p.state == "Verifying")


def sidecar_killed(release: str) -> Story:
    with TemporaryDirectory() as name, beside(release, Path(name)) as server:
        folder = Path(name)
        with sidecar(folder, server) as first:
            (folder / "order.json").write_text(order(workers=3))
            verifying(first)
            first.stop(signal.SIGKILL)
        with sidecar(folder, server) as second:
            told = settled(second)
            return Story(told=told, report=second.report(), log=server.log)


def master_killed(release: str) -> Story:
    with TemporaryDirectory() as name:
        folder = Path(name)
        given = ("--order-file", str(folder / "order.json"), "--in-place", name, "--pid", str(os.getpid()))
        with beside(release, folder) as server, Beside(*given) as told:
            eventually("it is found", lambda: [w.process.pid for w in told.workers()] == list(server.worker_pids()))
            (folder / "order.json").write_text(order(workers=3))
            verifying(told)
            os.kill(server.master_pid, signal.SIGKILL)
            eventually("it is gone", lambda: told.report().server is None)
            with beside(release, folder) as heir:
                value = settled(told)
                return Story(told=value, report=told.report(), log=heir.log, more=len(heir.worker_pids()))


def master_replaced(release: str) -> Story:
    """The next one is there before anybody looked, and has set no signal handler while it imports."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        given = ("--order-file", str(folder / "order.json"), "--in-place", name, "--pid", str(os.getpid()))
        with beside(release, folder) as server, Beside(*given, scan_interval_s=2.0) as told:
            eventually("it is found", lambda: [w.process.pid for w in told.workers()] == list(server.worker_pids()))
            (folder / "order.json").write_text(order(workers=3))
            verifying(told)
            os.kill(server.master_pid, signal.SIGKILL)
            files = {"slow.py": "import time\ntime.sleep(5)\nfrom apps import app\n"}
            with beside(release, folder, "--preload", application="slow:app", files=files) as heir:
                value = settled(told)
                return Story(told=value, report=told.report(), log=heir.log, more=len(heir.worker_pids()))


def another_file(release: str) -> Story:
    """The server reads another file than the one that is written."""
    with TemporaryDirectory() as name, beside(release, Path(name), live="elsewhere.json") as server:
        folder = Path(name)
        with sidecar(folder, server) as told:
            (folder / "order.json").write_text(order(workers=3))
            return Story(told=settled(told), report=told.report(), log=server.log)


STORIES: Mapping[str, tuple[Callable[..., Story], tuple[Any, ...], Mapping[str, int]]] = {
    "20.1.0 gthread": (changed_under_load, ("20.1.0", *GTHREAD), {"workers": 4, "threads": 3, "timeout_s": 75}),
    "23.0.0 sync": (changed_under_load, ("23.0.0", "--threads", "1"), {"workers": 4, "timeout_s": 75}),
    "27.0.1 gthread": (changed_under_load, ("27.0.1", *GTHREAD), {"workers": 4, "threads": 3, "timeout_s": 75}),
}


@pytest.fixture(scope="module")
def stories() -> Iterator[Mapping[str, Future[Story]]]:
    for release in RELEASES:
        room_of(release)
    with ThreadPoolExecutor(3) as pool:
        told = {name: pool.submit(tell, *arguments, **more) for name, (tell, arguments, more) in STORIES.items()}
        told["slow to boot"] = pool.submit(slow_to_boot, "20.1.0")
        told["hangs"] = pool.submit(never_up, "27.0.1")
        told["ends"] = pool.submit(ended_under_it, "23.0.0")
        told["refused"] = pool.submit(refused, "23.0.0")
        told["signals"] = pool.submit(by_signals, "27.0.1")
        told |= {f"broken {release}": pool.submit(broken_by_its_owner, release) for release in RELEASES}
        told["sidecar killed"] = pool.submit(sidecar_killed, "27.0.1")
        told["another file"] = pool.submit(another_file, "27.0.1")
        yield told


@pytest.mark.parametrize("name", STORIES)
def test_a_change_takes_effect_without_a_failed_request(name: str, stories: Mapping[str, Future[Story]]) -> None:
    seen, ordered = stories[name].result(), STORIES[name][2]
    assert seen.told.state == "Applied", seen.told.reason
    assert dict(seen.told.after) == ordered
    assert {each.name: each.value for each in seen.report.settings if each.source == "in-place"} == ordered
    assert len(seen.report.workers or ()) == 4
    assert set(seen.statuses) == {200}
    assert len(seen.statuses) > 100


@pytest.mark.parametrize("name", STORIES)
def test_its_restarts_are_a_reload_and_no_incident(name: str, stories: Mapping[str, Future[Story]]) -> None:
    seen = stories[name].result()
    assert dict(seen.report.counts.restarts) == {"reload": 2}
    assert (seen.report.incidents, seen.report.kills) == ((), ())
    assert seen.reloads == 1


@pytest.mark.parametrize("name", STORIES)
def test_it_is_told_in_two_lines_and_counted(name: str, stories: Mapping[str, Future[Story]]) -> None:
    seen = stories[name].result()
    assert [each["state"] for each in seen.events] == ["Verifying", "Applied"]
    assert (seen.ends[("Applied",)], seen.ends[("RolledBack",)]) == (1, 0)


def test_workers_that_do_not_come_up_are_taken_back(stories: Mapping[str, Future[Story]]) -> None:
    seen = stories["slow to boot"].result()
    assert seen.told.state == "RolledBack", seen.told.reason
    assert "the workers are up with them" in seen.told.reason
    assert dict(seen.told.after) == {"timeout_s": 30}
    assert set(seen.statuses) == {200}
    assert seen.reloads == 2


def test_an_application_that_hangs_in_its_import_is_taken_back(stories: Mapping[str, Future[Story]]) -> None:
    seen = stories["hangs"].result()
    assert seen.told.state == "RolledBack", seen.told.reason
    assert dict(seen.told.after) == {"workers": 2}


def test_a_server_that_ends_under_it_starts_again_with_the_last_good_settings(
    stories: Mapping[str, Future[Story]],
) -> None:
    seen = stories["ends"].result()
    assert (seen.more in (1, 3), seen.told.state) == (True, "RolledBack")
    assert "the server ended under it" in seen.told.reason
    assert dict(seen.told.after)["workers"] == 2
    assert seen.reloads == 0


def test_what_cannot_be_is_refused_and_nobody_is_told(stories: Mapping[str, Future[Story]]) -> None:
    seen = stories["refused"].result()
    (pinned, no_trouble), (kept, bad), (kept_too, zero) = seen.more
    assert (pinned.state, no_trouble) == ("Refused", [])
    assert "timeout_s is given by --timeout 33" in pinned.reason
    assert (kept.order, kept_too.order) == ("b", "b"), "a bad order keeps the last good one"
    assert "not JSON" in bad[0]
    assert "workers is 0" in zero[0]
    assert seen.told.state == "Refused"
    assert "own.py was changed after the server started" in seen.told.reason
    assert seen.reloads == 0


@pytest.mark.parametrize("release", RELEASES)
def test_a_reload_with_a_broken_config_file_kills_nothing(release: str, stories: Mapping[str, Future[Story]]) -> None:
    seen = stories[f"broken {release}"].result()
    assert (seen.reloads, seen.more) == (3, 200)


def test_without_a_file_of_ours_signals_change_the_workers_alone(stories: Mapping[str, Future[Story]]) -> None:
    seen = stories["signals"].result()
    refused, more = seen.more
    assert (refused.means, refused.state) == ("signals", "Refused")
    assert "not threads: its command line names a config file (-c own.py)" in refused.reason
    assert (more.state, dict(more.before)["workers"], dict(more.after)["workers"]) == ("Applied", 2, 4)
    assert (seen.told.state, dict(seen.told.after)) == ("Applied", {"workers": 1})
    assert seen.reloads == 0


def test_a_sidecar_that_was_killed_in_the_middle_goes_on(stories: Mapping[str, Future[Story]]) -> None:
    seen = stories["sidecar killed"].result()
    assert seen.told.state == "Applied", seen.told.reason
    assert (len(seen.report.workers or ()), seen.reloads) == (3, 1)


def test_a_master_that_was_killed_in_the_middle_is_followed_by_the_last_good_settings(
    stories: Mapping[str, Future[Story]],
) -> None:
    for other in stories.values():
        other.exception()  # nobody else's server may be there to be taken for it
    seen = master_killed("27.0.1")
    assert seen.told.state == "RolledBack", seen.told.reason
    assert (seen.more, seen.reloads) == (2, 0)


def test_a_master_that_was_replaced_between_two_looks_is_told_once_it_can_hear(
    stories: Mapping[str, Future[Story]],
) -> None:
    for other in stories.values():
        other.exception()  # nobody else's server may be there to be taken for it
    seen = master_replaced("27.0.1")
    assert seen.told.state == "RolledBack", seen.told.reason
    assert (seen.more, seen.reloads) == (2, 1)


def test_a_server_that_reads_another_file_is_not_told_anything(stories: Mapping[str, Future[Story]]) -> None:
    seen = stories["another file"].result()
    assert seen.told.state == "Refused"
    assert "cannot be read back" in seen.told.reason
    assert seen.reloads == 0
