"""uWSGI's stats server: a real one, its odd shapes, and what only pretends to be one."""

import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers.server import eventually
from tests.servers.uwsgi import Uwsgi
from wsgi_sidecar.core.addresses import StreamAddress, parse_stream_address
from wsgi_sidecar.core.uwsgi import StatsError, UwsgiStats, parse_stats
from wsgi_sidecar.streams import NoAnswerError
from wsgi_sidecar.uwsgi_stats import ask_stats


def ask(server: Uwsgi, address: str | None = None, *, http: bool = False) -> UwsgiStats | None:
    parsed = parse_stream_address(address or "stats.sock", str(server.folder))
    assert parsed is not None
    try:
        return ask_stats([parsed], server.pid, http=http, within_s=5)
    except NoAnswerError:
        return None


def in_background(server: Uwsgi, path: str) -> threading.Thread:
    def go() -> None:
        with contextlib.suppress(OSError):
            server.get(path, timeout_s=60)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return thread


@pytest.mark.servers
def test_a_real_uwsgi_tells_its_workers_requests_and_what_runs_since_when() -> None:
    with Uwsgi("-p", "2", "--threads", "2", "--listen", "64") as server:
        for _ in range(5):
            server.get("/")
        slow = in_background(server, "/slow?s=3")
        eventually("five are counted", lambda: requests_of(ask(server)) == 5)
        stats = eventually("a core is busy", lambda: with_busy_core(ask(server)))
        assert (stats.release, stats.pid, len(stats.workers)) == ("2.0.31", server.pid, 2)
        busy = next(worker for worker in stats.workers if worker.busy_cores)
        assert (busy.busy_cores, busy.status, busy.harakiris, busy.respawns) == (1, "busy", 0, 1)
        started = next(core.request_started_at for core in busy.cores if core.in_request)
        assert started is not None
        assert abs(time.time() - started) < 30
        assert {worker.rss_bytes for worker in stats.workers} == {None}
        eventually("the master has looked at its queue", lambda: limit_of(ask(server)) == 64)
        slow.join(30)


def requests_of(stats: UwsgiStats | None) -> int | None:
    return sum(worker.requests or 0 for worker in stats.workers) if stats else None


def with_busy_core(stats: UwsgiStats | None) -> UwsgiStats | None:
    return stats if stats and any(worker.busy_cores for worker in stats.workers) else None


def limit_of(stats: UwsgiStats | None) -> int | None:
    return stats.sockets[0].limit if stats and stats.sockets else None


@pytest.mark.servers
def test_connections_that_wait_are_in_the_queue() -> None:
    with Uwsgi("-p", "1", "--listen", "16") as server:
        slow = in_background(server, "/slow?s=6")
        eventually("the worker is busy", lambda: with_busy_core(ask(server)))
        waiting = [in_background(server, "/") for _ in range(5)]
        eventually("five wait", lambda: queue_of(ask(server)) == 5)
        for thread in (slow, *waiting):
            thread.join(30)


def queue_of(stats: UwsgiStats | None) -> int | None:
    return stats.sockets[0].queue if stats and stats.sockets else None


@pytest.mark.servers
def test_a_killed_worker_and_a_harakiri_are_respawns_in_the_same_place() -> None:
    with Uwsgi("-p", "1", "--harakiri", "1") as server:
        before = eventually("the stats answer", lambda: ask(server)).workers[0]
        assert before.pid
        os.kill(before.pid, signal.SIGKILL)
        again = eventually("it is respawned", lambda: respawned(ask(server), 2)).workers[0]
        assert (again.number, again.harakiris) == (1, 0)
        in_background(server, "/slow?s=30")
        after = eventually("harakiri struck", lambda: respawned(ask(server), 3)).workers[0]
        assert (after.number, after.harakiris) == (1, 1)


def respawned(stats: UwsgiStats | None, lives: int) -> UwsgiStats | None:
    return stats if stats and stats.workers[0].respawns == lives and stats.workers[0].pid else None


@pytest.mark.servers
@pytest.mark.parametrize(
    ("listen", "ask_at"),
    [("127.0.0.1:{port}", "127.0.0.1:{port}"), ("127.0.0.1:{port}", ":{port}"), ("@{port}.name", "@{port}.name")],
)
@pytest.mark.parametrize("http", [False, True])
def test_the_stats_server_may_listen_anywhere(listen: str, ask_at: str, http: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Uwsgi(*(("--stats-http",) if http else ()), stats=listen.format(port=port)) as server:
        stats = eventually("it answers", lambda: ask(server, ask_at.format(port=port), http=http))
        assert stats.pid == server.pid


@pytest.mark.servers
def test_cheap_workers_and_hidden_cores_are_told_as_such() -> None:
    with Uwsgi("-p", "3", "--cheaper", "1", "--stats-no-cores") as server:
        stats = eventually("it answers", lambda: ask(server))
        assert [(worker.pid is None, worker.status) for worker in stats.workers][1:] == [(True, "cheap")] * 2
        assert {worker.busy_cores for worker in stats.workers} == {None}


@pytest.mark.servers
def test_a_stopped_master_is_no_answer_within_the_deadline() -> None:
    with Uwsgi() as server:
        eventually("it answers", lambda: ask(server))
        os.kill(server.pid, signal.SIGSTOP)
        address = StreamAddress(path=str(server.stats_path))
        with pytest.raises(NoAnswerError, match="not in time"):
            ask_stats([address], server.pid, within_s=0.3)


def test_no_stats_server_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError, match="UWSGI_STATS"):
        ask_stats([], os.getpid())
    with pytest.raises(NoAnswerError, match="No such file"):
        ask_stats([StreamAddress(path=str(tmp_path / "none"))], os.getpid())
    with pytest.raises(NoAnswerError):
        ask_stats([StreamAddress(host="name.invalid", port=80)], os.getpid())


