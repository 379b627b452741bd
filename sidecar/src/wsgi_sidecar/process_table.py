"""All processes of the PID namespace, as /proc tells anybody.

In: /proc. Out: `Process` values without their open files. Rule: `stat` is read at every look through a descriptor that
stays open, which a reused pid cannot answer (it says ESRCH); what rarely changes (argv, cgroup, uid) is read at first
sight, after every change of the short name, often while the process is young (fork, then exec, then setuid), and now
and then later; likewise the container of whoever could lead a server, and ours. Kernel threads are left out.

Costs here: stat through an open descriptor 3.5 us, by path 7.7 us; argv, cgroup and uid together 35 us.
"""

import os
import time
from collections.abc import Iterator
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.leaders import kind_of
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.mounts import container_named

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_YOUNG_LOOKS: Final = 5
_REVALIDATE_EVERY: Final = 60
_KERNEL_THREADS_EVERY: Final = 60
"""Looks after which a pid that was a kernel thread's is asked again: it may have been reused."""
_OPEN_DESCRIPTORS: Final = 256
"""How many processes may keep a descriptor open; the soft limit is often 1,024."""
_ARGV_BYTES: Final = 65536
_MOUNTS_BYTES: Final = 1 << 20
_PF_KTHREAD: Final = 0x00200000
"""Of the flags in `stat`. Process 2 of a PID namespace may be anybody, and whoever is executed just now shows no argv:
neither tells a kernel thread."""
_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)
"""Vanished, or hidden from us (/proc mounted with hidepid): not among the processes either way."""


class ProcessTable:
    """What was read about each process, kept between looks."""

    def __init__(self, root: str = "/proc", *, most_open: int = _OPEN_DESCRIPTORS) -> None:
        """Read nothing yet.

        Args:
            root: where /proc is.
            most_open: processes whose `stat` stays open; the others' is opened at every look.
        """
        self._root = root
        self._most_open = most_open
        self._entries: dict[int, _Entry] = {}
        self._kernel_threads: set[int] = set()
        self._looks = 0

    def close(self) -> None:
        """Let go of all descriptors."""
        for entry in self._entries.values():
            entry.close()
        self._entries.clear()

    def read(self) -> dict[int, Process]:
        """Every process alive, by pid."""
        self._looks += 1
        if self._looks % _KERNEL_THREADS_EVERY == 0:
            self._kernel_threads.clear()
        listed = {int(name) for name in os.listdir(self._root) if name.isdecimal()}
        for pid in self._entries.keys() - listed:
            self._entries.pop(pid).close()
        self._kernel_threads &= listed
        found = ((pid, self._process(pid)) for pid in sorted(listed - self._kernel_threads))
        return {pid: process for pid, process in found if process is not None}

    def _process(self, pid: int) -> Process | None:
        entry = self._entries.get(pid)
        try:
            if entry is not None:
                return entry.read(self._looks)
        except _GONE:
            self._forget(pid)
        try:
            entry = _Entry(pid, self._root, hold=len(self._entries) < self._most_open)
            self._entries[pid] = entry
            process = entry.read(self._looks)
        except _GONE:
            self._forget(pid)
            return None
        if entry.is_kernel_thread:
            self._forget(pid)
            self._kernel_threads.add(pid)
            return None
        return process

    def _forget(self, pid: int) -> None:
        entry = self._entries.pop(pid, None)
        if entry is not None:
            entry.close()


