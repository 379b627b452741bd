"""The sidecar's port: metrics, the Report, its own probes and the server's. It only answers reads.

In: functions that give the latest state and say whether looks go on. Out: HTTP. Rule: nothing that can change or kill
listens here, and no request makes the sidecar look: what is told is what the last look left.

The server runs in a thread of its own, so that a starved or flooded port never delays a look.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import uvicorn
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from wsgi_contract.report import dump_report
from wsgi_sidecar.core.health import UNSEEN, Answer, Health
from wsgi_sidecar.crowd import Crowd
from wsgi_sidecar.gate import Gate
from wsgi_sidecar.metrics import Published

BACKLOG: Final = 64
STOP_S: Final = 2.0


class PortError(Exception):
    """The port cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the port tells.

    Attributes:
        latest: the last published state; None before the first look.
        stuck_s: seconds without a successful look, if that is longer than it may be; None while looks go on.
        registry: of the metrics.
        gate: who may read the report. Metrics and probes are open to whoever reaches the port.
    """

    latest: Callable[[], Published | None]
    stuck_s: Callable[[], float | None]
    registry: CollectorRegistry
    gate: Gate = field(default_factory=Gate)


def create_app(pages: Pages) -> FastAPI:
    """The routes; without the generated documentation, which would be most of the memory."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(pages.registry), media_type=content_type)

    async def report(request: Request) -> Response:
        refused = pages.gate.refusal(request.headers.get("authorization"))
        if refused is not None:
            return _text(
                refused.why, refused.status, **({"www-authenticate": "Bearer"} if refused.status == 401 else {})
            )
        published = pages.latest()
        if published is None:
            return _text("no look was taken yet; ask again in a second", 503)
        headers = {"cache-control": "no-store"}
        return Response(dump_report(published.report), media_type="application/json", headers=headers)

    async def livez(request: Request) -> Response:
        stuck_s = pages.stuck_s()
        return _text("ok", 200) if stuck_s is None else _text(f"no look succeeded for {stuck_s:.0f} s", 503)

    async def readyz(request: Request) -> Response:
        return _text("no look was taken yet", 503) if pages.latest() is None else _text("ok", 200)

    def server(ask: Callable[[Health], Answer]) -> Callable[[Request], Awaitable[Response]]:
        async def probe(request: Request) -> Response:
            published = pages.latest()
            answer = ask(published.health if published else UNSEEN)
            # A sidecar that sees nothing any more must not have the server killed.
            if not answer.ok and pages.stuck_s() is not None:
                answer = Answer(ok=True, why=f"unknown; the last look that succeeded said: {answer.why}")
            return _text(answer.why, 200 if answer.ok else 503)

        return probe

    for path, answer in (
        ("/metrics", metrics),
        ("/report", report),
        ("/livez", livez),
        ("/readyz", readyz),
        ("/server/livez", server(lambda health: health.live)),
        ("/server/readyz", server(lambda health: health.ready)),
        ("/server/startupz", server(lambda health: health.started)),
    ):
        app.add_route(path, answer, methods=["GET"])
    return app


def _text(text: str, status: int, **more: str) -> Response:
    headers = {"cache-control": "no-store"} | more
    return Response(f"{text}\n", status_code=status, media_type="text/plain", headers=headers)


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else happens, so that a taken one is told at once.

    Args:
        host: an address, or empty for all interfaces, IPv6 included where there is any.
        port: 0 for any free one.

    Raises:
        PortError: it is taken, forbidden, or the address is not ours.
    """
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PortError(
            f"cannot listen on {host or 'all interfaces'} port {port}: {reason}; "
            "choose another with --port (0 takes any free one)"
        ) from None


class _Quiet(uvicorn.Server):
    """A server that sleeps until somebody asks: uvicorn's own wakes up ten times a second to see whether it shall end.

    Those wake-ups cost 1.5 ms of CPU a second, about a quarter of all that the sidecar used.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        # `end` may have come before there was a loop to tell.
        if not self.should_exit:
            await self._ended.wait()

    def end(self) -> None:
        """Stop serving; any thread may say so."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._ended.set)


class WebThread:
    """Serves the pages until it is stopped."""

    def __init__(self, pages: Pages, listener: socket.socket) -> None:
        """Prepare; nothing is served yet.

        Args:
            pages: what is told.
            listener: from `listen`; closed at the end.
        """
        config = uvicorn.Config(
            create_app(pages),
            loop="asyncio",
            http=Crowd,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,  # uvicorn would have to wake up each second to keep it true
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
        )
        self._server = _Quiet(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="web", daemon=True
        )

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, within `STOP_S`."""
        self._server.end()
        self._thread.join(STOP_S)
