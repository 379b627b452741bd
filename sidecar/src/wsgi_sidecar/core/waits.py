"""What a thread waits on, in words for a person: the answer to "why does this request take so long?".

In: the system call a thread is in, and what its file descriptors lead to. Out: `Wait`. Rule: says what the kernel says
and no more: a futex is "a lock or work" because from outside the two look the same, and a service is named after its
usual port.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from wsgi_contract.report import Unknown
from wsgi_sidecar.core.endpoints import Endpoint
from wsgi_sidecar.core.syscalls import Call

Kind = Literal[
    "client",    # of the server: a slow sender, or a slow reader
    "network",   # something that the application asked: a database, an API, DNS
    "listener",  # idle: the next connection
    "events",    # an event loop over several things
    "lock",      # a lock, or an idle pool thread: the same from outside
    "child",     # a process that it started
    "pipe",
    "disk",      # files and file systems, NFS included
    "sleep",
    "cpu",       # it does not wait
    "stopped",   # by a signal, a debugger or the freezer
    "unknown",
]  # fmt: skip
Role = Literal["client", "peer", "listener", "pipe", "file", "epoll", "event", "unknown"]

_READS: Final = frozenset({"read", "readv", "pread64", "preadv", "recvfrom", "recvmsg", "recvmmsg"})
_WRITES: Final = frozenset(
    {"write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice"}
)
_ACCEPTS: Final = frozenset({"accept", "accept4"})
_POLLS: Final = frozenset({"poll", "ppoll", "select", "pselect6"})
_EPOLLS: Final = frozenset({"epoll_wait", "epoll_pwait", "epoll_pwait2"})
_LOCKS: Final = frozenset({"futex", "futex_wait", "futex_waitv", "semop", "semtimedop"})
_SLEEPS: Final = frozenset({"nanosleep", "clock_nanosleep", "pause", "rt_sigsuspend", "rt_sigtimedwait"})
_CHILDREN: Final = frozenset({"wait4", "waitid"})
_FLUSHES: Final = frozenset({"fsync", "fdatasync", "sync", "syncfs"})
_FILES: Final = (
    "open", "openat", "openat2", "close", "stat", "lstat", "newfstatat", "statx", "unlink", "unlinkat", "rename",
    "renameat2", "mkdirat", "getdents64",
)  # fmt: skip
_FCNTL_WAITS: Final = (7, 38)  # F_SETLKW, F_OFD_SETLKW

# Kernel functions by the beginning of their names: what is left to tell by where the syscall file is refused.
_WCHANS: Final[Mapping[str, tuple[Kind, str]]] = {
    "futex": ("lock", "waits for a lock or for work"),
    "hrtimer_nanosleep": ("sleep", "sleeps"),
    "do_nanosleep": ("sleep", "sleeps"),
    "inet_csk_accept": ("listener", "waits for a connection"),
    "ep_poll": ("events", "waits for events"),
    "do_epoll_wait": ("events", "waits for events"),
    "poll_schedule": ("events", "waits for events"),
    "do_sys_poll": ("events", "waits for events"),
    "do_select": ("events", "waits for events"),
    "wait_woken": ("network", "waits for data from a socket"),
    "sk_wait_data": ("network", "waits for data from a socket"),
    "unix_stream": ("network", "waits for data from a unix socket"),
    "sk_stream_wait_connect": ("network", "waits for a connection to be answered"),
    "sk_stream_wait_memory": ("network", "waits until a socket takes more data"),
    "pipe_read": ("pipe", "reads from a pipe"),
    "anon_pipe_read": ("pipe", "reads from a pipe"),
    "pipe_write": ("pipe", "writes to a pipe that nobody drains"),
    "anon_pipe_write": ("pipe", "writes to a pipe that nobody drains"),
    "do_wait": ("child", "waits for a child process"),
    "locks_lock": ("lock", "waits for a file lock"),
    "flock_lock": ("lock", "waits for a file lock"),
    "rpc_wait": ("disk", "waits for an NFS server"),
    "nfs": ("disk", "waits for an NFS server"),
    "request_wait_answer": ("disk", "waits for a FUSE file system"),
    "io_schedule": ("disk", "waits for a disk"),
    "folio_wait": ("disk", "waits for a disk"),
    "jbd2": ("disk", "waits for a disk"),
    "do_freezer": ("stopped", "is frozen by its cgroup"),
    "do_signal_stop": ("stopped", "is stopped by a signal"),
}
_STATES: Final[Mapping[str, tuple[Kind, str]]] = {
    "T": ("stopped", "is stopped by a signal (SIGSTOP); SIGCONT lets it go on"),
    "t": ("stopped", "is stopped by a debugger"),
    "Z": ("unknown", "has ended"),
    "X": ("unknown", "has ended"),
}
_NAMED_AT_MOST: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a file descriptor leads to.

    Attributes:
        role: what it is to the server: `client` was accepted on one of its listeners, `peer` is any other connection.
        endpoint: of a socket; None for others, and where it could not be told.
        path: of a file; None for others.
    """

    role: Role
    endpoint: Endpoint | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What one thread does at the moment of the look.

    Attributes:
        thread: its tid.
        kind: what it waits on.
        doing: in words that follow "thread 42", for example `reads from 10.0.0.5:5432 (PostgreSQL)`.
        peer: the one far end it waits on, if it is one, for example `10.0.0.5:5432`.
        service: what usually listens there.
        syscall: its name; None where it runs, or could not be told.
        wchan: kernel function it waits in; empty where it runs, or could not be told.
    """

    thread: int
    kind: Kind
    doing: str
    peer: str | None = None
    service: str | None = None
    syscall: str | None = None
    wchan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What the threads of one process do.

    Attributes:
        threads: main thread first; empty if the process was gone.
        left_out: threads beyond the bound of the look.
        unknowns: what could not be told, and the remedy.
    """

    threads: tuple[Wait, ...]
    left_out: int = 0
    unknowns: tuple[Unknown, ...] = ()


