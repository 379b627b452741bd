"""A cgroup of a server's own, as a container has one: it tells whom the server started, whenever somebody looks.

In: nothing. Out: the command that starts a server inside. Rule: v2, else v1's hierarchy of pids; where none may be made
the test is skipped and says why. It is gone at the end, once those inside are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.servers.server import eventually

_NUMBERS: Final = count(1)


@contextmanager
def container() -> Iterator[tuple[str, ...]]:
    """Starts what follows inside of it; `sh` becomes the server."""
    unified = Path("/sys/fs/cgroup/cgroup.procs").exists()
    folder = Path("/sys/fs/cgroup", "" if unified else "pids", f"wsgi-test-{os.getpid()}-{next(_NUMBERS)}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"needs a writable cgroup hierarchy: {error}")
    yield ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")
    eventually("the cgroup is empty", lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()
