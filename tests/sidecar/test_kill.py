"""The door that kills, against real process trees."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.processes import VARIABLE, end_marked, marked, new_mark
from wsgi_contract.report import Kill, ProcessId
from wsgi_sidecar.core.remedy import Order
from wsgi_sidecar.kill import SPARE_FDS, strike
from wsgi_sidecar.strays import Marks, process_table, read_process

NOBODY = 65534
UNHURRIED_S = 60.0
"""For trees so large that a busy machine may take longer than a kill has."""

HOLD_A_HEARTBEAT = """
import os, sys, tempfile, time
descriptor, path = tempfile.mkstemp(prefix="wgunicorn-")
os.unlink(path)
"""
"""Like a worker: every fork, but no exec, holds this unlinked file open."""

FORKING = (
    HOLD_A_HEARTBEAT
    + """
# Every generation forks plainly, into its own session, and twice so that the middle one dies; bounded in depth.
def grow(depth):
    if depth == 0:
        time.sleep(600)
    for way in ("fork", "setsid", "double"):
        if os.fork() == 0:
            if way == "setsid":
                os.setsid()
            if way == "double":
                os.setsid()
                if os.fork():
                    os._exit(0)
            grow(depth - 1)
    while True:
        time.sleep(0.001)
grow(int(sys.argv[1]))
"""
)

FORK_BOMB = (
    HOLD_A_HEARTBEAT
    + """
# Never stands still: each process lives 5 ms and has two children before it dies, up to 64 at a time, until killed.
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
while True:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(0.02)
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
        os._exit(0)
    time.sleep(0.02)
"""
)

Spawn = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def token() -> str:
    return new_mark()


@pytest.fixture
def spawn(token: str) -> Iterator[Spawn]:
    """Starts Python code whose whole offspring carries a mark in its environment, and ends what is left of it."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str, **fields: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=os.environ | {VARIABLE: token},
            stdout=subprocess.PIPE,
            text=True,
            **fields,
        )
        started.append(process)
        return process

    yield start
    end_marked(token)
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def identity(pid: int) -> ProcessId:
    seen = read_process(pid)
    assert seen is not None
    return seen.id


def order(process: ProcessId, **fields: Any) -> Order:
    defaults: dict[str, Any] = {
        "id": "kill-1", "target": "worker", "slot": 1, "process": process, "reason": "frozen-worker",
        "message": "it spins", "bystanders": frozenset(), "mark": None,
    }  # fmt: skip
    return Order(**(defaults | fields))


def heartbeat_inode(pid: int) -> int:
    links = (entry for entry in Path(f"/proc/{pid}/fd").iterdir() if "wgunicorn-" in os.readlink(entry))
    return next(links).stat().st_ino


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"waited 30 s until {what}"
        time.sleep(0.01)


def test_a_single_process_is_killed_and_told() -> None:
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        who = identity(sleeper.pid)
        kill = strike(order(who))
        assert sleeper.wait() == -signal.SIGKILL
    assert (kill.outcome, kill.processes, kill.survivors, kill.process) == ("killed", 1, (), who)
    assert (kill.id, kill.target, kill.slot, kill.reason, kill.message) == (
        "kill-1", "worker", 1, "frozen-worker", "it spins",
    )  # fmt: skip
    assert 0 < kill.duration_s < 5
    assert abs(kill.at - time.time()) < 60


def test_of_a_forking_tree_with_sessions_and_double_forks_nobody_is_left(spawn: Spawn, token: str) -> None:
    root = spawn(FORKING, "4")
    wait_until(lambda: len(marked(token)) >= 121, "the tree has grown")
    kill = strike(order(identity(root.pid), mark=heartbeat_inode(root.pid)), deadline_s=UNHURRIED_S)
    assert marked(token) == ()
    assert (kill.outcome, kill.survivors) == ("killed", ())
    assert kill.processes >= 121