def explain(*, thread: int, state: str, call: Call | None, wchan: str, targets: Sequence[Target] | None) -> Wait:
    """Put one thread's wait into words.

    Args:
        thread: its tid.
        state: letter of its /proc stat line.
        call: the system call it is in; None where the kernel refused to tell.
        wchan: kernel function it waits in; empty if unknown.
        targets: of the descriptors that the call waits on; None where they could not be told.
    """
    ended = _STATES.get(state)
    kind, doing, one = (*ended, None) if ended else _explain(state, call, wchan, targets)
    endpoint = one.endpoint if one else None
    return Wait(
        thread=thread,
        kind=kind,
        doing=doing,
        peer=endpoint.remote if endpoint else None,
        service=endpoint.service if endpoint and one and one.role == "peer" else None,
        syscall=call.name if call else None,
        wchan=wchan,
    )


_Said = tuple[Kind, str, Target | None]


def _explain(state: str, call: Call | None, wchan: str, targets: Sequence[Target] | None) -> _Said:
    if call is None:
        return _by_wchan(state, wchan)
    if call.running:
        return "cpu", "runs on a CPU, or is ready for one", None
    if call.number is None:
        return "disk", "waits for a page of memory to be read in (page fault)", None
    first = targets[0] if targets else None
    name = call.name or ""
    if name in _READS or name in _WRITES:
        return _transfer("reads" if name in _READS else "writes", first)
    if name == "connect":
        return "network", f"connects to {_peer(first)}, which has not answered yet", first
    if name in _ACCEPTS:
        return "listener", f"waits for a connection on {_local(first)}", None
    if name in _POLLS:
        return _poll(targets)
    if name in _EPOLLS:
        return _watch(targets)
    return _without_descriptor(call, name, first, wchan)


def _without_descriptor(call: Call, name: str, first: Target | None, wchan: str) -> _Said:
    if name in _LOCKS:
        return "lock", f"waits for a lock or for work ({name})", None
    if name in _SLEEPS:
        return "sleep", f"sleeps ({name})", None
    if name in _CHILDREN:
        return "child", f"waits for {_child(call)} to end", None
    if name in _FLUSHES:
        return "disk", f"waits until {_file(first)} is on disk ({name})", None
    if name == "flock" or (name == "fcntl" and call.arguments[1:2] and call.arguments[1] in _FCNTL_WAITS):
        return "lock", f"waits for the lock on {_file(first)}", None
    if name in _FILES:
        return "disk", f"waits for a file system ({name})", None
    kind, doing = next((said for start, said in _WCHANS.items() if wchan.startswith(start)), ("unknown", ""))
    return kind, f"{doing or 'waits'} in system call {name or call.number}", None


