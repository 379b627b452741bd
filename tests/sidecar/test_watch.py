"""What the loop hands on, told from looks that somebody else took."""

from typing import Any

from wsgi_contract.report import Report, SidecarInfo
from wsgi_sidecar.core.snapshot import Process, Snapshot
from wsgi_sidecar.core.telling import Teller
from wsgi_sidecar.orders import PolicyFile
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.server_files import ServerFiles
from wsgi_sidecar.testing import process, snapshot
from wsgi_sidecar.watch import Ground, Watch

NOBODY = 2**22 + 1
"""No process has this pid."""


class Looks(ProcReader):
    """Sees these processes and nothing of this machine."""

    def __init__(self, *processes: Process) -> None:
        super().__init__()
        self._seen = snapshot(*processes)
        self.asked: list[dict[str, Any]] = []

    def look(self, within: int | None = None, **asked: Any) -> Snapshot:
        self.asked.append({"within": within, **asked})
        return self._seen


def report(reader: Looks, *, within: int | None = None, container: str | None = None) -> Report:
    watch = Watch(
        Ground(
            teller=Teller(sidecar=SidecarInfo(version="1", started_at=0.0, uid=0, gid=0), pod=None),
            reader=reader,
            files=ServerFiles(),
            policy_file=PolicyFile(None),
            within=within,
            adopter=None,
            container=container,
        ),
        interval_s=1.0,
    )
    watch.look()
    assert watch.latest is not None
    return watch.latest.report


def test_another_containers_server_is_not_watched_and_the_report_says_so() -> None:
    reader = Looks(process(NOBODY, container="admin"))
    told = report(reader, container="web")
    assert reader.asked[0]["container"] == "web"
    assert told.server is None
    assert told.unknowns[0].what == "the adopted server"


def test_the_report_says_first_that_the_server_may_be_anothers() -> None:
    told = report(Looks(process(NOBODY, cgroup="/a"), process(NOBODY + 1, cgroup="/b", started=9000)), container="web")
    assert told.server is not None
    assert told.unknowns[0].what == "whether this is the adopted server"


def test_whoever_is_named_by_its_pid_is_not_called_anothers() -> None:
    assert report(Looks(process(NOBODY, container="admin")), within=NOBODY, container="web").server is not None
    assert report(Looks(process(NOBODY, container="admin")), within=7, container="web").unknowns == ()
