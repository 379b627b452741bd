"""A cgroup of our own with a memory limit, below the one that we run in.

In: a limit. Out: its folder, and the command that starts a server inside. Rule: cgroup v1 as root only; elsewhere the
test is skipped and says why. The box is gone at the end, once those inside are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.servers.server import eventually

_NUMBERS: Final = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBox:
    """One such cgroup."""

    folder: Path

    @property
    def inside(self) -> tuple[str, ...]:
        """Starts what follows inside of it; `sh` becomes the server."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    def limit(self) -> int:
        """Beyond it the kernel kills."""
        return int((self.folder / "memory.limit_in_bytes").read_text())

    def working_set(self) -> int:
        """What is used now, without the page cache that the kernel can drop."""
        lines = (line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        stat = {name: int(value) for name, value in lines}
        return int((self.folder / "memory.usage_in_bytes").read_text()) - stat["total_inactive_file"]


@contextmanager
def memory_box(limit_bytes: int) -> Iterator[MemoryBox]:
    """The box while the block lasts."""
    paths = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    own = Path("/sys/fs/cgroup/memory", paths.get("memory", "").lstrip("/"))
    folder = own / f"wsgi-box-{os.getpid()}-{next(_NUMBERS)}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as error:
        pytest.skip(f"no cgroup of our own to be had (it takes root and cgroup v1): {error}")
    try:
        yield MemoryBox(folder=folder)
    finally:
        eventually("the box is empty", lambda: _removed(folder))


def _removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()
