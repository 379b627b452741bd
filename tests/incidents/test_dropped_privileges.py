"""A server that gives up its rights at its start (gunicorn -u), end to end: seen and cured, or told with the remedy."""

import os
from contextlib import suppress

import pytest

from demo.load import SilentClients
from tests.servers.server import Server, eventually
from tests.servers.watched import Beside, Watched

pytestmark = [
    pytest.mark.servers,
    pytest.mark.needs_root("have gunicorn -u change its user"),
]

NOBODY = 65534
# --preload: else the app would have to be where nobody may read it
DROPPING = ("--preload", "-u", str(NOBODY), "-g", str(NOBODY))
FREEZING = ("-k", "gthread", "-w", "1", "--threads", "3", "--worker-connections", "4", "--timeout", "3")
CONTAINED = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
"""Root as containers have it: without the right to look into processes of other users, or with other rights."""


@pytest.mark.parametrize("release", ["20.1.0", "23.0.0", "27.0.1"])
def test_a_sidecar_with_the_rights_sees_all_of_it(release: str) -> None:
    with Watched(release, "-w", "2", "-k", "gthread", "--threads", "3", *DROPPING) as server:
        eventually("all workers have a heartbeat", lambda: None not in {w.heartbeat_age_s for w in server.workers()})
        report = server.report()
        assert {os.stat(f"/proc/{worker.process.pid}").st_uid for worker in server.workers()} == {NOBODY}
    assert report.server is not None
    assert report.server.uid == 0
    assert report.unknowns == ()
    assert {worker.connections for worker in report.workers or ()} == {0}


def test_a_frozen_worker_of_another_user_is_ended() -> None:
    with Watched("23.0.0", *FREEZING, *DROPPING) as server:
        with SilentClients("127.0.0.1", server.port, 5):
            eventually("the kill is told", lambda: server.events("kill"))
            eventually("requests are served again", lambda: _serves(server))
        (kill,) = server.report().kills
        assert (kill.reason, kill.outcome) == ("frozen-worker", "killed")


def _serves(server: Server) -> bool:
    # The new worker may take longer to boot than a request is waited for.
    with suppress(OSError):
        return server.get("/", 1.0).status == 200
    return False


@pytest.mark.parametrize(
    ("around", "hidden"),
    [((), ["heartbeats, connections", "limits"]), (CONTAINED, ["heartbeats and connections of the workers"])],
    ids=["of the whole server", "of its workers"],
)
def test_a_sidecar_without_the_rights_says_so_and_what_to_do(around: tuple[str, ...], hidden: list[str]) -> None:
    arguments = ("-w", "2", "-k", "gthread", "--threads", "3", "--timeout", "3", *DROPPING)
    with (
        Server("23.0.0", *arguments, inside=around) as server,
        Beside("--pid", str(server.master_pid), inside=CONTAINED) as beside,
    ):
        eventually("both workers are seen", lambda: len(beside.workers()) == 2)
        eventually("it looked for longer than the timeout", lambda: beside.report().counts.scans > 10)
        report = beside.report()
        ages = beside.samples("wsgi_worker_heartbeat_age_seconds")
    # its orphans cannot all be seen either, but for another reason: it has no container of its own here
    unknowns = [unknown for unknown in report.unknowns if unknown.what != "some orphans"]
    for unknown, what in zip(unknowns, hidden, strict=True):
        assert unknown.what.startswith(what)
        assert "SYS_PTRACE" in unknown.remedy
    assert {(worker.heartbeat_age_s, worker.connections) for worker in report.workers or ()} == {(None, None)}
    assert ages == {}
    assert (report.counts.scan_errors, report.incidents, report.kills) == (0, (), ())
