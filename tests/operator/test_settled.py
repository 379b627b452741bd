"""Plans that change nothing are made once."""

from wsgi_contract.settings import Wanted
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.settled import Settled
from wsgi_operator.testing import applied, deployment, server


def made(live, of=None, seen=None):
    found = plan(of or server(), live, seen=seen, now=1.0)
    assert isinstance(found, Plan)
    return found


def at_rest():
    live = deployment()
    return applied(live, made(live).config)


def test_a_plan_that_changes_nothing_is_made_once_for_each_thing_that_was_seen():
    live, settled = at_rest(), Settled()
    for seen in (None, Seen()):
        assert settled.plan(server(), live, seen) is None
        settled.remember(server(), live, seen, made(live, seen=seen))
    for seen in (None, Seen()):
        again = settled.plan(server(), live, seen)
        assert again is not None
        assert (again.record, again.pending, again.needed) == (made(live).record, False, False)


def test_another_version_or_another_wish_is_planned_anew():
    live, settled = at_rest(), Settled()
    settled.remember(server(), live, None, made(live))
    changed = live | {"metadata": live["metadata"] | {"resourceVersion": "2"}}
    assert settled.plan(server(), changed, None) is None
    assert settled.plan(server(wanted=Wanted(workers=4)), live, None) is None
    assert settled.plan(server(), live, Seen(cmd_args="-w 2")) is None


def test_a_plan_that_changes_something_is_never_remembered():
    live, settled = deployment(), Settled()
    settled.remember(server(), live, None, made(live))
    assert settled.plan(server(), live, None) is None
