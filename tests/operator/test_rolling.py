"""What is done for a roll that is under way; the API server is replaced by one that only refuses."""

from __future__ import annotations

import asyncio

from wsgi_contract.settings import Wanted
from wsgi_operator.bells import Bells
from wsgi_operator.config import Config
from wsgi_operator.connection import AskedToWait, Refused
from wsgi_operator.core.evidence import Silence, gather
from wsgi_operator.core.server import Sidecar
from wsgi_operator.desk import Desk
from wsgi_operator.reports import Reports
from wsgi_operator.rolling import look_after
from wsgi_operator.testing import NOW, adopted, deployment, pod, server


class Refusing:
    """An API server that evicts nobody: the first pod's budget does not allow it, and the next one nobody may."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.asked: list[str] = []

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Refuse, each time in another way."""
        self.asked.append(name)
        raise AskedToWait("cannot evict", delay=5) if len(self.asked) == 1 else Refused("forbidden", 403)


def test_a_pod_that_may_not_be_evicted_holds_up_neither_the_others_nor_the_round():
    of = server(kind="StatefulSet")
    live = adopted(of, deployment() | {"kind": "StatefulSet"}, now=NOW)
    live["status"] = {"observedGeneration": 1, "replicas": 3, "updateRevision": "new", "updatedReplicas": 1}
    lost = [pod(name, revision="old", created=NOW - 60, hopeless=True) for name in ("web-0", "web-1")]
    evidence = gather([Silence(pod=each, reason="no answer") for each in lost], Wanted())
    cluster = Refusing()
    config = Config(sidecar=Sidecar(image="x:1"), repositories=("x",), report_interval_s=10)
    desk = Desk(config=config, cluster=cluster, reports=Reports(timeout_s=1), bells=Bells())  # type: ignore[arg-type]
    assert asyncio.run(look_after(desk, of, live, evidence, NOW + 10)) is live
    assert cluster.asked == ["web-0", "web-1"]
