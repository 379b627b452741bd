"""Holding the Lease, or standing by for it.

In: the API server. Out: `elected` returns once we lead; `lead` does the work as long as we do. Rule: who cannot renew
the Lease stops, at once and hard if need be, before anybody else may start; who stops in good order gives it up, so
that the standby need not wait. A refusal is no word on who leads: it is told and borne, and ends us only if it lasts.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import kopf

from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import Refused
from wsgi_operator.core.leadership import (
    EVERY_S,
    GIVE_UP_S,
    LASTS_S,
    REFUSED_S,
    Lease,
    Sighting,
    held,
    may_take,
    sighted,
)

log = logging.getLogger("wsgi_operator")

_ANSWER_S = 5.0
"""For one request; so that a hanging API server leaves time for a second try."""

_AGAIN_S = 0.2
"""Between two tries to give the Lease up."""


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
        self._refused: tuple[Refused, float] | None = None
        self._why = ""

    async def elected(self, stands_by: Callable[[], None]) -> None:
        """Stand by until we lead.

        Args:
            stands_by: called once somebody else was seen to lead.

        Raises:
            Refused: the API server refuses us the Lease, for longer than one that has just come back.
        """
        waits = False
        while not await self._try(_ANSWER_S):
            if self._refused is not None:
                self._bear(*self._refused)
            elif self._other() and not waits:
                stands_by()
                log.info("standing by: %s leads", self._other(), extra={"event": "standing-by"})
                waits = True
            await asyncio.sleep(EVERY_S)
        log.info("leading as %s", self._me, extra={"event": "leading"})

    def _bear(self, refused: Refused, since_s: float) -> None:
        """A refusal, unless it lasts."""
        if asyncio.get_running_loop().time() - since_s > REFUSED_S:
            raise refused

    async def lead(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work as long as we lead, then give the Lease up.

        Raises:
            LostError: the Lease is not ours any more; the work was stopped.
        """
        working, keeping = asyncio.ensure_future(work), asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await self._stop(working, keeping)
                keeping.result()
            await working
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await self._resign()

    async def _keep(self) -> None:
        """Renew until that fails for too long; no pause and no request goes on beyond that."""
        while True:
            await asyncio.sleep(min(EVERY_S, self._left_s()))
            if (left_s := self._left_s()) <= 0:
                why = self._why or "no answer"
                raise LostError(f"could not renew the Lease for {GIVE_UP_S:g} s ({why}): ending before another leads")
            if not await self._try(min(_ANSWER_S, left_s)) and self._other():
                raise LostError(f"lost the Lease to {self._other()}: ending, to begin again as a standby")

    def _left_s(self) -> float:
        """Seconds until we give up."""
        return self._renewed_s + GIVE_UP_S - asyncio.get_running_loop().time()

    async def _stop(self, working: "asyncio.Future[None]", keeping: "asyncio.Future[None]") -> None:
        """End the work before the Lease runs out; what does not end then ends with the process."""
        working.cancel()
        await asyncio.wait({working}, timeout=(LASTS_S - GIVE_UP_S) / 2)
        if not working.done():
            why = keeping.exception()
            log.critical("%s; the work does not stop: ending hard", why, extra={"event": "lease-lost"})
            os._exit(1)

    async def _try(self, within_s: float) -> bool:
        """Take the Lease, or renew it; False where it is not ours to take, or the API server does not say.

        One that has just come back says that to nobody: it refuses everything, until it has read the roles.
        """
        before, self._refused = self._refused, None
        try:
            async with asyncio.timeout(within_s):
                taken = await self._take()
            self._why = ""
            return taken
        except Refused as error:
            if before is None:
                log.warning("refused the Lease: %s; asking again", error, extra={"event": "lease-refused"})
            self._refused = (error, asyncio.get_running_loop().time() if before is None else before[1])
            self._why = str(error)
        except (kopf.TemporaryError, TimeoutError) as error:
            log.debug("no word on the Lease: %s", error)
            self._why = str(error) or self._why
        return False

    async def _take(self) -> bool:
        """Take the Lease, or renew it; its time counts from when we ask, since nobody sees it renewed any earlier."""
        loop = asyncio.get_running_loop()
        lease = await self._cluster.lease(*self._where)
        self._seen = sighted(lease, self._seen, loop.time()) if lease is not None else None
        if not may_take(self._seen, self._me, loop.time()):
            return False
        asked_s = loop.time()
        lease = await self._cluster.write_lease(held(*self._where, self._me, _now(), lease), new=lease is None)
        self._seen, self._renewed_s = sighted(lease, None, loop.time()), asked_s
        return True

    async def _resign(self) -> None:
        """Give the Lease up as it stands now: a renewal whose answer we did not wait for may have been written."""
        with contextlib.suppress(kopf.PermanentError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                while not await self._given_up():
                    await asyncio.sleep(_AGAIN_S)

    async def _given_up(self) -> bool:
        """Whether the Lease is ours no more; False where it was written meanwhile, or the API server does not say."""
        try:
            lease = await self._cluster.lease(*self._where)
            if _holder(lease) == self._me:
                await self._cluster.write_lease(held(*self._where, "", _now(), lease), new=False)
        except kopf.TemporaryError as error:
            log.debug("the Lease is not given up yet: %s", error)
            return False
        return True

    def _other(self) -> str:
        """Who else holds the Lease, as far as we saw; empty: nobody."""
        holder = _holder(self._seen.lease if self._seen else None)
        return "" if holder == self._me else holder


def _holder(lease: Lease | None) -> str:
    """Who holds this Lease; empty: nobody."""
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
