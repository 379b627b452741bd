"""Who is who in a uWSGI, from /proc alone."""

import os
import re
import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.server import eventually
from tests.servers.uwsgi import Uwsgi
from wsgi_contract.report import ProcessId
from wsgi_contract.servers.uwsgi import has_master, strange_listeners
from wsgi_contract.servers.uwsgi_options import Sources, options_given
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.snapshot import Listener, Process
from wsgi_sidecar.core.uwsgi_family import UwsgiKin, UwsgiRole, arguments, kin_of, role, worker_number
from wsgi_sidecar.process_table import ProcessTable
from wsgi_sidecar.sockets import SocketTable

UWSGI = ("/venv/bin/uwsgi", "--master")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("uwsgi",), "uwsgi"),
        (("/usr/bin/uwsgi_python3", "x.ini"), "uwsgi"),
        (("/usr/bin/uwsgi-core", "x.ini"), "uwsgi"),
        (("uWSGI master",), "master"),
        (("uWSGI worker 2",), "worker"),
        (("shop uWSGI worker 12",), "worker"),
        (("uWSGI http 1",), "helper"),
        (("uWSGI mule 1",), "helper"),
        (("uWSGI spooler",), "helper"),
        (("sh", "-c", "uwsgi --master"), None),
        (("python", "-m", "gunicorn"), None),
        (("vi", "uWSGI master"), None),
        ((), None),
    ],
)
def test_a_uwsgi_is_known_by_its_program_or_its_title(command: tuple[str, ...], expected: UwsgiRole | None) -> None:
    assert role(command) == expected


def test_arguments_and_numbers_are_told_where_they_can_be() -> None:
    assert arguments(("uwsgi", "-p", "2")) == ("-p", "2")
    assert arguments(("uWSGI master",)) is None
    assert worker_number(("shop uWSGI worker 12",)) == 12
    assert worker_number(("uwsgi",)) is None
    assert worker_number(("uWSGI http 1",)) is None


def a_process(pid: int, ppid: int, command: tuple[str, ...] = UWSGI, listeners: set[int] | None = None) -> Process:
    return Process(
        id=ProcessId(pid=pid, started=pid), ppid=ppid, name="uwsgi", command=command, state="S", cpu_s=0.0,
        thread_count=1, rss_bytes=0, cgroup="", uid=0, gid=0, started_at=0.0,
        listeners=None if listeners is None else frozenset(listeners),
    )  # fmt: skip


def kin(*processes: Process, told: bool | None = True, strange: tuple[str, ...] = ()) -> UwsgiKin:
    listeners = [Listener(inode=inode, address=f"0.0.0.0:{inode}", queue=0, backlog=1) for inode in (80, 81, 82)]
    return kin_of(processes[0], Kinship(processes), has_master=told, listeners=listeners, strange=strange)


def pids(processes: tuple[Process, ...]) -> list[int]:
    return [process.id.pid for process in processes]


def test_workers_are_those_who_hold_a_socket_that_is_the_workers() -> None:
    found = kin(
        a_process(5, 1, listeners={80, 81, 82}),
        a_process(6, 5, listeners={80}),
        a_process(7, 5, listeners=set()),
        a_process(8, 5, listeners={81, 82}),
        a_process(9, 5, listeners={80, 82}),
        a_process(10, 5, ("sh",)),
        strange=("0.0.0.0:81", "0.0.0.0:82"),
    )
    assert (found.master.id.pid, pids(found.workers), pids(found.helpers), found.certain) == (5, [6, 9], [7, 8], True)


def test_titles_tell_what_sockets_cannot() -> None:
    titles = ("uWSGI master", "uWSGI worker 1", "uWSGI http 1")
    found = kin(*(a_process(5 + n, 5 if n else 1, (title,)) for n, title in enumerate(titles)))
    assert (pids(found.workers), pids(found.helpers), found.certain) == ([6], [7], True)


def test_where_nothing_tells_all_children_are_taken_and_it_is_said() -> None:
    found = kin(a_process(5, 1), a_process(6, 5))
    assert (pids(found.workers), found.certain) == ([6], False)


def test_without_master_the_first_worker_is_the_parent() -> None:
    found = kin(a_process(5, 1, listeners={80}), a_process(6, 5, listeners={80}), told=False)
    assert (found.master.id.pid, pids(found.workers)) == (5, [5, 6])


def look(server: Uwsgi) -> UwsgiKin | None:
    with closing(SocketTable()) as sockets, closing(ProcessTable()) as table:
        listeners, seen = sockets.listeners(), table.read()
    assert listeners is not None
    inodes = {each.inode for each in listeners}
    processes = tuple(replace(process, listeners=frozenset(held(pid) & inodes)) for pid, process in seen.items())
    command = next(arguments(process.command) for process in processes if process.id.pid == server.pid)
    given = options_given(Sources(command_line=command, environment=tuple(server.environment().items())))
    master = next(process for process in processes if process.id.pid == server.pid)
    seen_kin = kin_of(
        master,
        Kinship(processes),
        has_master=has_master(given),
        listeners=listeners,
        strange=strange_listeners(given),
    )
    return seen_kin if seen_kin.workers else None


def held(pid: int) -> set[int]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(entry)
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    except OSError:
        pass
    return found


@pytest.mark.servers
@pytest.mark.parametrize("stats", ["stats.sock", "127.0.0.1:{port}"])
def test_in_a_real_uwsgi_workers_are_told_from_gateways_mules_and_spoolers(stats: str, tmp_path: Path) -> None:
    http, port = free_ports(2)
    more = ("-p", "2", "--http", f"127.0.0.1:{http}", "--mule", "--spooler", str(tmp_path))
    with Uwsgi(*more, stats=stats.format(port=port)) as server:
        told = eventually("all have started", lambda: workers_by_log(server, 2))
        kin = eventually("all are seen", lambda: whole(look(server), 2, 3))
        assert set(pids(kin.workers)) == told
        assert (kin.master.id.pid, len(kin.helpers), kin.certain) == (server.pid, 3, True)
        victim = pids(kin.workers)[0]
        os.kill(victim, 9)
        again = eventually("it is respawned", lambda: without(whole(look(server), 2, 3), victim))
        assert len(again.helpers) == 3


def workers_by_log(server: Uwsgi, count: int) -> set[int] | None:
    found = {int(pid) for pid in re.findall(r"spawned uWSGI worker \d+ \(pid: (\d+)", server.log)}
    return found if len(found) == count and "spawned uWSGI http" in server.log else None


def whole(kin: UwsgiKin | None, workers: int, helpers: int) -> UwsgiKin | None:
    return kin if kin and (len(kin.workers), len(kin.helpers)) == (workers, helpers) else None


def without(kin: UwsgiKin | None, pid: int) -> UwsgiKin | None:
    return kin if kin and pid not in pids(kin.workers) else None


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.servers
def test_a_real_uwsgi_without_master_is_all_workers() -> None:
    with Uwsgi("-p", "3", master=False, stats="") as server:
        kin = eventually("three workers are seen", lambda: whole(look(server), 3, 0))
        assert server.pid in pids(kin.workers)
