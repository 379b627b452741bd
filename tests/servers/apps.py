"""The application that the tests' servers serve: one path per behaviour.

In: a WSGI environ. Out: a plain answer. Rule: standard library only, Python 3.8 syntax, nothing started at import, so
that every release on every Python can load it; everything it starts ends by itself after some minutes.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    Query = dict[str, str]

LONGEST_S = 600.0


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Dispatch on the path; numbers come in the query: `/slow?s=2`."""
    query = {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
    behave = BEHAVIOURS.get(environ.get("PATH_INFO", "/"))
    if behave is None:
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]
    body = behave(query, environ)
    if not isinstance(body, bytes):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def plain(query: Query, environ: WSGIEnvironment) -> bytes:
    """Answer at once."""
    return b"ok\n"


def pid(query: Query, environ: WSGIEnvironment) -> bytes:
    """Say which worker and which thread answered."""
    return b"%d %d\n" % (os.getpid(), threading.get_native_id())


def slow(query: Query, environ: WSGIEnvironment) -> bytes:
    """Sleep for `s` seconds, as one who waits for a database."""
    time.sleep(_seconds(query, 1.0))
    return b"slept\n"


def cpu(query: Query, environ: WSGIEnvironment) -> bytes:
    """Burn `s` seconds of CPU in this thread, holding the interpreter lock as pure Python does."""
    end = time.thread_time() + _seconds(query, 1.0)
    while time.thread_time() < end:
        sum(range(1000))
    return b"burnt\n"


def digest(query: Query, environ: WSGIEnvironment) -> bytes:
    """Burn `s` seconds of CPU outside the interpreter lock, as numpy or compression do."""
    end, block = time.thread_time() + _seconds(query, 1.0), b"x" * (1 << 20)
    while time.thread_time() < end:
        hashlib.sha256(block)
    return b"hashed\n"


def stream(query: Query, environ: WSGIEnvironment) -> Iterable[bytes]:
    """Send a few bytes every 0.1 s for `s` seconds."""
    end = time.monotonic() + _seconds(query, 1.0)

    def chunks() -> Iterable[bytes]:
        while time.monotonic() < end:
            yield b"chunk\n"
            time.sleep(0.1)

    return chunks()


def upload(query: Query, environ: WSGIEnvironment) -> bytes:
    """Read the body to its end."""
    return b"%d\n" % len(environ["wsgi.input"].read())


def memory(query: Query, environ: WSGIEnvironment) -> bytes:
    """Keep `mb` megabytes for ever."""
    _kept.append(bytearray(min(int(query.get("mb", "1")), 512) * (1 << 20)))
    return b"kept\n"


def children(query: Query, environ: WSGIEnvironment) -> bytes:
    """Start `n` children that live `s` seconds, made by `how`; then block for `block` seconds."""
    start = HOW[query.get("how", "fork")]
    for _ in range(min(int(query.get("n", "1")), 20)):
        start(_seconds(query, 60.0))
    time.sleep(min(float(query.get("block", "0")), LONGEST_S))
    return b"started\n"


def pool(query: Query, environ: WSGIEnvironment) -> bytes:
    """Give a pool of processes a job of `s` seconds and answer: a worker that ends waits for it."""
    _kept.append(ProcessPoolExecutor(1))
    _kept[-1].submit(_job, _seconds(query, 8.0))
    return b"submitted\n"


def _job(seconds: float) -> None:
    time.sleep(seconds)
    os.write(2, b"the job is done\n")


def _multiprocessing(method: str) -> Callable[[float], None]:
    def start(seconds: float) -> None:
        _context(method).Process(target=time.sleep, args=(seconds,), daemon=False).start()

    return start


def _context(method: str) -> Any:
    return multiprocessing.get_context(method)


def _popen(*, new_session: bool) -> Callable[[float], None]:
    def start(seconds: float) -> None:
        command = [sys.executable, "-c", "import sys, time; time.sleep(float(sys.argv[1]))", str(seconds)]
        _kept.append(subprocess.Popen(command, start_new_session=new_session))

    return start


def _daemon(seconds: float) -> None:
    """Double fork and setsid: the parent is gone at once, the session is its own."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(seconds)
    os._exit(0)


def _seconds(query: Query, default: float) -> float:
    return min(float(query.get("s", default)), LONGEST_S)


_kept: list[Any] = []

HOW: dict[str, Callable[[float], None]] = {
    "fork": _multiprocessing("fork"),
    "spawn": _multiprocessing("spawn"),
    "forkserver": _multiprocessing("forkserver"),
    "popen": _popen(new_session=False),
    "session": _popen(new_session=True),
    "daemon": _daemon,
}

BEHAVIOURS: dict[str, Callable[[Query, WSGIEnvironment], bytes | Iterable[bytes]]] = {
    "/": plain,
    "/pid": pid,
    "/slow": slow,
    "/cpu": cpu,
    "/digest": digest,
    "/stream": stream,
    "/upload": upload,
    "/memory": memory,
    "/children": children,
    "/pool": pool,
}
