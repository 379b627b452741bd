"""Requests over statsd, end to end: the command, a real gunicorn, its answers in /report and /metrics."""

import os
import signal
import socket

import psutil
import pytest

from tests.servers.server import Server, eventually, get
from tests.servers.watched import Beside, Watched

pytestmark = pytest.mark.servers
FAILED_SEND = "Error sending message to statsd"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("release", ["20.1.0", "27.0.1"])
def test_run_points_the_server_at_itself_and_sends_every_datagram_on(release: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owners:
        owners.bind(("127.0.0.1", 0))
        owners.settimeout(30)
        environment = {"GUNICORN_CMD_ARGS": f"--statsd-host=127.0.0.1:{owners.getsockname()[1]}"}
        with Watched(release, "-w", "2", options=("--statsd-port", "0"), environment=environment) as server:
            for _ in range(10):
                assert server.get("/").status == 200
            eventually("ten requests are told", lambda: server.sample("wsgi_requests_total", status="200") == 10)
            assert server.sample("wsgi_request_duration_seconds_count") == 10
            assert server.sample("wsgi_requests_total", status="500") == 0
            assert server.sample("wsgi_log_lines_total", level="critical") == 0
            assert server.sample("wsgi_statsd_dropped_total") == 0
            told = server.report().requests
            assert told is not None
            assert told.count == 10
            assert b"gunicorn" in owners.recv(512)
            assert (server.sample("wsgi_statsd_forwarded_total", outcome="sent") or 0) >= 30
            assert FAILED_SEND not in server.log


def test_a_unix_socket_tells_which_slot_served_what() -> None:
    path = f"/tmp/wsgi-statsd-{os.getpid()}.sock"
    try:
        with Watched("23.0.0", "-w", "2", options=("--statsd-socket", path)) as server:
            for _ in range(6):
                assert server.get("/").status == 200
            eventually(
                "six requests have a slot", lambda: sum(server.samples("wsgi_worker_requests_total").values()) == 6
            )
            assert set(server.samples("wsgi_worker_requests_total")) <= {("1",), ("2",)}
    finally:
        if os.path.exists(path):
            os.unlink(path)


def test_a_watch_that_dies_is_back_before_the_server_notices() -> None:
    port = free_port()
    with (
        # It comes before the server, so what it watches is named by what is above it: us.
        Beside("--pid", str(os.getpid()), "--statsd-port", str(port)) as sidecar,
        Server("27.0.1", "--statsd-host", f"127.0.0.1:{port}") as server,
    ):
        assert server.get("/").status == 200
        eventually("the request is told", lambda: sidecar.sample("wsgi_requests_total", status="200") == 1)
        (work,) = psutil.Process(sidecar.pid).children()
        work.kill()
        for _ in range(5):
            assert server.get("/").status == 200
        eventually("it is back, with the requests sent meanwhile", lambda: _told(sidecar, 5))
        assert FAILED_SEND not in server.log
        assert sidecar.stop(signal.SIGTERM) == 0


def _told(sidecar: Beside, count: int) -> bool:
    port = int(sidecar.events("listening")[-1]["port"])
    if len(sidecar.events("listening")) < 2:
        return False
    try:
        return f'wsgi_requests_total{{status="200"}} {count}.0' in get(port, "/metrics").body
    except OSError:
        return False
