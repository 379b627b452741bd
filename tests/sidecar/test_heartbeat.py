"""The age of a heartbeat is the arbiter's, whatever release wrote the file."""

import json
import subprocess

import pytest

from tests.servers.rooms import prepare, room_of
from wsgi_sidecar.core.heartbeat import Beat, beat
from wsgi_sidecar.core.snapshot import HeartbeatFile

AT, MONOTONIC = 1_750_000_000.0, 5_000.0


def judged(*, mtime: float, ctime: float, mode: int) -> Beat:
    return beat(HeartbeatFile(inode=1, mtime=mtime, ctime=ctime, mode=mode), at=AT, monotonic=MONOTONIC)


@pytest.mark.parametrize(
    ("mtime", "ctime", "mode", "age_s", "booting"),
    [
        pytest.param(AT - 900, AT - 3, 0o000, 3.0, False, id="before 22.0, spinner at 0: the change of mode counts"),
        pytest.param(AT - 900, AT - 3, 0o001, 3.0, False, id="before 22.0, spinner at 1"),
        pytest.param(4_998.5, AT - 1.5, 0o600, 1.5, False, id="from 22.0 on: the monotonic clock in mtime"),
        pytest.param(4_998.5, AT + 3600, 0o600, 1.5, False, id="a step of the wall clock makes nobody older"),
        pytest.param(AT - 40, AT - 40, 0o600, 40.0, True, id="as mkstemp made it: not one beat yet"),
        pytest.param(AT - 40, AT - 39, 0o640, 39.0, True, id="a looser umask, and not one beat yet"),
        pytest.param(5_000.2, AT, 0o600, 0.0, False, id="beaten after our clock was read: zero, not below"),
        pytest.param(AT - 9, AT + 60, 0o001, 0.0, False, id="before 22.0 a clock set back hides the age"),
    ],
)  # fmt: skip
def test_the_file_itself_tells_which_clock_it_speaks(
    mtime: float, ctime: float, mode: int, age_s: float, booting: bool
) -> None:
    assert judged(mtime=mtime, ctime=ctime, mode=mode) == Beat(age_s=pytest.approx(age_s), booting=booting)


# What a real gunicorn writes and computes, told by itself: its own WorkerTmp, and the two clocks around it.
ASK = """
import inspect, json, os, sys, time
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.workers.workertmp import WorkerTmp

clock = time.monotonic if "time.monotonic() - worker.tmp" in inspect.getsource(Arbiter.murder_workers) else time.time

def look(tmp):
    # All clocks read at one time: on a busy machine they are not, so again until they are.
    while True:
        begun = time.monotonic()
        stat = os.fstat(tmp.fileno())
        seen = dict(age=clock() - tmp.last_update(), at=time.time(), monotonic=time.monotonic(),
                    file=dict(inode=stat.st_ino, mtime=stat.st_mtime, ctime=stat.st_ctime, mode=stat.st_mode & 0o7777))
        if time.monotonic() - begun < 0.005:
            return seen

tmp = WorkerTmp(Config())
unborn = look(tmp)
looks = []
for _ in range(3):
    tmp.notify()
    time.sleep(0.15)
    looks.append(look(tmp))
print(json.dumps([unborn, looks]))
"""


@pytest.mark.servers
@pytest.mark.parametrize("release", ["20.1.0", "21.2.0", "22.0.0", "23.0.0", "25.3.0", "27.0.1"])
def test_the_age_is_what_gunicorn_itself_computes(release: str) -> None:
    prepare()
    python = room_of(release) / "bin" / "python"
    told = subprocess.run([python, "-W", "ignore", "-c", ASK], capture_output=True, text=True, check=True).stdout
    unborn, looks = json.loads(told)
    for look in looks:
        seen = beat(HeartbeatFile(**look["file"]), at=look["at"], monotonic=look["monotonic"])
        assert not seen.booting
        assert seen.age_s == pytest.approx(look["age"], abs=0.02)
        assert seen.age_s >= 0.15
    assert beat(HeartbeatFile(**unborn["file"]), at=unborn["at"], monotonic=unborn["monotonic"]).booting