def test_a_tree_is_killed_while_it_grows(spawn: Spawn, token: str) -> None:
    root = spawn(FORKING, "5")
    wait_until(lambda: len(marked(token)) >= 10, "it has begun to grow")
    kill = strike(order(identity(root.pid), mark=heartbeat_inode(root.pid)), deadline_s=UNHURRIED_S)
    assert marked(token) == ()
    assert kill.outcome == "killed"


SERVER_UNDER_US = """
import subprocess, sys, time
from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.remedy import Order
from wsgi_sidecar.kill import SPARE_FDS, strike
from wsgi_sidecar.strays import Marks, process_table, read_process
from wsgi_sidecar.subreaper import adopt_orphans
assert adopt_orphans()
server = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
server.stdout.readline()
time.sleep(0.5)
who = read_process(server.pid).id
kill = strike(Order(id="kill-1", target="server", slot=None, process=who, reason="stuck-arbiter", message="",
                    bystanders=frozenset()), deadline_s=60)
print(kill.outcome, time.clock_gettime(time.CLOCK_BOOTTIME) - kill.duration_s, flush=True)
sys.stdin.read()
"""
"""A sidecar in small, to which orphans come: it ends a server that forks all the time."""


def test_forks_that_leave_a_server_and_exec_while_it_is_killed_are_caught_by_kinship(spawn: Spawn, token: str) -> None:
    sidecar = spawn(SERVER_UNDER_US, FORK_BOMB, stdin=subprocess.PIPE)
    assert sidecar.stdout is not None
    assert sidecar.stdin is not None
    outcome, began_s = sidecar.stdout.readline().split()
    born = {pid: identity(pid).started for pid in marked(token) if pid != sidecar.pid}
    sidecar.stdin.close()
    assert outcome == "killed"
    # Those that had left it and shed every mark before the kill began are orphans, another rule's business.
    began = float(began_s) * os.sysconf("SC_CLK_TCK") + 1
    assert [pid for pid, ticks in born.items() if ticks > began] == []


def test_who_dies_of_a_signal_that_came_late_is_no_survivor(spawn: Spawn) -> None:
    kill = strike(order(identity(spawn("import time; time.sleep(600)").pid)), deadline_s=0.0)
    assert (kill.outcome, kill.processes, kill.survivors) == ("killed", 1, ())


def test_where_others_of_the_server_live_on_kinship_proves_nothing(spawn: Spawn) -> None:
    root, sibling = (identity(spawn("import time; time.sleep(600)").pid) for _ in range(2))
    assert Marks.of(order(root), process_table()).kinship is not None
    assert Marks.of(order(root, bystanders=frozenset({sibling})), process_table()).kinship is None


def test_who_started_the_server_without_adopting_is_no_reaper(spawn: Spawn) -> None:
    root = identity(spawn("import time; time.sleep(600)").pid)
    assert Marks.of(order(root), process_table()).reapers == frozenset()


def test_what_somebody_else_starts_meanwhile_is_not_touched(spawn: Spawn) -> None:
    root = spawn("import time; time.sleep(600)")
    others: list[subprocess.Popen[str]] = []

    def start_another() -> None:
        others.append(spawn("import time; time.sleep(600)"))

    # Same user, cgroup and environment, born during the kill, and we are the parent of both.
    assert strike(order(identity(root.pid)), start_another).processes == 1
    assert others[0].poll() is None


def test_the_kill_is_called_off_at_the_second_look_before_any_signal(spawn: Spawn) -> None:
    root = spawn("import time; time.sleep(600)")
    kill = strike(order(identity(root.pid)), lambda: "its connections changed")
    assert kill.outcome == "spared"
    assert "its connections changed" in kill.message
    seen = read_process(root.pid)
    assert seen is not None
    assert not seen.still


