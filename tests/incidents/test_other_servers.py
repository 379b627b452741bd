"""Servers that are watched only, for real: their workers are told, and nothing is ever ended."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.servers.processes import VARIABLE, end_marked, new_mark
from tests.servers.rooms import room_named
from tests.servers.server import eventually
from tests.servers.watched import Beside

pytestmark = pytest.mark.servers

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
SERVERS = {
    "uvicorn": (sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--workers", "2"),
    "hypercorn": ("hypercorn", "app:app", "--bind", "127.0.0.1:0", "--workers", "2"),
    "granian": ("granian", "--interface", "asgi", "app:app", "--port", "0", "--workers", "2"),
}


@contextmanager
def served(kind: str, folder: Path) -> Iterator[psutil.Process]:
    (folder / "app.py").write_text(APP)
    command = SERVERS[kind]
    if kind != "uvicorn":
        command = (
            str(room_named("others") / "bin" / "python"),
            str(room_named("others") / "bin" / command[0]),
            *command[1:],
        )
    mark = new_mark()
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(command, cwd=folder, env={VARIABLE: mark}, stdout=log, stderr=log)
        try:
            yield psutil.Process(started.pid)
        finally:
            end_marked(mark)
            started.wait(10)


@pytest.mark.parametrize("kind", SERVERS)
def test_its_workers_are_told_and_nothing_is_ended(kind: str, tmp_path: Path) -> None:
    with served(kind, tmp_path) as server, Beside("--pid", str(server.pid)) as sidecar:
        eventually("two workers are told", lambda: len(sidecar.workers()) == 2)
        report = sidecar.report()
        assert report.server is not None
        assert (report.server.kind, report.server.process.pid) == (kind, server.pid)
        told = {worker.process.pid for worker in sidecar.workers()}
        assert told <= {child.pid for child in server.children(recursive=True)}
        # Longer than the window in which an arbiter would be called stuck.
        eventually("fourteen more looks", lambda: sidecar.report().counts.scans > report.counts.scans + 14)
        assert [incident.kind for incident in sidecar.report().incidents if incident.kind != "orphan-processes"] == []
        assert sidecar.report().kills == ()
        assert server.is_running()
