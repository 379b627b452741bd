"""Stable numbers for workers, so that metrics need no pids.

In: the slots of the look before, the workers alive now. Out: the slots now. Rule: a worker keeps its slot until it
dies; a newcomer takes the smallest free one, the oldest newcomer first. So a respawned worker inherits the slot of the
dead, and as many labels exist as workers ever lived at once.
"""

from collections.abc import Iterable, Mapping

from wsgi_contract.report import ProcessId


def assign(before: Mapping[ProcessId, int], alive: Iterable[ProcessId]) -> dict[ProcessId, int]:
    """Give every living worker its slot, counted from 1."""
    workers = tuple(alive)
    slots = {worker: before[worker] for worker in workers if worker in before}
    taken = set(slots.values())
    free = (slot for slot in range(1, len(workers) + len(taken) + 1) if slot not in taken)
    newcomers = sorted((w for w in workers if w not in slots), key=lambda w: (w.started, w.pid))
    return slots | dict(zip(newcomers, free, strict=False))
