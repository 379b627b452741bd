"""What cannot be seen is said, with the reason and the remedy."""

from dataclasses import replace

import pytest

from wsgi_contract.servers.gunicorn import Sources
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.unknowns import tell_unknowns
from wsgi_sidecar.testing import family, heartbeat, listener, process, worker

SOURCES = Sources(command_line=(), cmd_args="", web_concurrency="", config_file="")
MASTER = process(100, heartbeats=(heartbeat(1),))
SEEN = process(101, ppid=100, heartbeats=(heartbeat(1),))
HEALTHY = family(worker(1, process=SEEN), master=MASTER)


def told(
    seen: Family, sources: Sources | None = SOURCES, release: str | None = "23.0.0", uid: int = 1000, gid: int = 1000
) -> list[tuple[str, str, str]]:
    return [(each.what, each.why, each.remedy) for each in tell_unknowns(seen, sources, release, uid=uid, gid=gid)]


def test_nothing_is_unknown_of_a_server_in_plain_sight() -> None:
    assert told(HEALTHY) == []


def test_another_uid_is_told_once_with_the_ids_to_run_as() -> None:
    hidden = family(worker(1), master=process(100, uid=10001, gid=20002), listeners=None)
    ((what, why, remedy),) = told(hidden, sources=None, release=None, uid=65532, gid=65532)
    assert "heartbeats" in what
    assert why == "the sidecar runs as uid 65532 and gid 65532, the server runs as uid 10001 and gid 20002"
    assert remedy == "run the sidecar with runAsUser: 10001 and runAsGroup: 20002"


def test_the_same_group_matters_too() -> None:
    ((_, _, remedy),) = told(family(worker(1), master=process(100, uid=1000, gid=5)))
    assert remedy == "run the sidecar with runAsUser: 1000 and runAsGroup: 5"


def test_a_server_that_dropped_its_privileges_needs_another_remedy() -> None:
    ((_, why, remedy),) = told(family(worker(1), master=process(100)))
    assert "like the sidecar" in why
    assert "runAsUser" in remedy
    assert "SYS_PTRACE" in remedy


def test_hidden_workers_of_a_visible_master_are_told() -> None:
    hidden = family(worker(1, process=process(101, ppid=100, uid=33, gid=33)), master=MASTER)
    ((what, why, remedy),) = told(hidden)
    assert "workers" in what
    assert "master runs as uid 1000, its workers as uid 33" in why
    assert "SYS_PTRACE" in remedy
    assert "33" not in remedy  # who runs as they do does not see the master


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"listeners": None}, "accept queue", "AF_NETLINK"),
        ({"listeners": ()}, "accept queue", "in the pod"),
        ({"listeners": (listener(backlog=None),)}, "limit of the accept queue", "AF_NETLINK"),
        ({"sees_all_orphans": False}, "some orphans", "wsgi-sidecar run"),
    ],
)
def test_what_the_kernel_does_not_tell(change: dict[str, object], what: str, remedy: str) -> None:
    ((said, _, cure),) = told(replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert what in said
    assert remedy in cure


@pytest.mark.parametrize(
    ("sources", "what"),
    [
        (replace(SOURCES, cmd_args=None, config_file=None), "GUNICORN_CMD_ARGS"),
        (replace(SOURCES, config_file=None), "config file"),
    ],
)
def test_sources_that_could_not_be_read(sources: Sources, what: str) -> None:
    ((said, _, _),) = told(HEALTHY, sources)
    assert what in said


def test_an_overwritten_title_is_named_as_the_cause() -> None:
    titled = replace(HEALTHY, master=replace(MASTER, command=("gunicorn: master [app]",)))
    ((_, why, remedy),) = told(titled, replace(SOURCES, command_line=None, cmd_args=None, config_file=None))
    assert "setproctitle" in why
    assert "setproctitle" in remedy


def test_a_release_that_could_not_be_read() -> None:
    ((what, _, _),) = told(HEALTHY, release=None)
    assert what == "release"


def test_what_nobody_tried_to_read_is_not_unknown() -> None:
    assert told(HEALTHY, sources=None) == []


def test_arguments_with_secrets_in_them_are_kept_in_the_pod_and_it_is_said() -> None:
    ((what, why, remedy),) = told(HEALTHY, replace(SOURCES, cmd_args="--env API_KEY=hush"))
    assert "GUNICORN_CMD_ARGS" in what
    assert "hush" not in why + remedy
