"""What the operator holds of the cluster, and for whom it rings."""

import asyncio

import pytest

from wsgi_contract import names
from wsgi_operator.bells import Bells
from wsgi_operator.mirror import Mirror
from wsgi_operator.testing import deployment

WEB = ("default", "Deployment", "web")


def body(version="10", uid="uid-web", **fields):
    """Deployment `web` as a list gives it: without kind and version of its own."""
    made = deployment(uid=uid, resourceVersion=version, **fields)
    del made["kind"], made["apiVersion"]
    return made


def pod(name="web-1", server="shop", namespace="default", **metadata):
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": {names.LABEL_SERVER: server} if server else {},
        }
        | metadata,
        "spec": {"containers": []},
        "status": {"podIP": "10.0.0.1"},
    }


def held(*acts):
    """The mirror after these acts, and whether each rang for `web`."""
    rings = []

    async def run():
        bells = Bells()
        mirror = Mirror(bells)
        with bells.listen(WEB) as bell:
            for act in acts:
                bell.clear()
                act(mirror)
                rings.append(bell.rung.is_set())
        return mirror

    return asyncio.run(run()), rings


def there(*args, **fields):
    return lambda mirror: mirror.workloads["Deployment"].there(body(*args, **fields))


def gone(*args, **fields):
    return lambda mirror: mirror.workloads["Deployment"].gone(body(*args, **fields))


def version(mirror):
    found = mirror.workload("Deployment", "default", "web")
    return found and found["metadata"]["resourceVersion"]


def test_a_workload_comes_back_whole_with_its_kind():
    mirror, rings = held(there())
    whole = body() | {"kind": "Deployment", "apiVersion": "apps/v1"}
    assert mirror.workload("Deployment", "default", "web") == whole
    assert mirror.workload("StatefulSet", "default", "web") is None
    assert rings == [True]


def test_what_is_looked_at_is_the_lookers_own():
    mirror, _ = held(there())
    mirror.workload("Deployment", "default", "web")["spec"]["replicas"] = 99
    assert mirror.workload("Deployment", "default", "web")["spec"]["replicas"] == 2


def test_an_older_version_changes_nothing_and_rings_for_nobody():
    mirror, rings = held(there("10"), there("9"), there("10"), there("11"))
    assert version(mirror) == "11"
    assert rings == [True, False, False, True]


def test_a_workload_that_was_made_anew_replaces_its_namesake_whatever_the_versions():
    mirror, rings = held(there("10"), there("9", uid="another"))
    assert version(mirror) == "9"
    assert rings[-1]


def test_a_deletion_is_of_one_object_and_not_of_its_namesake():
    mirror, rings = held(there("10"), there("12", uid="another"), gone("11"))
    assert version(mirror) == "12"
    assert not rings[-1]
    mirror, rings = held(there("10"), gone("11"))
    assert version(mirror) is None
    assert rings[-1]


def test_a_full_list_ends_what_it_does_not_name_in_its_own_namespace_only():
    mirror, rings = held(
        there(), lambda m: m.workloads["Deployment"].only("elsewhere", set()), lambda m: m.learn(deployment(uid="u"))
    )
    assert version(mirror) == "1"
    mirror, rings = held(there(), lambda m: m.workloads["Deployment"].only("default", {"uid-web"}))
    assert version(mirror) == "10"
    assert rings == [True, False]
    mirror, rings = held(there(), lambda m: m.workloads["Deployment"].only(None, set()))
    assert version(mirror) is None
    assert rings == [True, True]


def found(mirror, server="shop"):
    return [one.name for one in mirror.pods.look("default", server)]


def test_pods_are_held_by_their_servers_name():
    mirror, _ = held(
        lambda m: m.pods.there(pod()),
        lambda m: m.pods.there(pod("web-2")),
        lambda m: m.pods.there(pod("other", server="till")),
    )
    assert found(mirror) == ["web-1", "web-2"]
    assert found(mirror, "till") == ["other"]
    assert mirror.pods.look("elsewhere", "shop") == ()


def test_a_pod_that_ends_changes_its_label_or_goes_is_there_no_more():
    ends = lambda m: m.pods.there(pod(deletionTimestamp="2026-01-01T00:00:00Z"))  # noqa: E731
    moves = lambda m: m.pods.there(pod(server="till"))  # noqa: E731
    leaves = lambda m: m.pods.there(pod(server=None))  # noqa: E731
    goes = lambda m: m.pods.gone(pod())  # noqa: E731
    unnamed = lambda m: m.pods.only("default", set())  # noqa: E731
    for act in (ends, moves, leaves, goes, unnamed):
        mirror, _ = held(lambda m: m.pods.there(pod()), act)
        assert found(mirror) == []
    assert found(held(lambda m: m.pods.there(pod()), lambda m: m.pods.only("default", {"uid-web-1"}))[0]) == ["web-1"]
    assert found(held(lambda m: m.pods.there(pod()), moves)[0], "till") == ["web-1"]


def raises(_):
    raise ValueError("spoilt")


def test_an_object_that_cannot_be_read_is_logged_once_and_keeps_nobody_from_being_told(caplog):
    mirror = Mirror(Bells(), raises)
    odd = pod("odd") | {"status": {"conditions": [None]}}
    for number in range(3):
        mirror.workloads["Deployment"].there(body(str(10 + number)))
        mirror.pods.there(odd)
    mirror.pods.there(pod())
    assert version(mirror) == "12"
    assert found(mirror) == ["web-1"]
    assert [record.message for record in caplog.records] == [
        "Deployment web in namespace default cannot be read",
        "Pod odd in namespace default cannot be read",
    ]
    assert {record.object for record in caplog.records} == {"default/web", "default/odd"}


@pytest.mark.parametrize(
    "goes", [lambda m: m.gone(body()), lambda m: m.only("default", set()), lambda m: m.only(None, set())]
)
def test_one_that_goes_is_logged_anew_when_it_comes_back(caplog, goes):
    workloads = Mirror(Bells(), raises).workloads["Deployment"]
    for _ in range(2):
        workloads.there(body())
        workloads.only("elsewhere", set())
        workloads.there(body("11"))
        goes(workloads)
    assert len(caplog.records) == 2
