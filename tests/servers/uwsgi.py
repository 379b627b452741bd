"""A real uWSGI, started for one test and gone with it.

In: arguments, environment, files. Out: a running uWSGI with a stats socket. Rule: as `server.Server`: port 0, marked
processes, nothing left behind. Its application is `apps.py`'s, unless the arguments name another.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers.processes import VARIABLE, end_leftovers, end_marked, new_mark
from tests.servers.rooms import room_named
from tests.servers.server import HERE, Answer, eventually, get

BOUND: Final = re.compile(r"bound to TCP address 127\.0\.0\.1:(\d+)")


class Uwsgi:
    """uWSGI 2.0.31 while the block lasts.

    Args:
        arguments: besides those of the harness.
        environment: added to a clean one.
        files: name and text of files in its working folder.
        stats: where its stats server listens; empty for none.
        master: whether it gets `--master`.
        port: that it binds; 0 for any free one, which a reload would not find again.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        stats: str = "stats.sock",
        master: bool = True,
        port: int = 0,
    ) -> None:
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._files = dict(files or {})
        self._stats = stats
        self._master = master
        self._bind = port
        self._mark = new_mark()

    def __enter__(self) -> Self:
        """Start it and wait until its workers are there."""
        end_leftovers()
        self._folder = tempfile.TemporaryDirectory(prefix="wsgi-uwsgi-")
        self.folder = Path(self._folder.name)
        self.log_path = self.folder / "server.log"
        for name, text in self._files.items():
            (self.folder / name).write_text(text)
        try:
            self._start()
            eventually("uWSGI has spawned its workers", self._is_up)
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything it started."""
        self._end(error)

    def command(self) -> tuple[str, ...]:
        """The whole command line."""
        own = ["--http-socket", f"127.0.0.1:{self._bind}", "--wsgi-file", str(HERE / "apps.py"), "--callable", "app"]
        own += ["--master"] if self._master else []
        own += ["--stats", self._stats] if self._stats else []
        return (str(room_named("uwsgi-2.0.31") / "bin" / "uwsgi"), *own, *self._arguments)

    def environment(self) -> dict[str, str]:
        """What it is started with, in this order."""
        clean = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder), VARIABLE: self._mark}
        return clean | self._environment

    def get(self, path: str = "/", timeout_s: float = 10.0) -> Answer:
        """One request on a connection of its own."""
        return get(self.port, path, timeout_s)

    @property
    def log(self) -> str:
        """All that it printed so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The process that was started: the master, if it has one."""
        return self._process.pid

    @property
    def stats_path(self) -> Path:
        """Its stats socket, if that is a unix socket."""
        return self.folder / self._stats

    def _start(self) -> None:
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"uWSGI ended with {self._process.returncode} while starting")
        found = BOUND.search(self.log)
        if found is None:
            return False
        self.port = int(found[1])
        return "spawned uWSGI worker" in self.log and (not self._stats or "Stats server enabled" in self.log)

    def _end(self, error: BaseException | None) -> None:
        if error is not None and self.log_path.exists():
            error.add_note(f"--- {' '.join(self.command())}\n{self.log[-6000:]}")
        try:
            end_marked(self._mark)
            if hasattr(self, "_process"):
                self._process.wait(10)
        finally:
            self._folder.cleanup()
