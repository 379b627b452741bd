"""Who is told to look again."""

import asyncio

import pytest

from wsgi_operator.bells import Bells, unless

WEB, API = ("default", "web"), ("default", "api")


def rung(act):
    async def run():
        bells = Bells()
        with bells.listen(WEB) as bell:
            act(bells)
            return bell.rung.is_set()

    return asyncio.run(run())


def test_a_bell_rings_for_its_own_workload_only():
    assert rung(lambda bells: bells.ring(WEB))
    assert not rung(lambda bells: bells.ring(API))


def test_a_status_that_we_wrote_ourselves_does_not_ring():
    async def run():
        bells = Bells()
        with bells.listen(WEB) as bell:
            bells.ring_if_new(WEB, "u", 1, gone=False)
            bell.clear()
            bells.ring_if_new(WEB, "u", 1, gone=False)
            same = bell.rung.is_set()
            bells.ring_if_new(WEB, "u", 2, gone=False)
            return same, bell.rung.is_set(), bell.urgent.is_set()

    assert asyncio.run(run()) == (False, True, True)


def test_only_a_changed_spec_is_urgent():
    async def run():
        bells = Bells()
        with bells.listen(WEB) as bell:
            bells.ring(WEB)
            return bell.rung.is_set(), bell.urgent.is_set()

    assert asyncio.run(run()) == (True, False)


def test_a_rival_that_goes_rings_and_nothing_is_kept():
    async def run():
        bells = Bells()
        with bells.listen(WEB) as bell:
            bells.ring_if_new(WEB, "u", 1, gone=True)
            return bell.rung.is_set()

    assert asyncio.run(run())
    assert rung(lambda bells: (bells.ring_if_new(WEB, "u", 1, gone=True), bells.ring_if_new(WEB, "u", 1, gone=True)))


def worked(*, rings):
    """What comes of a second's work when the bell rings after so long, and whether the work was broken off."""
    broken = []

    async def work():
        try:
            await asyncio.sleep(1.0)
        except asyncio.CancelledError:
            broken.append(True)
            raise
        return "done"

    async def run():
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(rings, event.set)
        return await unless(event, work())

    return asyncio.run(run()), bool(broken)


def test_work_is_broken_off_by_an_urgent_bell_and_by_no_later_one():
    assert worked(rings=0.05) == (None, True)
    assert worked(rings=5.0) == ("done", False)


def test_work_that_fails_tells_so():
    async def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(unless(asyncio.Event(), fails()))
