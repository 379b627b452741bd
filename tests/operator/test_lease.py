"""How long a leader works: an API server that does as a story says, and no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from kubernetes.aio import client

from tests.operator import hasty
from tests.operator.hasty import now_s
from wsgi_operator.cluster import Cluster
from wsgi_operator.core.leadership import GIVE_UP_S, LASTS_S, held
from wsgi_operator.lease import Candidate, LostError

Story = Callable[[str], Awaitable[None]]
STOPS_S = (LASTS_S - GIVE_UP_S) / 2


class OneLease(Cluster):
    """A Lease, and when it was written; the story may hang, or be late with the answer to what was done."""

    def __init__(self, story: Story, holder: str | None = None) -> None:
        super().__init__(client.Configuration())
        self._story = story
        self._lease = None if holder is None else held("ns", "op", holder, "then", None)
        self._version = 0
        self.written: list[float] = []
        self._noted()

    async def lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        await self._story("GET")
        return self._lease

    async def write_lease(self, lease: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
        self._lease = dict(lease)
        self._noted()
        self.written.append(now_s())
        await self._story("PUT")
        return self._lease

    def _noted(self) -> None:
        self._version += 1
        if self._lease is not None:
            self._lease["metadata"] = {"resourceVersion": str(self._version)}


def hangs(begins_s: float, *, late_s: float = 0.0) -> Story:
    """Silent from then on; the first write of these is done, and answered late."""
    late = [late_s] if late_s else []

    async def story(method: str) -> None:
        if now_s() < begins_s or (late and method == "GET"):
            return
        await asyncio.sleep(late.pop() if late else 1000)

    return story


def led(story: Story, *, for_s: float = 1000.0) -> tuple[OneLease, float, str]:
    """The Lease, when the work ended, and why it had to."""
    cluster, ended = OneLease(story), []

    async def work() -> None:
        try:
            await asyncio.sleep(for_s)
        finally:
            ended.append(now_s())

    async def lead() -> str:
        candidate = candidate_of(cluster)
        await candidate.elected()
        try:
            await candidate.lead(work())
        except LostError as lost:
            return str(lost)
        return ""

    why = hasty.run(lead())
    return cluster, ended[0], why


def candidate_of(cluster: Cluster) -> Candidate:
    return Candidate(cluster, namespace="ns", name="op", me="me")


@pytest.mark.parametrize("begins_s", [1.0, 3.0, 3.9])
@pytest.mark.parametrize("late_s", [0.0, 0.5, 2.9, 4.9])
def test_an_api_server_that_hangs_ends_the_work_before_the_lease_runs_out(begins_s: float, late_s: float):
    cluster, ended_s, why = led(hangs(begins_s, late_s=late_s))
    assert ended_s - cluster.written[-1] + STOPS_S < LASTS_S
    assert "could not renew the Lease for 10 s (no answer)" in why


@pytest.mark.parametrize("late_s", [0.0, 0.5, 2.9, 4.9])
def test_a_leader_does_not_give_up_before_its_time(late_s: float):
    cluster, ended_s, _ = led(hangs(3.0, late_s=late_s))
    assert ended_s == pytest.approx(cluster.written[-1] + GIVE_UP_S)
