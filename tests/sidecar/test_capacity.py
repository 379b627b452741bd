"""Doors to busy threads, dropped connections and memory, held against real processes and the kernel's own numbers."""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers.server import eventually
from wsgi_contract.report import ProcessId
from wsgi_sidecar.capacity import read_dropped, read_efforts, read_pss, waits_for_work
from wsgi_sidecar.core.syscalls import Call
from wsgi_sidecar.testing import family, process, worker

POOL = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(5)
gate = threading.Barrier(6)
for _ in range(5):
    pool.submit(gate.wait)
gate.wait()
pool.submit(time.sleep, 60)
pool.submit(sys.stdin.read)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("call", "idle"),
    [
        (Call(number=202, name="futex", arguments=(1, 393, 0, 0, 0, 0)), True),
        (Call(number=202, name="futex", arguments=(1, 393, 0, 0x7F00, 0, 0)), False),
        (Call(number=45, name="recvfrom", arguments=(5, 1, 1, 0, 0, 0)), False),
        (Call(running=True), False),
        (Call(), False),
        (None, False),
    ],
    ids=[
        "work without a limit",
        "the interpreter's lock, with one",
        "a socket",
        "on a CPU",
        "a page fault",
        "unreadable",
    ],
)
def test_a_thread_is_idle_only_if_it_waits_for_work_without_a_time_limit(call: Call | None, idle: bool) -> None:
    assert waits_for_work(call) is idle


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no table of system calls for this machine")
def test_of_a_real_pool_the_threads_that_work_are_counted() -> None:
    child = subprocess.Popen([sys.executable, "-c", POOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        seen = family(worker(1, process=process(child.pid, started=1, thread_count=6), connections=3))

        def busy() -> int | None:
            return read_efforts(seen, frozenset())[ProcessId(pid=child.pid, started=1)].busy

        eventually("two of five work", lambda: busy() == 2)
    finally:
        child.kill()
        child.communicate()


def test_only_workers_with_connections_are_looked_into() -> None:
    assert read_efforts(family(worker(1, connections=0)), frozenset()) == {}


def test_unread_connections_of_a_worker_are_counted() -> None:
    ours = process(os.getpid(), started=1, connections=frozenset({1, 2, 3}))
    seen = family(worker(1, process=ours, connections=3))
    assert read_efforts(seen, frozenset({2, 3, 4}))[ours.id].unread == 2


def test_a_worker_without_threads_beside_the_main_one_has_none_that_works(tmp_path: Path) -> None:
    alone = family(worker(1, process=process(7, started=1, thread_count=1), connections=1))
    (effort,) = read_efforts(alone, frozenset(), str(tmp_path)).values()
    assert effort.busy == 0


def test_a_worker_that_is_gone_tells_nothing() -> None:
    gone = worker(1, process=process(2**22 + 1, started=1, thread_count=2), connections=1)
    (effort,) = read_efforts(family(gone), frozenset()).values()
    assert effort.busy is None


def test_connections_that_a_full_queue_turned_away_are_counted() -> None:
    before = read_dropped(os.getpid())
    assert before is not None
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        clients = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            clients.append(client)
        eventually("the kernel counted", lambda: (read_dropped(os.getpid()) or 0) > before)
        for client in clients:
            client.close()


def test_a_kernel_that_tells_no_drops_gives_no_number(tmp_path: Path) -> None:
    folder = tmp_path / "7" / "net"
    folder.mkdir(parents=True)
    assert read_dropped(7, tmp_path) is None
    (folder / "netstat").write_text("TcpExt: SyncookiesSent\nTcpExt: 0\n")
    assert read_dropped(7, tmp_path) is None
    (folder / "netstat").write_text("IpExt: A\nIpExt: 1\nTcpExt: A ListenDrops\nTcpExt: 1 23\n")
    assert read_dropped(7, tmp_path) == 23


def test_memory_is_the_kernels_pss() -> None:
    me, gone = ProcessId(pid=os.getpid(), started=1), ProcessId(pid=2**22 + 1, started=1)
    found = read_pss([me, gone])
    assert found.keys() == {me}
    assert found[me] == pytest.approx(psutil.Process().memory_full_info().pss, rel=0.2)