def test_a_process_that_has_ended_is_gone() -> None:
    with subprocess.Popen(["true"]) as short:
        who = identity(short.pid)
        wait_until(lambda: (seen := read_process(short.pid)) is not None and seen.ended, "it has ended, not reaped")
        assert strike(order(who)).outcome == "gone"
    kill = strike(order(who))
    assert (kill.outcome, kill.processes) == ("gone", 0)


def test_a_process_that_ends_during_the_second_look_is_gone(spawn: Spawn) -> None:
    root = spawn("import time; time.sleep(600)")
    who = identity(root.pid)

    def end_it() -> None:
        root.kill()
        root.wait()

    assert strike(order(who), end_it).outcome == "gone"


def test_another_process_under_the_same_pid_is_not_touched(spawn: Spawn) -> None:
    root = spawn("import time; time.sleep(600)")
    who = identity(root.pid)
    kill = strike(order(ProcessId(pid=who.pid, started=who.started - 1)))
    assert kill.outcome == "gone"
    seen = read_process(root.pid)
    assert seen is not None
    assert not seen.still


@pytest.mark.parametrize("pid", [1, os.getpid(), os.getppid()], ids=["init", "ourselves", "parent"])
def test_init_ourselves_and_our_ancestors_are_never_killed(pid: int) -> None:
    kill = strike(order(identity(pid)))
    assert kill.outcome == "refused"
    assert "ancestor" in kill.message


def test_pid_0_is_nobody() -> None:
    assert strike(order(ProcessId(pid=0, started=0))).outcome == "gone"