def a_worker(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "pid": 7, "status": "idle", "cores": [{"id": 0, "in_request": 0, "vars": []}], **changes}


def parsed(**changes: Any) -> UwsgiStats:
    return parse_stats(json.dumps({"version": "2.0.31", "workers": [a_worker()], **changes}).encode())


def test_what_is_missing_is_none_and_never_zero() -> None:
    worker = parse_stats(b'{"workers": [{"id": 1}]}').workers[0]
    assert (worker.pid, worker.requests, worker.harakiris, worker.busy_s, worker.status) == (*[None] * 4, "unknown")
    stats = parsed()
    assert (stats.listen_queue, stats.load, stats.sockets, stats.pid) == (None, None, (), None)


def test_a_worker_that_was_never_awake_has_no_id_and_is_counted_by_its_place() -> None:
    asleep = a_worker(id=0, pid=0, status="cheap")
    workers = parsed(workers=[a_worker(), asleep, asleep]).workers
    assert [(worker.number, worker.pid) for worker in workers] == [(1, 7), (2, None), (3, None)]


def test_headers_of_running_requests_are_not_kept() -> None:
    core = {"id": 0, "in_request": 1, "vars": ["HTTP_COOKIE=secret"], "req_info": {"request_start": 5}}
    stats = parsed(workers=[a_worker(cores=[core])])
    assert "secret" not in repr(stats)
    assert stats.workers[0].cores[0].request_started_at == 5.0


def test_times_are_seconds_and_the_start_of_a_past_request_is_not_told() -> None:
    core = {"id": 0, "in_request": 0, "req_info": {"request_start": 5}}
    worker = parsed(workers=[a_worker(running_time=2_500_000, avg_rt=125_000, cores=[core])]).workers[0]
    assert (worker.busy_s, worker.mean_s, worker.cores[0].request_started_at) == (2.5, 0.125, None)


@pytest.mark.parametrize(
    ("word", "status"), [("busy", "busy"), ("sig17", "signal"), ("new word", "unknown"), (7, "unknown")]
)
def test_a_status_is_one_of_six(word: object, status: str) -> None:
    assert parsed(workers=[a_worker(status=word)]).workers[0].status == status


def test_bytes_that_are_no_text_in_a_header_do_no_harm() -> None:
    data = b'{"workers": [{"id": 1, "pid": 7, "cores": [{"id": 0, "in_request": 1, "vars": ["A=\xff\x01\t"]}]}]}'
    assert parse_stats(data).workers[0].busy_cores == 1


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"workers": 3}', b"HTTP/1.0 200 OK\r\n\r\n", b"\x00" * 50])
def test_what_is_not_uwsgi_is_told_as_such(data: bytes) -> None:
    with pytest.raises(StatsError):
        parse_stats(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1717", StreamAddress(host="127.0.0.1", port=1717)),
        (":1717", StreamAddress(host="127.0.0.1", port=1717)),
        ("0.0.0.0:1717", StreamAddress(host="127.0.0.1", port=1717)),
        ("[::]:1717", StreamAddress(host="::1", port=1717)),
        ("localhost:1717", StreamAddress(host="127.0.0.1", port=1717)),
        ("/run/s", StreamAddress(path="/run/s")),
        ("run/s", StreamAddress(path="/app/run/s")),
        ("@name", StreamAddress(abstract="name\0")),
        ("127.0.0.1:0", None),
        ("127.0.0.1:http", None),
        ("", None),
        ("@", None),
    ],
)
def test_addresses_are_read_as_uwsgi_writes_them(text: str, expected: StreamAddress | None) -> None:
    assert parse_stream_address(text, "/app") == expected


def test_no_bytes_can_make_the_parser_fail_otherwise_than_it_says() -> None:
    chance = random.Random(20260104)
    core = {"id": 0, "requests": 3, "in_request": 1, "vars": ["A=b"], "req_info": {"request_start": 1_700_000_000}}
    worker = a_worker(requests=5, running_time=17, avg_rt=3, last_spawn=1_700_000_000, cores=[core] * 2)
    sockets = [{"name": "a", "queue": 1, "max_queue": 100}]
    seed = json.dumps({"version": "2", "pid": 7, "load": 0, "sockets": sockets, "workers": [worker]})
    pieces = (b'"', b"{", b"}", b"[", b"-", b"null", b"\xff", b"1e999", b"9" * 30, b"\\", b",", b":", b"true")
    understood = 0
    for _ in range(10_000):
        data = bytearray(seed.encode())
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(data) + 1)
            data[place : place + chance.randrange(8)] = chance.choice(pieces)
        try:
            parse_stats(bytes(data))
            understood += 1
        except StatsError:
            pass
    assert understood > 1000
