"""Two real servers, of which one has the mount by which the kubelet names a container: looked at, never touched."""

import contextlib
import os
from pathlib import Path

import pytest

from tests.servers.server import Server, eventually
from tests.servers.uwsgi import Uwsgi
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.gathering import gather_any
from wsgi_sidecar.proc import ProcReader

pytestmark = [pytest.mark.servers, pytest.mark.needs_root("mount")]


@pytest.mark.parametrize("other", ["gunicorn", "uwsgi"])
def test_the_adopted_containers_server_is_found_beside_an_older_one(tmp_path: Path, other: str) -> None:
    name = f"web-{os.getpid()}"
    with (
        contextlib.closing(ProcReader()) as reader,
        Server("23.0.0") if other == "gunicorn" else Uwsgi("-p", "1") as elder,
        Server("23.0.0", "-w", "2", inside=named(name, tmp_path)) as adopted,
    ):

        def look() -> Family | None:
            family = gather_any(reader.look(container=name), container=name)
            return family if family and len(family.workers) == 2 else None

        family = eventually("its workers are seen", look)
        assert (family.master.id.pid, family.doubt) == (adopted.master_pid, None)
        assert family.master.container == name
        assert family.master.id.started >= elder_started(reader, elder.pid)
        assert all(worker.heartbeat is not None for worker in family.workers), "it was looked at closely"


def elder_started(reader: ProcReader, pid: int) -> int:
    return next(each.id.started for each in reader.look(pid).processes if each.id.pid == pid)


def named(container: str, folder: Path) -> tuple[str, ...]:
    """Starts what follows with the kubelet's mount."""
    last_words = folder / "pods" / "a45f" / "containers" / container / "8f8d"
    last_words.parent.mkdir(parents=True)
    last_words.touch()
    (folder / "log").touch()
    mount = f'mount --bind {last_words} {folder}/log && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh")
