"""How long is remembered what disruption budgets there are."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest
from kubernetes.aio import client

from tests.operator import hasty
from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import Refused
from wsgi_operator.core.budgets import Budget, Unread
from wsgi_operator.core.budgets import Budgets as Known
from wsgi_operator.disruptions import TOLD_FOR_S, Disruptions
from wsgi_operator.testing import deployment


class Budgets(Cluster):
    """One budget over everything in each namespace, with as much beside it as it has in a cluster."""

    def __init__(self, *, refuses: bool = False) -> None:
        super().__init__(client.Configuration())
        self.asked: list[str] = []
        self._refuses = refuses

    async def budgets(self, namespace: str) -> list[dict[str, Any]]:
        self.asked.append(namespace)
        if self._refuses:
            raise Refused("forbidden", 403)
        entries = [{"manager": "helm", "fieldsV1": {f"f:{n}": {".": {}} for n in range(100)}}]
        return [
            {
                "metadata": {"name": f"in-{namespace}", "namespace": namespace, "managedFields": entries},
                "spec": {"selector": {}},
                "status": {"expectedPods": 3, "desiredHealthy": 2, "disruptionsAllowed": 1},
            }
        ]


def workload(namespace: str = "a") -> dict[str, Any]:
    return deployment(namespace=namespace)


def told(namespace: str) -> tuple[Budget, ...]:
    return (Budget(name=f"in-{namespace}", room=1, allowed=1),)


@pytest.mark.parametrize(("after_s", "anew", "asked"), [
    (1.0, False, 1),
    (1.0, True, 2),
    (TOLD_FOR_S - 1, False, 1),
    (TOLD_FOR_S + 1, False, 2),
])  # fmt: skip
def test_a_namespace_is_asked_once_a_minute_or_by_who_begins_a_roll(after_s: float, anew: bool, asked: int):
    async def run() -> list[str]:
        cluster = Budgets()
        disruptions = Disruptions(cluster)
        assert await disruptions.over(workload()) == told("a")
        await asyncio.sleep(after_s)
        assert await disruptions.over(workload(), anew=anew) == told("a")
        return cluster.asked

    assert len(hasty.run(run())) == asked


def test_budgets_that_may_not_be_read_are_unknown_and_never_none():
    async def run() -> Known:
        return await Disruptions(Budgets(refuses=True)).over(workload())

    assert hasty.run(run()) == Unread(why="forbidden")


def test_namespaces_that_are_gone_cost_no_memory():
    async def run() -> int:
        disruptions = Disruptions(Budgets())
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1000):
            assert await disruptions.over(workload(f"pr-{number}")) == told(f"pr-{number}")
            await asyncio.sleep(1.0)
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        taken = hasty.run(run())
    finally:
        tracemalloc.stop()
    assert taken < 600_000, f"{taken} bytes, of which those of one minute's 60 namespaces are needed"
