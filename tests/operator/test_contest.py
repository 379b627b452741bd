"""How often somebody else's change is undone."""

import pytest

from wsgi_operator.core.contest import LONGEST_WAIT_S, rewritten, undo, wait_s
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.record import record_of
from wsgi_operator.core.server import Obstacle, Sidecar
from wsgi_operator.testing import IMAGE, NOW, applied, container, deployment, env, server, sidecar_of


def meddled(live):
    """The same Deployment after somebody took our settings out again."""
    live["spec"]["template"]["spec"]["containers"][0]["env"] = env(GUNICORN_CMD_ARGS="")
    return live


def fought(every_s, for_s):
    """How often we apply while somebody undoes it every so often."""
    live = deployment()
    record, applies = planned(live, NOW).record, 0
    for now in range(int(NOW) + every_s, int(NOW) + for_s + 1, every_s):
        undone = undo(record, record, live, now)
        if not isinstance(undone, Obstacle):
            record, applies = undone, applies + 1
    return applies


def planned(live, now):
    made = plan(server(), live, now=now)
    assert isinstance(made, Plan)
    return made


@pytest.mark.parametrize(
    ("every_s", "for_s", "at_most"),
    [(1, 60, 4), (1, 3600, 10), (5, 86_400, 60), (180, 3600, 9), (600, 86_400, 60)],
    ids=["a minute of self-heal", "an hour of it", "a day of it", "a sync every 3 minutes", "every 10"],
)
def test_two_controllers_do_not_roll_a_workload_for_ever(every_s, for_s, at_most):
    assert 1 <= fought(every_s, for_s) <= at_most


def test_an_owner_who_deploys_now_and_then_is_followed_at_once_each_time():
    assert fought(every_s=1800, for_s=86_400) == 48


def test_a_configuration_of_our_own_that_changes_again_and_again_is_blamed_on_nobody_else():
    live = applied(deployment(), planned(deployment(), NOW).config)
    live["metadata"]["managedFields"].append({"manager": "kubectl", "operation": "Update"})
    found: Plan | Obstacle = planned(live, NOW)
    for number in range(1, 4):
        found = plan(server(sidecar=Sidecar(image=IMAGE, verifier=f"{number:064x}")), live, now=NOW + number)
        if isinstance(found, Plan):
            live = applied(live, found.config)
    assert isinstance(found, Obstacle)
    assert found.message.startswith("another wsgi-operator, or this one under another configuration (its report keys")


def test_the_one_who_does_it_is_named():
    live = applied(deployment(), planned(deployment(), NOW).config)
    live = applied(live, planned(meddled(live), NOW).config)
    live["metadata"]["managedFields"] += [
        {"manager": "helm", "operation": "Update", "time": "2026-01-01T00:00:00Z"},
        {"manager": "argocd", "operation": "Update", "time": "2026-01-02T00:00:00Z"},
    ]
    found = plan(server(), meddled(live), now=NOW + 1)
    assert isinstance(found, Obstacle)
    assert found.message.startswith("argocd keeps changing")
    assert "tried again at 2026-09-21T14:13:30Z" in found.message


def test_what_does_not_arrive_as_it_was_applied_is_the_clusters_own_doing_and_says_where():
    config = planned(deployment(), NOW).config
    live = applied(deployment(), config)
    assert rewritten(live, config) is None
    sidecar_of(live)["image"] = "mirror.example/wsgi-sidecar:1"  # as a webhook makes it that knows one registry
    found = rewritten(live, config)
    assert found is not None
    assert "spec.template.spec.initContainers[wsgi-sidecar].image is another" in found.message
    assert "mirror.example" not in found.message  # env holds what may be secret, so no value is told


def test_two_operators_over_one_workload_do_not_roll_it_for_ever():
    ours, theirs = server(), server(sidecar=Sidecar(image="registry.example/wsgi-sidecar:other"))
    live, applies = deployment(), 0
    for now in range(int(NOW), int(NOW) + 3600, 10):
        for one in (ours, theirs):
            made = plan(one, live, now=now)
            if isinstance(made, Plan) and made.needed:
                live, applies = applied(live, made.config), applies + 1
    assert applies <= 12
    found = [plan(one, live, now=NOW + 3600) for one in (ours, theirs)]
    assert any(isinstance(one, Obstacle) and "another wsgi-operator, whose sidecar is" in one.message for one in found)


def test_an_upgraded_operator_brings_its_sidecar_at_once():
    live = applied(deployment(), planned(deployment(), NOW).config)
    made = plan(server(sidecar=Sidecar(image="registry.example/wsgi-sidecar:2")), live, now=NOW + 1)
    assert isinstance(made, Plan)
    assert made.needed


def test_a_new_wish_does_not_wait():
    live = applied(deployment(), planned(deployment(), NOW).config)
    live = applied(live, planned(meddled(live), NOW).config)
    made = plan(server(generation=2), meddled(live), now=NOW + 1)
    assert isinstance(made, Plan)
    assert made.needed


def test_wiped_ownership_is_no_contest():
    live = applied(deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))), planned(deployment(), NOW).config)
    live = applied(live, planned(live, NOW).config)
    live["metadata"]["managedFields"] = []
    made = planned(live, NOW + 1)
    record = record_of(applied(live, made.config))
    assert made.needed
    assert record is not None
    assert record.drifts == 0


@pytest.mark.parametrize(
    ("drifts", "seconds"), [(0, 0), (1, 10), (2, 20), (5, 160), (30, LONGEST_WAIT_S), (5000, LONGEST_WAIT_S)]
)
def test_each_undoing_waits_twice_as_long(drifts, seconds):
    assert wait_s(drifts) == seconds
