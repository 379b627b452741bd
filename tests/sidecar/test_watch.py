"""What the loop hands on, told from looks that somebody else took."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from wsgi_contract.report import Report, SidecarInfo
from wsgi_sidecar import log
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


def watching(reader: Looks, *, within: int | None = None, container: str | None = None) -> Watch:
    return Watch(
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


def report(reader: Looks, **whose: Any) -> Report:
    watch = watching(reader, **whose)
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


class Listener(logging.Handler):
    """Hears the log, and asks at each line."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__()
        self._ask = ask
        self.heard: list[tuple[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append((getattr(record, "event", ""), self._ask()))


def test_whoever_reads_of_an_event_in_the_log_finds_it_in_the_report(caplog: pytest.LogCaptureFixture) -> None:
    watch = watching(Looks(process(NOBODY)))
    listener = Listener(lambda: watch.latest is not None and watch.latest.report.server is not None)
    log.LOGGER.addHandler(listener)
    try:
        with caplog.at_level(logging.INFO, log.LOGGER.name):
            watch.look()
    finally:
        log.LOGGER.removeHandler(listener)
    assert ("server-found", True) in listener.heard
    assert {told for _, told in listener.heard} == {True}
