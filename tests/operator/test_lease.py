"""How long a leader works, and what becomes of a refusal: an API server that does as a story says, and no waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import kopf
import pytest
from kubernetes.aio import client

from tests.operator import hasty
from tests.operator.hasty import now_s
from wsgi_operator.__main__ import our_turn, work
from wsgi_operator.bells import Bells
from wsgi_operator.cluster import Cluster
from wsgi_operator.config import Config
from wsgi_operator.connection import Conflict, Refused
from wsgi_operator.core.leadership import EVERY_S, GIVE_UP_S, LASTS_S, REFUSED_S, held
from wsgi_operator.core.server import Sidecar
from wsgi_operator.desk import Desk
from wsgi_operator.lease import Candidate, LostError
from wsgi_operator.reports import Reports

Story = Callable[[str], Awaitable[None]]
FORBIDDEN = 'leases.coordination.k8s.io "op" is forbidden: User "op" cannot get resource "leases"'
STOPS_S = (LASTS_S - GIVE_UP_S) / 2


class OneLease(Cluster):
    """A Lease, and when it was written; the story may refuse, hang, or be late with the answer to what was done."""

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
        if not new and lease["metadata"]["resourceVersion"] != str(self._version):
            raise Conflict("the object has been modified")
        self._lease = dict(lease)
        self._noted()
        self.written.append(now_s())
        await self._story("PUT")
        return self._lease

    @property
    def holder(self) -> str | None:
        return self._lease and str(self._lease["spec"]["holderIdentity"])

    def _noted(self) -> None:
        self._version += 1
        if self._lease is not None:
            self._lease["metadata"] = {"resourceVersion": str(self._version)}


def refuses(begins_s: float, ends_s: float) -> Story:
    async def story(_: str) -> None:
        if begins_s <= now_s() < ends_s:
            await asyncio.sleep(0.01)
            raise Refused(FORBIDDEN, 403)

    return story


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
        await candidate.elected(lambda: None)
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


def test_a_refusal_for_a_moment_ends_no_leader(caplog: pytest.LogCaptureFixture):
    cluster, ended_s, why = led(refuses(5.0, 12.0), for_s=100.0)
    assert (ended_s, why) == (100.0, "")
    assert sum(12.0 <= at < 100.0 for at in cluster.written) > 40
    assert [one.getMessage() for one in warnings(caplog)] == [f"refused the Lease: {FORBIDDEN}; asking again"]


def test_a_leader_that_is_refused_for_too_long_ends_in_time_and_says_by_what():
    cluster, ended_s, why = led(refuses(5.0, 1000.0))
    assert ended_s - cluster.written[-1] + STOPS_S < LASTS_S
    assert f"could not renew the Lease for 10 s ({FORBIDDEN})" in why


@pytest.mark.parametrize("ends_s", [2.5, 4.5, 6.5, 8.5])
def test_a_renewal_that_the_end_cut_off_does_not_keep_the_lease(ends_s: float):
    """Else the standby waited for 15 s: the Lease had been written, and giving it up named the version before."""

    async def late(method: str) -> None:
        if method == "PUT" and now_s() > 1.0:
            await asyncio.sleep(1.0)

    cluster, _, why = led(late, for_s=ends_s)
    assert (cluster.holder, why) == ("", "")


@pytest.mark.parametrize("answer", [kopf.TemporaryError("throttled"), Conflict("the object has been modified")])
def test_who_ends_in_good_order_asks_again_to_give_the_lease_up(answer: Exception):
    async def unwilling(_: str) -> None:
        if 5.0 <= now_s() < 7.0:
            raise answer

    cluster, _, why = led(unwilling, for_s=5.0)
    assert (cluster.holder, why) == ("", "")


def test_an_end_does_not_wait_for_ever_to_give_the_lease_up():
    async def silent(_: str) -> None:
        if now_s() >= 5.0:
            raise kopf.TemporaryError("away")

    async def took_s() -> float:
        candidate = candidate_of(OneLease(silent))
        await candidate.elected(lambda: None)
        await candidate.lead(asyncio.sleep(5.0))
        return now_s() - 5.0

    assert float(hasty.run(took_s())) == pytest.approx(5.0, abs=0.1)


def elected_at(story: Story, holder: str | None = None) -> float:
    async def stand() -> float:
        await candidate_of(OneLease(story, holder)).elected(lambda: None)
        return now_s()

    return float(hasty.run(stand()))


def test_a_standby_bears_a_refusal_and_tells_it_once(caplog: pytest.LogCaptureFixture):
    assert elected_at(refuses(0.0, 20.0)) == pytest.approx(20.0, abs=EVERY_S)
    assert [one.getMessage() for one in warnings(caplog)] == [f"refused the Lease: {FORBIDDEN}; asking again"]


def test_a_refusal_that_lasts_ends_a_standby_with_the_words_of_the_api_server():
    async def refused_at() -> float:
        with pytest.raises(Refused, match=r'cannot get resource "leases"'):
            await candidate_of(OneLease(refuses(10.0, 1000.0), "other")).elected(lambda: None)
        return now_s()

    assert REFUSED_S < float(hasty.run(refused_at())) - 10.0 < REFUSED_S + 5


def test_refusals_with_a_word_between_them_are_no_lasting_one():
    async def story(_: str) -> None:
        if now_s() < 300.0:
            raise kopf.TemporaryError("away") if now_s() % 40 < EVERY_S else Refused(FORBIDDEN, 403)

    assert elected_at(story) == pytest.approx(300.0, abs=EVERY_S)


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize(("holder", "story", "ready"), [
    ("other", refuses(1000.0, 1000.0), True),
    ("other", refuses(0.0, 1000.0), False),
    (None, hangs(0.0), False),
])  # fmt: skip
def test_standing_by_is_who_saw_another_lead(holder: str | None, story: Story, ready: bool):
    async def stands() -> bool:
        cluster = OneLease(story, holder)
        config = Config(sidecar=Sidecar(image="x:1"), repositories=("x",))
        desk = Desk(config=config, cluster=cluster, reports=Reports(timeout_s=1), bells=Bells())
        turn = asyncio.create_task(our_turn(desk, candidate_of(cluster)))
        await asyncio.sleep(10.0)
        seen = desk.pulse.standing_by
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        return seen

    assert hasty.run(stands()) is ready


def test_who_was_told_to_end_while_it_was_elected_ends_although_kopf_did_not_hear_it():
    async def told() -> None:
        nowhere = client.Configuration()
        nowhere.host = "http://127.0.0.1:1"
        config = Config(sidecar=Sidecar(image="x:1"), repositories=("x",))
        async with Cluster(nowhere) as cluster, asyncio.timeout(30):
            desk = Desk(config=config, cluster=cluster, reports=Reports(timeout_s=1), bells=Bells())
            desk.told.set()
            await work(desk)

    asyncio.run(told())
