"""Why a roll loses requests, said beforehand."""

import pytest

from wsgi_contract.settings import Wanted
from wsgi_operator.core.budgets import Budget
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.hazards import hazards_of, leaving_s
from wsgi_operator.testing import container, deployment, heard, report, setting

PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": 8000}}}
SLEEP = {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}}}
DRAINED = container(**PROBE, **SLEEP)


def hazards(web=DRAINED, *, graceful=20, budgets=(), kind="Deployment", pod=None, **spec):
    body = deployment(web, pod=pod) | {"kind": kind}
    body["spec"] |= spec
    told = () if graceful is None else (setting("graceful_timeout_s", graceful),)
    evidence = gather([heard(of=report(*told))] if told else [], Wanted())
    return {hazard.reason: hazard.message for hazard in hazards_of(body, None, evidence, budgets)}


def rolling(unavailable, surge):
    return {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}


@pytest.mark.parametrize(
    ("case", "reasons"),
    [
        ({}, []),
        ({"web": container(**PROBE)}, ["NoPreStop"]),
        ({"web": container(**PROBE), "pod": {"readinessGates": [{"conditionType": "lb"}]}}, []),
        ({"web": container(**PROBE, lifecycle={"preStop": {"sleep": {"seconds": 0}}})}, ["NoPreStop"]),
        ({"web": container(**PROBE, lifecycle={"preStop": {"httpGet": {"path": "/quit", "port": 80}}})}, []),
        ({"web": container(**SLEEP)}, ["NoReadinessProbe"]),
        ({"graceful": 30}, ["GraceTooShort"]),
        ({"graceful": 25}, ["GraceTooShort"]),  # 5 + 25 leaves nothing of 30
        ({"graceful": 24}, []),
        ({"graceful": 30, "pod": {"terminationGracePeriodSeconds": 60}}, []),
        ({"graceful": 2, "pod": {"terminationGracePeriodSeconds": 5}}, ["GraceTooShort"]),
        ({"graceful": 0}, ["NotGraceful"]),
        ({"graceful": None}, []),  # nobody could see it: nothing is made up
        ({"strategy": {"type": "Recreate"}}, ["Recreate"]),
        ({"replicas": 1}, []),  # the default strategy starts the new pod first
        ({"replicas": 1, "strategy": rolling(1, 0)}, ["NobodyServes"]),
        ({"replicas": 3, "strategy": rolling("100%", 0)}, ["NobodyServes"]),
        ({"replicas": 1, "kind": "StatefulSet"}, ["NobodyServes"]),
        ({"replicas": 2, "kind": "StatefulSet"}, []),
        ({"replicas": 1, "kind": "StatefulSet", "updateStrategy": {"type": "OnDelete"}}, []),
        ({"replicas": 4, "strategy": rolling(2, 0), "budgets": [Budget(name="b", room=1, allowed=1)]}, ["BelowBudget"]),
        ({"replicas": 4, "strategy": rolling(0, 1), "budgets": [Budget(name="b", room=0, allowed=0)]}, []),
        ({"web": container(), "graceful": 0, "strategy": {"type": "Recreate"}},
         ["Recreate", "NoReadinessProbe", "NoPreStop", "NotGraceful"]),
        ({"web": container(), "replicas": 0, "strategy": {"type": "Recreate"}}, []),
    ],
)  # fmt: skip
def test_what_makes_loss_inevitable_is_told_and_nothing_else(case, reasons):
    assert list(hazards(**case)) == reasons


@pytest.mark.parametrize("reason", ["NoPreStop", "NoReadinessProbe", "NotGraceful", "Recreate"])
def test_each_says_what_to_write_instead(reason):
    told = hazards(container(), graceful=0, strategy={"type": "Recreate"})[reason]
    assert any(word in told for word in ("Add", "Set", "Use"))


def test_a_grace_that_is_too_short_says_how_long_it_should_be():
    assert "Set it to 40" in hazards(graceful=30)["GraceTooShort"]


@pytest.mark.parametrize(
    ("hook", "seconds"),
    [
        ({"sleep": {"seconds": 7}}, 7),
        ({"exec": {"command": ["sleep", "5"]}}, 5),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 3.5; nginx -s quit"]}}, 3.5),
        ({"exec": {"command": ["/drain"]}}, None),
        ({"httpGet": {"port": 80}}, None),
    ],
)
def test_a_hook_is_read_as_far_as_it_says(hook, seconds):
    assert leaving_s(container(lifecycle={"preStop": hook})) == seconds
    assert leaving_s(container()) == 0


def test_the_longest_graceful_timeout_of_pods_that_differ_counts():
    pods = [heard("a", report(setting("graceful_timeout_s", 5))), heard("b", report(setting("graceful_timeout_s", 40)))]
    found = hazards_of(deployment(DRAINED), None, gather(pods, Wanted()), ())
    assert [hazard.reason for hazard in found] == ["GraceTooShort"]
