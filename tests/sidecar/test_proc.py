"""Processes as /proc tells them, held against psutil and against processes of our own."""

import contextlib
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from tests.servers.server import eventually
from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.snapshot import Closeup, Process
from wsgi_sidecar.open_files import OpenFiles
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.process_table import ProcessTable, parse_argv, parse_cgroup, parse_ids

Seen = TypeVar("Seen")

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def table() -> Iterator[ProcessTable]:
    with contextlib.closing(ProcessTable()) as table:
        yield table


def start(closing: contextlib.ExitStack, *command: str) -> subprocess.Popen[bytes]:
    process = closing.enter_context(subprocess.Popen(command or SLEEP, stdout=subprocess.DEVNULL))
    closing.callback(process.kill)
    return process


# The table


def test_a_process_is_as_psutil_sees_it(table: ProcessTable, closing: contextlib.ExitStack) -> None:
    child = start(closing, sys.executable, "-c", "import threading,time\n"
                  "for _ in range(3): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
                  "x = bytearray(20_000_000)\nend = time.process_time() + 0.3\n"
                  "while time.process_time() < end: pass\ntime.sleep(600)")  # fmt: skip
    oracle = psutil.Process(child.pid)
    eventually("it has burnt its CPU", lambda: sum(oracle.cpu_times()[:2]) >= 0.3)
    eventually("it sleeps", lambda: oracle.status() == psutil.STATUS_SLEEPING)
    seen = table.read()[child.pid]
    assert (seen.ppid, seen.thread_count, list(seen.command)) == (os.getpid(), 4, oracle.cmdline())
    assert (seen.uid, seen.gid, seen.name) == (os.getuid(), os.getgid(), oracle.name())
    assert seen.cpu_s == pytest.approx(sum(oracle.cpu_times()[:2]), abs=0.05)
    assert seen.rss_bytes == pytest.approx(oracle.memory_info().rss, rel=0.1)
    assert seen.started_at == pytest.approx(oracle.create_time(), abs=1.1)
    assert f":{seen.cgroup}\n" in Path(f"/proc/{child.pid}/cgroup").read_text()


def test_everybody_is_there_and_kernel_threads_are_not(table: ProcessTable) -> None:
    oracle = {process.pid: process for process in psutil.process_iter()}
    seen = table.read()
    assert os.getpid() in seen
    assert all(not process.cmdline() for pid, process in oracle.items() if pid not in seen and process.is_running())
    assert all(process.ppid != 2 for process in seen.values())


def test_an_idle_process_is_the_very_same_value_again(table: ProcessTable, closing: contextlib.ExitStack) -> None:
    child = start(closing)
    eventually("it has started, and idles", lambda: table.read()[child.pid] is table.read()[child.pid])


def test_exec_changes_the_command_of_the_same_process(table: ProcessTable, closing: contextlib.ExitStack) -> None:
    child = start(closing, "sh", "-c", "read line; exec sleep 600")
    child_in = start_with_stdin(closing, "sh", "-c", "read line; exec sleep 600")
    before = eventually("the shell runs", lambda: one(table, child_in.pid, "sh"))
    assert child_in.stdin is not None
    child_in.stdin.write(b"\n")
    child_in.stdin.flush()
    after = eventually("sleep runs", lambda: one(table, child_in.pid, "sleep"))
    assert (after.id, after.command) == (before.id, ("sleep", "600"))
    assert child.pid != child_in.pid


def start_with_stdin(closing: contextlib.ExitStack, *command: str) -> subprocess.Popen[bytes]:
    process = closing.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
    closing.callback(process.kill)
    return process


def one(table: ProcessTable, pid: int, name: str) -> Process | None:
    seen = table.read().get(pid)
    return seen if seen and seen.name == name and seen.command else None


@pytest.mark.needs_root("mount")
@pytest.mark.parametrize(("program", "expected"), [("gunicorn", "web"), ("sleep", None)])
def test_the_container_of_whoever_could_lead_a_server_is_told_by_the_kubelets_mount(
    table: ProcessTable, closing: contextlib.ExitStack, tmp_path: Path, program: str, expected: str | None
) -> None:
    last_words = tmp_path / "pods" / "a45f" / "containers" / "web" / "8f8d"
    last_words.parent.mkdir(parents=True)
    last_words.touch()
    (tmp_path / "log").touch()
    script = f"mount --bind {last_words} {tmp_path}/log && exec -a {program} sleep 600"
    child = start(closing, "unshare", "--mount", "--propagation", "private", "bash", "-c", script)
    seen = eventually("it runs", lambda: (p := table.read().get(child.pid)) and p.command[:1] == (program,) and p)
    assert seen.container == expected


