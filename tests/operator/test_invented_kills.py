"""A round over pods that all invent as many kills as a report may hold."""

import asyncio
import time
import tracemalloc

from wsgi_contract import names
from wsgi_operator.bells import Bell, Bells
from wsgi_operator.config import Config
from wsgi_operator.core.evidence import Heard
from wsgi_operator.core.excess import KILLS
from wsgi_operator.core.ration import AT_ONCE
from wsgi_operator.core.server import Sidecar
from wsgi_operator.desk import Desk, memory_of
from wsgi_operator.rounds import one_round
from wsgi_operator.testing import IMAGE, adopted, applied, deployment, kill, report

PODS = 60
BODY = {
    "metadata": {
        "name": "shop",
        "namespace": "default",
        "uid": "uid-shop",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"workload": {"name": "web"}, "settings": {"workers": 3}},
}


class FakeCluster:
    """An API server that takes everything."""

    def __init__(self, live):
        self.live, self.posted = live, []

    async def apply(self, config, version, manager=names.FIELD_MANAGER):
        self.live = applied(self.live, config)
        self.live["metadata"]["resourceVersion"] = str(int(version) + 1)
        return self.live

    async def post_event(self, event):
        self.posted.append(event["metadata"]["name"])

    async def write_status(self, namespace, name, status):
        pass

    async def budgets(self, namespace):
        return ()

    async def made(self, kind, namespace, name):
        return None


class FakeReports:
    """Pods that all say the same."""

    def __init__(self, said):
        self._said = said

    async def read(self, pods, port):
        return tuple(Heard(pod=pod, report=self._said) for pod in pods)


def pod(number):
    name = f"web-{number}"
    metadata = {"name": name, "namespace": "default", "uid": name, "labels": {names.LABEL_SERVER: "shop"}}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"podIP": "10.0.0.1"}}


def looked(rounds):
    """The Events posted in each round, and the most memory that any of them took."""
    now = time.time()
    kills = tuple(kill(id=str(number), at=now - 5, message="x" * 1000) for number in range(KILLS))
    live = adopted(live=deployment(uid="uid-web"), now=now - 100)
    cluster, posted = FakeCluster(live), []
    config = Config(sidecar=Sidecar(image=IMAGE), repositories=("registry.example/wsgi-sidecar",))
    desk = Desk(config=config, cluster=cluster, reports=FakeReports(report(kills=kills)), bells=Bells())
    desk.mirror.complete.set()
    desk.mirror.learn(live)
    for number in range(PODS):
        desk.mirror.pods.there(pod(number))
    memory = memory_of({}, Bell())

    async def run():
        for _ in range(rounds):
            cluster.posted = []
            await one_round(desk, BODY, (), memory)
            posted.append(cluster.posted)

    tracemalloc.start()
    try:
        asyncio.run(run())
        return posted, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_more_is_made_of_them_than_may_be_posted_and_none_is_posted_twice():
    posted, most = looked(2)
    assert [len(names) for names in posted] == [AT_ONCE, 0]
    assert most < 10 * 2**20
