"""Holding the Lease, or standing by for it.

In: the API server. Out: `elected` returns once we lead; `lead` does the work as long as we do. Rule: who cannot renew
the Lease stops, at once and hard if need be, before anybody else may start; who stops in good order gives it up, so
that the standby need not wait.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import kopf

from wsgi_operator.cluster import Cluster
from wsgi_operator.core.leadership import EVERY_S, GIVE_UP_S, LASTS_S, Sighting, held, may_take, sighted

log = logging.getLogger("wsgi_operator")

_ANSWER_S = 5.0
"""For one request; so that a hanging API server leaves time for a second try."""


class LostError(kopf.PermanentError):
    """Somebody else leads, or may do so by now."""


class Candidate:
    """One operator that wants to lead."""

    def __init__(self, cluster: Cluster, *, namespace: str, name: str, me: str) -> None:
        """Stand for this Lease under this identity, which no other process may ever have had."""
        self._cluster = cluster
        self._where = (namespace, name)
        self._me = me
        self._seen: Sighting | None = None
        self._renewed_s = 0.0

    async def elected(self) -> None:
        """Stand by until we lead."""
        waits = False
        while not await self._try():
            if not waits:
                log.info("standing by: %s leads", self._holder(), extra={"event": "standing-by"})
                waits = True
            await asyncio.sleep(EVERY_S)
        log.info("leading as %s", self._me, extra={"event": "leading"})

    async def lead(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work as long as we lead, then give the Lease up.

        Raises:
            LostError: the Lease is not ours any more; the work was stopped.
        """
        working, keeping = asyncio.ensure_future(work), asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await self._stop(working)
                keeping.result()
            await working
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await self._resign()

    async def _keep(self) -> None:
        """Renew until that fails for too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EVERY_S)
            if await self._try():
                continue
            if self._holder() not in ("", self._me):
                raise LostError(f"lost the Lease to {self._holder()}: ending, to begin again as a standby")
            if loop.time() - self._renewed_s > GIVE_UP_S:
                raise LostError(f"could not renew the Lease for {GIVE_UP_S:g} s: ending before somebody else may lead")

    async def _stop(self, working: "asyncio.Future[None]") -> None:
        """End the work before the Lease runs out; what does not end then ends with the process."""
        working.cancel()
        await asyncio.wait({working}, timeout=(LASTS_S - GIVE_UP_S) / 2)
        if not working.done():
            log.critical("lost the Lease, and the work does not stop: ending hard", extra={"event": "lease-lost"})
            os._exit(1)

    async def _try(self) -> bool:
        """Take the Lease, or renew it; False where it is not ours to take, or the API server does not say."""
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        try:
            async with asyncio.timeout(_ANSWER_S):
                lease = await self._cluster.lease(*self._where)
                self._seen = sighted(lease, self._seen, loop.time()) if lease is not None else None
                if not may_take(self._seen, self._me, loop.time()):
                    return False
                lease = await self._cluster.write_lease(held(*self._where, self._me, _now(), lease), new=lease is None)
        except (kopf.TemporaryError, TimeoutError) as error:
            log.debug("no word on the Lease: %s", error)
            return False
        self._seen, self._renewed_s = sighted(lease, None, loop.time()), asked_s
        return True

    async def _resign(self) -> None:
        with contextlib.suppress(kopf.TemporaryError, kopf.PermanentError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                if self._seen is not None and self._holder() == self._me:
                    await self._cluster.write_lease(held(*self._where, "", _now(), self._seen.lease), new=False)

    def _holder(self) -> str:
        return str((self._seen.lease.get("spec") or {}).get("holderIdentity") or "") if self._seen else ""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
