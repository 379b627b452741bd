"""Which servers there are, and which process leads each.

In: the processes of one look. Out: `Leader` values, and the foremost of several. Rule: gunicorn before uWSGI before the
others: who runs a gunicorn may have a uvicorn's name further down its command line, never the other way round. The
others are those that start their workers as processes of their own: uvicorn (`--workers`), granian, hypercorn.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wsgi_contract.report import ProcessId, ServerKind
from wsgi_sidecar.core.command import role
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.masters import eldest, is_outermost
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.core.uwsgi_family import role as uwsgi_role

OTHERS: Final[dict[str, ServerKind]] = {"uvicorn": "uvicorn", "granian": "granian", "hypercorn": "hypercorn"}
SPAWNED: Final = ("spawn_main(", "forkserver import main")
"""In the command line of a process that Python's multiprocessing started by executing itself."""
_TRACKER: Final = "multiprocessing.resource_tracker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The process that leads a server."""

    kind: ServerKind
    process: Process


def find_leaders(processes: Iterable[Process], kinship: Kinship, *, within: int | None = None) -> tuple[Leader, ...]:
    """The leading process of each server; arguments as those of `find_master`."""
    told = ((kind_of(process.command), process) for process in processes if process.state != "Z")
    return tuple(
        Leader(kind=kind, process=process)
        for kind, process in told
        if kind is not None and _is_top(kind, process, kinship, within) and kinship.is_within(process, within)
    )


def foremost(leaders: Collection[Leader], kinship: Kinship, *, preferred: ProcessId | None = None) -> Leader | None:
    """The one that is watched of several; `preferred`: the leading process of the look before."""
    gunicorn = eldest([each.process for each in leaders if each.kind == "gunicorn"], kinship, preferred)
    if gunicorn is not None:
        return Leader(kind="gunicorn", process=gunicorn)
    return min(leaders, key=lambda leader: _preference(leader, kinship), default=None)


@lru_cache(maxsize=4096)
def kind_of(command: tuple[str, ...]) -> ServerKind | None:
    """Which server a process with this command line could lead; None for everything else, titled workers included."""
    if role(command) in ("gunicorn", "master"):
        return "gunicorn"
    return "uwsgi" if uwsgi_role(command) in ("uwsgi", "master") else other_kind(command)


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


def _is_top(kind: ServerKind, process: Process, kinship: Kinship, within: int | None) -> bool:
    if kind == "gunicorn":
        return is_outermost(process, kinship, within)
    parent = kinship.parent(process)
    if parent is None:
        return True
    return uwsgi_role(parent.command) is None if kind == "uwsgi" else other_kind(parent.command) is None


def _preference(leader: Leader, kinship: Kinship) -> tuple[bool, bool, int]:
    return leader.kind != "uwsgi", not kinship.children(leader.process), leader.process.id.started
