"""What threads wait on: the words in tables, and the looks at real processes that wait in every way we name."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_sidecar.core.endpoints import Endpoint, parse_inet
from wsgi_sidecar.core.syscalls import TABLES, Call, parse_call
from wsgi_sidecar.core.targets import Target
from wsgi_sidecar.core.waits import explain
from wsgi_sidecar.waits import read_waits

DATABASE = Target(
    role="peer",
    endpoint=Endpoint(
        protocol="tcp", state="established", local="10.0.0.7:40112", remote="10.0.0.5:5432", local_port=40112,
        remote_port=5432,
    ),
)  # fmt: skip
CONNECTING = Target(
    role="peer",
    endpoint=Endpoint(
        protocol="tcp", state="connecting", local="10.0.0.7:40113", remote="10.0.0.9:6379", local_port=40113,
        remote_port=6379,
    ),
)  # fmt: skip
CLIENT = Target(
    role="client",
    endpoint=Endpoint(
        protocol="tcp", state="established", local="10.0.0.7:8000", remote="10.1.1.1:3306", local_port=8000,
        remote_port=3306,
    ),
)  # fmt: skip
LISTENER = Target(
    role="listener",
    endpoint=Endpoint(protocol="tcp", state="listening", local="0.0.0.0:8000", remote=None, local_port=8000),
)
POSTGRES_FILE = Target(
    role="peer",
    endpoint=Endpoint(protocol="unix", state="established", local="", remote="unix:/run/postgresql/.s.PGSQL.5432"),
)
PIPE = Target(role="pipe")
FILE = Target(role="file", path="/data/cache.db")
UNTOLD = Target(role="unknown")


def said(name, *targets, state="S", wchan="", arguments=(3, 0, 0, 0, 0, 0)):
    call = Call(number=1, name=name, arguments=arguments)
    return explain(thread=7, state=state, call=call, wchan=wchan, targets=targets)


@pytest.mark.parametrize(
    ("name", "targets", "kind", "doing"),
    [
        ("recvfrom", [DATABASE], "network", "reads from 10.0.0.5:5432 (PostgreSQL)"),
        ("read", [POSTGRES_FILE], "network", "reads from unix:/run/postgresql/.s.PGSQL.5432 (PostgreSQL)"),
        ("sendto", [DATABASE], "network", "writes to 10.0.0.5:5432 (PostgreSQL)"),
        ("connect", [CONNECTING], "network", "connects to 10.0.0.9:6379 (Redis), which has not answered yet"),
        ("poll", [CONNECTING], "network", "connects to 10.0.0.9:6379 (Redis), which has not answered yet"),
        ("poll", [DATABASE], "network", "waits for 10.0.0.5:5432 (PostgreSQL)"),
        ("ppoll", [DATABASE, PIPE], "network", "waits for 10.0.0.5:5432 (PostgreSQL)"),
        ("recvfrom", [CLIENT], "client", "reads the request of client 10.1.1.1:3306"),
        ("sendto", [CLIENT], "client", "sends a response to client 10.1.1.1:3306"),
        ("select", [CLIENT], "client", "waits for client 10.1.1.1:3306"),
        ("accept4", [LISTENER], "listener", "waits for a connection on 0.0.0.0:8000"),
        ("select", [LISTENER, PIPE], "listener", "waits for a connection on 0.0.0.0:8000"),
        ("epoll_wait", [LISTENER, PIPE], "listener", "waits for a connection on 0.0.0.0:8000"),
        (
            "epoll_wait",
            [LISTENER, CLIENT, CLIENT, DATABASE, PIPE],
            "events",
            "waits for a connection on 0.0.0.0:8000 or 2 clients or 10.0.0.5:5432 (PostgreSQL)",
        ),
        (
            "poll",
            [DATABASE, DATABASE, CONNECTING],
            "events",
            "waits for 10.0.0.5:5432 (PostgreSQL) (2 times), 10.0.0.9:6379 (Redis)",
        ),
        ("select", [], "sleep", "sleeps (on no descriptor, with a timeout)"),
        ("poll", [PIPE], "pipe", "waits for 1 pipe"),
        ("read", [PIPE], "pipe", "reads from a pipe"),
        ("write", [PIPE], "pipe", "writes to a pipe that nobody drains"),
        ("read", [FILE], "disk", "reads from /data/cache.db"),
        ("read", [UNTOLD], "unknown", "reads from a descriptor that could not be told"),
        ("fsync", [FILE], "disk", "waits until /data/cache.db is on disk (fsync)"),
        ("flock", [FILE], "lock", "waits for the lock on /data/cache.db"),
        ("futex", [], "lock", "waits for a lock or for work (futex)"),
        ("clock_nanosleep", [], "sleep", "sleeps (clock_nanosleep)"),
        ("openat", [], "disk", "waits for a file system (openat)"),
    ],
)
def test_a_call_is_told_in_words(name, targets, kind, doing):
    wait = said(name, *targets)
    assert (wait.kind, wait.doing, wait.syscall, wait.thread) == (kind, doing, name, 7)


def test_a_peer_and_its_service_stand_on_their_own_for_counting():
    wait = said("recvfrom", DATABASE)
    assert (wait.peer, wait.service) == ("10.0.0.5:5432", "PostgreSQL")


def test_the_port_of_a_client_names_no_service():
    assert said("recvfrom", CLIENT).service is None


def test_a_child_is_named_by_its_pid():
    assert "child process 4711 " in said("wait4", arguments=(4711, 0, 0, 0, 0, 0)).doing
    assert "child process 4711 " in said("waitid", arguments=(1, 4711, 0, 0, 0, 0)).doing
    assert "a child process " in said("wait4", arguments=(0xFFFFFFFFFFFFFFFF, 0, 0, 0, 0, 0)).doing


def test_only_a_waiting_fcntl_is_a_lock():
    assert said("fcntl", FILE, arguments=(3, 7, 0, 0, 0, 0)).kind == "lock"
    assert said("fcntl", FILE, arguments=(3, 1, 0, 0, 0, 0)).kind == "unknown"


@pytest.mark.parametrize(
    ("state", "call", "wchan", "kind"),
    [
        ("R", Call(running=True), "", "cpu"),
        ("D", Call(), "folio_wait_bit_common", "disk"),
        ("T", Call(number=7, name="poll"), "do_signal_stop", "stopped"),
        ("t", None, "", "stopped"),
        ("S", None, "futex_do_wait", "lock"),
        ("S", None, "do_epoll_wait", "events"),
        ("S", None, "wait_woken", "network"),
        ("D", None, "rpc_wait_bit_killable", "disk"),
        ("D", None, "some_driver_wait", "disk"),
        ("R", None, "", "cpu"),
        ("S", None, "", "unknown"),
        ("S", Call(number=9999), "nfs4_wait", "disk"),
        ("Z", None, "", "unknown"),
    ],
)
def test_where_the_call_is_not_told_the_state_and_the_kernel_function_tell(state, call, wchan, kind):
    wait = explain(thread=1, state=state, call=call, wchan=wchan, targets=None)
    assert wait.kind == kind
    assert wait.doing


def test_descriptors_that_could_not_be_told_are_said_to_be_so():
    call = Call(number=7, name="poll", arguments=(1, 2, 3))
    wait = explain(thread=1, state="S", call=call, wchan="", targets=None)
    assert wait.doing == "waits for events on descriptors that could not be told"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("running\n", Call(running=True)),
        ("-1 0x7ffc 0x7f66\n", Call()),
        ("0 0x7 0x1 0x1 0x0 0x0 0x0 0x7f 0x7f\n", Call(number=0, name="read", arguments=(7, 1, 1, 0, 0, 0))),
        ("9999 0x0 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f\n", Call(number=9999, arguments=(0,) * 6)),
        ("", None),
        ("what", None),
        ("0 zz", None),
    ],
)
def test_the_text_of_a_call_is_read(text, expected):
    assert parse_call(text, "x86_64") == expected


def test_the_same_number_is_another_call_on_another_machine():
    text = "98 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0"
    assert parse_call(text, "aarch64").name == "futex"
    assert parse_call(text, "x86_64").name is None
    assert parse_call(text, "riscv64").name is None


@pytest.mark.parametrize(("machine", "header"), [("x86_64", "asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")])
def test_the_tables_agree_with_the_kernels_own_headers(machine, header):
    names = sorted(TABLES[machine].values())
    probe = "\n".join([f"#include <{header}>", *(f"{name} = __NR_{name}" for name in names)])
    flags = ["-P", "-D__BITS_PER_LONG=64", "-D__ARCH_WANT_RENAMEAT", "-D__ARCH_WANT_NEW_STAT"]
    try:
        run = subprocess.run(["cpp", *flags], input=probe, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a C preprocessor and the kernel's headers")
    said = dict(re.findall(r"^(\w+) = (\d+)$", run.stdout, re.MULTILINE))
    assert len(said) > len(names) - 3  # headers older than the newest calls
    assert {name: number for number, name in TABLES[machine].items() if name in said} == {
        name: int(number) for name, number in said.items()
    }


@pytest.mark.parametrize(
    ("line", "protocol", "inode", "local", "remote", "state"),
    [
        (
            "  1: 0100007F:1F40 0500000A:1538 01 00000000:00000000 00:00000000 00000000  0  0 4711 1 0 20 4 30 10 -1",
            "tcp", 4711, "127.0.0.1:8000", "10.0.0.5:5432", "established",
        ),
        (
            "  0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 99 1 0 100 0 0 10 0",
            "tcp", 99, "0.0.0.0:8000", None, "listening",
        ),
        (
            "  0: 00000000000000000000000001000000:1F40 00000000000000000000000001000000:C350 08 0:0 00:0 0 0 0 5 1",
            "tcp", 5, "[::1]:8000", "[::1]:50000", "half-closed",
        ),
        (
            "  0: 0000000000000000FFFF00000100007F:1F40 0000000000000000FFFF00000500000A:C350 01 0:0 00:0 0 0 0 6 1",
            "tcp", 6, "127.0.0.1:8000", "10.0.0.5:50000", "established",
        ),
        (
            " 10: 0700000A:A1B2 0A00600A:0035 01 00000000:00000000 00:00000000 00000000 0 0 12 2 0000000000000000 0",
            "udp", 12, "10.0.0.7:41394", "10.96.0.10:53", "established",
        ),
    ],
)  # fmt: skip
def test_a_line_of_the_kernels_socket_table_is_read(line, protocol, inode, local, remote, state):
    number, endpoint = parse_inet(line, protocol)
    assert (number, endpoint.local, endpoint.remote, endpoint.state) == (inode, local, remote, state)


@pytest.mark.parametrize(
    "line", ["", "  sl  local_address rem_address st", "1: zz:1 0:0 01 0 0 0 0 0 1", "1: 00:1 00:1"]
)
def test_a_line_that_is_no_socket_is_left_out(line):
    assert parse_inet(line, "tcp") is None


WORDS = st.one_of(
    st.text(max_size=12), st.integers().map(str), st.integers().map(hex), st.sampled_from(["running", "-1"])
)
LINES = st.one_of(st.text(), st.lists(WORDS, max_size=14).map(" ".join))


@given(text=LINES, machine=st.sampled_from([*TABLES, "s390x"]))
def test_no_text_of_a_call_brings_the_reading_down(text, machine):
    call = parse_call(text, machine)
    for state in "RSDTZ?":
        assert explain(thread=1, state=state, call=call, wchan=text, targets=()).doing


HEX = st.text(alphabet="0123456789ABCDEFg:", max_size=40)


@given(fields=st.lists(st.one_of(HEX, st.integers().map(str)), min_size=3, max_size=14))
def test_no_line_of_a_socket_table_brings_the_reading_down(fields):
    parsed = parse_inet(" ".join(fields), "tcp")
    assert parsed is None or parsed[1].protocol == "tcp"


TARGETS = st.lists(
    st.sampled_from([DATABASE, CONNECTING, CLIENT, LISTENER, POSTGRES_FILE, PIPE, FILE, UNTOLD, Target(role="epoll"),
                     Target(role="event"), Target(role="peer"), Target(role="client"), Target(role="listener")]),
    max_size=6,
)  # fmt: skip


@given(number=st.sampled_from(sorted(TABLES["x86_64"])), targets=TARGETS, arguments=st.lists(st.integers(0, 2**64 - 1)))
def test_every_call_on_any_descriptors_has_words(number, targets, arguments):
    call = Call(number=number, name=TABLES["x86_64"][number], arguments=tuple(arguments))
    wait = explain(thread=1, state="S", call=call, wchan="", targets=targets)
    assert wait.doing
    assert "None" not in wait.doing


# From here on: real processes.


@pytest.fixture
def program():
    """Starts a Python program and waits until its main thread does what the test expects."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def settled(pid, predicate, deadline_s=30.0):
    """The first look at the process whose threads fulfil the predicate."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        waits = read_waits(pid)
        with contextlib.suppress(IndexError):
            if predicate(waits.threads):
                return waits
        time.sleep(0.02)
    raise AssertionError(f"it never came to that; last seen: {waits}")


@pytest.fixture
def silent_server():
    """A listener on loopback that accepts and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield listener


