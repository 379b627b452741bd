"""A proxy between the operator and the API server that can do what networks and busy API servers do.

In: a kubeconfig, faults as they are switched on. Out: a kubeconfig whose server is the proxy. Rule: named for what it
is: everything that arrives comes from the real API server, unless a fault says otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.operator.ground import free_port

_NOT_PASSED_ON = frozenset({"host", "connection", "transfer-encoding", "content-length", "accept-encoding"})
EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}


@dataclass(kw_only=True)
class Fault:
    """One thing that goes wrong, for the requests that it is meant for.

    Attributes:
        meant: which requests, by method and path with its query.
        status: answered instead of asking the API server; None: it is asked.
        headers: beside that status.
        lost: the API server is asked, and its answer is thrown away with the connection.
        event: sent as the first line of a watch, which then ends.
        silent: a watch is opened, and nothing of it is passed on.
        times: how often; None: until it is taken away.
        hits: how often it has been.
    """

    meant: Callable[[str, str], bool]
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    event: dict[str, Any] | None = None
    silent: bool = False
    times: int | None = None
    hits: int = 0


@dataclass(kw_only=True)
class FaultProxy:
    """What goes wrong now, and what has been asked."""

    server: str
    kubeconfig: Path
    trust: SSLContext | bool
    port: int
    certificate: SSLContext | None = None
    faults: list[Fault] = field(default_factory=list)
    delay_s: float = 0.0
    away: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    refused_tokens: set[str] = field(default_factory=set)
    _open: dict[int, web.Request] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def add(self, fault: Fault) -> Fault:
        """From now on this goes wrong, too."""
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self.faults.clear()
        self.delay_s, self.away = 0.0, False

    def cut(self) -> None:
        """Every connection breaks, and no new one is answered."""
        self.away = True
        self.drop()

    def drop(self) -> None:
        """Every connection breaks."""
        self._loop.call_soon_threadsafe(lambda: [_break(request) for request in self._open.values()])

    def requests(self, method: str, part: str) -> int:
        """How many were asked of that method, with that in their path."""
        return sum(said == method and part in path for said, path in self.asked)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, or do what a fault says."""
        path = request.path_qs
        self.asked.append((request.method, path))
        self._open[id(request)] = request
        try:
            if self.away:
                return _break(request)
            await asyncio.sleep(self.delay_s)
            if request.headers.get("Authorization", "").partition(" ")[2] in self.refused_tokens:
                return web.json_response({"kind": "Status", "message": "Unauthorized", "code": 401}, status=401)
            return await self._answer(request, self._fault(request.method, path))
        except (ConnectionError, aiohttp.ClientError):  # whoever asked has gone, or the connection was cut
            return _break(request)
        finally:
            self._open.pop(id(request), None)

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if (fault.times is None or fault.hits < fault.times) and fault.meant(method, path):
                fault.hits += 1
                return fault
        return None

    async def _answer(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        if fault is not None and fault.status is not None:
            body = {"kind": "Status", "message": "the proxy says so", "code": fault.status}
            return web.json_response(body, status=fault.status, headers=fault.headers)
        if fault is not None and fault.event is not None:
            return web.Response(body=json.dumps(fault.event).encode() + b"\n", content_type="application/json")
        async with self._asked(request) as answer:
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            if fault is not None and fault.lost:
                await answer.read()
                return _break(request)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if fault is None or not fault.silent:
                    await response.write(chunk)
            return response

    @asynccontextmanager
    async def _asked(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(ssl=self.trust, force_close=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session,
            session.request(
                request.method,
                self.server + request.raw_path,
                headers=_passed_on(request.headers),
                data=await request.read() or None,
                skip_auto_headers=("Content-Type", "Accept", "User-Agent"),
            ) as answer,
        ):
            yield answer

    def serve(self, ready: threading.Event) -> None:
        """Run until stopped; in a thread of its own."""
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._start())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.run_until_complete(_end(asyncio.all_tasks(self._loop)))
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self.certificate).start()
        return runner

    def stop(self) -> None:
        """End the thread's work."""
        self.heal()
        self.drop()
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Requests that were cut off: whoever waits in them is told."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.25)  # TLS connections that are closed need some turns of the loop to be so (aiohttp's docs)


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}


def _break(request: web.Request) -> web.Response:
    """Close the connection without a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


@contextmanager
def fault_proxy(kubeconfig: Path, folder: Path, certificate: SSLContext | None = None) -> Iterator[FaultProxy]:
    """A proxy in front of that kubeconfig's server; `folder/kubeconfig` leads through it."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    authority = folder / "authority.pem"
    authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    proxy = FaultProxy(
        server=cluster["server"],
        kubeconfig=folder / "kubeconfig",
        trust=create_default_context(cafile=str(authority)),
        port=free_port(),
        certificate=certificate,
    )
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{proxy.port}"}
    proxy.kubeconfig.write_text(yaml.safe_dump(config))
    ready = threading.Event()
    thread = threading.Thread(target=proxy.serve, args=(ready,), name="fault-proxy", daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield proxy
    finally:
        with suppress(RuntimeError):
            proxy.stop()
        thread.join(30)
