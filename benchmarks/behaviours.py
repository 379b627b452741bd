"""What healthy servers do that looks ill: one entry per behaviour.

In: a running server. Out: it busy, slow, full, stopped or churning for as long as the stack is open. Rule: everything
here is what sound applications, clients and operators do; nothing of it may be killed, and only what an entry allows
may be told. Bounded clients, on loopback.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from demo.load import Load
from tests.servers.server import eventually
from tests.servers.watched import Watched

Drive = Callable[[Watched, ExitStack], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One row of the matrix.

    Attributes:
        drive: makes the server behave so.
        allowed: incidents that may be told, for they are true.
        arguments: for gunicorn.
        threaded: for gthread alone.
        files: of the server's folder.
        environment: of the server and its sidecar.
        application: what is served.
        seconds: how long it is watched.
    """

    drive: Drive
    allowed: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    threaded: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    application: str = "apps:app"
    seconds: float = 11.0


def _background(stack: ExitStack, work: Callable[[threading.Event], None]) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    stack.callback(thread.join, 10)
    stack.callback(stop.set)


def _load(path: str, clients: int = 3, *, pause_s: float = 0.02, keep_alive: bool = False) -> Drive:
    """Clients that ask for the path again and again; a request may outlast the block."""

    def drive(server: Watched, stack: ExitStack) -> None:
        patience_s = 2.0 if keep_alive else 30.0
        stack.enter_context(
            Load("127.0.0.1", server.port, path, clients=clients, pause_s=pause_s, timeout_s=patience_s,
                 keep_alive=keep_alive)
        )  # fmt: skip

    return drive


def _long(path: str, clients: int) -> Drive:
    """So many requests that are not answered before the end; their sockets are closed then."""

    def drive(server: Watched, stack: ExitStack) -> None:
        for _ in range(clients):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    return drive


def _slow_clients(server: Watched, stack: ExitStack) -> None:
    """They send their request a byte at a time, for longer than anybody watches."""
    clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(3)]

    def dribble(stop: threading.Event) -> None:
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 500:
            for client in clients:
                with suppress(OSError):
                    client.send(bytes((byte,)))
            if stop.wait(0.3):
                return

    _background(stack, dribble)


def _uploads(server: Watched, stack: ExitStack) -> None:
    """Some hundred megabytes, at some megabytes a second."""
    head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 300000000\r\n\r\n"

    def upload(stop: threading.Event) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(head)
            while not stop.wait(0.02):
                client.sendall(b"x" * 65536)

    for _ in range(2):
        _background(stack, upload)


def _hang_ups(server: Watched, stack: ExitStack) -> None:
    def churn(stop: threading.Event) -> None:
        while not stop.wait(2.0):
            os.kill(server.master_pid, signal.SIGHUP)

    _load("/slow?s=0.1")(server, stack)
    _background(stack, churn)


def _resizes(server: Watched, stack: ExitStack) -> None:
    """A worker more, a worker less, while requests of some seconds run: there is always one that drains."""

    def churn(stop: threading.Event) -> None:
        while not stop.wait(1.5):
            os.kill(server.master_pid, signal.SIGTTIN)
            if not stop.wait(1.5):
                os.kill(server.master_pid, signal.SIGTTOU)

    _load("/slow?s=4", clients=4)(server, stack)
    _background(stack, churn)


def _stopped(choose: Callable[[Watched], int]) -> Drive:
    """As a debugger does."""

    def drive(server: Watched, stack: ExitStack) -> None:
        pid = choose(server)
        os.kill(pid, signal.SIGSTOP)
        stack.callback(_continue, pid)

    return drive


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _starved(server: Watched, stack: ExitStack) -> None:
    """Server and sidecar share one CPU with others that never sleep; requests go on."""
    cpu = max(os.sched_getaffinity(0))
    for pid in server.all_pids():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {cpu})
    stack.enter_context(_spinners(4, cpu))
    _load("/cpu?s=0.05")(server, stack)


