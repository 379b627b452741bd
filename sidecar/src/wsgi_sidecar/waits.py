"""What each thread of a process waits on, looked at from outside.

In: a pid. Out: `Waits`. Rule: looks only, stops nobody. Taken on suspicion (a late heartbeat, a stuck request), not at
every scan: about 0.2 ms for a thread, and 4 ms for every 1,000 sockets of the pod.

The kernel shows a system call's arguments (needs the server's uid and gid). For poll and select they are addresses of
lists of descriptors, so those lists, and nothing else, are read from the process's memory: what a driver with a
timeout waits on cannot be told otherwise.
"""

import os
import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Final

from wsgi_contract.report import Unknown
from wsgi_sidecar.core.syscalls import TABLES, Call, parse_call
from wsgi_sidecar.core.targets import Target
from wsgi_sidecar.core.waits import Wait, Waits, explain
from wsgi_sidecar.descriptors import Descriptors

_POLLED_AT_MOST: Final = 256
_POLL_ENTRY: Final = struct.Struct("=ihh")
_ON_FIRST_ARGUMENT: Final = (
    "read", "readv", "pread64", "preadv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "pwrite64", "pwritev",
    "sendto", "sendmsg", "sendmmsg", "sendfile", "splice", "connect", "accept", "accept4", "flock", "fcntl", "fsync",
    "fdatasync", "syncfs",
)  # fmt: skip


def read_waits(pid: int, *, at_most: int = 64, proc: Path = Path("/proc"), machine: str | None = None) -> Waits:
    """Look at every thread of a process once.

    Args:
        pid: the process; one that is gone has no threads.
        at_most: threads looked at; the rest is counted in `left_out`.
        proc: where /proc is.
        machine: as `uname -m` says; None asks.
    """
    machine = machine or os.uname().machine
    folder = proc / str(pid)
    try:
        threads = sorted(int(name) for name in os.listdir(folder / "task"))
    except OSError:
        return Waits(threads=())
    threads.sort(key=lambda tid: tid != pid)
    sockets = Descriptors(folder)
    waits = tuple(wait for tid in threads[:at_most] if (wait := _thread(folder, tid, machine, sockets)) is not None)
    return Waits(
        threads=waits,
        left_out=max(0, len(threads) - at_most),
        unknowns=_unknowns(folder, machine) if waits else (),
    )


def sockets_in_use(
    pid: int, *, at_most: int = 64, proc: Path = Path("/proc"), machine: str | None = None
) -> frozenset[int]:
    """Inodes of the sockets that a thread of the process reads from, writes to or polls at this moment.

    A glance of some 30 us a thread, cheap enough to be repeated; empty where the kernel refuses one. Arguments as those
    of `read_waits`.
    """
    machine = machine or os.uname().machine
    folder = proc / str(pid)
    inodes: set[int] = set()
    try:
        for tid in os.listdir(folder / "task")[:at_most]:
            call = parse_call(_read(folder / "task" / tid / "syscall"), machine)
            fds = _descriptors(folder, call) if call is not None and call.name is not None else ()
            links = (os.readlink(folder / "fd" / str(fd)) for fd in fds or ())
            inodes.update(int(link[8:-1]) for link in links if link.startswith("socket:["))
    except OSError:
        pass  # it, or a thread or file of it, is gone: the next glance tells
    return frozenset(inodes)


def _thread(folder: Path, tid: int, machine: str, sockets: Descriptors) -> Wait | None:
    task = folder / "task" / str(tid)
    try:
        # Descriptors are looked up after the call was read: look again, so that they belong to the same call.
        for _ in range(3):
            text = _read(task / "syscall")
            call = parse_call(text, machine)
            targets = _targets(folder, call, sockets)
            if text == _read(task / "syscall"):
                break
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        wchan = _read(task / "wchan").strip()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    return explain(thread=tid, state=state, call=call, wchan="" if wchan == "0" else wchan, targets=targets)


def _read(path: Path) -> str:
    """The text; empty where the kernel refuses it.

    Raises:
        FileNotFoundError: the thread is gone.
        ProcessLookupError: likewise.
    """
    try:
        return path.read_text()
    except PermissionError:
        return ""


def _targets(folder: Path, call: Call | None, sockets: Descriptors) -> tuple[Target, ...] | None:
    fds = _descriptors(folder, call) if call is not None and call.name is not None else ()
    return None if fds is None else tuple(sockets.target(fd) for fd in fds)


def _descriptors(folder: Path, call: Call) -> tuple[int, ...] | None:
    """The descriptors a call waits on; None where they could not be told."""
    first, second, third = (*call.arguments, 0, 0, 0)[:3]
    try:
        if call.name in _ON_FIRST_ARGUMENT:
            return (first,)
        if call.name in ("poll", "ppoll"):
            return _polled(folder, first, min(second, _POLLED_AT_MOST))
        if call.name in ("select", "pselect6"):
            return _selected(folder, min(first, 1024), (second, third))
        if call.name in ("epoll_wait", "epoll_pwait", "epoll_pwait2"):
            info = (folder / "fdinfo" / str(first)).read_text()
            return tuple(int(fd) for fd in re.findall(r"^tfd:\s*(\d+)", info, re.MULTILINE))
    except (OSError, ValueError, OverflowError):
        return None
    return ()


def _polled(folder: Path, address: int, count: int) -> tuple[int, ...]:
    memory = _memory(folder, address, count * _POLL_ENTRY.size)
    whole = len(memory) - len(memory) % _POLL_ENTRY.size
    return tuple(fd for fd, _, _ in _POLL_ENTRY.iter_unpack(memory[:whole]) if fd >= 0)


def _selected(folder: Path, count: int, addresses: Collection[int]) -> tuple[int, ...]:
    size = (count + 63) // 64 * 8
    bits = 0
    for address in addresses:
        bits |= int.from_bytes(_memory(folder, address, size), "little") if address else 0
    return tuple(fd for fd in range(count) if bits >> fd & 1)


def _memory(folder: Path, address: int, size: int) -> bytes:
    fd = os.open(folder / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)


def _unknowns(folder: Path, machine: str) -> tuple[Unknown, ...]:
    what = "what threads wait on"
    if machine not in TABLES:
        why = f"the numbers of system calls on {machine} are not known to the sidecar"
        return (Unknown(what=what, why=why, remedy="none; the kernel functions they wait in are told instead"),)
    try:
        (folder / "syscall").read_text()
        with open(folder / "mem", "rb"):
            return ()
    except PermissionError:
        why = "the kernel refused a look at its system calls (another user, or Yama's ptrace_scope is not 0)"
        remedy = "run the sidecar with the server's runAsUser and runAsGroup, on nodes with kernel.yama.ptrace_scope=0"
        return (Unknown(what=what, why=why, remedy=remedy),)
    except OSError:
        return ()
