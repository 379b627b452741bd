"""Builders of values for tests: an ordinary healthy server, with what matters to the test said in the call.

In: the fields that matter. Out: `Process`, `Worker`, `Family`, `Snapshot`, `Closeup`. Rule: every default is healthy
and plausible, so that a test names only what makes its case.
"""

from typing import Any

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.snapshot import Closeup, HeartbeatFile, Listener, Process, Snapshot, Thread

AT = 1_750_000_000.0
"""Wall clock of the builders' looks."""
MONOTONIC = 50_000.0
"""Monotonic clock of the builders' looks."""
POD_CGROUP = "/kubepods/pod1/app"
COMMAND = ("/usr/bin/python3", "/usr/bin/gunicorn", "app:app")


def pid(number: int = 100, started: int = 5000) -> ProcessId:
    """The identity of a process."""
    return ProcessId(pid=number, started=started)


def process(number: int = 100, *, started: int = 5000, **fields: Any) -> Process:
    """A process of the server's container that sleeps and whose file descriptors nobody looked at."""
    defaults: dict[str, Any] = {
        "id": pid(number, started),
        "ppid": 1,
        "name": "gunicorn",
        "command": COMMAND,
        "state": "S",
        "cpu_s": 1.0,
        "thread_count": 1,
        "rss_bytes": 30_000_000,
        "cgroup": POD_CGROUP,
        "uid": 1000,
        "gid": 1000,
        "started_at": AT - 600,
    }
    return Process(**(defaults | fields))


def heartbeat(inode: int = 7, *, age_s: float = 0.5) -> HeartbeatFile:
    """A heartbeat file of gunicorn 22.0 or later whose worker beat so long ago."""
    return HeartbeatFile(inode=inode, mtime=MONOTONIC - age_s, ctime=AT - age_s, mode=0o600)


def worker(slot: int = 1, **fields: Any) -> Worker:
    """A healthy worker; its pid is 100 + slot and its master's pid is 100."""
    age_s = fields.get("heartbeat_age_s", 0.5)
    file = heartbeat(slot, age_s=age_s) if age_s is not None else None
    defaults: dict[str, Any] = {
        "slot": slot,
        "process": process(100 + slot, ppid=100, started=5000 + slot, thread_count=5, fd_count=12),
        "state": "alive",
        "heartbeat": file,
        "heartbeat_age_s": age_s,
        "connections": 0,
        "tree": (),
    }
    return Worker(**(defaults | fields))


def listener(inode: int = 900, **fields: Any) -> Listener:
    """An empty accept queue."""
    defaults: dict[str, Any] = {"inode": inode, "address": "0.0.0.0:8000", "queue": 0, "backlog": 2048}
    return Listener(**(defaults | fields))


def family(*workers: Worker, **fields: Any) -> Family:
    """A gunicorn whose master has pid 100, by default with one healthy worker, no orphans and one listener."""
    defaults: dict[str, Any] = {
        "at": AT,
        "monotonic": MONOTONIC,
        "kind": "gunicorn",
        "master": process(100, fd_count=10),
        "workers": workers or (worker(1),),
        "orphans": (),
        "listeners": (listener(),),
    }
    return Family(**(defaults | fields))


def snapshot(*processes: Process, **fields: Any) -> Snapshot:
    """A look at these processes and no sockets."""
    defaults: dict[str, Any] = {"at": AT, "monotonic": MONOTONIC, "processes": processes, "listeners": ()}
    return Snapshot(**(defaults | fields))


def thread(tid: int = 101, **fields: Any) -> Thread:
    """An idle pool thread."""
    defaults: dict[str, Any] = {"tid": tid, "cpu_s": 0.0, "switches": 10, "wchan": "futex_do_wait"}
    return Thread(**(defaults | fields))


def closeup(*threads: Thread, **fields: Any) -> Closeup:
    """A close look at the worker with pid 101."""
    defaults: dict[str, Any] = {
        "process": pid(101, 5001),
        "monotonic": MONOTONIC,
        "threads": threads or (thread(101, wchan="do_epoll_wait"),),
        "connections": frozenset(),
    }
    return Closeup(**(defaults | fields))
