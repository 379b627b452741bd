"""`/livez`, `/readyz` and `/metrics` of the operator.

In: what the rounds tell of themselves. Out: two answers for the kubelet, one for Prometheus. Rule: alive means that
rounds come to an end, not only that a socket answers: an operator that hangs is restarted, one that has nothing to do
is left alone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from wsgi_operator.metrics import Meters

STUCK_S: Final = 120.0
"""A round lasts as long as its slowest pod (3 s) and a few API requests of 15 s at most."""


class Pulse:
    """Which rounds are under way, and since when (by the event loop's clock)."""

    def __init__(self) -> None:
        """No round, not ready."""
        self.ready = asyncio.Event()
        self.standing_by = False
        self._began: dict[str, float] = {}

    def stand_by(self) -> None:
        """Somebody else works; that is as good as ready. Who has no word on that yet is not."""
        self.standing_by = True

    def begin(self, uid: str) -> None:
        """A round over this WSGIServer begins."""
        self._began[uid] = asyncio.get_running_loop().time()

    def end(self, uid: str) -> None:
        """It ended, well or badly."""
        self._began.pop(uid, None)

    def stuck_s(self) -> float:
        """Seconds since the oldest round under way began; 0 if there is none."""
        now = asyncio.get_running_loop().time()
        return now - min(self._began.values(), default=now)


@asynccontextmanager
async def serve_health(pulse: Pulse, port: int, meters: Meters | None = None) -> AsyncIterator[None]:
    """Answer on that port as long as the context lasts; port 0: not at all.

    Raises:
        OSError: the port is taken.
    """

    async def livez(_: web.Request) -> web.Response:
        stuck = pulse.stuck_s()
        return web.Response(text=f"oldest round: {stuck:.1f} s\n", status=503 if stuck > STUCK_S else 200)

    async def readyz(_: web.Request) -> web.Response:
        if pulse.standing_by:
            return web.Response(text="standing by\n")
        ready = pulse.ready.is_set()
        return web.Response(text="ready\n" if ready else "starting\n", status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=counted.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    if port == 0:
        yield
        return
    counted = meters or Meters()
    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    # No connection is kept: each is a task, and at the end kopf would wait for it (see `work`).
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0, keepalive_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()
