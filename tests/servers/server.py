"""A real gunicorn, started for one test and gone with it.

In: a gunicorn release, its arguments and the application. Out: a running server with its port, pids and log. Rule: as
`started`; it binds port 0.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from tests.servers.rooms import room_of
from tests.servers.started import PATIENCE_S, Answer, Started, eventually, free_port, get

__all__ = ["HERE", "PATIENCE_S", "Answer", "Server", "eventually", "free_port", "get"]

HERE: Final = Path(__file__).parent
LISTENING: Final = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)\S* \((\d+)\)")


class Server(Started):
    """A gunicorn release that serves `apps:app` while the block lasts.

    >>> with Server("23.0.0", "-k", "gthread", "--threads", "3") as server:  # doctest: +SKIP
    ...     server.get("/pid")

    Args:
        release: gunicorn's.
        arguments: for gunicorn, without bind and application.
        application: in `apps.py`.
        inside: command that starts the server as its own child, such as `wsgi-sidecar run --`.
        suffix: of the room's name, for rooms with more than gunicorn in them.
        environment: as `Started`.
        files: likewise.
    """

    def __init__(
        self,
        release: str,
        *arguments: str,
        application: str = "apps:app",
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
        suffix: str = "",
    ) -> None:
        super().__init__(environment=environment, files=files)
        self.release = release
        self._room = room_of(release, suffix)
        self._arguments = arguments
        self._application = application
        self._inside = tuple(inside)

    def command(self) -> tuple[str, ...]:
        """The whole command line."""
        gunicorn = (str(self._room / "bin" / "python"), str(self._room / "bin" / "gunicorn"))
        return (*self._inside, *gunicorn, "--pythonpath", str(HERE), "--bind", "127.0.0.1:0", *self._arguments,
                self._application)  # fmt: skip

    def worker_pids(self) -> tuple[int, ...]:
        """The master's living children, oldest first."""
        children = psutil.Process(self.master_pid).children()
        return tuple(child.pid for child in sorted(children, key=_started) if _lives(child))

    def _is_up(self) -> bool:
        found = LISTENING.search(self.log)
        if found is None:
            return False
        self.port, self.master_pid = int(found[1]), int(found[2])
        return "Booting worker with pid" in self.log


def _started(process: psutil.Process) -> float:
    return process.create_time()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
