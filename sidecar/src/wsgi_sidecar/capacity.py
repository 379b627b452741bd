"""Which threads of a worker work on a request, which connections wait inside it, and what the kernel turned away.

In: workers, and connections with unread bytes. Out: `Effort`s by worker; a count of dropped connections. Rule: only
workers that hold connections and have more than their main thread are looked into; about 10 us a thread, so not at
every look. What the kernel refuses is None.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.demand import Effort
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.syscalls import TABLES, Call, parse_call

_MOST_THREADS: Final = 256
_TIMEOUT_ARGUMENT: Final = 3
_CALL_BYTES: Final = 512
_MACHINE: Final = os.uname().machine


def read_efforts(family: Family, unread: frozenset[int], proc: str = "/proc") -> dict[ProcessId, Effort]:
    """What goes on in each worker that holds connections.

    Args:
        family: whose.
        unread: inodes of connections with bytes that nobody has read.
        proc: where /proc is.
    """
    return {worker.process.id: _effort(worker, unread, proc) for worker in family.workers if worker.connections}


def _effort(worker: Worker, unread: frozenset[int], proc: str) -> Effort:
    waiting = len((worker.process.connections or frozenset()) & unread)
    if worker.process.thread_count == 1:
        return Effort(busy=0, unread=waiting)
    folder, pid = f"{proc}/{worker.process.id.pid}/task", str(worker.process.id.pid)
    try:
        tids = [tid for tid in os.listdir(folder) if tid != pid][:_MOST_THREADS]
    except OSError:
        return Effort(busy=None, unread=0)
    return Effort(busy=_busy(folder, tids), unread=waiting)


def _busy(folder: str, tids: Iterable[str]) -> int | None:
    if _MACHINE not in TABLES:
        return None
    busy = 0
    for tid in tids:
        try:
            with open(f"{folder}/{tid}/syscall", "rb", buffering=0) as file:
                call = parse_call(file.read(_CALL_BYTES).decode(), _MACHINE)
        except PermissionError:
            return None
        except OSError:
            continue  # the thread has ended
        busy += not waits_for_work(call)
    return busy


def waits_for_work(call: Call | None) -> bool:
    """Whether a pool's thread is idle: it waits on a futex without a time limit.

    One that waits for the interpreter's lock has a limit (the switch interval), so it is not.
    """
    return call is not None and call.name == "futex" and call.arguments[_TIMEOUT_ARGUMENT] == 0


def read_dropped(master: int, proc: Path = Path("/proc")) -> int | None:
    """Connections that full accept queues turned away in the server's network namespace, since it exists.

    The kernel counts them for all listeners together: in a pod that is the server's, and whatever else listens there.
    """
    try:
        lines = (proc / str(master) / "net" / "netstat").read_text().splitlines()
    except OSError:
        return None
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            counters = dict(zip(names.split(), values.split(), strict=False))
            dropped = counters.get("ListenDrops", "")
            return int(dropped) if dropped.isdecimal() else None
    return None


def read_pss(pids: Iterable[ProcessId], proc: Path = Path("/proc")) -> dict[ProcessId, int]:
    """Memory of processes in bytes, each shared page divided among those that share it; without those refused.

    The kernel walks the page tables for it: about 1 ms for every 100 MB.
    """
    found: dict[ProcessId, int] = {}
    for process in pids:
        try:
            text = (proc / str(process.pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        line = next((line for line in text.splitlines() if line.startswith("Pss:")), None)
        if line is not None:
            found[process] = int(line.split()[1]) * 1024
    return found
