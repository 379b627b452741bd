"""A real uWSGI under the watch: who is who, settings, requests, harakiri, orphans, a master that stands still."""

import contextlib
import os
import signal
import threading

import psutil
import pytest

from tests.servers.server import eventually
from tests.servers.uwsgi import Uwsgi
from tests.servers.watched import Beside

pytestmark = pytest.mark.servers


class Piped(Uwsgi):
    """Logs into a pipe that is read until `hold`, as a log shipper does that hangs one day."""

    def hold(self) -> None:
        """Read it no more, and fill it: whoever logs now blocks."""
        self._holding = True
        os.write(self._writer, b"\n")
        self._copier.join()
        full = os.open(f"/proc/self/fd/{self._writer}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(full, b"x" * 512)
        os.close(full)

    def _start(self) -> None:
        reader, self._writer = os.pipe()
        self._holding = False
        self._process = self._spawn(self._writer)
        self.log_path.touch()
        self._copier = threading.Thread(target=self._copy, args=(reader,), daemon=True)
        self._copier.start()

    def _copy(self, reader: int) -> None:
        with self.log_path.open("ab", buffering=0) as log:
            while not self._holding:
                log.write(os.read(reader, 4096))


def beside(server: Uwsgi, *options: str) -> Beside:
    return Beside("--pid", str(server.pid), *options)


def setting(sidecar: Beside, name: str) -> object:
    told = sidecar.report().setting(name)
    return told.value if told else None


def ask(server: Uwsgi, path: str) -> None:
    with contextlib.suppress(OSError):
        server.get(path, 30.0)


def test_a_uwsgi_is_told_whole_and_a_harakiri_is_a_timeout_whose_children_are_ended() -> None:
    with Uwsgi("--processes", "2", "--harakiri", "3", "--mule") as server, beside(server) as sidecar:
        eventually("both workers are told, and not the mule", lambda: len(sidecar.workers()) == 2)
        report = sidecar.report()
        assert report.server is not None
        assert (report.server.kind, report.server.release) == ("uwsgi", "2.0.31")
        assert report.server.process.pid == server.pid
        assert [worker.slot for worker in sidecar.workers()] == [1, 2]
        assert (setting(sidecar, "timeout_s"), setting(sidecar, "workers")) == (3, 2)
        assert report.accept_queue is not None
        assert report.accept_queue.limit == 100
        for _ in range(6):
            assert server.get("/").status == 200
        eventually("requests are told", lambda: sum(sidecar.samples("wsgi_worker_requests_total").values()) == 6)
        before = {worker.process.pid for worker in sidecar.workers()}
        slow = threading.Thread(target=ask, args=(server, "/children?how=fork&n=1&s=300&block=30"))
        slow.start()
        eventually("the harakiri is a timeout", lambda: sidecar.sample("wsgi_worker_timeouts_total") == 1)
        slow.join(30)
        eventually("two workers again", lambda: len({w.process.pid for w in sidecar.workers()} - before) == 1)
        eventually(
            "what it left is ended",
            lambda: sidecar.samples("wsgi_kills_total").get(("killed", "orphan-processes", "orphan")),
        )
        assert sidecar.ask("/server/livez").status == 200
        assert sidecar.sample("wsgi_incidents_total", kind="stuck-arbiter") == 0


def test_a_master_that_blocks_in_its_log_is_ended_with_its_server() -> None:
    with Piped("--processes", "1") as server, beside(server) as sidecar:
        eventually("its worker is told", lambda: len(sidecar.workers()) == 1)
        scans = sidecar.report().counts.scans
        eventually("it was seen awake", lambda: sidecar.report().counts.scans > scans + 5)
        server.hold()
        os.kill(sidecar.workers()[0].process.pid, signal.SIGKILL)
        eventually("the server is ended", lambda: server.ended)
        eventually("it is told", lambda: [event["reason"] for event in sidecar.events("kill")] == ["stuck-arbiter"])


def test_a_lone_uwsgi_is_its_own_worker_and_never_called_stuck() -> None:
    with Uwsgi(master=False, stats="") as server, beside(server) as sidecar:
        eventually("it is its own worker", lambda: [w.process.pid for w in sidecar.workers()] == [server.pid])
        scans = sidecar.report().counts.scans
        # Longer than the window in which an arbiter would be called stuck.
        eventually("fourteen more looks", lambda: sidecar.report().counts.scans > scans + 14)
        assert sidecar.report().incidents == ()
        assert any(unknown.remedy.startswith("set UWSGI_STATS") for unknown in sidecar.report().unknowns)
        assert psutil.Process(server.pid).is_running()