def test_a_zombie_has_no_command(table: ProcessTable, closing: contextlib.ExitStack) -> None:
    child = start(closing)
    before = table.read()[child.pid]
    child.kill()
    seen = eventually("it is a zombie", lambda: (p := table.read()[child.pid]).state == "Z" and p)
    assert (seen.id, seen.command) == (before.id, ())


def test_who_vanishes_is_not_there_and_leaves_no_descriptor(table: ProcessTable) -> None:
    table.read()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with contextlib.ExitStack() as closing:
            child = start(closing)
            assert child.pid in table.read()
        assert child.pid not in table.read()
    eventually("all descriptors are closed", lambda: table.read() and len(os.listdir("/proc/self/fd")) <= before + 5)


NAMELESS = """
import pickle, subprocess, sys
from wsgi_sidecar.process_table import ProcessTable
with subprocess.Popen([""], executable="/bin/cat", stdin=subprocess.PIPE) as second:
    sys.stdout.buffer.write(pickle.dumps((second.pid, ProcessTable().read().get(second.pid))))
"""


@pytest.mark.needs_root("make a PID namespace")
def test_a_nameless_second_process_of_a_pid_namespace_is_no_kernel_thread() -> None:
    # The first child of process 1: a server under `run` in a container, at the moment at which it is executed.
    alone = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", NAMELESS)
    pid, seen = pickle.loads(subprocess.run(alone, stdout=subprocess.PIPE, check=True).stdout)
    assert (pid, seen and seen.id.pid, seen and seen.command) == (2, 2, ())


REUSE = """
import os, pickle, subprocess, sys, time
from wsgi_sidecar.process_table import ProcessTable
table = ProcessTable(most_open=int(sys.argv[1]))
with subprocess.Popen(["sleep", "600"]) as first:
    before = table.read()[first.pid]
    first.kill()
time.sleep(0.02)  # start times have a resolution of 10 ms
with open("/proc/sys/kernel/ns_last_pid", "w") as last:  # the kernel gives the next one
    last.write(str(first.pid - 1))
second = os.fork()
if not second:
    time.sleep(600)
sys.stdout.buffer.write(pickle.dumps((before, table.read()[second])))
"""


@pytest.mark.needs_root("choose a pid")
@pytest.mark.parametrize("most_open", [256, 0], ids=["by descriptor", "by path"])
def test_a_reused_pid_is_a_new_process(most_open: int) -> None:
    # In a PID namespace of its own: pids that come round early trip up whoever knows processes by their number alone.
    alone = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", REUSE, str(most_open))
    before, after = pickle.loads(subprocess.run(alone, stdout=subprocess.PIPE, check=True).stdout)
    assert after.id.pid == before.id.pid
    assert after.id != before.id
    assert after.command != before.command
    assert after.started_at > before.started_at


def test_a_name_with_brackets_and_blanks_is_read_right(
    table: ProcessTable, closing: contextlib.ExitStack, tmp_path: Path
) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    child = start(closing, str(program), "600")
    seen = eventually("it runs", lambda: (p := table.read()[child.pid]).name.startswith("a)") and p)
    assert (seen.name, seen.ppid) == ("a) S 1 (b", os.getpid())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"python\0-m\0gunicorn\0", ("python", "-m", "gunicorn")),
        (b"gunicorn: master [app:app]\0\0\0\0\0", ("gunicorn: master [app:app]",)),
        (b"sh\0-c\0a  b\nc\0", ("sh", "-c", "a  b\nc")),
        (b"caf\xe9\0", ("caf\udce9",)),
        (b"", ()),
        (b"\0", ()),
    ],
)
def test_argv(data: bytes, expected: tuple[str, ...]) -> None:
    assert parse_argv(data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"0::/kubepods/pod1/app\n", "/kubepods/pod1/app"),
        (b"0::/../cri-containerd-abc\n", "/../cri-containerd-abc"),
        (b"12:cpu,cpuacct:/docker/a\n11:pids:/docker/b\n1:name=systemd:/docker/c\n", "/docker/b"),
        (b"5:memory:/docker/m\n0::/\n", "/docker/m"),
        (b"5:freezer:/docker/f\n0::/\n", "/docker/f"),
        (b"0::/with:colon\n", "/with:colon"),
        (b"0::/gone (deleted)\n", "/gone"),
        (b"0::/\n", "/"),
        (b"", ""),
    ],
)
def test_cgroup(data: bytes, expected: str) -> None:
    assert parse_cgroup(data) == expected


