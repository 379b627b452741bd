"""What burns CPU or blocks, and is no frozen worker; and silent clients on the releases that they do not freeze."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from demo.load import SilentClients
from tests.servers.rooms import FREEZING, RELEASES, prepare
from tests.servers.server import eventually
from tests.servers.stories import telling
from tests.servers.watched import Watched
from wsgi_contract.policy import Policy
from wsgi_contract.report import Report

pytestmark = pytest.mark.servers

CONNECTIONS = 4
GTHREAD = ("-k", "gthread", "-w", "1", "--threads", "3", "--worker-connections", str(CONNECTIONS), "--timeout", "3")
WINDOW_S = Policy().frozen_window_s
NOT_FREEZING = tuple(release for release in RELEASES if release not in FREEZING)
SYNC = ("-k", "sync", "-w", "1", "--timeout", "60")
THREADS = ("-k", "gthread", "-w", "1", "--threads", "3")
BUSY = (
    # release, arguments, path: what burns CPU or blocks, but is no freeze; no path: silent clients on sound releases
    *((release, GTHREAD, None) for release in NOT_FREEZING),
    *((release, SYNC, "/cpu?s=60") for release in ("23.0.0", "27.0.1")),
    *((release, THREADS, "/cpu?s=60") for release in FREEZING),
    ("23.0.0", SYNC, "/slow?s=60"),
    ("23.0.0", THREADS, "/slow?s=60"),
    ("23.0.0", THREADS, "/stream?s=60"),
    ("23.0.0", THREADS, "/digest?s=60"),
)


@pytest.fixture(scope="module")
def watched_busy(request: pytest.FixtureRequest) -> Iterator[Mapping[int, Future[Report]]]:
    prepare()
    cases = {index: partial(watch_busy, *case) for index, case in enumerate(BUSY)}
    with telling(request, cases, at_once=7) as stories:
        yield stories


def watch_busy(release: str, arguments: tuple[str, ...], path: str | None) -> Report:
    """What is told of a server over two windows in which it has only hard work, or silent clients."""
    with ThreadPoolExecutor(1) as client, Watched(release, *arguments) as server, ExitStack() as stack:
        if path is None:
            stack.enter_context(SilentClients("127.0.0.1", server.port, CONNECTIONS + 1))
        else:
            client.submit(server.get, path, 60.0)  # never answered: the server goes before it is done
        eventually("the worker holds it", lambda: server.workers()[0].connections)
        until = server.report().taken_at + 2 * WINDOW_S
        eventually("two windows have passed", lambda: server.report().taken_at > until)
        return server.report()


@pytest.mark.parametrize("index", range(len(BUSY)), ids=[f"{r}-{a[1]}-{p or 'silent'}" for r, a, p in BUSY])
def test_hard_work_and_releases_without_the_fault_raise_no_alarm(
    index: int, watched_busy: Mapping[int, Future[Report]]
) -> None:
    report = watched_busy[index].result()
    assert report.kills == ()
    assert "frozen-worker" not in dict(report.counts.incidents)
    assert report.counts.scan_errors == 0
