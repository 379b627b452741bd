"""What a thread waits on, in words for a person: the answer to "why does this request take so long?".

In: the system call a thread is in, and what its file descriptors lead to. Out: `Wait`. Rule: says what the kernel says
and no more: a futex is "a lock or work" because from outside the two look the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wsgi_contract.report import Unknown
from wsgi_sidecar.core.syscalls import Call
from wsgi_sidecar.core.targets import Target, file_of, local_of, peer_of, told_together
from wsgi_sidecar.core.wchans import Kind, by_wchan

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

_STATES: Final[Mapping[str, tuple[Kind, str]]] = {
    "T": ("stopped", "is stopped by a signal (SIGSTOP); SIGCONT lets it go on"),
    "t": ("stopped", "is stopped by a debugger"),
    "Z": ("unknown", "has ended"),
    "X": ("unknown", "has ended"),
}


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
        return "network", f"connects to {peer_of(first)}, which has not answered yet", first
    if name in _ACCEPTS:
        return "listener", f"waits for a connection on {local_of(first)}", None
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
        return "disk", f"waits until {file_of(first)} is on disk ({name})", None
    if name == "flock" or (name == "fcntl" and call.arguments[1:2] and call.arguments[1] in _FCNTL_WAITS):
        return "lock", f"waits for the lock on {file_of(first)}", None
    if name in _FILES:
        return "disk", f"waits for a file system ({name})", None
    kind, doing = by_wchan(wchan) or ("unknown", "")
    return kind, f"{doing or 'waits'} in system call {name or call.number}", None


def _transfer(verb: str, target: Target | None) -> _Said:
    to = "from" if verb == "reads" else "to"
    match target:
        case Target(role="client"):
            doing = "reads the request of" if verb == "reads" else "sends a response to"
            return "client", f"{doing} client {peer_of(target)}", target
        case Target(role="peer"):
            return "network", f"{verb} {to} {peer_of(target)}", target
        case Target(role="file"):
            return "disk", f"{verb} {to} {file_of(target)}", None
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
        return "client", f"waits for client {peer_of(one)}", one
    if one.endpoint is not None and one.endpoint.state == "connecting":
        return "network", f"connects to {peer_of(one)}, which has not answered yet", one
    return "network", f"waits for {peer_of(one)}", one


def _watch(targets: Sequence[Target] | None) -> _Said:
    """An event loop: it waits for whatever comes first."""
    if not targets:
        return "events", "waits for events", None
    roles = {target.role for target in targets}
    only_listens = "listener" in roles and not roles & {"client", "peer"}
    kind: Kind = "listener" if only_listens else "pipe" if roles == {"pipe"} else "events"
    return kind, f"waits for {told_together(targets) or 'events'}", None


def _child(call: Call) -> str:
    # wait4(pid): -1 any child. waitid(idtype, id): P_PID is 1.
    if not call.arguments:
        return "a child process"
    pid = call.arguments[0] if call.name == "wait4" else call.arguments[1] if call.arguments[0] == 1 else 0
    pid &= 0xFFFFFFFF
    return f"child process {pid}" if 0 < pid < 1 << 22 else "a child process"


def _by_wchan(state: str, wchan: str) -> _Said:
    said = by_wchan(wchan)
    if said is not None:
        return said[0], f"{said[1]} ({wchan})", None
    if state == "R":
        return "cpu", "runs on a CPU, or is ready for one", None
    if state == "D":
        return "disk", f"waits for a device{f' ({wchan})' if wchan else ''}", None
    return "unknown", f"waits in kernel function {wchan}" if wchan else "waits; the kernel does not say on what", None