@contextmanager
def _spinners(count: int, cpu: int):  # type: ignore[no-untyped-def]
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    spinning = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


def _clock_jumps(server: Watched, stack: ExitStack) -> None:
    """One client, so that nothing else is to be told; returns once the sidecar believes in another time."""
    _load("/slow?s=0.1", 1, pause_s=0.2)(server, stack)
    eventually("its clock has jumped", lambda: abs(server.report().taken_at - time.time()) > 1000)


def _nothing(server: Watched, stack: ExitStack) -> None:
    """It is the application or the environment that behaves."""


SLOW_IMPORT: Final = {"slowly.py": "import time\ntime.sleep(20)\nfrom apps import app\n"}
CLOCK: Final = """
# No namespace changes the wall clock, so it jumps at the sidecar's door: ahead, back, and to and fro.
import sys
if any("wsgi_sidecar" in word for word in sys.orig_argv):
    import time
    real, began = time.time, time.monotonic()
    def jumping():
        gone = int(time.monotonic() - began)
        return real() + (0, 3600, -86400, 31536000)[gone // 4 % 4]
    time.time = jumping
"""
FULL: Final = ("--worker-connections", "4", "--timeout", "30")
TRUE: Final = frozenset({"connection-saturation"})
"""Where every thread is taken and more wait, that is said: it is true, and nobody is killed for it."""

BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "CPU-bound": Behaviour(drive=_long("/cpu?s=60", 3), allowed=TRUE, arguments=("--timeout", "120")),
    "CPU without the GIL": Behaviour(drive=_long("/digest?s=60", 3), allowed=TRUE, arguments=("--timeout", "120")),
    "full of slow requests": Behaviour(drive=_long("/slow?s=60", 6), allowed=TRUE, arguments=FULL, threaded=True),
    "full of CPU-bound requests": Behaviour(drive=_long("/cpu?s=60", 6), allowed=TRUE, arguments=FULL, threaded=True),
    "full of busy keep-alive": Behaviour(
        drive=_load("/cpu?s=0.02", 4, pause_s=0.0, keep_alive=True), allowed=TRUE, arguments=FULL, threaded=True
    ),
    "full of slow keep-alive": Behaviour(
        drive=_load("/slow?s=0.3", 4, pause_s=0.1, keep_alive=True), allowed=TRUE, arguments=FULL, threaded=True
    ),
    "long polling": Behaviour(drive=_long("/slow?s=60", 3), allowed=TRUE, arguments=("--timeout", "120")),
    "streaming": Behaviour(drive=_long("/stream?s=60", 2), allowed=TRUE, arguments=("--timeout", "120")),
    "slow clients": Behaviour(drive=_slow_clients, allowed=TRUE, arguments=("--timeout", "120")),
    "big uploads": Behaviour(drive=_uploads, allowed=TRUE, arguments=("--timeout", "120")),
    "saturation": Behaviour(drive=_load("/slow?s=0.5", 30), allowed=TRUE),
    "import of 20 s": Behaviour(
        drive=_nothing, application="slowly:app", files=SLOW_IMPORT, arguments=("--timeout", "60"), seconds=26.0
    ),
    "HUP every 2 s": Behaviour(drive=_hang_ups),
    "max_requests of 3": Behaviour(drive=_load("/", 3), arguments=("--max-requests", "3")),
    "TTIN, TTOU and drains": Behaviour(drive=_resizes, allowed=TRUE),
    "SIGSTOP of a worker": Behaviour(
        drive=_stopped(lambda server: server.worker_pids()[0]), arguments=("--timeout", "60")
    ),
    "SIGSTOP of the arbiter": Behaviour(drive=_stopped(lambda server: server.master_pid)),
    "clock jumps": Behaviour(
        drive=_clock_jumps, files={"sitecustomize.py": CLOCK}, environment={"PYTHONPATH": "."}, seconds=18.0
    ),
    "starved, sidecar too": Behaviour(drive=_starved, allowed=TRUE),
}
