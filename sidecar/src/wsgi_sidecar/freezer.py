"""Whether a server's cgroup is frozen: docker pause, the freezers of idle containers.

In: any process of the server. Out: yes, no, or None where nothing could be read. Rule: the kernel is asked (v2's
`cgroup.events`, v1's `freezer.state`, which both know of frozen ancestors, too), in whichever hierarchies the server's
container sees. Read by path, some .5 ms, so only where a rule is in doubt.
"""

from pathlib import Path
from typing import Final

from wsgi_sidecar.cgroups import by_controller, mount_of, path_below
from wsgi_sidecar.mounts import read_mounts

_FILES: Final = {"": "cgroup.events", "freezer": "freezer.state"}
_FROZEN: Final = ("frozen 1", "FROZEN", "FREEZING")


def read_frozen(pid: int, proc: Path = Path("/proc")) -> bool | None:
    """Ask now.

    Args:
        pid: the process.
        proc: where /proc is.
    """
    process = proc / str(pid)
    try:
        mounts = [mount for mount in read_mounts(process) if mount.kind in ("cgroup", "cgroup2")]
        paths = by_controller((process / "cgroup").read_text(errors="surrogateescape"))
    except OSError:
        return None
    told = []
    for controller, name in _FILES.items():
        mount = mount_of(mounts, controller)
        below = path_below(paths.get(controller), mount)
        if mount is not None and below is not None:
            told.append(_says(process / "root" / mount.path.lstrip("/") / below / name))
    return True if True in told else False if False in told else None


def _says(file: Path) -> bool | None:
    """What one hierarchy says; None where it has no such file, as the top of each has none."""
    try:
        return any(line in _FROZEN for line in file.read_text().splitlines())
    except OSError:
        return None