class _Entry:
    """One process between looks."""

    __slots__ = (
        "_age", "_cgroup", "_command", "_container", "_folder", "_gid", "_last", "_pid", "_process", "_started_at",
        "_stat", "_uid", "is_kernel_thread",
    )  # fmt: skip

    def __init__(self, pid: int, root: str, *, hold: bool) -> None:
        self._pid = pid
        self._folder = f"{root}/{pid}"
        self._stat = os.open(f"{self._folder}/stat", os.O_RDONLY | os.O_CLOEXEC) if hold else -1
        self._last = b""
        self._process: Process | None = None
        self._age = 0
        self._started_at = 0.0
        self._command: tuple[str, ...] = ()
        self._cgroup = ""
        self._container: str | None = None
        self._uid = self._gid = -1
        self.is_kernel_thread = False

    def close(self) -> None:
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1

    def read(self, look: int) -> Process:
        """The process now; the very same value if nothing about it changed.

        Raises:
            ProcessLookupError: it is gone, or its pid is another's.
        """
        data = os.pread(self._stat, 1024, 0) if self._stat >= 0 else _read(f"{self._folder}/stat", 1024)
        # The pid staggers the processes, so that no look pays for all of them.
        due = self._age < _YOUNG_LOOKS or (look + self._pid) % _REVALIDATE_EVERY == 0
        if self._process is not None and data == self._last and not due:
            return self._process
        self._age += self._age < _YOUNG_LOOKS
        self._process = self._parse(data, due=due)
        self._last = data
        return self._process

    def _parse(self, data: bytes, *, due: bool) -> Process:
        opening, closing = data.index(b"("), data.rindex(b")")
        # proc_pid_stat(5), counted from its third field: state 0, ppid 1, session 3, flags 6, utime 11, stime 12,
        # threads 17, starttime 19, rss 21.
        fields = data[closing + 2 :].split(None, 22)
        identity = ProcessId(pid=int(data[:opening]), started=int(fields[19]))
        name = data[opening + 1 : closing].decode(errors="replace")
        before = self._process
        if before is not None and before.id != identity:
            raise ProcessLookupError(f"pid {identity.pid} was reused")
        self.is_kernel_thread = bool(int(fields[6]) & _PF_KTHREAD)
        if due or before is None or before.name != name:
            self._read_what_rarely_changes(identity)
        state = fields[0].decode()
        return Process(
            id=identity,
            ppid=int(fields[1]),
            name=name,
            command=() if state in "ZX" else self._command,
            state=state,
            cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
            thread_count=int(fields[17]),
            rss_bytes=int(fields[21]) * _PAGE_BYTES,
            cgroup=self._cgroup,
            uid=self._uid,
            gid=self._gid,
            started_at=self._started_at,
            session=int(fields[3]),
            container=self._container,
        )

    def _read_what_rarely_changes(self, identity: ProcessId) -> None:
        if not self._started_at:
            booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
            self._started_at = booted_at + identity.started / _TICKS_PER_S
        before, self._command = self._command, parse_argv(_read(f"{self._folder}/cmdline", _ARGV_BYTES))
        self._cgroup = parse_cgroup(_read(f"{self._folder}/cgroup", 8192))
        self._uid, self._gid = parse_ids(_read(f"{self._folder}/status", 8192))
        if self._command != before and (kind_of(self._command) is not None or self._pid == os.getpid()):
            # Of runtimes' making, so there before whatever they execute; 100 us, so asked once per program.
            self._container = self._container or _container(f"{self._folder}/mountinfo")


def parse_argv(data: bytes) -> tuple[str, ...]:
    """Words of a `cmdline`; a title that setproctitle wrote is one word."""
    return tuple(os.fsdecode(word) for word in data.rstrip(b"\0").split(b"\0")) if data.strip(b"\0") else ()


def parse_cgroup(data: bytes) -> str:
    """The path in a `cgroup` file that tells containers apart: v2's, else v1's pids or memory, else any but `/`."""
    paths: dict[str, str] = {}
    for controller, path in _cgroup_lines(data):
        paths.setdefault(controller, path)
    for controller in ("", "pids", "memory", *paths):
        if paths.get(controller, "/") != "/":
            return paths[controller]
    return "/" if paths else ""


def _cgroup_lines(data: bytes) -> Iterator[tuple[str, str]]:
    for line in data.decode(errors="surrogateescape").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, path.removesuffix(" (deleted)")


def parse_ids(data: bytes) -> tuple[int, int]:
    """Real user and group id of a `status`."""
    uid = data.index(b"\nUid:\t") + 6
    gid = data.index(b"\nGid:\t") + 6
    return int(data[uid : data.index(b"\t", uid)]), int(data[gid : data.index(b"\t", gid)])


def _container(path: str) -> str | None:
    """Of whom these mounts are; None also for one that ends just now, which the kernel answers with EINVAL."""
    try:
        with open(path, "rb") as file:  # buffered, for one read brings a page at most
            return container_named(file.read(_MOUNTS_BYTES))
    except OSError:
        return None


def _read(path: str, most_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)
