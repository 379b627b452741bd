"""What every real server of a test has in common: its folder, its log, its life of one block; and how to wait.

In: a command, an environment, files. Out: a running server. Rule: it tells its port in its log, so tests never fight
for ports; whatever it started is gone at the end of the block, also orphans, also after a failure, and a failing test
carries the end of the server's log.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, TypeVar

import psutil

from tests.servers.processes import VARIABLE, end_leftovers, end_marked, marked, new_mark

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


class Started(ABC):
    """A server that runs while the block lasts; whatever it started is gone at the end, orphans and failures too.

    Args:
        environment: added to a clean one.
        files: name and text of files in its working folder, such as `gunicorn.conf.py`.
    """

    port: int

    def __init__(self, *, environment: Mapping[str, str] | None, files: Mapping[str, str] | None) -> None:
        self._environment = dict(environment or {})
        self._files = dict(files or {})
        self._mark = new_mark()

    def __enter__(self) -> Self:
        """Start it and wait until it serves."""
        end_leftovers()
        self._folder = tempfile.TemporaryDirectory(prefix="wsgi-server-")
        self.folder = Path(self._folder.name)
        self.log_path = self.folder / "server.log"
        for name, text in self._files.items():
            (self.folder / name).write_text(text)
        try:
            self._start()
            eventually("the server listens and has a worker", self._is_up_or_fails)
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything it started."""
        self._end(error)

    @abstractmethod
    def command(self) -> tuple[str, ...]:
        """The whole command line."""

    def environment(self) -> dict[str, str]:
        """No settings of the developer's shell; HOME is the folder, because gunicorn >= 25.1 puts a socket there."""
        own = {"HOME": str(self.folder), "PYTHONUNBUFFERED": "1", VARIABLE: self._mark}
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | own | self._environment

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

    @property
    def ended(self) -> bool:
        """Whether that process is no more."""
        return self._process.poll() is not None

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

    @abstractmethod
    def _is_up(self) -> bool:
        """Whether it serves, as its log tells; sets the port."""

    def _start(self) -> None:
        with self.log_path.open("wb") as log:
            self._process = self._spawn(log)

    def _spawn(self, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _is_up_or_fails(self) -> bool:
        if self.ended:
            raise AssertionError(f"the server ended with {self._process.returncode} while starting")
        return self._is_up()

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


@contextlib.contextmanager
def under_load(server: Started, clients: int = 4) -> Iterator[list[object]]:
    """Requests on a connection each, without a pause; what came of each."""
    seen: list[object] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                seen.append(server.get("/slow?s=0.05").status)
            except OSError as error:
                seen.append(repr(error))

    threads = [threading.Thread(target=call) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
