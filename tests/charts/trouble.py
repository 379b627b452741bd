"""Servers in trouble, each for as long as a block lasts: one for every alert of a server.

In: nothing. Out: `troubles`, by the name of the pod that each plays; a block gives what its sidecar tells. Rule: real
gunicorns and real sidecars on loopback; the trouble lasts, or comes again and again, until the block ends, so that a
Prometheus has time to see it.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from demo.load import SilentClients
from tests.servers.asking import SHARING, Mute, echoing
from tests.servers.deaf import DEAF, DEAF_FILES, kill_workers_until_nobody_comes
from tests.servers.memory_box import MemoryBox, memory_box
from tests.servers.server import Server, eventually
from tests.servers.watched import Beside, Told, Watched
from wsgi_contract.in_place import InPlaceOrder, dump_order
from wsgi_contract.policy import Policy, dump_policy
from wsgi_contract.settings import Wanted

MIB: Final = 1 << 20
NOBODY: Final = "65534"
FREEZING: Final = ("-k", "gthread", "-w", "1", "--threads", "3", "--worker-connections", "4", "--timeout", "3")
WITHOUT_KILL: Final = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill")
"""Root without the right to end other users' processes."""


@contextmanager
def calm() -> Iterator[Told]:
    """Nothing is wrong: two workers, a request now and then, statsd on."""
    with Watched("27.0.1", "-w", "2", options=("--statsd-port", "0")) as server, again(lambda: server.get("/"), 0.2):
        yield server


@contextmanager
def frozen(scraped: threading.Event) -> Iterator[Told]:
    """A frozen worker that the sidecar may not end: its workers run as somebody else (gunicorn -u).

    It is tried once, so it freezes after Prometheus has seen that nothing was refused yet.
    """
    arguments = (*FREEZING, "--preload", "-u", NOBODY, "-g", NOBODY)
    with (
        ExitStack() as clients,
        Server("23.0.0", *arguments) as server,
        Beside("--pid", str(server.master_pid), inside=WITHOUT_KILL) as beside,
    ):
        eventually("the worker is seen", beside.workers)
        thread = threading.Thread(target=lambda: _freeze(server, scraped, clients), daemon=True)
        thread.start()
        yield beside
        scraped.set()
        thread.join()


def _freeze(server: Server, scraped: threading.Event, clients: ExitStack) -> None:
    scraped.wait()
    with suppress(OSError):
        clients.enter_context(SilentClients("127.0.0.1", server.port, 5))


@contextmanager
def stuck() -> Iterator[Told]:
    """An arbiter that blocks in its own log line; a dry run, so that it stays."""
    with (
        Server("27.0.1", "-w", "1", inside=DEAF, files=DEAF_FILES) as server,
        Beside("--pid", str(server.master_pid), "--dry-run") as beside,
    ):
        eventually("the sidecar sees the worker", lambda: len(beside.workers()) == 1)
        (server.folder / "deaf").touch()
        kill_workers_until_nobody_comes(server)
        yield beside


@contextmanager
def stormy() -> Iterator[Told]:
    """Every request waits for somebody who never answers, and its worker is ended for it."""
    sync = ("-k", "sync", "-w", "3", "--timeout", "3")
    with (
        Mute() as mute,
        Watched("27.0.1", *sync, application="asker:app", files=mute.files()) as server,
        ExitStack() as s,
    ):
        for _ in range(3):
            s.enter_context(again(lambda: server.get("/ask", 5.0), 0.1))
        yield server


@contextmanager
def shared() -> Iterator[Told]:
    """Two workers use one connection that was opened before the fork."""
    with echoing() as port:
        arguments, environment = ("-w", "2", "--timeout", "3", "--preload"), {"DATABASE_PORT": str(port)}
        given = {"application": "shared:app", "environment": environment}
        with Watched("27.0.1", *arguments, files={"shared.py": SHARING}, **given) as server, ExitStack() as stack:  # type: ignore[arg-type]
            for number in range(4):
                stack.enter_context(again(lambda number=number: server.get(f"/?{number}", 5.0), 0.02))  # type: ignore[misc]
            yield server


@contextmanager
def booting() -> Iterator[Told]:
    """An import that waits for ever."""
    policy = Policy(boot_told_s=2.0, boot_limit_s=0.0)
    with Mute() as mute, Watched(
        "27.0.1", "-w", "1", policy=policy, application="importer:app", files=mute.files()
    ) as server:  # fmt: skip
        yield server


@contextmanager
def waiting() -> Iterator[Told]:
    """A request in a thread that never ends."""
    policy, gthread = Policy(request_told_s=2.0), ("-k", "gthread", "-w", "1", "--threads", "3", "--timeout", "2")
    with Mute() as mute, Watched(
        "27.0.1", *gthread, policy=policy, application="asker:app", files=mute.files()
    ) as server, again(lambda: server.get("/ask", 300.0), 0.1):  # fmt: skip
        yield server


