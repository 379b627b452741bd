"""Files of the server's container, found as the server itself finds them.

In: a process whose root and cwd we may follow (same uid and gid). Out: text, names, stamps. Rule: a symbolic link is
followed inside the other root, as openat2's RESOLVE_IN_ROOT does: an absolute one must not lead into our own
container. Only regular files are read, up to a bound, and opening never waits (a FIFO would).
"""

import os
import stat
from dataclasses import dataclass
from typing import Final

_MOST_BYTES: Final = 1 << 20
_MOST_LINKS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Tells whether a file is still what it was."""

    inode: int
    mtime_ns: int
    size: int


class Rooted:
    """The file system as one process sees it."""

    def __init__(self, pid: int, root: str = "/proc") -> None:
        """Touch nothing yet."""
        self._root = f"{root}/{pid}/root"
        self._process = f"{root}/{pid}"

    def cwd(self) -> str:
        """The working directory, as a path inside the root.

        Raises:
            OSError: refused, or the process is gone.
        """
        return _link_inside(f"{self._process}/cwd", self._root)

    def exe(self) -> str:
        """The program file, as a path inside the root.

        Raises:
            OSError: refused, or the process is gone.
        """
        return _link_inside(f"{self._process}/exe", self._root)

    def stamp(self, path: str) -> Stamp | None:
        """The file's stamp; None if there is no such file.

        Raises:
            OSError: refused.
        """
        try:
            found = os.stat(self._outside(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stamp(inode=found.st_ino, mtime_ns=found.st_mtime_ns, size=found.st_size)

    def text(self, path: str) -> str:
        """The text of a regular file of at most 1 MiB.

        Raises:
            OSError: absent, refused, or not such a file.
        """
        descriptor = os.open(self._outside(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
                raise OSError(f"{path} is not a regular file of at most {_MOST_BYTES} bytes")
            return file.read(_MOST_BYTES).decode(errors="replace")

    def names(self, path: str) -> tuple[str, ...]:
        """What is in a folder; nothing if there is none, or it is refused."""
        try:
            return tuple(sorted(os.listdir(self._outside(path))))
        except OSError:
            return ()

    def outside(self, path: str) -> str:
        """The path from our side, every link in it resolved inside the root: for a socket to connect to."""
        return self._outside(path)

    def _outside(self, path: str) -> str:
        """The path from our side, every link in it resolved inside the root."""
        waiting = _parts(path)
        done: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                done = done[:-1]
                continue
            try:
                target = os.readlink("/".join((self._root, *done, part)))
            except OSError:
                done.append(part)  # no link; whether it exists, the caller will see
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(f"{path} goes through more than {_MOST_LINKS} links")
            done = [] if target.startswith("/") else done
            waiting += _parts(target)
        return "/".join((self._root, *done))


def _parts(path: str) -> list[str]:
    """Components, the first one last."""
    return [part for part in path.split("/") if part not in ("", ".")][::-1]


def _link_inside(link: str, root: str) -> str:
    """The kernel tells links of /proc as seen from our own root; cut the other root off where it is a prefix."""
    target, prefix = os.readlink(link), os.readlink(root)
    return target[len(prefix) :] or "/" if prefix != "/" and target.startswith(f"{prefix}/") else target
