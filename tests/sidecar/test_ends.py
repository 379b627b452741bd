"""Ends of processes that are not our children: a shell's, which reaps them itself."""

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.servers.server import eventually
from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.departures import End
from wsgi_sidecar.ends import Ends, _ticks

KEEPS_STATUS = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 15)
SHELL = "exec 3<&0; sh -c 'read line; {}' <&3 & echo $!; wait $!; echo reaped"


def identity(pid: int) -> ProcessId:
    text = Path(f"/proc/{pid}/stat").read_text()
    return ProcessId(pid=pid, started=int(text.rpartition(")")[2].split()[19]))


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3 << 8), ("kill -9 $$", 9), ("exit 0", 0)])
def test_a_grandchild_s_end_is_known_when_its_parent_has_reaped_it(command: str, status: int) -> None:
    before = _ticks()
    with (
        contextlib.closing(Ends()) as ends,
        subprocess.Popen(
            ["sh", "-c", SHELL.format(command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as shell,
    ):
        assert shell.stdin is not None
        assert shell.stdout is not None
        who = identity(int(shell.stdout.readline()))
        assert ends.look([who]) == {}
        assert ends.look([]) == {}, "it left the family, but has not ended"
        shell.stdin.write("end\n")
        assert shell.stdout.readline() == "reaped\n"
        end = eventually("its end is known", lambda: ends.look([]).get(who))
    assert before <= end.ticks <= _ticks()
    assert (end.status, end.final) == (status if KEEPS_STATUS else None, True)


def killed_unreaped(ends: Ends, child: subprocess.Popen[bytes]) -> tuple[ProcessId, End]:
    """A child of ours, killed and not reaped, and what is told of it."""
    who = identity(child.pid)
    assert ends.look([who]) == {}
    child.kill()
    return who, eventually("it has ended", lambda: ends.look([]).get(who))


def test_an_end_is_final_once_it_was_reaped_and_at_once_where_the_kernel_keeps_no_status() -> None:
    with contextlib.closing(Ends(reaped_within_s=600)) as ends, subprocess.Popen(["sleep", "600"]) as child:
        who, first = killed_unreaped(ends, child)
        assert (first.status, first.final) == (None, not KEEPS_STATUS)
        again = ends.look([]).get(who)
        assert (again is not None and not again.final) is KEEPS_STATUS, "nobody has waited for it"
        child.wait()
        last = ends.look([]).get(who)
        assert (last and last.status) == (signal.SIGKILL if KEEPS_STATUS else None)
        assert ends.look([]) == {}, "it is told once"


def test_one_that_nobody_reaps_is_let_go_of() -> None:
    with contextlib.closing(Ends(reaped_within_s=0)) as ends, subprocess.Popen(["sleep", "600"]) as child:
        who, _ = killed_unreaped(ends, child)
        eventually("it is let go of", lambda: who not in ends.look([]))


def test_a_reused_pid_is_not_followed() -> None:
    mine = identity(os.getpid())
    with contextlib.closing(Ends()) as ends:
        ends.look([ProcessId(pid=mine.pid, started=mine.started - 1)])
        assert ends.look([]) == {}


def test_nothing_is_left_of_one_that_is_closed() -> None:
    files = set(os.listdir("/proc/self/fd"))
    with contextlib.closing(Ends()) as ends:
        ends.look([identity(os.getpid())])
        assert "ends" in {thread.name for thread in threading.enumerate()}
    assert "ends" not in {thread.name for thread in threading.enumerate()}
    assert set(os.listdir("/proc/self/fd")) == files
