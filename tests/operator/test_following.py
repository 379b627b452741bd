"""How rounds follow each other; a round itself is replaced by one that only waits."""

from __future__ import annotations

import asyncio

import kopf
import pytest

from tests.operator import hasty
from wsgi_operator import following
from wsgi_operator.bells import Bells
from wsgi_operator.cluster import Cluster
from wsgi_operator.config import Config
from wsgi_operator.core.server import Sidecar
from wsgi_operator.desk import FIRST_AT_ONCE, Desk
from wsgi_operator.reports import Reports

SERVERS = 4 * FIRST_AT_ONCE


class Stopped(asyncio.Event):
    """As kopf's: true once it is set."""

    def __bool__(self) -> bool:
        return self.is_set()


def body(number: int) -> dict:
    metadata = {"namespace": "default", "name": f"shop-{number}", "uid": str(number), "generation": 1}
    return {"metadata": metadata, "spec": {"workload": {"name": f"shop-{number}"}}}


async def followed(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[int]]:
    """How many rounds were under way at once, at most: of the first ones, and of the second ones."""
    rounds: dict[str, int] = {}
    under_way, most = [0, 0], [0, 0]

    async def one_round(desk, server, rivals, memory):
        uid = server["metadata"]["uid"]
        turn = rounds[uid] = rounds.get(uid, -1) + 1
        if turn > 1:
            await asyncio.sleep(60)
        under_way[turn] += 1
        most[turn] = max(most[turn], under_way[turn])
        await asyncio.sleep(0.02 if turn == 0 else 1.0)
        under_way[turn] -= 1
        return False

    monkeypatch.setattr(following, "one_round", one_round)
    monkeypatch.setattr(following, "PAUSE_S", 0.01)
    cluster: Cluster = object()  # type: ignore[assignment]  # nobody asks it
    config = Config(sidecar=Sidecar(image="x:1"), repositories=("x",), report_interval_s=0.5)
    desk = Desk(config=config, cluster=cluster, reports=Reports(timeout_s=1), bells=Bells())
    desk.mirror.complete.set()
    stopped = Stopped()
    tasks = [asyncio.create_task(following.follow(desk, stopped, body(number), {})) for number in range(SERVERS)]
    while len(rounds) < SERVERS or min(rounds.values()) < 1:
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return most[:1], most[1:]


def test_after_a_start_no_more_than_some_first_rounds_run_at_once_and_later_ones_as_they_come(monkeypatch):
    first, second = asyncio.run(followed(monkeypatch))
    assert first == [FIRST_AT_ONCE]
    assert second[0] > FIRST_AT_ONCE


async def order_of_rounds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens while one spec is changed, and another server is looked at: rounds as they begin and end."""
    told: list[str] = []
    applied = asyncio.Event()
    applied.set()

    async def one_round(desk, server, rivals, memory):
        name = server["metadata"]["name"]
        told.append(f"{name} begins")
        if name == "shop-1":
            await applied.wait()
        told.append(f"{name} ends")
        return True

    monkeypatch.setattr(following, "one_round", one_round)
    cluster: Cluster = object()  # type: ignore[assignment]  # nobody asks it
    desk = Desk(
        config=Config(sidecar=Sidecar(image="x:1"), repositories=("x",), report_interval_s=60),
        cluster=cluster,
        reports=Reports(timeout_s=1),
        bells=Bells(),
    )
    desk.mirror.complete.set()
    tasks = [asyncio.create_task(following.follow(desk, Stopped(), body(number), {})) for number in (1, 2)]
    while len(told) < 4:
        await asyncio.sleep(0.01)
    told.clear()
    applied.clear()
    desk.bells.ring(("default", "Deployment", "shop-1"), urgent=True)
    await asyncio.sleep(0.1)
    desk.bells.ring(("default", "Deployment", "shop-2"))
    await asyncio.sleep(1.0)  # longer than the pause between two rounds
    applied.set()
    await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return told


def test_a_look_waits_for_the_change_of_another_server_that_is_under_way(monkeypatch):
    assert asyncio.run(order_of_rounds(monkeypatch)) == [
        "shop-1 begins", "shop-1 ends", "shop-2 begins", "shop-2 ends",
    ]  # fmt: skip


async def rounds_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> int:
    """Each round ends early, and the status that is to say so cannot be written for a reason that nobody foresaw."""
    turned = 0

    async def one_round(desk, server, rivals, memory):
        nonlocal turned
        turned += 1
        raise kopf.TemporaryError("the API server cannot be reached", delay=5)

    monkeypatch.setattr(following, "one_round", one_round)
    cluster: Cluster = object()  # type: ignore[assignment]  # no status is written with that
    config = Config(sidecar=Sidecar(image="x:1"), repositories=("x",))
    desk = Desk(config=config, cluster=cluster, reports=Reports(timeout_s=1), bells=Bells())
    desk.mirror.complete.set()
    task = asyncio.create_task(following.follow(desk, Stopped(), body(1), {}))
    await asyncio.sleep(60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return turned


def test_a_fault_while_it_tells_that_rounds_end_early_ends_no_follower(monkeypatch):
    assert hasty.run(rounds_within_a_minute(monkeypatch)) > 5
