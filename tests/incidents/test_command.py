"""The command: `run` is transparent to its child and to its caller; `watch` attaches and leaves."""

import os
import signal
import subprocess

import pytest

from tests.servers.processes import alive
from tests.servers.rooms import prepare, room_of
from tests.servers.server import PATIENCE_S, Server, eventually
from tests.servers.watched import COMMAND, Beside, Watched, events_in

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", autouse=True)
def _rooms() -> None:
    prepare()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_run_passes_the_end_on_and_ends_with_the_server_s_code(number: signal.Signals) -> None:
    with Watched("23.0.0", "-w", "2") as server:
        pids = server.all_pids()
        assert server.stop(number) == 0
        assert not alive(pids)
        assert "Shutting down: Master" in server.log


def test_a_reload_reaches_the_server() -> None:
    with Watched("23.0.0", files={"gunicorn.conf.py": "workers = 1"}) as server:
        # of another length: of a file of the same length and the same second, Python would take the old bytecode
        (server.folder / "gunicorn.conf.py").write_text("workers = 2\n")
        before = server.workers()[0].process
        os.kill(server.pid, signal.SIGHUP)
        eventually("two new workers", lambda: len(server.workers()) == 2 and before not in _processes(server))
        eventually("the new setting is told", lambda: server.sample("wsgi_workers_configured") == 2)
        assert server.report().kills == ()


def test_more_and_fewer_workers_reach_the_server() -> None:
    with Watched("27.0.1") as server:
        os.kill(server.pid, signal.SIGTTIN)
        eventually("one worker more", lambda: len(server.workers()) == 2)
        os.kill(server.pid, signal.SIGTTOU)
        eventually("one worker less", lambda: len(server.workers()) == 1)


def test_a_server_that_was_killed_ends_the_run_with_128_and_the_signal() -> None:
    with Watched("23.0.0") as server:
        os.kill(server.master_pid, signal.SIGKILL)
        assert server.wait() == 128 + signal.SIGKILL


def test_a_server_that_cannot_boot_ends_the_run_with_its_own_code() -> None:
    gunicorn = room_of("23.0.0") / "bin" / "gunicorn"
    done = run("run", "--port", "0", "--", str(gunicorn), "--bind", "127.0.0.1:0", "no_such_module:app")
    assert done.returncode == 3, done.stderr
    assert "no_such_module" in done.stderr, "the server's own words come through"


def test_any_exit_code_comes_through() -> None:
    assert run("run", "--port", "0", "--", "sh", "-c", "exit 42").returncode == 42


def test_the_server_s_output_is_not_touched() -> None:
    command = [*COMMAND, "run", "--port", "0", "--", "sh", "-c", "printf 'out\\0\\377'; printf err >&2"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.stdout == b"out\0\xff"
    assert b"err" in done.stderr


BAD = (
    (("run",), 2),
    (("run", "--port", "0", "--"), 2),
    (("run", "--port", "70000", "--", "true"), 2),
    (("run", "--port", "x", "--", "true"), 2),
    (("run", "--scan-interval", "0", "--", "true"), 2),
    (("run", "--log-format", "xml", "--", "true"), 2),
    (("run", "--port", "0", "--", "/no/such/command"), 127),
    (("watch", "--pid", "0"), 2),
    (("watch", "--pid", "999999999"), 2),
    (("fly",), 2),
    ((), 2),
)


@pytest.mark.parametrize(("arguments", "code"), BAD, ids=[" ".join(a) or "nothing" for a, _ in BAD])
def test_what_cannot_be_meant_ends_at_once_with_a_sentence(arguments: tuple[str, ...], code: int) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.split()) > 5
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_and_the_server_is_not_started() -> None:
    with Server("23.0.0") as other:
        done = run("run", "--port", str(other.port), "--", "sh", "-c", "echo started")
    assert done.returncode == 2
    assert str(other.port) in done.stderr
    assert "started" not in done.stdout


def test_watch_attaches_to_a_running_server_and_leaves_it_running() -> None:
    with Server("23.0.0", "-w", "2") as server:
        with Beside("--pid", str(server.master_pid)) as sidecar:
            eventually("both workers are known", lambda: len(sidecar.workers()) == 2)
            assert {worker.process.pid for worker in sidecar.workers()} == set(server.worker_pids())
            assert sidecar.stop() == 0
        assert server.get("/").status == 200


def test_watch_sees_only_the_server_it_was_pointed_at() -> None:
    with Server("23.0.0") as other, Server("27.0.1") as server, Beside("--pid", str(server.master_pid)) as sidecar:
        eventually("its worker is known", lambda: len(sidecar.workers()) == 1)
        report = sidecar.report()
        assert report.server is not None
        assert (report.server.process.pid, report.server.release) == (server.master_pid, "27.0.1")
        assert other.worker_pids()[0] not in {worker.process.pid for worker in report.workers or ()}


def test_watch_ends_with_the_process_it_was_pointed_at() -> None:
    with Server("23.0.0") as server, Beside("--pid", str(server.master_pid)) as sidecar:
        eventually("the server is found", lambda: sidecar.sample("wsgi_up") == 1)
        os.kill(server.master_pid, signal.SIGTERM)
        assert sidecar.wait() == 0
        assert [event["pid"] for event in sidecar.events("server-lost")] == [server.master_pid]


def test_a_process_that_is_no_server_gives_no_numbers() -> None:
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        try:
            with Beside("--pid", str(sleeper.pid)) as sidecar:
                report = sidecar.report()
                assert (report.server, report.workers, report.accept_queue, report.settings) == (None, None, None, ())
                assert sidecar.sample("wsgi_up") == 0
                assert sidecar.sample("wsgi_workers") is None
                assert sidecar.ask("/livez").status == 200, "the sidecar itself is well"
        finally:
            sleeper.kill()


def test_only_reading_is_answered() -> None:
    with Watched("23.0.0") as server:
        assert server.ask("/no/such/path").status == 404
        assert server.ask("/livez").status == 200
        for event in events_in(server.log):
            assert {"time", "level", "event", "message"} <= set(event)


def _processes(server: Watched) -> set[object]:
    return {worker.process for worker in server.workers()}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S)
