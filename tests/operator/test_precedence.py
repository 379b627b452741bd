"""Who goes first: changes before looks, and looks not never."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from wsgi_operator.precedence import Precedence


class Rounds:
    """Rounds that write down how they began and ended.

    Attributes:
        told: in their order.
    """

    def __init__(self, at_most_s: float = 10.0) -> None:
        self.told: list[str] = []
        self._precedence = Precedence(at_most_s)

    async def turn(self, name: str, urgent: asyncio.Event, lasts: Callable[[], Awaitable[object]]) -> None:
        async with self._precedence.turn(urgent):
            self.told.append(f"{name} begins")
            await lasts()
            self.told.append(f"{name} ends")


def rung() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def at_once() -> None:
    """A round that waits for nothing."""


def test_a_look_begins_after_all_changes_under_way() -> None:
    async def run() -> list[str]:
        rounds, done, later = Rounds(), asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(rounds.turn("change", rung(), done.wait))
            group.create_task(rounds.turn("another change", rung(), later.wait))
            await asyncio.sleep(0)
            group.create_task(rounds.turn("look", asyncio.Event(), at_once))
            await asyncio.sleep(0.01)
            done.set()
            await asyncio.sleep(0.01)
            later.set()
        return rounds.told

    told = asyncio.run(run())
    assert told[-3:] == ["another change ends", "look begins", "look ends"]


def test_a_change_waits_for_nobody_and_looks_not_for_each_other() -> None:
    async def run() -> list[str]:
        rounds, done = Rounds(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for name, urgent in (("look", asyncio.Event()), ("another look", asyncio.Event()), ("change", rung())):
                group.create_task(rounds.turn(name, urgent, done.wait))
            await asyncio.sleep(0.01)
            done.set()
        return rounds.told

    assert asyncio.run(run())[:3] == ["look begins", "another look begins", "change begins"]


def test_changes_without_end_make_a_look_late_and_do_not_stop_it() -> None:
    async def run() -> list[str]:
        rounds, done = Rounds(at_most_s=0.05), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(rounds.turn("change", rung(), done.wait))
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await rounds.turn("look", asyncio.Event(), at_once)
            done.set()
        return rounds.told

    assert asyncio.run(run()) == ["change begins", "look begins", "look ends", "change ends"]


def test_a_look_that_becomes_a_change_while_it_gives_way_begins_at_once() -> None:
    async def run() -> list[str]:
        rounds, done, urgent = Rounds(), asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(rounds.turn("change", rung(), done.wait))
            await asyncio.sleep(0)
            group.create_task(rounds.turn("look", urgent, at_once))
            await asyncio.sleep(0.01)
            urgent.set()
            await asyncio.sleep(0.01)
            done.set()
        return rounds.told

    assert asyncio.run(run()) == ["change begins", "look begins", "look ends", "change ends"]


def test_a_change_that_fails_is_over() -> None:
    async def run() -> list[str]:
        rounds = Rounds()

        async def fails() -> None:
            raise ValueError("no")

        try:
            await rounds.turn("change", rung(), fails)
        except ValueError:
            async with asyncio.timeout(5):
                await rounds.turn("look", asyncio.Event(), at_once)
        return rounds.told

    assert asyncio.run(run()) == ["change begins", "look begins", "look ends"]
