"""The PodDisruptionBudgets of the namespaces in which we work.

In: a workload. Out: the budgets over its pods. Rule: whoever is about to begin a roll asks anew; whoever only tells of
them may be told what was true a minute ago, so that a hundred workloads of one namespace cost one request a minute.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import Refused
from wsgi_operator.core.budgets import Budgets, Held, Unread, budgets_over, held_of
from wsgi_operator.core.workload import Object

log = logging.getLogger("wsgi_operator")

TOLD_FOR_S: Final = 60.0
"""What is older is asked anew, and forgotten as soon as something is read: namespaces come and go."""


class Disruptions:
    """What was read last, by namespace."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing is known yet."""
        self._cluster = cluster
        self._read: dict[str, tuple[float, Sequence[Held] | Unread]] = {}

    async def over(self, workload: Object, *, anew: bool = False) -> Budgets:
        """The budgets over a workload's pods; unread where we may not read them."""
        namespace, now_s = workload["metadata"]["namespace"], asyncio.get_running_loop().time()
        if anew or not self._fresh(namespace, now_s):
            held = await self._ask(namespace)
            self._read = {one: self._read[one] for one in self._read if self._fresh(one, now_s)}
            self._read[namespace] = (now_s, held)
        held = self._read[namespace][1]
        return held if isinstance(held, Unread) else budgets_over(workload, held)

    def _fresh(self, namespace: str, now_s: float) -> bool:
        return namespace in self._read and now_s - self._read[namespace][0] <= TOLD_FOR_S

    async def _ask(self, namespace: str) -> Sequence[Held] | Unread:
        try:
            return held_of(await self._cluster.budgets(namespace))
        except Refused as error:
            about = {"event": "budgets-unread", "object": namespace}
            log.warning("PodDisruptionBudgets cannot be read: %s", error, extra=about)
            return Unread(why=str(error))
