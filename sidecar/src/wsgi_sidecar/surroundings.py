"""What surrounds a server and changes rarely: the facts that the lint needs and no scan reads.

In: the server's master and one of its workers. Out: `Surroundings`. Rule: read once per master, not per scan; what the
kernel refuses is None.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsgi_sidecar.mounts import filesystem_under

_SHELLS: Final = frozenset({"sh", "ash", "bash", "dash", "zsh", "busybox"})
_HEARTBEAT: Final = "wgunicorn-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """As the fields of the same names in the lint's `Facts`."""

    heartbeat_filesystem: str | None
    somaxconn: int | None
    machine_cpus: int | None
    shell: str | None


def read_surroundings(master: int, worker: int | None, proc: Path = Path("/proc")) -> Surroundings:
    """Look around one server.

    Args:
        master: its pid.
        worker: pid of any of its workers; None if it has none now: then the heartbeat's file system stays unknown.
        proc: where /proc is.
    """
    return Surroundings(
        heartbeat_filesystem=_heartbeat_filesystem(proc / str(worker)) if worker is not None else None,
        somaxconn=_number(proc / "sys/net/core/somaxconn"),
        machine_cpus=os.cpu_count(),
        shell=_shell(proc, master),
    )


def _heartbeat_filesystem(process: Path) -> str | None:
    try:
        for name in os.listdir(process / "fd"):
            if _HEARTBEAT in _link(process / "fd" / name):
                return filesystem_under(process, int(name))
    except OSError:
        pass
    return None


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""  # closed meanwhile


def _shell(proc: Path, master: int) -> str | None:
    """The shell between the container's runtime and the master; empty if there is none.

    The first process of a container has no parent in the pod (ppid 0). A shell higher up on a bare machine is a
    person's session, and no fault.
    """
    try:
        parent = _parent(proc, master)
        if parent == 0 or _parent(proc, parent) != 0:
            return ""
        name = (proc / str(parent) / "comm").read_text().strip()
    except (OSError, IndexError, ValueError):
        return None
    return name if name in _SHELLS else ""


def _parent(proc: Path, pid: int) -> int:
    return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
