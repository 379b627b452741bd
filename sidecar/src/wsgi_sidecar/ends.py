"""How processes ended that are not our children: the kernel's word, where it gives it.

In: the processes to follow. Out: wait statuses of those that ended. Rule: asks through a pidfd opened while the process
lived and was identified; from Linux 6.15 on the kernel keeps the status there even when its parent has reaped it. Older
kernels, and processes that came and went unseen, have no status: that is silence, not an error.
"""

import fcntl
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wsgi_contract.report import ProcessId

_INFO: Final = struct.Struct("=Q52xi")
"""struct pidfd_info: mask at its start, exit_code at 60 (linux/pidfd.h)."""
_EXIT: Final = 1 << 3
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info) of the first version, 64 bytes."""
_AT_MOST: Final = 512
"""Processes followed: one descriptor each."""


class Ends:
    """Follows processes to their end. Not thread-safe."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Nothing is followed yet.

        Args:
            proc: where /proc is.
        """
        self._proc = proc
        self._followed: dict[ProcessId, int] = {}

    def look(self, alive: Iterable[ProcessId]) -> dict[ProcessId, int]:
        """Follow these; let go of those that are no longer among them.

        Returns:
            Wait statuses, as `os.waitpid` gives them, of processes followed so far that have ended.
        """
        living = set(alive)
        statuses = {}
        for process in self._followed.keys() - living:
            pidfd = self._followed.pop(process)
            status = _status(pidfd)
            os.close(pidfd)
            if status is not None:
                statuses[process] = status
        for process in living - self._followed.keys():
            self._follow(process)
        return statuses

    def close(self) -> None:
        """Let go of all."""
        for pidfd in self._followed.values():
            os.close(pidfd)
        self._followed.clear()

    def _follow(self, process: ProcessId) -> None:
        if len(self._followed) >= _AT_MOST:
            return
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            return
        # Asked after the pidfd was opened: it cannot be somebody else's any more.
        if self._started(process.pid) != process.started:
            os.close(pidfd)
            return
        self._followed[process] = pidfd

    def _started(self, pid: int) -> int | None:
        try:
            return int((self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, IndexError):
            return None


def _status(pidfd: int) -> int | None:
    answer = bytearray(_INFO.pack(_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, answer)
    except OSError:
        return None
    mask, status = _INFO.unpack(answer)
    return status if mask & _EXIT else None
