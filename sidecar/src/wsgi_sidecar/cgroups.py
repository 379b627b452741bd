"""A server container's own limits and pressure, read from outside.

In: the server's master. Out: `Resources`: its limits, its pressure and what could not be read, with the remedy. Rule:
looked at through /proc/PID/root, so that it is the server container's view and not the sidecar's own. Where the
container sees only its own cgroup (a pod), that is all there is; where it sees ancestors (a bare machine), the tightest
limit on the way to the top counts.

The files stay open between readings: one is then a pread each. Limits are read anew every time, because Kubernetes
resizes containers in place; a server that was moved to another cgroup is noticed by /proc/PID/cgroup.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wsgi_contract.report import ProcessId, Unknown
from wsgi_sidecar.core.limits import Limits, Pressure, Version, counters, limits_of, pressure_of
from wsgi_sidecar.core.unknowns import Identity, remedy_for
from wsgi_sidecar.mounts import Mount, read_mounts

_LIMIT_FILES: Final[Mapping[Version, Mapping[str, tuple[str, ...]]]] = {
    1: {
        "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
        "memory": ("memory.limit_in_bytes",),
        "pids": ("pids.max",),
    },
    2: {"": ("cpu.max", "memory.max", "pids.max")},
}
_OWN_FILES: Final[Mapping[Version, Mapping[str, tuple[str, ...]]]] = {
    1: {
        "cpu": ("cpu.stat",),
        "cpuacct": ("cpuacct.usage",),
        "memory": (
            "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt", "memory.oom_control", "memory.stat",
        ),
        "pids": ("pids.current", "pids.events"),
    },
    2: {
        "": (
            "cpu.stat", "memory.current", "memory.peak", "memory.events", "memory.stat", "pids.current", "pids.events",
            "cpu.pressure", "memory.pressure",
        ),
    },
}  # fmt: skip
_OOM_FILES: Final[Mapping[Version, str]] = {1: "memory.oom_control", 2: "memory.events"}
# Files that only the top of a hierarchy has (v1), or that only the top has not (v2).
_ONLY_TOP_V1: Final = "release_agent"
_NEVER_TOP_V2: Final = "cgroup.type"
_LARGEST_FILE: Final = 16 * 1024  # memory.stat, the longest, has about 2 KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """One look at a container's cgroup.

    Attributes:
        limits: in force.
        pressure: against them.
        unknowns: what could not be read; empty when all limits and the OOM counter could.
    """

    limits: Limits
    pressure: Pressure
    unknowns: tuple[Unknown, ...] = ()


@dataclass(slots=True)
class _Level:
    """The open files of one cgroup folder, and the limits that the top of a hierarchy has no files for."""

    fds: dict[str, int] = field(default_factory=dict)
    implied: dict[str, str] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        return self.implied | {
            name: os.pread(fd, _LARGEST_FILE, 0).decode(errors="replace") for name, fd in self.fds.items()
        }


class Cgroups:
    """Reads the cgroup of one server at a time and keeps its files open until another server is asked for.

    Not safe for use by several threads at once.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Read below `proc`; another folder than /proc holds captured trees in tests."""
        self._proc = proc
        self._server: ProcessId | None = None
        self._paths = ""
        self._version: Version = 2
        self._levels: list[_Level] = []

    def read(self, server: ProcessId) -> Resources:
        """Look now; never raises for what the kernel refuses or for a server that is gone."""
        try:
            paths = (self._proc / str(server.pid) / "cgroup").read_text(errors="surrogateescape")
            if (server, paths) != (self._server, self._paths) or not self._levels:
                self._open(server, paths)
            texts = [level.texts() for level in self._levels]
        except OSError as error:
            self.close()
            return _blind(_refusal(self._proc / str(server.pid), error))
        limits = limits_of(self._version, texts)
        pressure = pressure_of(self._version, texts[0] if texts else {})
        return Resources(limits=limits, pressure=pressure, unknowns=tuple(_gaps(limits, pressure)))

    def oom_kills(self, server: ProcessId) -> int | None:
        """One number of `pressure` alone, at a tenth of the cost; None where it cannot be told, or before a `read`."""
        own = self._levels[0].fds if self._levels and server == self._server else {}
        descriptor = own.get(_OOM_FILES[self._version])
        try:
            text = os.pread(descriptor, _LARGEST_FILE, 0) if descriptor is not None else b""
        except OSError:
            return None
        return counters(text.decode(errors="replace")).get("oom_kill")

    def close(self) -> None:
        """Give the open files back; the next look opens them anew."""
        for level in self._levels:
            for fd in level.fds.values():
                os.close(fd)
        self._levels, self._server = [], None

    def _open(self, server: ProcessId, paths: str) -> None:
        self.close()
        self._version, folders = _folders(self._proc / str(server.pid), by_controller(paths))
        self._server, self._paths = server, paths
        # own files of all controllers stand together in the first level, whichever hierarchies they live in
        self._levels.append(_Level())
        for controller, folder, top in folders:
            for depth, path in enumerate(_upwards(folder, top)):
                level = self._levels[0] if depth == 0 else _Level()
                if depth:
                    self._levels.append(level)
                _open_limits(level, path, self._version, controller)
            _open_all(self._levels[0], folder, _OWN_FILES[self._version].get(controller, ()))


def _open_all(level: _Level, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            level.fds[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            # A kernel booted with psi=0 shows the pressure files and refuses to open them.
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise


def _open_limits(level: _Level, folder: Path, version: Version, controller: str) -> None:
    names = _LIMIT_FILES[version].get(controller, ())
    _open_all(level, folder, names)
    # The top of a hierarchy cannot be limited and so may have no file for it; anywhere else a missing file means that
    # the controller is off, which says nothing about the limits of ancestors that we cannot see.
    top = (folder / _ONLY_TOP_V1).exists() if version == 1 else not (folder / _NEVER_TOP_V2).exists()
    if top:
        level.implied |= {name: "max" for name in names if name not in level.fds}


def _upwards(folder: Path, top: Path) -> Iterator[Path]:
    yield folder
    while folder != top:
        folder = folder.parent
        yield folder


def _folders(process: Path, paths: Mapping[str, str]) -> tuple[Version, list[tuple[str, Path, Path]]]:
    """The folders of a process's cgroup: (controller, its folder, the top of what can be seen), all below root/."""
    mounts = [mount for mount in read_mounts(process) if mount.kind in ("cgroup", "cgroup2")]
    # A hybrid machine has a cgroup2 mount without the controllers we need beside the v1 hierarchies.
    version: Version = 1 if any("memory" in mount.options or "cpu" in mount.options for mount in mounts) else 2
    controllers = {*_LIMIT_FILES[version], *_OWN_FILES[version]}
    found = []
    for controller in sorted(controllers):
        mount = mount_of(mounts, controller)
        inside = path_below(paths.get(controller), mount)
        if mount is not None and inside is not None:
            top = process / "root" / mount.path.lstrip("/")
            found.append((controller, top / inside, top))
    if not found:
        raise FileNotFoundError("no cgroup file system is mounted in the server's container")
    return version, found


