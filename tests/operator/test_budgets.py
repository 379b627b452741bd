"""Disruption budgets, and how many pods a roll takes away."""

import pytest

from wsgi_operator.core.budgets import (
    Budget,
    Unread,
    broken_by,
    budgets_over,
    exhausted,
    held_of,
    takes_away,
    unknown,
)
from wsgi_operator.testing import deployment


def workload(replicas=4, kind="Deployment", **spec):
    body = deployment() | {"kind": kind}
    body["spec"] |= {"replicas": replicas} | spec
    return body


def rolling(unavailable, surge):
    return {"strategy": {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}}


@pytest.mark.parametrize(
    ("body", "takes"),
    [
        (workload(), 1),  # 25% of 4
        (workload(3), 0),  # 25% of 3, rounded down
        (workload(1), 0),
        (workload(4, **rolling(0, 1)), 0),
        (workload(4, **rolling(2, 0)), 2),
        (workload(4, **rolling("50%", 0)), 2),
        (workload(2, **rolling("10%", "0%")), 1),  # neither up nor down: Kubernetes takes one
        (workload(1, **rolling(3, 1)), 1),
        (workload(4, strategy={"type": "Recreate"}), 4),
        (workload(4, kind="StatefulSet"), 1),
        (workload(4, kind="StatefulSet", updateStrategy={"rollingUpdate": {"maxUnavailable": "30%"}}), 2),
        (workload(4, kind="StatefulSet", updateStrategy={"type": "OnDelete"}), 0),
        (workload(0, kind="StatefulSet"), 0),
    ],
)  # fmt: skip
def test_a_roll_takes_away_what_its_own_strategy_says(body, takes):
    assert takes_away(body) == takes


def budget(name="web", selector=None, expected=3, desired=2, allowed=1, seen=1):
    return {
        "metadata": {"name": name, "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}} if selector is None else selector},
        "status": {
            "observedGeneration": seen,
            "expectedPods": expected,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
        },
    }


def over(bodies):
    return budgets_over(deployment(), held_of(bodies))


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "other"}}, False),
        ({}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_a_budget_holds_for_the_pods_that_it_selects(selector, selects):
    assert bool(over([budget(selector=selector)])) is selects


def test_a_budget_without_a_selector_says_nothing():
    bare = budget()
    del bare["spec"]["selector"]
    assert over([bare]) == ()


def test_a_budget_that_its_controller_has_not_looked_at_is_waited_for():
    found = over([budget(seen=0)])
    assert found == (Budget(name="web", room=None, allowed=None),)
    words = "the disruption controller has not looked at PodDisruptionBudget web yet"
    assert (exhausted(found, 1), unknown(found, 1)) == (f"waits because {words}", words)
    assert (exhausted(found, 0), unknown(found, 0), broken_by(found, 1)) == (None, None, ())


def test_budgets_that_may_not_be_read_are_waited_for_with_what_to_grant():
    unread = Unread(why='poddisruptionbudgets.policy is forbidden: User "op" cannot list')
    words = exhausted(unread, 1) or ""
    assert words.startswith("waits because the PodDisruptionBudgets over its pods cannot be read (poddisr")
    assert "let the operator's role list poddisruptionbudgets of the group policy" in words
    assert (exhausted(unread, 0), unknown(unread, 0), broken_by(unread, 1)) == (None, None, ())


def test_room_and_allowance_are_told_apart():
    assert over([budget(expected=3, desired=2, allowed=0)]) == (Budget(name="web", room=1, allowed=0),)
    assert over([budget(expected=1, desired=3)])[0].room == 0


def test_only_a_budget_that_is_used_up_for_now_is_waited_for():
    used_up, strict = Budget(name="a", room=1, allowed=0), Budget(name="b", room=0, allowed=0)
    assert exhausted([used_up], 1) == "waits until PodDisruptionBudget a allows a disruption again"
    assert exhausted([used_up], 0) is None
    assert exhausted([strict], 1) is None


def test_a_budget_below_which_the_roll_goes_is_told():
    assert broken_by([Budget(name="a", room=1, allowed=1)], 2) == (Budget(name="a", room=1, allowed=1),)
    assert broken_by([Budget(name="a", room=2, allowed=0)], 2) == ()
