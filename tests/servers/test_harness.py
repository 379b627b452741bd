"""The harness itself: if it leaks or guesses, every other test lies."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import rooms
from tests.servers.processes import VARIABLE, alive, end_leftovers, end_marked, marked
from tests.servers.rooms import MARKER, RELEASES, ROOMS, Room, RoomError, room_of
from tests.servers.server import Server, eventually

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", autouse=True)
def _rooms() -> None:
    rooms.prepare()


@pytest.mark.parametrize("release", RELEASES)
def test_every_room_holds_its_release(release: str) -> None:
    code = "import gunicorn; print(gunicorn.__version__)"
    python = room_of(release) / "bin" / "python"
    assert subprocess.check_output([python, "-c", code], text=True).strip() == release


def test_an_unknown_room_says_which_there_are() -> None:
    with pytest.raises(RoomError, match=r"no room is called 'gunicorn-1.2.3'; add it to ROOMS, which has gunicorn-20"):
        room_of("1.2.3")


def test_two_runs_make_a_room_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.starmap(_make_and_look, [("gunicorn-23.0.0", tmp_path)] * 2)
    assert made[0] == made[1]


def test_a_half_made_or_outdated_room_is_made_anew(tmp_path: Path) -> None:
    room = tmp_path / "gunicorn-22.0.0"
    (room / "bin").mkdir(parents=True)
    (room / MARKER).write_text("another recipe")
    rooms._made.__wrapped__("gunicorn-22.0.0", tmp_path)
    assert (room / MARKER).read_text() == ROOMS["gunicorn-22.0.0"].recipe()
    assert (room / "bin" / "gunicorn").exists()


def test_a_room_that_cannot_be_made_tells_the_tool_s_own_words(tmp_path: Path) -> None:
    with pytest.raises(RoomError, match=r"(?s)uv pip install.*no-such-release|pip.*no-such-release"):
        rooms._make(Room(name="none", requirements=("gunicorn==0.0.0+no-such-release",)), tmp_path / "none")
    assert not (tmp_path / "none" / MARKER).exists()


@pytest.mark.parametrize("release", RELEASES)
def test_a_server_serves_and_leaves_nothing(release: str) -> None:
    with Server(release, "-w", "2") as server:
        eventually("both workers are there", lambda: len(server.worker_pids()) == 2)
        assert server.get("/").body == "ok\n"
        assert int(server.get("/pid").body.split()[0]) in server.worker_pids()
        pids, folder = server.all_pids(), server.folder
        assert {server.master_pid, *server.worker_pids()} <= set(pids)
    assert not alive(pids)
    assert not folder.exists()


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver", "popen", "session", "daemon"])
def test_orphans_of_every_kind_are_gone_with_the_server(how: str) -> None:
    with Server("23.0.0") as server:
        before = set(server.all_pids())
        server.get(f"/children?how={how}&n=2", timeout_s=30)
        eventually("both children run", lambda: len(set(server.all_pids()) - before) >= 2)
        pids = server.all_pids()
    assert not alive(pids)


def test_a_server_that_does_not_start_fails_with_its_log() -> None:
    with pytest.raises(AssertionError, match="ended with") as caught, Server("23.0.0", "--workers", "two"):
        pass
    assert any("--workers two" in note and "two" in note for note in caught.value.__notes__)


def test_what_a_killed_test_run_left_behind_is_swept() -> None:
    namespace = os.stat("/proc/self/ns/pid").st_ino
    mark = f"{namespace}.{os.getpid()}.1.0"  # this pid, but never started at tick 1: an owner that is no more
    sleeper = subprocess.Popen(["sleep", "60"], env={VARIABLE: mark, "PATH": os.environ["PATH"]})
    try:
        end_leftovers()  # or a run beside this one did so before
        assert sleeper.wait(10) == -9
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize("mark", ["{pid}.1.0", "1.{pid}.1.0", "{namespace}.{pid}.{started}.0"])
def test_what_has_an_owner_or_a_mark_that_says_nothing_to_us_is_left_alone(mark: str) -> None:
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    namespace = os.stat("/proc/self/ns/pid").st_ino
    mark = mark.format(pid=os.getpid(), started=started, namespace=namespace)
    sleeper = subprocess.Popen(["sleep", "60"], env={VARIABLE: mark, "PATH": os.environ["PATH"]})
    try:
        eventually("it runs", lambda: marked(mark))
        end_leftovers()
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait(10)


def test_what_is_not_marked_is_never_touched() -> None:
    mark = "1.1.none"
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert end_marked(mark) == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.communicate()


def test_servers_may_run_side_by_side() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_serve_once, RELEASES[:4])) == ["ok\n"] * 4


def _serve_once(release: str) -> str:
    with Server(release) as server:
        return server.get("/").body


def _make_and_look(name: str, folder: Path) -> float:
    return (rooms._made(name, folder) / MARKER).stat().st_mtime
