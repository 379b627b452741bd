"""Whose server is watched where a pod has more than one, and that nothing is touched while that is not known."""

from dataclasses import replace

import pytest

from wsgi_contract.policy import Policy
from wsgi_sidecar.core.adopted import passed_over
from wsgi_sidecar.core.diagnosis import Case
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.gathering import gather_any
from wsgi_sidecar.core.remedy import Scene, decide
from wsgi_sidecar.core.rules.rule import Fault
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.core.unknowns import tell_doubt
from wsgi_sidecar.testing import AT, MONOTONIC, POD_CGROUP, heartbeat, process, snapshot

ADMINS = "/kubepods/pod1/admin"
UWSGI = ("/venv/bin/uwsgi", "--master")
UVICORN = ("/usr/bin/python3", "-m", "uvicorn", "app:app")
SIDECAR = process(50, ppid=0, cgroup="/kubepods/pod1/sidecar", name="wsgi-sidecar", command=("wsgi-sidecar",))


def web(number: int = 100, **fields: object) -> tuple[Process, ...]:
    """The adopted server, with one worker."""
    return server(number, **({"cgroup": POD_CGROUP, "container": "web"} | fields))


def admin(number: int = 300, **fields: object) -> tuple[Process, ...]:
    """Another container's, by default the older one."""
    return server(number, **({"cgroup": ADMINS, "container": "admin", "started": 4000} | fields))


def server(number: int, **fields: object) -> tuple[Process, ...]:
    beats = (heartbeat(number),)
    master = process(number, **({"ppid": 0, "heartbeats": beats, "listeners": frozenset()} | fields))
    return master, process(
        number + 1, **(fields | {"ppid": number, "started": master.id.started + 1, "heartbeats": beats})
    )


def nameless(*processes: Process) -> tuple[Process, ...]:
    return tuple(replace(each, container=None) for each in processes)


def seen(
    *processes: Process, before: Family | None = None, container: str | None = "web", within: int | None = None
) -> Family | None:
    return gather_any(snapshot(*processes, observer_pid=50), before, container=container, within=within)


def watched(family: Family | None) -> int | None:
    return family.master.id.pid if family else None


def touched(family: Family) -> bool:
    """Whether a frozen worker of it would be killed."""
    fault = Fault(
        kind="frozen-worker", process=family.workers[0].process.id, slot=1, since=AT, summary="it spins", evidence=(),
        target="worker",
    )  # fmt: skip
    scene = Scene(family=family, policy=Policy(mode="Enforce"), past=(), monotonic=MONOTONIC)
    (decision,) = decide([Case(id="frozen-worker-1", fault=fault)], scene)
    assert (decision.verb == "kill") == (family.untouchable is None)
    assert decision.verb == "kill" or decision.reason == family.untouchable
    return decision.verb == "kill"


# Where the containers' names tell


@pytest.mark.parametrize(
    "other", [admin(), admin(command=UWSGI), admin(command=UVICORN)], ids=lambda each: each[0].command[-1]
)
def test_the_adopted_containers_server_is_watched_whoever_was_first(other: tuple[Process, ...]) -> None:
    family = seen(*other, *web())
    assert family is not None
    assert (watched(family), family.doubt, touched(family)) == (100, None, True)


def test_an_adopted_uwsgi_is_watched_beside_a_gunicorn() -> None:
    family = seen(*admin(), *web(command=UWSGI))
    assert family is not None
    assert (family.kind, watched(family), touched(family)) == ("uwsgi", 100, True)


def test_while_the_adopted_one_is_away_nobody_is_watched_and_its_successor_is() -> None:
    first = seen(*admin(), *web())
    away = seen(*admin(), before=first)
    assert away is None
    assert watched(seen(*admin(), *web(200, started=9000), before=away)) == 200


def test_what_runs_in_other_containers_meanwhile_is_told() -> None:
    others = passed_over(admin(), "web")
    assert others == "gunicorn as process 300 in container admin"
    ((unknown),) = tell_doubt(None, others)
    assert (unknown.what, others in unknown.why) == ("the adopted server", True)
    assert "spec.workload.container" in unknown.remedy
    assert passed_over(web(), "web") is None
    assert tell_doubt(None, None) == ()


