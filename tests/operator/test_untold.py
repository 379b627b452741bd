"""What is posted of however many notices."""

import tracemalloc

from wsgi_contract.settings import Wanted
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.excess import KILLS
from wsgi_operator.core.notices import event_of, kill_notices
from wsgi_operator.core.ration import AT_ONCE
from wsgi_operator.core.untold import untold
from wsgi_operator.testing import NOW, heard, kill, report, server

BODY = {"metadata": {"name": "shop", "namespace": "default", "uid": "uid-shop"}}


def found(*answers, told=frozenset(), most=AT_ONCE):
    return untold(kill_notices(server(), gather(answers, Wanted()), NOW), "shop", told, most)


def invented(kills=KILLS, **fields):
    return report(kills=tuple(kill(id=str(number), **fields) for number in range(kills)))


def test_the_first_untold_ones_come_with_the_names_that_their_events_have():
    first = found(heard("web-1", invented(2)), heard("web-2", invented(2)), most=3).first
    assert [event_of(notice, BODY)["metadata"]["name"] for _, notice in first] == [name for name, _ in first]
    assert [notice.pod and notice.pod.name for _, notice in first] == [None, "web-1", None]


def test_what_was_told_is_named_and_not_told_again():
    everything = found(heard("web-1", invented(3)))
    rest = found(heard("web-1", invented(3)), told={name for name, _ in everything.first[:4]})
    assert rest.first == everything.first[4:]
    assert rest.names == everything.names


def test_a_kill_that_a_report_lists_twice_is_told_once():
    assert len(found(heard("web-1", report(kills=(kill(), kill())))).first) == 2


def test_a_thousand_kills_in_each_of_many_pods_cost_their_names_and_little_more():
    answers = [heard(f"web-{number}", invented(1000, message="x" * 1000)) for number in range(20)]
    evidence = gather(answers, Wanted())
    tracemalloc.start()
    try:
        told = untold(kill_notices(server(), evidence, NOW), "shop", frozenset(), AT_ONCE)
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    finally:
        tracemalloc.stop()
    assert (len(told.names), len(told.first)) == (40_000, AT_ONCE)