def test_a_worker_dies_alone_its_master_and_siblings_live(spawn: Spawn, token: str) -> None:
    master = spawn(
        "import os, time\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: time.sleep(600)\n"
        "        time.sleep(600)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    wait_until(lambda: len(marked(token)) == 5, "master, workers and their children are up")
    tree = {pid: seen for pid in marked(token) if (seen := read_process(pid))}
    victim, other = (pid for pid, seen in tree.items() if seen.ppid == master.pid)
    bystanders = frozenset({identity(master.pid), identity(other)})
    kill = strike(order(identity(victim), bystanders=bystanders))
    assert (kill.outcome, kill.processes) == ("killed", 2)
    left = [pid for pid, seen in tree.items() if pid in marked(token)]
    assert set(left) == {master.pid, other, *(p for p, seen in tree.items() if seen.ppid == other)}
    assert not any(seen is None or seen.still for seen in map(read_process, left))


def test_a_bystander_is_refused_as_a_victim(spawn: Spawn) -> None:
    root = spawn("import time; time.sleep(600)")
    who = identity(root.pid)
    assert strike(order(who, bystanders=frozenset({who}))).outcome == "refused"
    assert root.poll() is None


def struck_by_nobody(process: ProcessId, **fields: Any) -> str:
    """What a sidecar of another uid, without any capability, says about the kill: outcome, processes, survivors."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        kill: Kill = strike(order(process, **fields), deadline_s=2.0)
        os.write(writer, f"{kill.outcome} {kill.processes} {[p.pid for p in kill.survivors]}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        return answer.read()


@pytest.mark.needs_root("become somebody else")
def test_where_the_kernel_refuses_nothing_happens_and_it_is_told(spawn: Spawn) -> None:
    root = spawn("import time; time.sleep(600)")
    assert struck_by_nobody(identity(root.pid)) == "refused 0 []"
    seen = read_process(root.pid)
    assert seen is not None
    assert not seen.still


@pytest.mark.needs_root("become somebody else")
def test_a_child_that_belongs_to_somebody_else_is_told_as_a_survivor(spawn: Spawn, token: str) -> None:
    root = spawn(f"import os, time\nif os.fork():\n    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\ntime.sleep(600)\n")
    wait_until(lambda: len(marked(token)) == 2, "both are up")
    wait_until(lambda: os.stat(f"/proc/{root.pid}").st_uid == NOBODY, "it has changed its user")
    (other,) = (pid for pid in marked(token) if pid != root.pid)
    assert struck_by_nobody(identity(root.pid)) == f"survived 1 [{other}]"


def test_a_stopped_process_and_one_that_ignores_every_signal_die_all_the_same(spawn: Spawn) -> None:
    root = spawn(
        "import signal, time\n"
        "for n in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_IGN)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    assert root.stdout is not None
    root.stdout.readline()
    root.send_signal(signal.SIGSTOP)
    assert strike(order(identity(root.pid))).outcome == "killed"
    assert root.wait() == -signal.SIGKILL


def test_more_processes_than_file_descriptors_are_killed_in_rounds(spawn: Spawn, token: str) -> None:
    import resource

    root = spawn("import os, time\nfor _ in range(60):\n    if os.fork() == 0: time.sleep(600)\ntime.sleep(600)\n")
    wait_until(lambda: len(marked(token)) == 61, "all children are up")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 12 + SPARE_FDS, hard))
    try:
        kill = strike(order(identity(root.pid)), deadline_s=UNHURRIED_S)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert marked(token) == ()
    assert (kill.outcome, kill.processes) == ("killed", 61)


def test_a_sidecar_without_descriptors_says_so_and_touches_nothing(spawn: Spawn) -> None:
    import resource

    root = spawn("import time; time.sleep(600)")
    who = identity(root.pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(0))
    # A quarter of the spare ones is left: enough to look with, too few to hold anybody by.
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + SPARE_FDS // 4, hard))
    try:
        kill = strike(order(who))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (kill.outcome, root.poll()) == ("refused", None)
    assert "file descriptor" in kill.message


def test_no_descriptor_is_left_behind(spawn: Spawn) -> None:
    before = len(os.listdir("/proc/self/fd"))
    root = up(spawn(BEATING, bufsize=1))
    held = len(os.listdir("/proc/self/fd")) - before
    strike(order(identity(root.pid), mark=heartbeat_inode(root.pid)))
    strike(order(identity(os.getppid())))
    assert len(os.listdir("/proc/self/fd")) - before == held


BEATING = HOLD_A_HEARTBEAT + "print('up', flush=True)\ntime.sleep(600)\n"


def test_a_heartbeat_that_gets_the_number_of_a_dead_worker_s_is_not_its_own(spawn: Spawn) -> None:
    root, sibling = up(spawn(BEATING)), spawn("import time; time.sleep(600)")
    what = order(identity(root.pid), mark=heartbeat_inode(root.pid), bystanders=frozenset({identity(sibling.pid)}))
    marks = Marks.of(what, process_table())
    root.kill()
    root.wait()
    # ext4 gives the lowest free number, so this one is the dead worker's, unless somebody holds that file.
    up(spawn(BEATING))
    assert marks.strays(process_table(), {os.getpid()}) == set()
    marks.let_go()


@pytest.mark.needs_root("mount")
def test_a_heartbeat_of_the_same_number_in_another_container_s_file_system_is_left_alone(spawn: Spawn) -> None:
    mount = "mount -t tmpfs none /dev/shm && TMPDIR=/dev/shm exec"
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mount} {sys.executable} -c "$0"', BEATING]
    root, other = (up(spawn("import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *alone)) for _ in range(2))
    assert heartbeat_inode(root.pid) == heartbeat_inode(other.pid)
    assert strike(order(identity(root.pid), mark=heartbeat_inode(root.pid))).processes == 1
    assert other.poll() is None


def up(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """The same process, once it has said that it is up."""
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_several_trees_end_in_one_stroke(spawn: Spawn, token: str) -> None:
    first, second, bystander = (spawn("import time; time.sleep(600)") for _ in range(3))
    roots = [identity(each.pid) for each in (first, second)]
    kill = strike(order(roots[0], target="orphan", also=frozenset(roots[1:]), bystanders=frozenset()))
    assert (kill.outcome, kill.processes, kill.survivors) == ("killed", 2, ())
    assert marked(token) == (bystander.pid,)
