"""Who is told to look again."""

import asyncio

from wsgi_operator.bells import Bells

WEB, API = ("default", "web"), ("default", "api")


def rung(act):
    async def run():
        bells = Bells()
        with bells.listen(WEB) as bell:
            act(bells)
            return bell.is_set()

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
            same = bell.is_set()
            bells.ring_if_new(WEB, "u", 2, gone=False)
            return same, bell.is_set()

    assert asyncio.run(run()) == (False, True)


def test_a_rival_that_goes_rings_and_nothing_is_kept():
    async def run():
        bells = Bells()
        with bells.listen(WEB) as bell:
            bells.ring_if_new(WEB, "u", 1, gone=True)
            return bell.is_set()

    assert asyncio.run(run())
    assert rung(lambda bells: (bells.ring_if_new(WEB, "u", 1, gone=True), bells.ring_if_new(WEB, "u", 1, gone=True)))
