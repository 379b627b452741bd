"""A cgroup that can be frozen, in either version's hierarchy, as `docker pause` and idle containers' freezers do it.

In: the version. Out: the command that starts a server inside, and the switch. Rule: where none may be made the test is
skipped and says why. It is gone at the end, once those inside are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.servers.server import eventually

Version = Literal["v1", "v2"]

_NUMBERS: Final = count(1)
_TOPS: Final = {"v1": ("/sys/fs/cgroup/freezer",), "v2": ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")}


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezerBox:
    """One such cgroup."""

    folder: Path
    version: Version

    @property
    def inside(self) -> tuple[str, ...]:
        """Starts what follows inside of it; `sh` becomes the server."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing in it moves while the block lasts; on v1 nothing in it ends by a signal either."""
        name, word = ("freezer.state", "FROZEN") if self.version == "v1" else ("cgroup.freeze", "1")
        (self.folder / name).write_text(word)
        told, line = ("freezer.state", "FROZEN") if self.version == "v1" else ("cgroup.events", "frozen 1")
        eventually("it is frozen", lambda: line in (self.folder / told).read_text().splitlines())
        try:
            yield
        finally:
            (self.folder / name).write_text("THAWED" if self.version == "v1" else "0")


@contextmanager
def freezer_box(version: Version) -> Iterator[FreezerBox]:
    """The box while the block lasts."""
    tops = [top for top in _TOPS[version] if Path(top, "cgroup.procs").exists()]
    if not tops:
        pytest.skip(f"needs a cgroup {version} hierarchy with a freezer")
    folder = Path(tops[0], f"wsgi-freezer-{os.getpid()}-{next(_NUMBERS)}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"needs a writable cgroup hierarchy: {error}")
    try:
        yield FreezerBox(folder=folder, version=version)
    finally:
        eventually("the cgroup is empty", lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()