def mount_of(mounts: Iterable[Mount], controller: str) -> Mount | None:
    """Where a controller's hierarchy is mounted; cgroup v2 stands under the empty name."""
    if controller == "":
        return next((mount for mount in mounts if mount.kind == "cgroup2"), None)
    return next((mount for mount in mounts if mount.kind == "cgroup" and controller in mount.options), None)


def by_controller(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as {controller: path}; cgroup v2 stands under the empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            found |= dict.fromkeys(fields[1].split(","), fields[2])
    return found


def path_below(path: str | None, mount: Mount | None) -> str | None:
    """The cgroup's path below the mount; both as the reader's cgroup namespace shows them (`/../other` included)."""
    if path is None or mount is None:
        return None
    root = mount.root.rstrip("/")
    return path[len(root) :].lstrip("/") if path == root or path.startswith(root + "/") else None


def _blind(unknown: Unknown) -> Resources:
    return Resources(limits=Limits(), pressure=Pressure(), unknowns=(unknown,))


def _refusal(process: Path, error: OSError) -> Unknown:
    what = "limits and pressure of the server's container"
    theirs, ours = _owner(process), (os.geteuid(), os.getegid())
    if isinstance(error, PermissionError) and theirs is not None:
        why = f"the sidecar runs as uid {ours[0]} and the kernel refused it a look into the server's file system"
        return Unknown(what=what, why=why, remedy=remedy_for(theirs, ours))
    if not process.exists():
        return Unknown(what=what, why="the server is gone", remedy="none: the next look finds its successor")
    why = f"its cgroup could not be read: {error.strerror or error}"
    remedy = "mount cgroups in the server's container (every Kubernetes runtime does) at /sys/fs/cgroup"
    return Unknown(what=what, why=why, remedy=remedy)


def _owner(process: Path) -> Identity | None:
    """Whose it is; None once it is gone."""
    try:
        rows = dict(line.partition(":")[::2] for line in (process / "status").read_text().splitlines())
    except OSError:
        return None
    return int(rows["Uid"].split()[0]), int(rows["Gid"].split()[0])


def _gaps(limits: Limits, pressure: Pressure) -> Iterator[Unknown]:
    controllers = {
        "CPU limit": ("cpu", limits.cpu_cores),
        "memory limit": ("memory", limits.memory_bytes),
        "OOM kills": ("memory", pressure.oom_kills),
    }
    for what, (controller, value) in controllers.items():
        if value is None:
            why = f"the server's cgroup has no files of the {controller} controller"
            yield Unknown(what=what, why=why, remedy=f"enable the {controller} controller for the server's cgroup")