@contextmanager
def crowded() -> Iterator[Told]:
    """More clients than worker and backlog hold."""
    with Watched("27.0.1", "-w", "1", "--backlog", "4", "-t", "60") as server, ExitStack() as stack:
        for _ in range(10):
            with suppress(TimeoutError):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=1.0))
        yield server


@contextmanager
def leaving() -> Iterator[Told]:
    """Workers that time out leave children behind, and the sidecar ends them, again and again."""
    policy, path = Policy(kills_per_minute=60), "/children?how=fork&n=2&s=300&block=60"
    with Watched("27.0.1", "-w", "1", "--timeout", "3", policy=policy) as server, again(lambda: server.get(path), 0.5):
        yield server


@contextmanager
def daemonic() -> Iterator[Told]:
    """Children that left their living worker: told, and left alone."""
    with Watched("27.0.1", "-w", "1") as server:
        server.get("/children?how=daemon&n=2&s=300")
        yield server


@contextmanager
def _boxed(limit: int, policy: Policy) -> Iterator[tuple[MemoryBox, Server, Beside]]:
    with memory_box(limit) as box, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.json"
        path.write_text(dump_policy(policy))
        with (
            Server("27.0.1", "-w", "2", inside=box.inside) as server,
            Beside("--pid", str(server.master_pid), "--policy-file", str(path)) as beside,
        ):
            eventually("both workers are seen", lambda: len(beside.workers()) == 2)
            yield box, server, beside


@contextmanager
def killed() -> Iterator[Told]:
    """The kernel kills a worker that outgrew its container."""
    with _boxed(160 * MIB, Policy()) as (_, server, beside), again(lambda: server.get("/memory?mb=50"), 0.5):
        yield beside


@contextmanager
def growing() -> Iterator[Told]:
    """A worker has grown to nearly all of the container's memory; a dry run, so that it stays."""
    policy = Policy(memory_recycle_share=0.5, mode="DryRun")
    with _boxed(200 * MIB, policy) as (box, server, beside):
        eventually("it was weighed", lambda: beside.samples("wsgi_worker_proportional_memory_bytes"))
        eventually("it is nearly full", lambda: _fuller(server, box))
        with again(lambda: _fuller(server, box), 0.5):  # a worker that ended takes what it kept along
            yield beside


def _fuller(server: Server, box: MemoryBox) -> bool:
    """Whether it is nearly full, as the kernel itself counts; if not, half of what is missing is kept."""
    missing = 0.93 * box.limit() - box.working_set()
    if missing < 0.01 * box.limit():
        return True
    with suppress(OSError):
        server.get(f"/memory?mb={min(16, max(1, int(missing / 2 / MIB)))}")
    return False


@contextmanager
def reordered() -> Iterator[Told]:
    """New settings in place, under which the workers take longer to load the application than they may."""
    options = ("--order-file", "order.json", "--in-place", "live")
    given = {"application": "slow:app", "files": {"slow.py": _SLOW_ONCE_TOLD}}
    with Watched("27.0.1", options=options, **given) as server:  # type: ignore[arg-type]
        (server.folder / "slow").touch()
        order = InPlaceOrder(id="1", settings=Wanted(workers=2), within_s=5.0)
        (server.folder / "order.json").write_text(dump_order(order))
        yield server


_SLOW_ONCE_TOLD: Final = """
import os, time
time.sleep(20 if os.path.exists("slow") else 0)
from apps import app
"""


@contextmanager
def hidden() -> Iterator[Told]:
    """The app's image has setproctitle, which overwrites what the settings are read from."""
    with Watched("27.0.1", "-w", "1", suffix="+setproctitle") as server:
        yield server


@contextmanager
def gone() -> Iterator[Told]:
    """The server has ended, its sidecar has not."""
    inside = ("sh", "-c", '"$@"; exec sleep 600', "sh")
    with Server("27.0.1", "-w", "1", inside=inside) as server, Beside("--pid", str(server.pid)) as beside:
        os.kill(server.master_pid, signal.SIGTERM)
        yield beside


@contextmanager
def inattentive() -> Iterator[Told]:
    """A sidecar that looks once a minute."""
    with (
        Server("27.0.1", "-w", "1") as server,
        Beside("--pid", str(server.master_pid), scan_interval_s=60) as beside,
    ):
        yield beside


@contextmanager
def again(do: Callable[[], object], every_s: float) -> Iterator[None]:
    """Do it again and again in a thread, whether it works or not."""
    stop = threading.Event()

    def go() -> None:
        while not stop.wait(every_s):
            with suppress(OSError, AssertionError):
                do()

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def troubles(scraped: threading.Event) -> Mapping[str, AbstractContextManager[Told]]:
    """All of it, by the name of the pod that each plays; nothing has begun yet.

    Args:
        scraped: set once Prometheus has seen all of them.
    """
    others = (calm, stuck, stormy, shared, booting, waiting, crowded, leaving, daemonic, killed, growing)
    strange = (reordered, hidden, gone, inattentive)
    return {"frozen": frozen(scraped)} | {each.__name__: each() for each in (*others, *strange)}
