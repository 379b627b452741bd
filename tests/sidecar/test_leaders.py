"""Which server leads, from command lines and kinship alone."""

from dataclasses import replace

import pytest

from wsgi_contract.policy import Policy
from wsgi_contract.report import ServerKind
from wsgi_sidecar.core.departures import Marks, departures
from wsgi_sidecar.core.gathering import Hints, gather_any
from wsgi_sidecar.core.leaders import other_kind
from wsgi_sidecar.core.rules import orphan_processes, stuck_arbiter
from wsgi_sidecar.core.rules.rule import Sight, terms
from wsgi_sidecar.core.snapshot import Snapshot
from wsgi_sidecar.testing import AT, MONOTONIC, process

PYTHON = "/venv/bin/python3"
SPAWNED = (
    PYTHON,
    "-c",
    "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)",
    "--multiprocessing-fork",
)
TRACKER = (PYTHON, "-c", "from multiprocessing.resource_tracker import main;main(4)")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ((PYTHON, "/venv/bin/uvicorn", "app:app", "--workers", "2"), "uvicorn"),
        ((PYTHON, "-m", "hypercorn", "app:app"), "hypercorn"),
        (("/venv/bin/granian", "app:app"), "granian"),
        ((PYTHON, "serve.py", "uvicorn"), None),
        (("vi", "uvicorn"), None),
        ((PYTHON,), None),
        ((), None),
    ],
)
def test_the_others_are_known_by_their_program(command: tuple[str, ...], expected: ServerKind | None) -> None:
    assert other_kind(command) == expected


def look(*processes: object) -> Snapshot:
    return Snapshot(at=AT, monotonic=MONOTONIC, processes=tuple(processes), listeners=())  # type: ignore[arg-type]


def test_workers_of_uvicorn_are_what_it_spawned_and_nothing_of_it_may_be_ended() -> None:
    seen = gather_any(
        look(
            process(10, command=(PYTHON, "/venv/bin/uvicorn", "app:app", "--workers", "2")),
            process(11, ppid=10, command=TRACKER),
            process(12, ppid=10, command=SPAWNED),
            process(13, ppid=10, command=SPAWNED),
        )
    )
    assert seen is not None
    assert (seen.kind, [worker.process.id.pid for worker in seen.workers]) == ("uvicorn", [12, 13])
    assert seen.untouchable is not None


def test_one_that_serves_alone_is_its_own_worker() -> None:
    seen = gather_any(look(process(10, command=(PYTHON, "-m", "hypercorn", "app:app"))))
    assert seen is not None
    assert [worker.process.id.pid for worker in seen.workers] == [10]


def test_what_a_server_started_before_its_workers_is_no_orphan_once_they_are_there() -> None:
    """As multiprocessing's resource tracker: to end it would be to hurt a healthy server."""
    leader, tracker = process(10, command=(PYTHON, "-m", "hypercorn", "app:app")), process(11, ppid=10, command=TRACKER)
    alone = gather_any(look(leader, tracker))
    workers = (process(12, ppid=10, command=SPAWNED), process(13, ppid=10, command=SPAWNED))
    served = gather_any(look(leader, tracker, *workers), alone)
    assert alone is not None
    assert served is not None
    assert served.orphans == ()
    assert departures(alone, served, Marks()) == ((), ())
    both = [
        Sight(family=seen, before=None, terms=terms(None, ()), policy=Policy(), closeups={}) for seen in (alone, served)
    ]
    memory = orphan_processes.judge(both[1], orphan_processes.judge(both[0], None).memory).memory
    assert memory.dead == frozenset()


def test_gunicorn_leads_before_uwsgi_and_uwsgi_before_the_others() -> None:
    uvicorn = process(10, command=(PYTHON, "-m", "uvicorn", "app:app"))
    uwsgi = process(20, command=("/venv/bin/uwsgi", "--master"))
    for processes, kind in (
        ((uvicorn, uwsgi, process(30)), "gunicorn"),
        ((uvicorn, uwsgi), "uwsgi"),
        ((uvicorn,), "uvicorn"),
    ):
        seen = gather_any(look(*processes))
        assert seen is not None
        assert seen.kind == kind


@pytest.mark.parametrize(("has_master", "watched"), [(True, True), (False, False), (None, False)])
def test_only_a_master_that_is_known_to_beat_is_watched_for_standing_still(
    has_master: bool | None, watched: bool
) -> None:
    seen = gather_any(look(process(20, command=("uwsgi",))), hints=Hints(has_master=has_master))
    assert seen is not None
    sight = Sight(family=seen, before=None, terms=terms(None, ()), policy=Policy(), closeups={})
    assert bool(stuck_arbiter.suspects(sight, None)) is watched
    assert bool(stuck_arbiter.suspects(replace(sight, family=replace(seen, has_arbiter=True)), None))
