"""Every process of a test server, and the end of all of them.

In: a mark that was put into a process's environment. Out: the processes that carry it, or nobody any more. Rule: the
environment is inherited through fork, exec, new sessions and double forks, so what a test started can be found by it
wherever it hides; what carries no mark of ours is never touched. A mark names its owner, so what a killed test run left
behind is swept by the next one.
"""

import itertools
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

VARIABLE: Final = "WSGI_TEST_ROOM"
_numbers = itertools.count()


def new_mark() -> str:
    """A mark of this very process: `<PID namespace>.<pid>.<start ticks>.<number>`."""
    return f"{_namespace()}.{os.getpid()}.{_started(os.getpid())}.{next(_numbers)}"


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def marked(mark: str) -> tuple[int, ...]:
    """The pids that carry exactly this mark."""
    return tuple(pid for pid, found in _all_marked() if found == mark)


def alive(pids: Iterable[int]) -> tuple[int, ...]:
    """Those that still run; a zombie does not: it only waits for its parent to look."""
    return tuple(pid for pid in pids if _stat(pid)[:1] not in ([], ["Z"]))


def end_marked(mark: str, within_s: float = 10.0) -> int:
    """Kill whatever carries the mark, until nothing does; how many were killed.

    Raises:
        TimeoutError: some are still there.
    """
    deadline, killed = time.monotonic() + within_s, 0
    while left := marked(mark):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {left} of {mark} did not end within {within_s} s")
        killed += sum(_kill(pid, mark) for pid in left)
    return killed


def end_leftovers() -> int:
    """Kill what test runs left behind that are no more themselves; how many."""
    stale = {mark for _, mark in _all_marked() if not _owner_lives(mark)}
    return sum(end_marked(mark) for mark in stale)


def _all_marked() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (mark := _mark_of(int(entry.name))) is not None:
            yield int(entry.name), mark


def _mark_of(pid: int) -> str | None:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{VARIABLE}=".encode()
    return next((part[len(prefix) :].decode() for part in environ.split(b"\0") if part.startswith(prefix)), None)


def _kill(pid: int, mark: str) -> bool:
    """Kill one and wait until it is dead: its sockets and files outlive its environment by a moment."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Looked at again behind the pidfd: between the listing and here the pid may have got another owner.
        if _mark_of(pid) != mark:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return bool(select.select([handle], [], [], 5)[0])
    except OSError:
        return False
    finally:
        os.close(handle)


def _owner_lives(mark: str) -> bool:
    """Whether its owner lives or cannot be told: of another PID namespace, or of a tree that writes marks otherwise."""
    match mark.split("."):
        case [namespace, pid, started, _]:
            return int(namespace) != _namespace() or _started(int(pid)) == int(started)
        case _:
            return True


def _started(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _stat(pid: int) -> list[str]:
    """`/proc/PID/stat` from its third field, the state, on; empty for a process that is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