RECEIVE = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); c.recv(1)"
RECEIVE_WITH_TIMEOUT = (
    "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); c.settimeout(60); c.recv(1)"
)


@pytest.mark.parametrize(("code", "verb"), [(RECEIVE, "reads from"), (RECEIVE_WITH_TIMEOUT, "waits for")])
def test_a_process_that_waits_for_its_database_names_the_address(program, silent_server, code, verb):
    port = silent_server.getsockname()[1]
    process = program(code, str(port))
    waits = settled(process.pid, lambda threads: threads[0].kind == "network" and threads[0].syscall != "connect")
    assert waits.threads[0].doing == f"{verb} 127.0.0.1:{port}"
    assert waits.threads[0].peer == f"127.0.0.1:{port}"
    assert waits.unknowns == ()


SERVE_SLOW_CLIENT = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0)); client = socket.create_connection(listener.getsockname())
accepted, _ = listener.accept(); accepted.recv(1)
"""


def test_a_server_that_waits_for_a_slow_client_says_client(program):
    process = program(SERVE_SLOW_CLIENT)
    waits = settled(process.pid, lambda threads: threads[0].kind == "client")
    assert waits.threads[0].doing.startswith("reads the request of client 127.0.0.1:")


UNIX_CLIENT = "import socket, sys; c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]); c.recv(1)"


def test_the_far_end_of_a_unix_socket_is_named_by_its_path(program, tmp_path):
    path = str(tmp_path / ".s.PGSQL.5432")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = program(UNIX_CLIENT, path)
        accepted, _ = listener.accept()
        waits = settled(process.pid, lambda threads: threads[0].kind == "network")
        accepted.close()
    assert waits.threads[0].doing == f"reads from unix:{path} (PostgreSQL)"


FLOCK = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX)"


def test_a_process_that_waits_for_a_file_lock_names_the_file(program, tmp_path):
    import fcntl

    path = tmp_path / "cache.lock"
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = program(FLOCK, str(path))
        waits = settled(process.pid, lambda threads: threads[0].kind == "lock" and "the lock" in threads[0].doing)
    assert waits.threads[0].doing == f"waits for the lock on {path}"


@pytest.mark.parametrize(
    ("code", "kind", "part"),
    [
        ("import time; time.sleep(60)", "sleep", "sleeps"),
        ("while True: pass", "cpu", "runs on a CPU"),
        ("import threading; l = threading.Lock(); l.acquire(); l.acquire()", "lock", "lock or for work"),
        ("import subprocess; subprocess.run(['sleep', '60'])", "child", "waits for child process "),
        ("import sys; sys.stdin.read()", "pipe", "reads from a pipe"),
        (
            "import os; r, w = os.pipe(); os.set_blocking(w, True)\nwhile True: os.write(w, bytes(4096))",
            "pipe",
            "drains",
        ),
        ("import select, os; r, w = os.pipe(); select.select([r], [], [])", "pipe", "waits for 1 pipe"),
        ("import select; select.select([], [], [], 60)", "sleep", "sleeps"),
        (
            "import socket; s = socket.create_server(('127.0.0.1', 0)); s.accept()",
            "listener",
            "waits for a connection on 127.0.0.1:",
        ),
        (
            "import socket, selectors; s = socket.create_server(('127.0.0.1', 0))\n"
            "e = selectors.EpollSelector(); e.register(s, 1); e.select(60)",
            "listener",
            "waits for a connection on 127.0.0.1:",
        ),
        (
            "import socket, select; s = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]\n"
            "select.select(s, [], [], 60)",
            "listener",
            "waits for a connection on 127.0.0.1:",
        ),
    ],
)
def test_a_real_process_is_seen_to_do_what_it_does(program, code, kind, part):
    process = program(code)
    waits = settled(process.pid, lambda threads: threads[0].kind == kind and part in threads[0].doing)
    assert waits.threads[0].thread == process.pid


def test_a_stopped_process_is_not_taken_for_a_waiting_one(program):
    process = program("import time; time.sleep(60)")
    settled(process.pid, lambda threads: threads[0].kind == "sleep")
    process.send_signal(signal.SIGSTOP)
    waits = settled(process.pid, lambda threads: threads[0].kind == "stopped")
    assert "SIGCONT" in waits.threads[0].doing


THREADS = """
import threading, time
for _ in range(4): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
threading.Event().wait()
"""


def test_the_main_thread_comes_first_and_the_look_is_bounded(program):
    process = program(THREADS)
    # The main thread may wait before the others have come to their sleep.
    waits = settled(process.pid, lambda threads: [each.kind for each in threads] == ["lock", *["sleep"] * 4])
    assert waits.threads[0].thread == process.pid
    bounded = read_waits(process.pid, at_most=2)
    assert len(bounded.threads) == 2
    assert bounded.left_out == 3


def test_a_process_that_is_gone_has_no_threads(program):
    process = program("pass")
    process.wait()
    assert read_waits(process.pid).threads == ()


def test_a_machine_without_a_table_says_so_and_still_tells_the_kernel_function(program):
    process = program("import time; time.sleep(60)")
    settled(process.pid, lambda threads: threads[0].kind == "sleep")
    waits = read_waits(process.pid, machine="s390x")
    assert waits.threads[0].kind == "sleep"
    assert "s390x" in waits.unknowns[0].why


LOOK_AS_NOBODY = """
import os, sys
from wsgi_sidecar.waits import read_waits
os.setgroups([]); os.setgid(65534); os.setuid(65534)
waits = read_waits(int(sys.argv[1]))
print(len(waits.threads), waits.threads[0].syscall, waits.unknowns[0].remedy, sep="|")
"""


@pytest.mark.needs_root("start a look as another user")
def test_a_refused_look_says_what_to_do(program):
    process = program("import time; time.sleep(60)")
    settled(process.pid, lambda threads: threads[0].kind == "sleep")
    run = subprocess.run(
        [sys.executable, "-c", LOOK_AS_NOBODY, str(process.pid)], capture_output=True, text=True, check=True, timeout=60
    )
    count, syscall, remedy = run.stdout.strip().split("|")
    assert (count, syscall) == ("1", "None")
    assert "runAsUser" in remedy
