"""Who is to look again when something happened.

In: a workload's namespace and name. Out: the bells of those that listen to it are rung. Rule: a ring says only "look
again", never what happened, so ten rings before a look are one look; and nothing is lost while nobody listens, since
whoever starts to listen looks first.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

Workload = tuple[str, ...]
"""Namespace, kind and name."""


class Bells:
    """One set of bells per workload."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._bells: defaultdict[Workload, set[asyncio.Event]] = defaultdict(set)
        self._generations: dict[str, int] = {}

    @contextmanager
    def listen(self, workload: Workload) -> Iterator[asyncio.Event]:
        """A bell that rings for this workload as long as the context lasts."""
        bell = asyncio.Event()
        self._bells[workload].add(bell)
        try:
            yield bell
        finally:
            self._bells[workload].discard(bell)
            if not self._bells[workload]:
                del self._bells[workload]

    def ring(self, workload: Workload) -> None:
        """Something happened to this workload, or to a WSGIServer that names it."""
        for bell in self._bells.get(workload, ()):
            bell.set()

    def ring_if_new(self, workload: Workload, uid: str, generation: int, *, gone: bool) -> None:
        """Ring unless only the status changed: that we wrote ourselves."""
        if gone or self._generations.get(uid) != generation:
            self.ring(workload)
        self._generations[uid] = generation
        if gone:
            del self._generations[uid]
