"""Settings changed in a running uWSGI 2.0.31: applied under load, taken back, refused."""

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.servers.rooms import room_named
from tests.servers.server import eventually
from tests.servers.started import under_load
from tests.servers.uwsgi import Uwsgi
from tests.servers.watched import Beside
from wsgi_contract.in_place import InPlace, InPlaceOrder, dump_order
from wsgi_contract.report import Report
from wsgi_contract.servers.uwsgi_in_place import render_ini
from wsgi_contract.settings import Wanted

pytestmark = pytest.mark.servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was seen of one uWSGI."""

    told: InPlace
    report: Report
    statuses: tuple[object, ...]
    ini: str
    lives: bool


@contextmanager
def beside(*arguments: str, touch: bool = False) -> Iterator[tuple[Uwsgi, Beside, Path]]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        ini = folder / "uwsgi.ini"
        ini.write_text(render_ini(Wanted(workers=2)))
        environment = {"UWSGI_INI": str(ini)} | ({"UWSGI_TOUCH_RELOAD": str(ini)} if touch else {})
        given = ("--order-file", str(folder / "order.json"), "--in-place", name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with (
            Uwsgi(*arguments, environment=environment, port=port) as server,
            Beside(*given, "--pid", str(server.pid)) as sidecar,
        ):
            eventually("its workers are seen", lambda: len(sidecar.workers()) >= 1)
            yield server, sidecar, folder


def tell(*arguments: str, touch: bool = False, kill: bool = False, within_s: float = 60, **settings: int) -> Story:
    with beside(*arguments, touch=touch) as (server, sidecar, folder):
        time.sleep(1.5)
        order = InPlaceOrder(id="a", settings=Wanted(**settings), within_s=within_s)
        with under_load(server, clients=0 if kill else 3) as seen:
            (folder / "order.json").write_text(dump_order(order))
            if kill:
                eventually("it is told", lambda: (p := sidecar.report().in_place) and p.state == "Verifying")
                os.kill(server.pid, signal.SIGKILL)
            told = eventually("it is settled", lambda: _settled(sidecar))
        ini = (folder / "uwsgi.ini").read_text()
        return Story(told=told, report=sidecar.report(), statuses=tuple(seen), ini=ini, lives=bool(sidecar.workers()))


def _settled(sidecar: Beside) -> InPlace | None:
    told = sidecar.report().in_place
    return told if told is not None and told.state in ("Applied", "RolledBack", "Refused", "Failed") else None


@pytest.fixture(scope="module")
def stories() -> Iterator[Mapping[str, Future[Story]]]:
    room_named("uwsgi-2.0.31")
    with ThreadPoolExecutor(3) as pool:
        yield {
            "HUP": pool.submit(tell, workers=4, threads=2, timeout_s=40),
            "touch-reload": pool.submit(tell, touch=True, workers=4, threads=2, timeout_s=40),
            "pinned": pool.submit(tell, "--processes", "2", workers=4),
            "cheaper": pool.submit(tell, "--cheaper", "1", workers=1),
        }


@pytest.mark.parametrize("how", ["HUP", "touch-reload"])
def test_a_change_takes_effect_without_a_failed_request(how: str, stories: Mapping[str, Future[Story]]) -> None:
    seen = stories[how].result()
    assert seen.told.state == "Applied", seen.told.reason
    assert dict(seen.told.after) == {"workers": 4, "threads": 2, "timeout_s": 40}
    assert len(seen.report.workers or ()) == 4
    assert set(seen.statuses) == {200}
    assert dict(seen.report.counts.restarts) == {"reload": 2}


@pytest.mark.parametrize(
    ("name", "words"), [("pinned", "workers is given by --processes 2"), ("cheaper", "does not start with as few")]
)
def test_what_it_would_not_take_is_never_written(name: str, words: str, stories: Mapping[str, Future[Story]]) -> None:
    seen = stories[name].result()
    assert seen.told.state == "Refused"
    assert words in seen.told.reason
    assert (seen.ini, seen.lives) == (render_ini(Wanted(workers=2)), True)
    assert set(seen.statuses) == {200}
