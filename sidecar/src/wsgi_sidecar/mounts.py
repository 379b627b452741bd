"""Which file systems a process sees, and where: /proc/PID/mountinfo, read for another process.

In: the /proc folder of a process. Out: `Mount` values, the type of the file system under an open file, the name of the
process's container. Rule: paths
are the process's own; whoever opens one goes through /proc/PID/root.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KUBELETS: Final = re.compile(
    rb"^\d+ \d+ \d+:\d+ \S*/pods/[^/\s]+/containers/([^/\s]+)/[^/\s]+(?://deleted)? ", re.MULTILINE
)
"""The file for a container's last words (`terminationMessagePath`), which the kubelet mounts into every one: pod's uid
and container's name stand in its path on the node, whatever its path in the container, and whichever the runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of mountinfo.

    Attributes:
        id: joins it with `mnt_id` in an open file's fdinfo.
        root: what of the file system is mounted; for a cgroup, the cgroup's path as the reader sees it.
        path: where.
        kind: the file system's type, for example `tmpfs`.
        options: of the file system itself; a cgroup v1 hierarchy names its controllers here.
    """

    id: int
    root: str
    path: str
    kind: str
    options: tuple[str, ...]


def read_mounts(process: Path) -> tuple[Mount, ...]:
    """The mounts of a process, later ones over earlier ones.

    Raises:
        OSError: the process is gone, or the kernel refused.
    """
    lines = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
    return tuple(mount for line in lines if (mount := parse_mount(line)) is not None)


def parse_mount(line: str) -> Mount | None:
    """One line of mountinfo (proc(5)); None if it is not one.

    >>> parse_mount("32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct").options
    ('rw', 'cpu', 'cpuacct')
    """
    place, _, filesystem = line.partition(" - ")
    left, right = place.split(), filesystem.split()
    if len(left) < 6 or len(right) < 3 or not left[0].isdecimal():
        return None
    options = tuple(right[2].split(","))
    return Mount(id=int(left[0]), root=_unescaped(left[3]), path=_unescaped(left[4]), kind=right[0], options=options)


def container_named(mountinfo: bytes) -> str | None:
    """The container of whoever has these mounts; None where none of the kubelet's tells, or several disagree.

    >>> container_named(b"9 8 253:1 /var/lib/kubelet/pods/a45f/containers/web/8f8d /dev/termination-log rw - ext4 x rw")
    'web'
    """
    names = set(_KUBELETS.findall(mountinfo))
    return names.pop().decode(errors="replace") if len(names) == 1 else None


def filesystem_under(process: Path, fd: int) -> str | None:
    """The type of the file system that an open file lives on; works for unlinked files, too.

    The mount's id in fdinfo tells it exactly: `st_dev` does not, since overlayfs gives its files devices of their own.

    Returns:
        The type, for example `tmpfs`; None if the kernel refused or the process does not hold that file any more.
    """
    try:
        info = (process / "fdinfo" / str(fd)).read_text()
        mounts = read_mounts(process)
    except OSError:
        return None
    found = re.search(r"^mnt_id:\s*(\d+)$", info, re.MULTILINE)
    return next((mount.kind for mount in mounts if found and mount.id == int(found.group(1))), None)


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), path)
