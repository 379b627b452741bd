"""Turning rounds over one WSGIServer, again whenever something happened or time has passed.

In: bells, and time. Out: rounds, one at a time. Rule: this is the outermost loop, the only one that catches everything;
it logs, counts and lives.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, Final

import kopf

from wsgi_operator.bells import first
from wsgi_operator.connection import AskedToWait, Refused
from wsgi_operator.core.pace import wait_s
from wsgi_operator.desk import Body, Desk, Memory, memory_of, workload_of
from wsgi_operator.rounds import one_round, tell_broken_off

log = logging.getLogger("wsgi_operator")

ROUND_S: Final = 60.0
"""No round lasts longer. One that does waits for an API server that is overloaded or away: that is no bug of ours."""

PAUSE_S: Final = 0.5
"""Between two rounds over one WSGIServer, so that a burst of events is one round; a changed spec does not wait."""


async def follow(desk: Desk, stopped: Any, body: Body, claims: Mapping[Any, Iterable[Body]]) -> None:
    """Turn rounds over one WSGIServer until it goes, or the operator does."""
    workload, uid = workload_of(body), body["metadata"]["uid"]
    if not await first(desk.mirror.complete.wait(), stopped.wait(), timeout_s=None):
        return
    with desk.bells.listen(workload) as bell:
        memory = memory_of(dict(body.get("status") or {}), bell)
        place: AbstractAsyncContextManager[Any] = desk.first
        while not stopped:
            async with place, desk.lock(uid), desk.precedence.turn(bell.urgent):
                if stopped:
                    break
                bell.clear()
                delay, deaf = await _guarded_round(desk, body, tuple(claims.get(workload, ())), memory)
            place = nullcontext()
            if deaf:
                await first(stopped.wait(), timeout_s=delay)
                continue
            await first(bell.urgent.wait(), stopped.wait(), timeout_s=min(PAUSE_S, delay))
            if await first(bell.rung.wait(), stopped.wait(), timeout_s=max(0.0, delay - PAUSE_S)):
                memory.patience_s = 1.0


async def _guarded_round(desk: Desk, body: Body, rivals: tuple[Body, ...], memory: Memory) -> tuple[float, bool]:
    """One round, whatever happens in it; returns the seconds until the next, and whether no bell makes it come sooner.

    This is the outermost loop: the only place that catches everything.
    """
    uid, extra = body["metadata"]["uid"], {"object": f"{body['metadata']['namespace']}/{body['metadata']['name']}"}
    desk.pulse.begin(uid)
    try:
        async with asyncio.timeout(ROUND_S):
            with desk.meters.round():
                settled = await _told_round(desk, body, rivals, memory)
    except kopf.TemporaryError as error:
        log.info("round to be repeated: %s", error, extra=extra | {"event": "round-repeated"})
        desk.meters.ended("repeated")
        return float(error.delay or 1.0), isinstance(error, AskedToWait)
    except TimeoutError:
        log.warning("round broken off after %g s, to be repeated", ROUND_S, extra=extra | {"event": "round-repeated"})
        desk.meters.ended("repeated")
        return desk.config.report_interval_s, False
    except Exception:
        log.exception("round failed", extra=extra | {"event": "round-failed"})
        desk.meters.ended("failed")
        return 10.0, False
    finally:
        desk.pulse.end(uid)
    memory.broken_off = 0
    desk.meters.ended("settled" if settled else "unsettled")
    if settled:
        return wait_s(uid, asyncio.get_running_loop().time(), desk.config.report_interval_s), False
    delay = min(memory.patience_s, desk.config.report_interval_s)
    memory.patience_s *= 2
    return delay, False


async def _told_round(desk: Desk, body: Body, rivals: tuple[Body, ...], memory: Memory) -> bool:
    """One round; whether all is settled. What ends one round after the other early is told in the status."""
    try:
        return await one_round(desk, body, rivals, memory)
    except kopf.TemporaryError as error:
        with suppress(kopf.TemporaryError, Refused):
            await tell_broken_off(desk, body, memory, error)
        raise
