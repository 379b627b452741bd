"""How long ago a worker beat, as gunicorn's arbiter itself computes it.

In: a worker's `HeartbeatFile` and the two clocks of the look. Out: `Beat`. Rule: which clock the file speaks is told by
the file, not by the release, for the release may be unknown:

- `mtime` below 1e9: gunicorn 22.0 and later, `utime(monotonic)`; age = monotonic - mtime. (A machine would have to run
  for 31 years to break this.)
- neither owner bit set: gunicorn before 22.0, `fchmod` to 0 or 1; age = wall clock - ctime.
- else the file is as `mkstemp` made it: the worker has not beaten yet; age = wall clock - ctime, which is also what an
  arbiter before 22.0 computes. From 22.0 on the arbiter takes the monotonic clock less a wall clock time, a number far
  below zero, and so never kills a worker that hangs at boot.
"""

from dataclasses import dataclass
from typing import Final

from wsgi_sidecar.core.snapshot import HeartbeatFile

MONOTONIC_BELOW_S: Final = 1e9
"""2001 on the wall clock; 31 years of uptime on the monotonic one."""
OWNER_BITS: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A heartbeat as the arbiter judges it.

    Attributes:
        age_s: seconds since the last beat, never negative: a worker may beat between our clock and our look.
        booting: the worker has not beaten since it was forked; the age is then the file's own.
    """

    age_s: float
    booting: bool


def beat(file: HeartbeatFile, *, at: float, monotonic: float) -> Beat:
    """Judge a heartbeat file.

    Args:
        file: as read.
        at: wall clock of the look, Unix seconds.
        monotonic: monotonic clock of the look, seconds.
    """
    if file.mtime < MONOTONIC_BELOW_S:
        return Beat(age_s=max(0.0, monotonic - file.mtime), booting=False)
    return Beat(age_s=max(0.0, at - file.ctime), booting=bool(file.mode & OWNER_BITS))
