"""What those say and hold of whom nobody here is the parent: whether a gunicorn's process started them.

In: processes that may be orphans, for they hang where the kernel puts such. Out: the same, knowing what their
environment says and what they hold of a server's. Rule: gunicorn puts SERVER_SOFTWARE into its environment, so whatever
its workers execute inherits it; that one word is looked for and nothing is kept. A fork inherits listening sockets and
heartbeat files instead. Asked once per process and program.
"""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.descent import is_stranger, tells_by_cgroup
from wsgi_sidecar.core.snapshot import HeartbeatFile, Process
from wsgi_sidecar.open_files import OpenFiles

_MARK: Final = b"\0SERVER_SOFTWARE=gunicorn"
_ENVIRON_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What one stranger said: None where the kernel refused."""

    gunicorn: bool | None
    sockets: frozenset[int] | None
    heartbeats: tuple[HeartbeatFile, ...] | None


class Strangers:
    """What strangers said, kept while they live."""

    def __init__(self, root: str = "/proc") -> None:
        """Ask nobody yet."""
        self._root = root
        self._said: dict[tuple[ProcessId, tuple[str, ...]], _Said] = {}

    def asked(self, processes: Collection[Process], master: Process, listening: Iterable[int]) -> dict[int, Process]:
        """The strangers among these processes, by pid, each with what it says; those whom we adopted, too.

        Args:
            processes: all of the look.
            master: the server's.
            listening: inodes of its listening sockets.
        """
        us = os.getpid()
        observer = next((process for process in processes if process.id.pid == us), None)
        by_cgroup, inodes = tells_by_cgroup(master, observer), frozenset(listening)
        strangers = [
            process
            for process in processes
            if process.state != "Z" and (_adopted(process, master, us) or (by_cgroup and is_stranger(process, master)))
        ]
        before, self._said = self._said, {}
        for process in strangers:
            key = (process.id, process.command)
            self._said[key] = before[key] if key in before else self._ask(process.id.pid)
        return {each.id.pid: _told(each, self._said[each.id, each.command], inodes) for each in strangers}

    def _ask(self, pid: int) -> _Said:
        try:
            with open(f"{self._root}/{pid}/environ", "rb") as file:
                gunicorn = _MARK in b"\0" + file.read(_ENVIRON_BYTES)
        except OSError:
            return _Said(gunicorn=None, sockets=None, heartbeats=None)
        sockets, heartbeats = self._held(pid)
        return _Said(gunicorn=gunicorn, sockets=sockets, heartbeats=heartbeats)

    def _held(self, pid: int) -> tuple[frozenset[int] | None, tuple[HeartbeatFile, ...] | None]:
        try:
            files = OpenFiles(pid, self._root)
        except OSError:
            return None, None
        try:
            files.scan()
            return files.sockets, files.heartbeats()
        except OSError:
            return None, None
        finally:
            files.close()


def _adopted(process: Process, master: Process, us: int) -> bool:
    return process.ppid == us and process.ppid != master.id.pid and process.id != master.id


def _told(process: Process, said: _Said, listening: frozenset[int]) -> Process:
    listeners = None if said.sockets is None else said.sockets & listening
    return replace(process, says_gunicorn=said.gunicorn, heartbeats=said.heartbeats, listeners=listeners)
