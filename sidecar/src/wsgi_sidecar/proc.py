"""One look at the pod: its processes, and what the server's own ones hold open.

In: /proc and the kernel's socket table. Out: `Snapshot`; `Closeup` of one worker under suspicion. Rule: only the
server's family is looked at closely, everybody else by `stat` alone; who vanishes while we look is not there; what the
kernel refuses is None. The clocks of a look are read here and nowhere later.
"""

import os
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.adopted import find_adopted
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.snapshot import Closeup, Listener, Snapshot, Thread
from wsgi_sidecar.holdings import Holdings
from wsgi_sidecar.process_table import ProcessTable
from wsgi_sidecar.segments import Segments
from wsgi_sidecar.sockets import SocketTable
from wsgi_sidecar.strangers import Strangers

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_GONE: Final = (FileNotFoundError, ProcessLookupError)


class ProcReader:
    """Looks at /proc again and again, each time reading only what may have changed.

    Not thread-safe: one reader belongs to one thread.
    """

    def __init__(
        self, root: str = "/proc", *, sockets: SocketTable | None = None, segments: Segments | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            root: where /proc is.
            sockets: the socket table; ours by default.
            segments: tells whether anything moved; ours by default.
        """
        self._root = root
        self._table = ProcessTable(root)
        self._sockets = sockets or SocketTable(root)
        self._holdings = Holdings(self._sockets, root, segments=segments)
        self._strangers = Strangers(root)
        self._turns = _Turns(root)
        self._master: ProcessId | None = None

    def close(self) -> None:
        """Let go of every descriptor; the next look opens them again."""
        self._table.close()
        self._sockets.close()
        self._holdings.close()
        self._turns.close()

    def look(self, within: int | None = None, *, container: str | None = None, afresh: bool = False) -> Snapshot:
        """Take one look.

        Args:
            within: pid of a process that is the server's master or above it; None looks for the master everywhere.
            container: name of the server's container; None: nobody said.
            afresh: ask for all connections, not only where somebody's number of files changed.
        """
        at, monotonic = time.time(), time.monotonic()
        processes = self._table.read()
        everybody = tuple(processes.values())
        kinship = Kinship(everybody)
        found = find_adopted(everybody, kinship, within=within, container=container, preferred=self._master)
        master = found.leader.process if found else None
        self._master = master.id if master else None
        listeners: tuple[Listener, ...] | None = ()
        if master is None:
            self._holdings.close()
        else:
            held = self._holdings.read(master, kinship, afresh=afresh)
            listeners = held.listeners
            processes |= {process.id.pid: process for process in held.processes}
            for identity in held.vanished:
                del processes[identity.pid]
            if master.id.pid in processes:
                leading = processes[master.id.pid]
                processes[master.id.pid] = replace(leading, turns=self._turns.read(master.id))
            inodes = (listener.inode for listener in listeners or ())
            processes |= self._strangers.asked(processes.values(), master, inodes)
        return Snapshot(
            at=at,
            monotonic=monotonic,
            processes=tuple(processes.values()),
            listeners=listeners,
            observer_pid=os.getpid(),
        )

    def sockets(self) -> dict[ProcessId, frozenset[int]]:
        """Inodes of all sockets that the server's own processes held at the last look; see `Holdings.sockets`."""
        return self._holdings.sockets()

    def stood_still(self) -> bool:
        """Whether the last look was to ask for all connections, and none had moved since they were asked for."""
        return self._holdings.still

    def unread(self) -> frozenset[int]:
        """Inodes of the server's connections with bytes that nobody had read when they were last asked for."""
        return self._holdings.unread

    def closeup(self, process: ProcessId, listeners: Collection[Listener]) -> Closeup | None:
        """Look closely at one process; None if it is gone.

        Args:
            process: whom.
            listeners: of the server: connections that came another way (say, to a database) are not counted.
        """
        monotonic = time.monotonic()
        try:
            threads = _threads(f"{self._root}/{process.pid}/task", process.pid)
            connections = self._holdings.connections(process, listeners)
            heartbeats = self._holdings.heartbeats(process)
            # Read last: had the pid been reused, what was read before might be the newcomer's.
            if _started(_read(f"{self._root}/{process.pid}/stat")) != process.started:
                return None
        except _GONE:
            return None
        return Closeup(
            process=process, monotonic=monotonic, threads=threads, connections=connections, heartbeats=heartbeats
        )


class _Turns:
    """How often one process's main thread was given a CPU: a healthy arbiter's changes with each beat.

    The third number of its `schedstat`, through a descriptor that stays open: a tenth of the cost of a closeup.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._of: ProcessId | None = None
        self._descriptor = -1

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._of, self._descriptor = None, -1

    def read(self, process: ProcessId) -> int | None:
        try:
            if process != self._of:
                self.close()
                self._descriptor = os.open(f"{self._root}/{process.pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
                self._of = process
            numbers = os.pread(self._descriptor, 128, 0).split()
        except OSError:  # it is gone; or a kernel without CONFIG_SCHED_INFO, or one that hides it
            self.close()
            return None
        # A kernel that was told not to count says 0 0 0.
        return int(numbers[2]) or None if len(numbers) == 3 else None


def _threads(folder: str, pid: int) -> tuple[Thread, ...]:
    tids = sorted((int(name) for name in os.listdir(folder)), key=lambda tid: (tid != pid, tid))
    found = (_thread(f"{folder}/{tid}", tid) for tid in tids)
    return tuple(thread for thread in found if thread is not None)


def _thread(folder: str, tid: int) -> Thread | None:
    try:
        fields = _fields(_read(f"{folder}/stat"))
        switches = _switches(_read(f"{folder}/status"))
        wchan = _wchan(f"{folder}/wchan")
        waited_s = _waited_s(f"{folder}/schedstat")
    except _GONE:
        return None
    return Thread(
        tid=tid,
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        switches=sum(switches) if switches else None,
        wchan=wchan,
        state=fields[0].decode(),
        sleeps=switches[0] if switches else None,
        waited_s=waited_s,
    )


def _fields(stat: bytes) -> list[bytes]:
    """Fields of a `stat` from the third on: utime is 11, stime 12, starttime 19 (man 5 proc_pid_stat)."""
    return stat[stat.rindex(b")") + 2 :].split()


def _started(stat: bytes) -> int:
    return int(_fields(stat)[19])


def _switches(status: bytes) -> list[int]:
    """Voluntary and involuntary ones: the last two lines of a `status`; empty where the kernel does not count them."""
    return [int(line.split()[1]) for line in status.splitlines() if b"ctxt_switches:" in line]


def _waited_s(path: str) -> float | None:
    """Time on the run queue without a CPU; the second number of a `schedstat`, in nanoseconds."""
    try:
        numbers = _read(path).split()
    except (FileNotFoundError, PermissionError):  # a kernel without CONFIG_SCHED_INFO, or one that hides it
        return None
    return int(numbers[1]) / 1e9 if len(numbers) == 3 else None


def _wchan(path: str) -> str:
    """The kernel function a thread waits in; empty while it runs, or where the kernel does not say."""
    try:
        name = _read(path).decode(errors="replace")
    except PermissionError:
        return ""
    return "" if name == "0" else name


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()
