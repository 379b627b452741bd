"""A real server, started for one test and gone with it.

In: a gunicorn release, its arguments and the application. Out: a running server with its port, pids and log. Rule: it
binds port 0 and tells its port in its log, so tests never fight for ports; whatever it started is gone at the end of
the block, also orphans, also after a failure, and a failing test carries the end of the server's log.
"""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import psutil

from tests.servers.processes import VARIABLE, end_leftovers, end_marked, marked, new_mark
from tests.servers.rooms import room_of

HERE: Final = Path(__file__).parent
LISTENING: Final = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)\S* \((\d+)\)")
PATIENCE_S: Final = float(os.environ.get("WSGI_TEST_PATIENCE_S", "60"))
"""How long to wait for what must come: long, because the machine may be busy; nothing waits longer than it must. Who
expects it not to come (`make red`) may be less patient."""

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer: its status and body, and how long it took."""

    status: int
    body: str
    took_s: float


def eventually(what: str, look: Callable[[], Seen | None], within_s: float = PATIENCE_S) -> Seen:
    """Look until there is something to see.

    Raises:
        AssertionError: nothing within the time; the message says what was waited for.
    """
    deadline = time.monotonic() + within_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {within_s:g} s it did not come true that {what}; last seen: {seen!r}")
        time.sleep(0.05)
    return seen


def free_port() -> int:
    """A TCP port of loopback that nobody holds right now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def get(port: int, path: str = "/", timeout_s: float = 10.0) -> Answer:
    """One request on a connection of its own.

    Raises:
        OSError: refused, broken or timed out.
    """
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{path}: {error!r}") from error
    finally:
        connection.close()
    return Answer(status=answer.status, body=body, took_s=time.monotonic() - began)


class Server:
    """A gunicorn release that serves `apps:app` while the block lasts.

    >>> with Server("23.0.0", "-k", "gthread", "--threads", "3") as server:  # doctest: +SKIP
    ...     server.get("/pid")

    Args:
        release: gunicorn's.
        arguments: for gunicorn, without bind and application.
        application: in `apps.py`.
        environment: added to a clean one.
        files: name and text of files in its working folder, such as `gunicorn.conf.py`.
        inside: command that starts the server as its own child, such as `wsgi-sidecar run --`.
        suffix: of the room's name, for rooms with more than gunicorn in them.
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
        self.release = release
        self._room = room_of(release, suffix)
        self._arguments = arguments
        self._application = application
        self._environment = dict(environment or {})
        self._files = dict(files or {})
        self._inside = tuple(inside)
        self._mark = new_mark()

    def __enter__(self) -> Self:
        """Start it and wait until it listens and has its first worker."""
        end_leftovers()
        self._folder = tempfile.TemporaryDirectory(prefix="wsgi-server-")
        self.folder = Path(self._folder.name)
        self.log_path = self.folder / "server.log"
        for name, text in self._files.items():
            (self.folder / name).write_text(text)
        try:
            self._start()
            eventually("the server listens and has a worker", self._is_up)
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
        gunicorn = (str(self._room / "bin" / "python"), str(self._room / "bin" / "gunicorn"))
        return (*self._inside, *gunicorn, "--pythonpath", str(HERE), "--bind", "127.0.0.1:0", *self._arguments,
                self._application)  # fmt: skip

    def get(self, path: str = "/", timeout_s: float = 10.0) -> Answer:
        """One request on a connection of its own."""
        return get(self.port, path, timeout_s)

    @property
    def log(self) -> str:
        """All that the server (and what it runs inside of) printed so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The process that was started: the master, or what it runs inside of."""
        return self._process.pid

    def worker_pids(self) -> tuple[int, ...]:
        """The master's living children, oldest first."""
        children = psutil.Process(self.master_pid).children()
        return tuple(child.pid for child in sorted(children, key=_started) if _lives(child))

    def all_pids(self) -> tuple[int, ...]:
        """Everything that came from it, orphans included."""
        return marked(self._mark)

    def stop(self, signal_number: int = signal.SIGTERM, within_s: float = PATIENCE_S) -> int:
        """Signal the started process, wait for it, and give its exit code."""
        self._process.send_signal(signal_number)
        return self._process.wait(within_s)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Wait for the started process to end by itself; its exit code."""
        return self._process.wait(within_s)

    def _start(self) -> None:
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self._clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _clean_environment(self) -> dict[str, str]:
        """No settings of the developer's shell; HOME is the folder, because gunicorn >= 25.1 puts a socket there."""
        own = {"HOME": str(self.folder), "PYTHONUNBUFFERED": "1", VARIABLE: self._mark}
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | own | self._environment

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended with {self._process.returncode} while starting")
        found = LISTENING.search(self.log)
        if found is None:
            return False
        self.port, self.master_pid = int(found[1]), int(found[2])
        return "Booting worker with pid" in self.log

    def _end(self, error: BaseException | None) -> None:
        if error is not None and self.log_path.exists():
            error.add_note(f"--- {' '.join(self.command())}\n{self.log[-6000:]}")
        family = self._family()
        try:
            end_marked(self._mark)
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if hasattr(self, "_process"):
                self._process.wait(10)
        finally:
            self._folder.cleanup()

    def _family(self) -> list[psutil.Process]:
        """All below the started process: setproctitle overwrites the environment that carries the mark."""
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except (AttributeError, psutil.NoSuchProcess):
            return []


def _started(process: psutil.Process) -> float:
    return process.create_time()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
