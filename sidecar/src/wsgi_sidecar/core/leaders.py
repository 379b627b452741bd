"""Which server there is, and which process leads it.

In: the processes of one look. Out: `Leader`, or None. Rule: gunicorn before uWSGI before the others: who runs a
gunicorn may have a uvicorn's name further down its command line, never the other way round. The others are those that
start their workers as processes of their own: uvicorn (`--workers`), granian, hypercorn.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wsgi_contract.report import ProcessId, ServerKind
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.masters import find_master
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.core.uwsgi_family import find_kin

OTHERS: Final[dict[str, ServerKind]] = {"uvicorn": "uvicorn", "granian": "granian", "hypercorn": "hypercorn"}
SPAWNED: Final = ("spawn_main(", "forkserver import main")
"""In the command line of a process that Python's multiprocessing started by executing itself."""
_TRACKER: Final = "multiprocessing.resource_tracker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The process that leads a server."""

    kind: ServerKind
    process: Process


def find_leader(
    processes: tuple[Process, ...], kinship: Kinship, *, within: int | None = None, preferred: ProcessId | None = None
) -> Leader | None:
    """The server's leading process; arguments as those of `find_master`."""
    gunicorn = find_master(processes, kinship, within=within, preferred=preferred)
    if gunicorn is not None:
        return Leader(kind="gunicorn", process=gunicorn)
    uwsgi = find_kin(processes, kinship, has_master=None, within=within)
    if uwsgi is not None:
        return Leader(kind="uwsgi", process=uwsgi.master)
    tops = [process for process in processes if _is_top(process, kinship) and _is_within(process, kinship, within)]
    other = min(tops, key=lambda process: (not kinship.children(process), process.id.started), default=None)
    kind = other_kind(other.command) if other else None
    return Leader(kind=kind, process=other) if other is not None and kind is not None else None


@lru_cache(maxsize=4096)
def other_kind(command: tuple[str, ...]) -> ServerKind | None:
    """Which of the other servers a command line starts; None for everything else.

    >>> other_kind(("/usr/bin/python3", "/usr/bin/uvicorn", "app:app", "--workers", "2"))
    'uvicorn'
    """
    if not command:
        return None
    program = command[0].rpartition("/")[2]
    if program in OTHERS:
        return OTHERS[program]
    if not program.startswith(("python", "pypy")):
        return None
    words = [word for word in command[1:] if word not in ("-m", "-u", "-I", "-O", "-OO")]
    return OTHERS.get(words[0].rpartition("/")[2]) if words else None


def other_workers(leader: Process, kinship: Kinship) -> tuple[Process, ...]:
    """The workers of one of the others: what multiprocessing started below it; alone, it serves itself."""
    children = [child for child in kinship.children(leader) if child.state != "Z" and _is_worker(child, leader)]
    return tuple(children) or (leader,)


def _is_worker(child: Process, leader: Process) -> bool:
    words = " ".join(child.command)
    if _TRACKER in words:
        return False
    return child.command == leader.command or any(mark in words for mark in SPAWNED)


def _is_top(process: Process, kinship: Kinship) -> bool:
    if other_kind(process.command) is None or process.state == "Z":
        return False
    parent = kinship.parent(process)
    return parent is None or other_kind(parent.command) is None


def _is_within(process: Process, kinship: Kinship, within: int | None) -> bool:
    return within is None or within in (process.id.pid, *(above.id.pid for above in kinship.ancestors(process)))
