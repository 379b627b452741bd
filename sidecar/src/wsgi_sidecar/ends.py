"""When and how processes ended that are not our children: the kernel's word.

In: the processes to follow. Out: `End`s of those that ended. Rule: asks through a pidfd opened while the process lived
and was identified: it becomes readable at the end, and from Linux 6.15 on keeps the wait status even when the parent
has reaped its child. Before that there is none, which a starved or sleeping parent makes long: such an end is told as
not final, and asked for again at the next looks, never waited for. Processes that came and went unseen have no end
here: that is silence, not an error.
"""

import errno
import fcntl
import os
import select
import struct
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.departures import End

_INFO: Final = struct.Struct("=Q52xi")
"""struct pidfd_info: mask at its start, exit_code at 60 (linux/pidfd.h)."""
_EXIT: Final = 1 << 3
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info) of the first version, 64 bytes."""
REAPED_WITHIN_S: Final = 2.0
"""Seconds after its end for which a process is followed until its parent reaps it: uWSGI's master looks once a second.
Where nobody reaps, zombies would use up the descriptors."""
_AT_MOST: Final = 512
"""Processes followed: one descriptor each."""


class Ends:
    """Follows processes to their end. Not thread-safe; a thread of its own sleeps until one ends, to note when."""

    def __init__(self, proc: Path = Path("/proc"), *, reaped_within_s: float = REAPED_WITHIN_S) -> None:
        """Nothing is followed yet.

        Args:
            proc: where /proc is.
            reaped_within_s: seconds after its end for which a process is followed until its parent reaps it.
        """
        self._proc = proc
        self._reaped_within_s = reaped_within_s
        self._followed: dict[ProcessId, int] = {}
        self._noted: dict[int, int] = {}
        self._epoll = select.epoll()
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._closing, select.EPOLLIN)
        self._clock: threading.Thread | None = None

    def look(self, alive: Iterable[ProcessId]) -> dict[ProcessId, End]:
        """Follow these, and those of earlier looks until they have ended.

        Returns:
            The ends of those that have ended since the look before, and of those whose end was not final then.
        """
        living = set(alive)
        ends = {process: self._end(process) for process in self._followed.keys() - living}
        for process in living - self._followed.keys():
            self._follow(process)
        return {process: end for process, end in ends.items() if end is not None}

    def close(self) -> None:
        """Let go of all, and end the thread; nothing can be followed any more."""
        os.eventfd_write(self._closing, 1)
        if self._clock is not None:
            self._clock.join()
        self._epoll.close()
        for fd in (self._closing, *self._followed.values()):
            os.close(fd)
        self._followed.clear()

    def _end(self, process: ProcessId) -> End | None:
        pidfd = self._followed[process]
        if not _has_ended(pidfd):
            return None
        # Not noted yet: the thread is about to, and now is not too early.
        ticks = self._noted.get(pidfd, _ticks())
        status, final = _status(pidfd)
        if not final and _ticks() - ticks <= self._reaped_within_s * os.sysconf("SC_CLK_TCK"):
            return End(status=None, ticks=ticks, final=False)
        del self._followed[process]
        os.close(pidfd)
        self._noted.pop(pidfd, None)
        return End(status=status, ticks=ticks)

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
        # What was noted late of another that had this descriptor's number.
        self._noted.pop(pidfd, None)
        self._epoll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)
        if self._clock is None:
            self._clock = threading.Thread(target=self._note, name="ends", daemon=True)
            self._clock.start()

    def _note(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._closing:
                    return
                self._noted[fd] = _ticks()

    def _started(self, pid: int) -> int | None:
        try:
            return int((self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, IndexError):
            return None


def _ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _status(pidfd: int) -> tuple[int | None, bool]:
    """The wait status of a process that has ended, and whether that is final; before it is reaped it has none."""
    # Between the two parts of being reaped the kernel answers once as if nothing were left.
    for _ in range(2):
        answer = bytearray(_INFO.pack(_EXIT, 0))
        try:
            fcntl.ioctl(pidfd, _GET_INFO, answer)
        except OSError as error:
            if error.errno != errno.ESRCH:
                break  # an older kernel
        else:
            mask, status = _INFO.unpack(answer)
            return (int(status), True) if mask & _EXIT else (None, False)
    return None, True
