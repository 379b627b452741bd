"""The load is what the demos' figures and many tests stand on: it must count right and stay within its bounds."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from demo.load import Load, SilentClients
from tests.servers.server import eventually


class Page(BaseHTTPRequestHandler):
    """Answers `/` with 200, `/gone` with 404, `/broken` with 500 and `/slow` never."""

    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        if self.path == "/slow":
            time.sleep(3)
        self.send_response({"/gone": 404, "/broken": 500}.get(self.path, 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def page() -> Iterator[int]:
    Page.connections = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def run(port: int, path: str = "/", **options: object) -> Load:
    settings: dict[str, object] = {"clients": 2, "pause_s": 0.0, "at_most": 20} | options
    with Load("127.0.0.1", port, path, **settings) as load:  # type: ignore[arg-type]
        eventually("the bounds are reached", lambda: not load.running)
    return load


def test_exactly_the_allowed_number_of_requests_is_made() -> None:
    with page() as port:
        tally = run(port).tally()
    assert (tally.served, tally.failed, tally.failures) == (20, 0, ())
    assert tally.median_s is not None
    assert 0 < tally.median_s <= (tally.p99_s or 0) <= (tally.slowest_s or 0)


# One of two clients may have asked all 20 before the other begins.
@pytest.mark.parametrize(("keep_alive", "connections"), [(False, {20}), (True, {1, 2})])
def test_a_connection_serves_one_request_or_all_of_its_client(keep_alive: bool, connections: set[int]) -> None:
    with page() as port:
        run(port, keep_alive=keep_alive)
        assert len(Page.connections) in connections


@pytest.mark.parametrize(
    ("path", "timeout_s", "served", "failures"),
    [
        ("/gone", 30.0, 20, ()),
        ("/broken", 30.0, 0, (("status 500", 20),)),
        ("/slow", 0.05, 0, (("timed out", 20),)),
    ],
)
def test_failures_are_told_by_their_kind(
    path: str, timeout_s: float, served: int, failures: tuple[tuple[str, int], ...]
) -> None:
    with page() as port:
        tally = run(port, path, timeout_s=timeout_s).tally()
    assert (tally.served, tally.failures) == (served, failures)


def test_nobody_there_is_a_failure_not_a_crash() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        tally = run(closed.getsockname()[1]).tally()
    assert tally.failures == (("ConnectionRefusedError", 20),)
    assert tally.median_s is None


def test_the_time_is_bounded_too() -> None:
    with page() as port:
        load = run(port, at_most=10_000_000, for_at_most_s=0.3, pause_s=0.01)
    assert load.elapsed_s < 20
    assert load.tally().served > 0


def test_seconds_and_rate_add_up_to_what_was_served() -> None:
    with page() as port, Load("127.0.0.1", port, clients=2, pause_s=0.01) as load:
        eventually("two whole seconds have passed", lambda: load.elapsed_s > 2.1)
        seconds = load.seconds()[:2]
        assert all(second.served > 0 and second.failed == 0 for second in seconds)
        assert load.rate(over_s=2) == sum(second.served for second in load.seconds()[-2:]) / 2


def test_silent_clients_are_connected_and_say_nothing_until_closed() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        with SilentClients("127.0.0.1", listener.getsockname()[1], 3):
            accepted = [listener.accept()[0] for _ in range(3)]
            for one in accepted:
                one.setblocking(False)
                with pytest.raises(BlockingIOError):
                    one.recv(1)
        for one in accepted:
            one.setblocking(True)
            assert one.recv(1) == b"", "closed"
            one.close()


@pytest.mark.parametrize("count", [0, -1, 4001])
def test_silent_clients_are_bounded(count: int) -> None:
    with pytest.raises(ValueError, match="choose 1 to 4000"):
        SilentClients("127.0.0.1", 1, count)