def test_one_that_claims_the_adopted_containers_name_makes_doubt_and_nothing_is_touched() -> None:
    family = seen(*web(), *admin(container="web"))
    assert family is not None
    assert not touched(family)


def test_one_that_hides_its_container_is_not_touched_where_the_others_show_theirs() -> None:
    sidecar = replace(SIDECAR, container="wsgi-sidecar")
    family = seen(sidecar, *nameless(*admin()))
    assert family is not None
    assert "does not show in which container" in str(family.untouchable)
    assert not touched(family)
    back = seen(sidecar, *nameless(*admin()), *web(), before=family)
    assert back is not None
    assert (watched(back), touched(back)) == (100, True)


# Where they do not


@pytest.mark.parametrize("command", [None, UWSGI, UVICORN], ids=["gunicorn", "uwsgi", "uvicorn"])
@pytest.mark.parametrize("container", [None, "web"], ids=["nobody said which", "no name is to be seen"])
def test_of_servers_in_two_containers_none_is_touched(command: tuple[str, ...] | None, container: str | None) -> None:
    other = admin(command=command) if command else admin()
    family = seen(SIDECAR, *nameless(*other, *web()), container=container)
    assert family is not None
    assert family.workers
    assert not touched(family)
    assert "servers of 2 containers" in str(family.untouchable)
    assert "process 100" in str(family.untouchable)
    assert "process 300" in str(family.untouchable)


def test_it_is_told_with_the_remedy() -> None:
    family = seen(SIDECAR, *nameless(*admin(), *web()))
    assert family is not None
    (unknown,) = tell_doubt(family, None)
    assert unknown.why == family.untouchable
    assert "--container" in unknown.remedy
    assert tell_doubt(seen(*web()), None) == ()


def test_names_stand_in_the_sentence_where_nobody_said_which_is_meant() -> None:
    family = seen(*admin(), *web(), container=None)
    assert "process 300 in container admin" in str(family and family.untouchable)


def test_an_unnamed_one_beside_a_named_stranger_is_not_touched() -> None:
    family = seen(*admin(), *nameless(*web()))
    assert family is not None
    assert (watched(family), touched(family)) == (100, False)


def test_a_doubt_outlives_the_one_that_went_first() -> None:
    both = seen(*nameless(*admin(), *web()))
    left = seen(*nameless(*admin()), before=both)
    assert left is not None
    assert (watched(left), touched(left)) == (300, False)
    again = seen(*nameless(*admin()), before=left)
    assert again is not None
    assert not touched(again)


@pytest.mark.parametrize("within", [100, 99])
def test_whoever_is_named_by_its_pid_is_watched_and_touched(within: int) -> None:
    wrapper = process(99, ppid=0, command=("sh",), cgroup=POD_CGROUP)
    both = seen(*nameless(*admin(), *web()))
    family = seen(wrapper, *nameless(*admin(), *web(ppid=99)), within=within, before=both)
    assert family is not None
    assert (watched(family), family.doubt, touched(family)) == (100, None, True)


# What is no doubt


@pytest.mark.parametrize("cgroup", [POD_CGROUP, f"{POD_CGROUP}/inner"])
def test_servers_of_one_container_are_as_ever(cgroup: str) -> None:
    family = seen(SIDECAR, *nameless(*admin(cgroup=cgroup), *web()))
    assert family is not None
    assert (watched(family), family.doubt, touched(family)) == (300, None, True)


def test_a_server_alone_is_as_ever_whether_it_is_named_or_not() -> None:
    for alone in (web(), nameless(*web())):
        for container in ("web", None):
            family = seen(SIDECAR, *alone, container=container)
            assert family is not None
            assert (watched(family), family.doubt, touched(family)) == (100, None, True)


def test_an_upgrade_is_one_server() -> None:
    old, worker = nameless(*web())
    successor = server(200, ppid=100, cgroup=POD_CGROUP, started=9000)
    family = seen(SIDECAR, old, worker, *successor)
    assert family is not None
    assert (watched(family), family.doubt) == (100, None)
