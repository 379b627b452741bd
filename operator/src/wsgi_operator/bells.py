"""Who is to look again when something happened.

In: a workload's namespace and name. Out: the bells of those that listen to it are rung. Rule: a ring says only "look
again", and whether a person is waiting for it, never what happened; so ten rings before a look are one look, and
nothing is lost while nobody listens, since whoever starts to listen looks first.
"""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Workload = tuple[str, ...]
"""Namespace, kind and name."""

T = TypeVar("T")


class Bell:
    """What one listener hears.

    Attributes:
        rung: look again.
        urgent: at once, since what is wanted has changed.
    """

    def __init__(self) -> None:
        """Silent."""
        self.rung = asyncio.Event()
        self.urgent = asyncio.Event()

    def clear(self) -> None:
        """A look begins: whatever rang until now is answered by it."""
        self.rung.clear()
        self.urgent.clear()


class Bells:
    """One set of bells per workload."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._bells: defaultdict[Workload, set[Bell]] = defaultdict(set)
        self._generations: dict[str, int] = {}

    @contextmanager
    def listen(self, workload: Workload) -> Iterator[Bell]:
        """A bell that rings for this workload as long as the context lasts."""
        bell = Bell()
        self._bells[workload].add(bell)
        try:
            yield bell
        finally:
            self._bells[workload].discard(bell)
            if not self._bells[workload]:
                del self._bells[workload]

    def ring(self, workload: Workload, *, urgent: bool = False) -> None:
        """Something happened to this workload, or, which is urgent, to a WSGIServer that names it."""
        for bell in self._bells.get(workload, ()):
            bell.rung.set()
            if urgent:
                bell.urgent.set()

    def ring_if_new(self, workload: Workload, uid: str, generation: int, *, gone: bool) -> None:
        """Ring unless only the status changed: that we wrote ourselves."""
        if gone or self._generations.get(uid) != generation:
            self.ring(workload, urgent=True)
        self._generations[uid] = generation
        if gone:
            del self._generations[uid]


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work returns; None, and the work is broken off, where the event comes first."""
    working, called = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((working, called), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        called.cancel()
        await asyncio.gather(working, called, return_exceptions=True)


async def first(*waits: Coroutine[Any, Any, Any], timeout_s: float | None) -> bool:
    """Whether any of these came to an end in time; all are ended then. None: however long that takes."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