def test_ids_are_the_real_ones() -> None:
    assert parse_ids(b"Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t2000\t0\t0\t0\n") == (1000, 2000)


# Open files


@pytest.fixture
def mine() -> Iterator[OpenFiles]:
    with contextlib.closing(OpenFiles(os.getpid())) as files:
        yield files


def heartbeat_file(closing: contextlib.ExitStack) -> int:
    """What gunicorn makes for a worker: an unlinked file with its name."""
    descriptor, name = tempfile.mkstemp(prefix="wgunicorn-")
    os.unlink(name)
    closing.callback(os.close, descriptor)
    return descriptor


def test_the_number_of_open_files_is_psutils(closing: contextlib.ExitStack) -> None:
    child = start(
        closing, sys.executable, "-c", "import time\nf = [open('/dev/null') for _ in range(20)]\ntime.sleep(600)"
    )
    oracle = psutil.Process(child.pid)
    eventually("it opened its files", lambda: oracle.num_fds() >= 20)
    files = closing.enter_context(contextlib.closing(OpenFiles(child.pid)))
    assert files.changed()
    files.scan()
    assert files.count() == files.count_at_scan == oracle.num_fds()
    assert not files.changed()


def test_heartbeats_are_found_and_read_again(mine: OpenFiles, closing: contextlib.ExitStack) -> None:
    descriptor = heartbeat_file(closing)
    mine.scan()
    os.utime(descriptor, (7.5, 7.5))
    os.fchmod(descriptor, 0o600)
    (seen,) = mine.heartbeats()
    file = os.fstat(descriptor)
    assert (seen.id, seen.mtime, seen.mode) == ((file.st_dev, file.st_ino), 7.5, 0o600)


def test_a_heartbeat_whose_descriptor_got_another_file_is_found_again(mine: OpenFiles) -> None:
    with contextlib.ExitStack() as first:
        descriptor = heartbeat_file(first)
        mine.scan()
    with contextlib.ExitStack() as second:
        keep = open("/dev/null")  # noqa: SIM115
        second.callback(keep.close)
        again = heartbeat_file(second)
        assert keep.fileno() == descriptor
        assert [each.inode for each in mine.heartbeats()] == [os.fstat(again).st_ino]


def test_a_scan_forgets_closed_sockets_and_finds_new_ones_behind_the_same_number(mine: OpenFiles) -> None:
    first = socket.socket()
    mine.scan()
    inode, number = os.fstat(first.fileno()).st_ino, first.fileno()
    assert inode in mine.sockets
    first.close()
    with socket.socket() as second:
        assert second.fileno() == number
        mine.scan(held=frozenset())
        assert os.fstat(number).st_ino in mine.sockets
        assert inode not in mine.sockets


def test_the_files_of_a_dead_process_say_that_it_is_gone(closing: contextlib.ExitStack) -> None:
    child = start(closing)
    files = closing.enter_context(contextlib.closing(OpenFiles(child.pid)))
    files.scan()
    child.kill()
    child.wait()
    for action in (files.count, files.scan):
        with pytest.raises((FileNotFoundError, ProcessLookupError)):
            action()


# The close look


def as_nobody(look: Callable[[], Seen]) -> Seen:
    """What another, unprivileged user would see; in a child, because a process cannot take its privileges back."""
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                file.write(pickle.dumps(look()))
                file.flush()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        file.seek(0)
        return pickle.loads(file.read())  # type: ignore[no-any-return]


def identity(pid: int) -> ProcessId:
    with contextlib.closing(ProcessTable()) as table:
        return table.read()[pid].id


def test_a_closeup_tells_busy_threads_from_idle_ones(closing: contextlib.ExitStack) -> None:
    child = start(closing, sys.executable, "-c", "import threading, time\n"
                  "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
                  "while True: pass")  # fmt: skip
    reader = closing.enter_context(contextlib.closing(ProcReader()))
    process = identity(child.pid)

    def once_both_run() -> Closeup | None:
        seen = reader.closeup(process, ())
        asleep = seen is not None and len(seen.threads) == 2 and "sleep" in (seen.threads[1].wchan or "")
        return seen if asleep else None  # a thread that still waits for the GIL has a futex for a wait channel

    first = eventually("one thread sleeps", once_both_run)
    eventually("it burns CPU", lambda: sum(psutil.Process(child.pid).cpu_times()[:2]) > first.threads[0].cpu_s + 0.3)
    second = reader.closeup(process, ())
    assert second is not None
    busy, idle = second.threads
    assert busy.tid == child.pid
    assert busy.cpu_s - first.threads[0].cpu_s >= 0.25
    assert (idle.cpu_s, idle.switches) == (first.threads[1].cpu_s, first.threads[1].switches)
    assert idle.wchan
    oracle = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(child.pid).threads()}
    assert {thread.tid: pytest.approx(thread.cpu_s, abs=0.2) for thread in second.threads} == oracle


