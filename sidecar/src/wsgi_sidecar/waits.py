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
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from wsgi_contract.report import Unknown
from wsgi_sidecar.core.endpoints import Endpoint, Protocol, State, parse_inet
from wsgi_sidecar.core.syscalls import TABLES, Call, parse_call
from wsgi_sidecar.core.waits import Role, Target, Wait, Waits, explain
from wsgi_sidecar.netlink import Netlink, NetlinkError

_POLLED_AT_MOST: Final = 256
_POLL_ENTRY: Final = struct.Struct("=ihh")
_ON_FIRST_ARGUMENT: Final = (
    "read", "readv", "pread64", "preadv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "pwrite64", "pwritev",
    "sendto", "sendmsg", "sendmmsg", "sendfile", "splice", "connect", "accept", "accept4", "flock", "fcntl", "fsync",
    "fdatasync", "syncfs",
)  # fmt: skip
_INET_FILES: Final[Mapping[str, Protocol]] = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}
_UNIX_LISTENING: Final = 0x10000  # __SO_ACCEPTCON, the flag of listening sockets in /proc/net/unix


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
    sockets = _Sockets(folder)
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


def _thread(folder: Path, tid: int, machine: str, sockets: "_Sockets") -> Wait | None:
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


def _targets(folder: Path, call: Call | None, sockets: "_Sockets") -> tuple[Target, ...] | None:
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


class _Sockets:
    """What descriptors lead to; the tables of sockets are read once, and only when a socket is met."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def target(self, fd: int) -> Target:
        try:
            link = os.readlink(self._folder / "fd" / str(fd))
        except OSError:
            return Target(role="unknown")
        if link.startswith("socket:["):
            return self._socket(int(link[8:-1]))
        return _not_a_socket(link)

    def _socket(self, inode: int) -> Target:
        endpoint = self._endpoint(inode)
        if endpoint is not None:
            return Target(role=self._inet_role(endpoint), endpoint=endpoint)
        path, listening = self._unix.get(inode, (None, False))
        if path:
            # A stream socket that carries a path was accepted by whoever listens there: by this server.
            local = f"unix:{path}"
            if listening:
                return Target(role="listener", endpoint=_named("listening", local, None))
            return Target(role="client", endpoint=_named("established", local, f"on {local}"))
        remote = self._unix_peers.get(inode)
        if remote is not None:
            return Target(role="peer", endpoint=_named("established", "", f"unix:{remote}"))
        # A socket pair: to a child process, or the event loop's own alarm.
        return Target(role="pipe" if path is not None else "unknown")

    def _inet_role(self, endpoint: Endpoint) -> Role:
        if endpoint.state == "listening":
            return "listener"
        accepted = endpoint.protocol == "tcp" and endpoint.local_port in self._listening
        return "client" if accepted else "peer"

    def _endpoint(self, inode: int) -> Endpoint | None:
        line, protocol = self._inet.get(inode, ("", "tcp"))
        parsed = parse_inet(line, protocol)
        return parsed[1] if parsed is not None else None

    @cached_property
    def _inet(self) -> dict[int, tuple[str, Protocol]]:
        """Lines by inode, parsed only for the few that somebody waits on: 18 ms against 48 for 4,400 rows."""
        rows = ((line, protocol) for name, protocol in _INET_FILES.items() for line in self._lines(name))
        found = {
            int(fields[9]): row
            for row in rows
            if len(fields := row[0].split(maxsplit=10)) > 9 and fields[9].isdecimal()
        }
        found.pop(0, None)  # connections that nobody has accepted share this inode
        return found

    @cached_property
    def _listening(self) -> frozenset[int | None]:
        rows = (parse_inet(line, protocol) for line, protocol in self._inet.values() if " 0A " in line)
        return frozenset(row[1].local_port for row in rows if row is not None and row[1].state == "listening")

    @cached_property
    def _unix(self) -> dict[int, tuple[str, bool]]:
        rows = (line.split(maxsplit=7) for line in self._lines("unix"))
        return {
            int(row[6]): (row[7] if len(row) > 7 else "", bool(int(row[3], 16) & _UNIX_LISTENING))
            for row in rows
            if len(row) > 6 and row[6].isdecimal()
        }

    @cached_property
    def _unix_peers(self) -> Mapping[int, str]:
        try:
            netlink = Netlink()
        except NetlinkError:
            return {}
        try:
            return netlink.unix_peers()
        except NetlinkError:
            return {}
        finally:
            netlink.close()

    def _lines(self, name: str) -> list[str]:
        try:
            return (self._folder / "net" / name).read_text(errors="surrogateescape").splitlines()
        except OSError:
            return []


def _named(state: State, local: str, remote: str | None) -> Endpoint:
    return Endpoint(protocol="unix", state=state, local=local, remote=remote)


def _not_a_socket(link: str) -> Target:
    if link.startswith("pipe:"):
        return Target(role="pipe")
    if link.startswith("anon_inode:"):
        return Target(role="epoll" if "eventpoll" in link else "event")
    return Target(role="file", path=link) if link.startswith("/") else Target(role="unknown")


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
