"""What becomes of a change in place whose orders the API server refuses."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import kopf
import pytest
from kubernetes.aio import client

from wsgi_contract.in_place import InPlace
from wsgi_contract.settings import Wanted
from wsgi_operator.bells import Bell, Bells
from wsgi_operator.changing import REFUSED_S, Changed, change_in_place
from wsgi_operator.cluster import Cluster
from wsgi_operator.config import Config
from wsgi_operator.connection import Refused
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.patch import Plan
from wsgi_operator.core.server import Sidecar
from wsgi_operator.core.template import plan_template
from wsgi_operator.desk import Desk, memory_of
from wsgi_operator.reports import Reports
from wsgi_operator.testing import NOW, applied, deployment, heard, report, server

WISH = server(apply="InPlace", wanted=Wanted(workers=5), generation=2)
FORBIDDEN = Refused('pods "web-1" is forbidden', 403)
AWAY = kopf.TemporaryError("the API server cannot be reached")
REFUSAL = 'the API server refuses to have pods ordered: pods "web-1" is forbidden'


def adopted() -> dict[str, Any]:
    live = deployment(uid="uid-web")
    made = plan_template(server(apply="InPlace", wanted=Wanted(workers=3)), live)
    assert isinstance(made, Plan)
    return applied(live, made.config)


class Picky(Cluster):
    """One workload, whose pods may be ordered or not."""

    def __init__(self) -> None:
        super().__init__(client.Configuration())
        self.live = adopted()
        self.error: Exception | None = None

    async def apply(
        self, config: Mapping[str, Any], resource_version: str | None, manager: str = "wsgi-operator"
    ) -> dict[str, Any]:
        self.live = applied(self.live, config)
        self.live["metadata"]["resourceVersion"] = str(int(resource_version or 0) + 1)
        return copy.deepcopy(self.live)

    async def order_pod(self, namespace: str, name: str, uid: str, order: str) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {"metadata": {"name": name, "namespace": namespace, "uid": uid}}


def looks(*moments: tuple[float, Exception | None]) -> list[Changed]:
    """What each round says that comes to an end; a round is a second since the first, and what hinders orders then."""

    async def run() -> list[Changed]:
        return [one async for one in _rounds(moments)]

    return asyncio.run(run())


async def _rounds(moments: Iterable[tuple[float, Exception | None]]) -> Any:
    cluster = Picky()
    config = Config(sidecar=Sidecar(image="x:1"), repositories=("x",))
    desk = Desk(config=config, cluster=cluster, reports=Reports(timeout_s=1), bells=Bells())
    memory, made = memory_of({}, Bell()), plan_template(WISH, cluster.live)
    assert isinstance(made, Plan)
    evidence = gather([heard(of=report(in_place=InPlace(means="config-file")))], WISH.wanted)
    for at, error in moments:
        cluster.error, live = error, copy.deepcopy(cluster.live)
        with suppress(kopf.TemporaryError):
            yield await change_in_place(desk, WISH, (live, made), evidence, memory, now=NOW + at)


def phases(told: list[Changed]) -> list[str]:
    return [one.standing.phase if one.standing else "" for one in told]


def test_a_refusal_for_a_moment_brings_no_roll_and_is_told():
    told = looks((0, FORBIDDEN), (REFUSED_S - 1, FORBIDDEN), (REFUSED_S, None))
    assert phases(told) == ["Changing"] * 3
    assert [one.message.startswith(REFUSAL) for one in told] == [True, True, False]


def test_a_refusal_that_lasts_brings_the_settings_by_a_roll_with_its_reason():
    told = looks((0, FORBIDDEN), (30, FORBIDDEN), (REFUSED_S, FORBIDDEN))
    assert phases(told) == ["Changing", "Changing", "Unable"]
    assert told[-1].standing is not None
    assert told[-1].standing.reason == REFUSAL


@pytest.mark.parametrize("between", [None, AWAY])
def test_a_refusal_after_another_answer_or_none_counts_from_itself(between: Exception | None):
    told = looks((0, FORBIDDEN), (10, between), (REFUSED_S + 1, FORBIDDEN))
    assert phases(told)[-1] == "Changing"