def test_the_switches_of_a_closeup_are_psutils(closing: contextlib.ExitStack) -> None:
    child = start(closing)
    oracle = psutil.Process(child.pid)
    eventually("it sleeps", lambda: oracle.status() == psutil.STATUS_SLEEPING)
    reader = closing.enter_context(contextlib.closing(ProcReader()))

    def between_equal_answers() -> bool:
        before = sum(oracle.num_ctx_switches())
        seen = reader.closeup(identity(child.pid), ())
        assert seen is not None
        return seen.threads[0].switches == before

    eventually("both say the same", between_equal_answers)


def test_a_closeup_of_somebody_gone_or_somebody_else_is_none(closing: contextlib.ExitStack) -> None:
    child = start(closing)
    with contextlib.closing(ProcReader()) as reader:
        process = identity(child.pid)
        assert reader.closeup(ProcessId(pid=process.pid, started=process.started - 1), ()) is None
        child.kill()
        child.wait()
        assert reader.closeup(process, ()) is None


@pytest.mark.needs_root("become somebody else")
def test_what_another_user_is_refused_is_none_and_the_rest_is_there(closing: contextlib.ExitStack) -> None:
    child = start(closing)
    process = identity(child.pid)
    seen = as_nobody(lambda: ProcReader().closeup(process, ()))
    assert seen is not None
    assert seen.connections is None
    assert len(seen.threads) == 1


PUPPET = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
held = [server.accept()[0] for _ in range(2)]
print("held", flush=True)
sys.stdin.readline()
number = held[0].detach()
os.dup2(os.open("/dev/null", os.O_RDONLY), number)
os.close(number + 2)
print("swapped", flush=True)
sys.stdin.readline()
"""


def test_a_connection_that_gave_its_place_to_a_file_is_missed_for_five_looks_at_most(
    closing: contextlib.ExitStack, tmp_path: Path
) -> None:
    program = tmp_path / "gunicorn"
    program.write_text(PUPPET)
    pipe = subprocess.PIPE
    child = closing.enter_context(subprocess.Popen([sys.executable, program], stdin=pipe, stdout=pipe, text=True))
    closing.callback(child.kill)
    assert child.stdin and child.stdout  # noqa: PT018
    port = int(child.stdout.readline())
    for _ in range(2):
        closing.enter_context(socket.create_connection(("127.0.0.1", port)))
    assert child.stdout.readline() == "held\n"
    reader = closing.enter_context(contextlib.closing(ProcReader()))

    def seen() -> tuple[int | None, int]:
        process = next(each for each in reader.look(within=child.pid).processes if each.id.pid == child.pid)
        return process.fd_count, len(process.connections or ())

    before = [seen() for _ in range(6)][-1]
    assert before[1] == 2
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "swapped\n"
    after = [seen() for _ in range(5)][-1]
    assert after == (before[0], 1)


def test_a_look_without_a_server_is_a_list_of_processes() -> None:
    with contextlib.closing(ProcReader()) as reader:
        seen = reader.look(within=os.getpid())
    assert seen.observer_pid == os.getpid()
    assert seen.listeners == ()
    assert {process.id.pid for process in seen.processes} >= {os.getpid(), 1}
    assert all(process.fd_count is None for process in seen.processes)
    assert seen.at == pytest.approx(time.time(), abs=30)
    assert seen.monotonic == pytest.approx(time.monotonic(), abs=30)


def test_looks_amid_a_storm_of_births_and_deaths_never_fail(closing: contextlib.ExitStack) -> None:
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            subprocess.run(["true"], check=False)

    threads = [threading.Thread(target=storm) for _ in range(3)]
    with contextlib.closing(ProcReader()) as reader:
        for thread in threads:
            thread.start()
        try:
            for _ in range(100):
                assert reader.look().processes
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_forked_children_of_the_tests_are_seen_as_children(table: ProcessTable) -> None:
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=time.sleep, args=(600,))
    child.start()
    try:
        assert child.pid is not None
        assert table.read()[child.pid].ppid == os.getpid()
    finally:
        child.kill()
        child.join()
