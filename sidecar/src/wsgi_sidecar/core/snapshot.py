"""One look at the processes and sockets of a pod, as values.

In: what the doors `proc` and `sockets` read. Out: `Snapshot`, and `Closeup` for one worker that is under suspicion.
Rule: a snapshot says only what was read: no judgement, no memory of the look before. A field that the kernel refused is
None; a process that vanished while we looked is simply not there.
"""

from dataclasses import dataclass
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.exchanges import Exchange

ENDED: Final = ("Z", "X")
FileId = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatFile:
    """One unlinked `wgunicorn-*` file that a process holds open.

    Attributes:
        inode: its number within its file system.
        mtime: seconds; the monotonic clock's from gunicorn 22.0 on, once the worker has beaten.
        ctime: wall clock seconds.
        mode: permission bits; gunicorn before 22.0 beats by flipping them between 0 and 1.
        device: of its file system: each tmpfs counts inodes from the same start.
    """

    inode: int
    mtime: float
    ctime: float
    mode: int
    device: int = 0

    @property
    def id(self) -> FileId:
        """Joins the worker's fd with the master's."""
        return self.device, self.inode


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process as /proc tells it.

    Attributes:
        id: pid and start time.
        ppid: parent's pid.
        name: the kernel's short name (`comm`).
        command: argv; empty for zombies and kernel threads.
        state: the letter of `/proc/PID/stat` (R, S, D, T, Z, ...).
        cpu_s: user and system time of all its threads, seconds.
        thread_count: its threads.
        rss_bytes: resident memory.
        cgroup: its own path, so that containers can be told apart; empty where all share one.
        uid: real user id.
        gid: real group id.
        started_at: wall clock at its start, Unix seconds; fixed at first sight, so a clock step does not move it.
        container: name of its container, by the kubelet's own mount in it; None where there is no such mount, or nobody
            looked: only the sidecar and those that could lead a server are asked.
        session: session id: who starts a container or a `kubectl exec` leads a session of its own.
        says_gunicorn: its environment names a gunicorn as the server it was started by; None where the kernel refused,
            or nobody looked: only what may be an orphan is asked.
        fd_count: open file descriptors; None where the kernel refused, or nobody looked: only masters, their
            children and what may be an orphan are looked at that closely.
        heartbeats: gunicorn heartbeat files it holds; None likewise.
        listeners: inodes of the listening sockets it holds; None likewise.
        connections: inodes of the accepted connections of the server that it holds (ESTABLISHED or CLOSE_WAIT); None
            likewise, or where the kernel's socket table could not be read.
        turns: how often its main thread was given a CPU so far; None where the kernel does not say, or nobody asked:
            only the server's leading process is.
    """

    id: ProcessId
    ppid: int
    name: str
    command: tuple[str, ...]
    state: str
    cpu_s: float
    thread_count: int
    rss_bytes: int
    cgroup: str
    uid: int
    gid: int
    started_at: float
    session: int = 0
    container: str | None = None
    says_gunicorn: bool | None = None
    fd_count: int | None = None
    heartbeats: tuple[HeartbeatFile, ...] | None = None
    listeners: frozenset[int] | None = None
    connections: frozenset[int] | None = None
    turns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A listening socket.

    Attributes:
        inode: joins it with the processes that hold it.
        address: `0.0.0.0:8000`, `[::]:8000` or `unix:/run/app.sock`.
        queue: connections that nobody has accepted yet.
        backlog: the limit of the queue; None where only /proc/net could be read, which does not tell it.
    """

    inode: int
    address: str
    queue: int
    backlog: int | None

    @property
    def port(self) -> int | None:
        """The TCP port; None for a unix socket."""
        return None if self.address.startswith("unix:") else int(self.address.rpartition(":")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look.

    Attributes:
        at: wall clock, Unix seconds.
        monotonic: the monotonic clock at the same moment; ages are differences of it.
        processes: all that could be listed, by pid.
        listeners: stream sockets of this network namespace that listen and that a process looked at closely holds;
            None where they could not be read.
        observer_pid: the sidecar itself, one of the processes; None where nobody said.
    """

    at: float
    monotonic: float
    processes: tuple[Process, ...]
    listeners: tuple[Listener, ...] | None
    observer_pid: int | None = None

    @property
    def living(self) -> frozenset[ProcessId]:
        """All processes that have not ended; a zombie has, it only waits for its parent to look."""
        return frozenset(process.id for process in self.processes if process.state not in ENDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thread of a worker under suspicion.

    Attributes:
        tid: the main thread's equals the pid.
        cpu_s: user and system time, seconds.
        switches: voluntary and involuntary context switches; None where they could not be read.
        wchan: kernel function it waits in; empty if it runs.
        state: the letter of its `stat`; empty where it is not known. R also means: wants a CPU and has none.
        sleeps: voluntary switches alone, so how often it went to sleep; None where they could not be read.
        waited_s: how long it wanted a CPU and got none: the run queue's wait, throttling by a cgroup's limit included;
            None where the kernel does not say.
    """

    tid: int
    cpu_s: float
    switches: int | None
    wchan: str
    state: str = ""
    sleeps: int | None = None
    waited_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeup:
    """A close look at one worker: dearer than a snapshot, so taken only on suspicion.

    Attributes:
        process: the worker.
        monotonic: when.
        threads: all of them, main thread first.
        connections: inodes of accepted stream connections it holds (ESTABLISHED or CLOSE_WAIT, on the server's
            listening ports); None where they could not be read.
        heartbeats: gunicorn heartbeat files it holds; None where they could not be read.
        exchanges: of the server's connections whose client waits; None where nobody asked, or the kernel refused.
    """

    process: ProcessId
    monotonic: float
    threads: tuple[Thread, ...]
    connections: frozenset[int] | None
    heartbeats: tuple[HeartbeatFile, ...] | None = None
    exchanges: tuple[Exchange, ...] | None = None
