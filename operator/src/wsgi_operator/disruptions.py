"""The PodDisruptionBudgets of the namespaces in which we work.

In: a workload. Out: the budgets over its pods. Rule: whoever is about to begin a roll asks anew; whoever only tells of
them may be told what was true a minute ago, so that a hundred workloads of one namespace cost one request a minute.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import Refused
from wsgi_operator.core.budgets import Budget, budgets_over
from wsgi_operator.core.workload import Object

log = logging.getLogger("wsgi_operator")

TOLD_FOR_S: Final = 60.0


class Disruptions:
    """What was read last, by namespace."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing is known yet."""
        self._cluster = cluster
        self._read: dict[str, tuple[float, Sequence[dict[str, Any]]]] = {}

    async def over(self, workload: Object, *, anew: bool = False) -> tuple[Budget, ...]:
        """The budgets over a workload's pods; none where we may not read them, which the log tells."""
        namespace = workload["metadata"]["namespace"]
        at, bodies = self._read.get(namespace, (0.0, ()))
        now = time.monotonic()
        if anew or not at or now - at > TOLD_FOR_S:
            try:
                bodies = await self._cluster.budgets(namespace)
            except Refused as error:
                about = {"event": "budgets-unread", "object": namespace}
                log.warning("PodDisruptionBudgets cannot be read: %s", error, extra=about)
                bodies = ()
            self._read[namespace] = (now, bodies)
        return budgets_over(workload, bodies)
