"""The port under a crowd: who fills it keeps nobody else out."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry

from tests.sidecar.test_web import published
from wsgi_sidecar.crowd import PLACES
from wsgi_sidecar.testing import family
from wsgi_sidecar.web import Pages, WebThread, listen

KUBELET, NEIGHBOUR, OTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@pytest.fixture
def port() -> Iterator[int]:
    state = published(family())
    with listen("", 0) as listener:
        pages = Pages(latest=lambda: state, stuck_s=lambda: None, registry=CollectorRegistry())
        web = WebThread(pages, listener)
        web.start()
        yield listener.getsockname()[1]
        web.stop()


def connected(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def asked(port: int, path: str = "/server/livez", source: str = KUBELET) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(source, 0))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except BlockingIOError:
        return False


def test_probes_are_answered_although_a_neighbour_holds_a_hundred_idle_connections(port: int) -> None:
    with ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(connected(port, NEIGHBOUR))
        for _ in range(5):
            assert [asked(port, path) for path in ("/livez", "/server/livez", "/metrics")] == [200, 200, 200]
            time.sleep(0.1)


def test_a_half_request_holds_a_place_no_longer_than_an_idle_connection(port: int) -> None:
    with ExitStack() as crowd:
        for _ in range(60):
            crowd.enter_context(connected(port, NEIGHBOUR)).sendall(b"GET /report HTTP/1.1\r\nx: ")
        assert asked(port) == 200


def test_who_takes_the_most_loses_and_the_modest_keep_what_they_have(port: int) -> None:
    with ExitStack() as crowd:
        scraper = crowd.enter_context(connected(port, KUBELET))
        many = [crowd.enter_context(connected(port, NEIGHBOUR)) for _ in range(PLACES + 20)]
        few = [crowd.enter_context(connected(port, OTHER)) for _ in range(3)]
        assert asked(port) == 200
        time.sleep(0.2)
        assert not closed(scraper)
        assert not any(map(closed, few))
        open_ones = [connection for connection in many if not closed(connection)]
        assert len(open_ones) <= PLACES
        assert open_ones == many[-len(open_ones) :]
