"""Which processes are a uWSGI's master and its workers, told from outside.

In: the top of its tree in one look, and what uWSGI was told. Out: `UwsgiKin`. Rule: a worker is a child of the master
that holds one of the master's listening sockets which is neither a gateway's nor the stats server's. Measured on
2.0.31: workers hold the sockets of `--socket`, `--http-socket` and their like; a gateway (`--http`, `--https`,
`--fastrouter`) holds its own and none of theirs; mules and spoolers hold none; whoever is forked late holds the stats
server's, too.

There is no heartbeat to read. The master makes 1.0 context switches a second when idle, as gunicorn's does. Without
`--master` the first worker is the parent of the others, and a worker that dies never returns. `auto-procname`
overwrites the command line with a title that tells the role, and the number of a worker.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.snapshot import Listener, Process

UwsgiRole = Literal["uwsgi", "master", "worker", "helper"]
"""`uwsgi`: by argv, could be any of the family. The others by the title: a helper is a gateway, a mule or a spooler."""

_PROGRAM: Final = re.compile(r"(?:.*/)?(?:py)?uwsgi(?:-core|_python[\d.]*)?")
_TITLE: Final = re.compile(r"(?:.* )?uWSGI (master|worker|\w+)(?: (\d+))?(?: .*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class UwsgiKin:
    """A uWSGI's processes.

    Attributes:
        master: the master; without `--master`, the first worker.
        workers: alive, by age.
        helpers: gateways, mules, spoolers.
        certain: False where descriptors could not be read and titles say nothing: helpers may be among the workers.
    """

    master: Process
    workers: tuple[Process, ...]
    helpers: tuple[Process, ...]
    certain: bool


@lru_cache(maxsize=4096)
def role(command: tuple[str, ...]) -> UwsgiRole | None:
    """What the command line says the process is; None if it is no uWSGI.

    >>> role(("shop uWSGI worker 2",))
    'worker'
    """
    if not command:
        return None
    if _PROGRAM.fullmatch(command[0]):
        return "uwsgi"
    title = _TITLE.fullmatch(command[0]) if len(command) == 1 else None
    if title is None:
        return None
    return {"master": "master", "worker": "worker"}.get(title[1], "helper")  # type: ignore[return-value]


def arguments(command: tuple[str, ...]) -> tuple[str, ...] | None:
    """The arguments behind the program's name; None if this is no uWSGI, or its title was overwritten."""
    return command[1:] if role(command) == "uwsgi" else None


def worker_number(command: tuple[str, ...]) -> int | None:
    """The number that a worker's title tells; None where there is none."""
    title = _TITLE.fullmatch(command[0]) if len(command) == 1 else None
    return int(title[2]) if title and title[1] == "worker" and title[2] else None


def kin_of(
    master: Process,
    kinship: Kinship,
    *,
    has_master: bool | None,
    listeners: Collection[Listener] | None = None,
    strange: Collection[str] = (),
) -> UwsgiKin:
    """The family of a uWSGI that was found.

    Args:
        master: the top of its tree.
        kinship: of all processes of the look.
        has_master: whether it was told to have one; None, where that is unknown, is taken for yes.
        listeners: of the look, to know sockets by their address.
        strange: addresses of sockets that are not the workers'; see `strange_listeners` in the contract.
    """
    children = tuple(child for child in kinship.children(master) if role(child.command) and child.state != "Z")
    theirs = {each.inode for each in listeners or () if each.address in strange}
    told = {child.id: _is_worker(child, master, theirs) for child in children}
    workers = tuple(child for child in children if told[child.id] is not False)
    if has_master is False:
        workers = (master, *workers)
    return UwsgiKin(
        master=master,
        workers=workers,
        helpers=tuple(child for child in children if told[child.id] is False),
        certain=None not in told.values(),
    )


def _is_worker(child: Process, master: Process, not_workers: set[int]) -> bool | None:
    by_title = role(child.command)
    if by_title in ("worker", "helper"):
        return by_title == "worker"
    if child.listeners is None or master.listeners is None:
        return None
    return bool((child.listeners & master.listeners) - not_workers)