def _transfer(verb: str, target: Target | None) -> _Said:
    to = "from" if verb == "reads" else "to"
    match target:
        case Target(role="client"):
            doing = "reads the request of" if verb == "reads" else "sends a response to"
            return "client", f"{doing} client {_peer(target)}", target
        case Target(role="peer"):
            return "network", f"{verb} {to} {_peer(target)}", target
        case Target(role="file"):
            return "disk", f"{verb} {to} {_file(target)}", None
        case Target(role="pipe"):
            return "pipe", f"{verb} {to} a pipe" + (" that nobody drains" if verb == "writes" else ""), None
        case _:
            return "unknown", f"{verb} {to} a descriptor that could not be told", None


def _poll(targets: Sequence[Target] | None) -> _Said:
    """Which poll or select: what a socket with a timeout waits in, and drivers such as libpq."""
    if targets is None:
        return "events", "waits for events on descriptors that could not be told", None
    if not targets:
        return "sleep", "sleeps (on no descriptor, with a timeout)", None
    told = [target for target in targets if target.role not in ("pipe", "event")] or list(targets)
    if len(told) > 1 or told[0].role not in ("client", "peer"):
        return _watch(told)
    one = told[0]
    if one.role == "client":
        return "client", f"waits for client {_peer(one)}", one
    if one.endpoint is not None and one.endpoint.state == "connecting":
        return "network", f"connects to {_peer(one)}, which has not answered yet", one
    return "network", f"waits for {_peer(one)}", one


def _watch(targets: Sequence[Target] | None) -> _Said:
    """An event loop: it waits for whatever comes first."""
    if not targets:
        return "events", "waits for events", None
    roles = Counter(target.role for target in targets)
    parts = [
        *_several("a connection on", [_local(target) for target in targets if target.role == "listener"]),
        *_counted(roles["client"], "client"),
        *_several("", [_peer(target) for target in targets if target.role == "peer"]),
        *_counted(roles["pipe"] if not roles["listener"] else 0, "pipe"),
    ]
    only_listens = roles["listener"] and not roles["client"] and not roles["peer"]
    kind: Kind = "listener" if only_listens else "pipe" if set(roles) == {"pipe"} else "events"
    return kind, f"waits for {' or '.join(parts)}" if parts else "waits for events", None


def _several(before: str, names: Sequence[str]) -> Iterable[str]:
    if not names:
        return []
    counted = Counter(names)
    shown = [f"{name} ({count} times)" if count > 1 else name for name, count in counted.most_common(_NAMED_AT_MOST)]
    more = len(counted) - len(shown)
    text = ", ".join(shown) + (f" and {more} more" if more else "")
    return [f"{before} {text}".strip()]


def _counted(count: int, noun: str) -> Iterable[str]:
    return [f"{count} {noun}{'s' if count > 1 else ''}"] if count else []


def _peer(target: Target | None) -> str:
    endpoint = target.endpoint if target else None
    if endpoint is None:
        return "a socket that could not be told"
    # A client's port is any number: naming a service by it would mislead.
    name = endpoint.remote if target and target.role == "client" else endpoint.peer
    return name or f"the far end of a {endpoint.protocol} socket"


def _local(target: Target | None) -> str:
    return target.endpoint.local if target and target.endpoint and target.endpoint.local else "a socket"


def _file(target: Target | None) -> str:
    return target.path if target and target.path else "a file"


def _child(call: Call) -> str:
    # wait4(pid): -1 any child. waitid(idtype, id): P_PID is 1.
    if not call.arguments:
        return "a child process"
    pid = call.arguments[0] if call.name == "wait4" else call.arguments[1] if call.arguments[0] == 1 else 0
    pid &= 0xFFFFFFFF
    return f"child process {pid}" if 0 < pid < 1 << 22 else "a child process"


def _by_wchan(state: str, wchan: str) -> _Said:
    said = next((said for start, said in _WCHANS.items() if wchan.startswith(start)), None)
    if said is not None:
        return said[0], f"{said[1]} ({wchan})", None
    if state == "R":
        return "cpu", "runs on a CPU, or is ready for one", None
    if state == "D":
        return "disk", f"waits for a device{f' ({wchan})' if wchan else ''}", None
    return "unknown", f"waits in kernel function {wchan}" if wchan else "waits; the kernel does not say on what", None
