"""Python stacks before a kill: the parsing and bounds in tables, the looks by the real py-spy at real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.server import Server, eventually
from wsgi_contract.report import ProcessId, Unknown
from wsgi_sidecar.core.stacks import Frame, StackError, Stacks, ThreadStack, parse_dump, render
from wsgi_sidecar.stacks import find_py_spy, take_stacks

SOMEBODY = ProcessId(pid=42, started=1)


def dumped(tid, name, *functions, active=False, gil=False):
    frames = [
        {"name": function, "filename": f"/app/{function}.py", "short_filename": f"{function}.py", "line": at,
         "locals": [{"name": "password", "repr": "'hunter2'"}]}
        for at, function in enumerate(functions, 1)
    ]  # fmt: skip
    return {"pid": 42, "os_thread_id": tid, "thread_name": name, "active": active, "owns_gil": gil, "frames": frames}


def test_a_dump_is_read_main_thread_first_then_who_holds_the_gil():
    text = json.dumps([dumped(50, "pool_0", "wait"), dumped(51, "pool_1", "spin", active=True, gil=True),
                       dumped(42, "MainThread", "accept")])  # fmt: skip
    threads = parse_dump(text, 42)
    assert [thread.name for thread in threads] == ["MainThread", "pool_1", "pool_0"]
    assert threads[1] == ThreadStack(
        thread=51, name="pool_1", active=True, holds_gil=True, frames=(Frame(function="spin", file="spin.py", line=1),)
    )


def test_local_variables_are_left_behind_even_if_py_spy_gives_them():
    threads = parse_dump(json.dumps([dumped(42, "MainThread", "login")]), 42)
    assert "hunter2" not in repr(threads)


def test_a_very_deep_stack_keeps_its_ends():
    threads = parse_dump(json.dumps([dumped(42, "MainThread", *(f"f{depth}" for depth in range(1000)))]), 42)
    assert len(threads[0].frames) == 50
    assert threads[0].frames_left_out == 950
    assert (threads[0].frames[0].function, threads[0].frames[-1].function) == ("f0", "f999")
    assert "... 950 frames left out ..." in render(Stacks(process=SOMEBODY, threads=threads, took_s=0.1), 65536)


def test_a_thread_name_cannot_forge_lines():
    threads = parse_dump(json.dumps([dumped(42, 'x"\n2026 ERROR all is lost\x1b[2J' + "y" * 500, "f")]), 42)
    text = render(Stacks(process=SOMEBODY, threads=threads, took_s=0.1), 65536)
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text
    assert len(threads[0].name) == 200


NO_DUMPS = (
    "", "[1]", "null", "3", "nonsense", '[{"frames": 1}]', '[{"frames": [{}]}]', "[" * 100_000,
    '[{"frames": [{"name": 1, "line": "x"}]}]',
)  # fmt: skip


@pytest.mark.parametrize("text", NO_DUMPS)
def test_what_is_no_dump_is_refused(text):
    with pytest.raises(StackError, match="something else"):
        parse_dump(text, 42)


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(
        ["frames", "name", "filename", "short_filename", "line", "os_thread_id", "thread_name", "active", "owns_gil"]
    ), inner)),
)  # fmt: skip


@given(raw=ANYTHING)
def test_no_dump_brings_the_reading_down(raw):
    try:
        threads = parse_dump(json.dumps(raw), 42)
    except StackError:
        return
    assert len(render(Stacks(process=SOMEBODY, threads=threads, took_s=0.0), 500).encode()) <= 500


def test_the_text_names_thread_state_function_and_line():
    threads = (
        ThreadStack(thread=42, name="MainThread", active=True, holds_gil=True,
                    frames=(Frame(function="run", file="gunicorn/workers/gthread.py", line=204),)),
        ThreadStack(thread=None, name="", active=False, holds_gil=False, frames=()),
    )  # fmt: skip
    assert render(Stacks(process=SOMEBODY, threads=threads, took_s=0.1), 65536) == (
        'thread 42 "MainThread" (runs, holds the GIL)\n    run (gunicorn/workers/gthread.py:204)\nthread ? (waits)'
    )


@pytest.mark.parametrize("at_most", [200, 1000, 4096, 65536])
def test_the_text_stays_within_its_bound_and_says_what_is_missing(at_most):
    threads = parse_dump(json.dumps([dumped(42 + at, "pöol", "f", "g") for at in range(1000)]), 42)
    text = render(Stacks(process=SOMEBODY, threads=threads, took_s=0.1), at_most)
    assert len(text.encode()) <= at_most
    kept = sum(line.startswith("thread ") for line in text.splitlines())
    assert kept == 1000 or text.endswith(f"and {1000 - kept} more threads, left out for their size")


# From here on: real processes and the real py-spy.


def started(pid):
    return ProcessId(pid=pid, started=int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]))


@pytest.fixture
def program():
    """Starts a Python program and waits until it says that it is ready."""
    running = []

    def start(code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


SPIN = """
import threading, time
def burn(card_number):
    while True: pass
threading.Thread(target=burn, args=("4111-1111",), name="burner", daemon=True).start()
def doze(): time.sleep(600)
print("ready", flush=True)
doze()
"""


def functions(stacks):
    assert isinstance(stacks, Stacks), stacks
    return {frame.function for thread in stacks.threads for frame in thread.frames}


def settled(process, *wanted):
    """Looks until the functions are there: between its word and its sleep a process does other things."""

    def look():
        stacks = take_stacks(started(process.pid))
        return stacks if isinstance(stacks, Stacks) and {*wanted} <= functions(stacks) else None

    return eventually(f"{wanted} are on the stacks", look)


def test_a_spinning_and_a_sleeping_thread_are_seen_without_a_pause(program):
    process = program(SPIN, "--password=hunter2")
    stacks = settled(process, "doze", "burn")
    assert stacks.threads[0].thread == process.pid
    assert stacks.threads[0].name == "MainThread"
    burner = next(thread for thread in stacks.threads if thread.name == "burner")
    assert burner.active
    assert os.path.exists(f"/proc/{process.pid}/task/{burner.thread}")
    assert stacks.took_s < 2.0


def test_no_secret_of_command_line_environment_or_variables_comes_along(program, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "tok-123456")
    process = program(SPIN, "--password=hunter2")
    text = render(settled(process, "doze", "burn"), 65536)
    assert "burn" in text
    for secret in ("hunter2", "tok-123456", "4111-1111"):
        assert secret not in text


def test_a_stopped_process_gives_its_stacks_and_stays_stopped(program):
    process = program(SPIN)
    settled(process, "doze", "burn")
    process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{process.pid}/stat")
    eventually("it is stopped", lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    assert {"doze", "burn"} <= functions(take_stacks(started(process.pid)))
    assert stat.read_text().rpartition(")")[2].split()[0] == "T"


def running(worker):
    stacks = take_stacks(started(worker))
    return stacks if isinstance(stacks, Stacks) and stacks.threads[0].active else None


@pytest.mark.servers
def test_a_frozen_gthread_worker_shows_where_it_spins():
    arguments = ("-k", "gthread", "-w", "1", "--threads", "3", "--worker-connections", "4")
    with Server("23.0.0", *arguments) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        try:
            (worker,) = server.worker_pids()
            stacks = eventually("the worker's main thread runs", lambda: running(worker))
        finally:
            for connection in silent:
                connection.close()
    assert any("gunicorn/workers/gthread.py" in frame.file for frame in stacks.threads[0].frames)


def test_a_reused_pid_gives_no_stacks_of_the_new_process(program):
    process = program(SPIN)
    stranger = ProcessId(pid=process.pid, started=started(process.pid).started - 1)
    refused = take_stacks(stranger)
    assert isinstance(refused, Unknown)
    assert "gone" in refused.why


def test_a_process_that_is_gone_is_a_value(program):
    process = program('print("ready", flush=True)')
    identity = started(process.pid)
    process.kill()
    process.wait()
    refused = take_stacks(identity)
    assert isinstance(refused, Unknown)
    assert "gone" in refused.why


def test_a_process_that_is_no_python_says_so():
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        refused = take_stacks(started(sleeper.pid))
    finally:
        sleeper.kill()
        sleeper.wait()
    assert isinstance(refused, Unknown)
    assert "Failed to find python version" in refused.why
    assert "\n" not in refused.why


def script(tmp_path, body):
    path = tmp_path / "py-spy"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def has_ended(note):
    pid = note.read_text().strip()
    assert pid, "it had no time to say who it is"
    return not os.path.exists(f"/proc/{pid}")


def test_a_py_spy_that_hangs_is_given_up_and_ended(program, tmp_path):
    process = program(SPIN)
    note = tmp_path / "pid"
    begun = time.monotonic()
    refused = take_stacks(
        started(process.pid), timeout_s=3.0, program=script(tmp_path, f"echo $$ > {note}; exec sleep 600")
    )
    assert isinstance(refused, Unknown)
    assert "did not finish within" in refused.why
    assert time.monotonic() - begun < 60
    assert has_ended(note)


def test_a_py_spy_that_closes_its_outputs_and_stays_is_ended(program, tmp_path):
    process = program(SPIN)
    note = tmp_path / "pid"
    path = script(tmp_path, f"echo $$ > {note}; exec sleep 600 >&- 2>&-")
    assert isinstance(take_stacks(started(process.pid), program=path), Unknown)
    assert has_ended(note)


def test_a_py_spy_that_never_stops_talking_is_given_up(program, tmp_path):
    process = program(SPIN)
    refused = take_stacks(started(process.pid), timeout_s=60, program=script(tmp_path, "exec yes"))
    assert isinstance(refused, Unknown)
    assert "MiB" in refused.why


def test_a_py_spy_that_is_missing_or_broken_says_how_to_get_it(program, tmp_path):
    process = program(SPIN)
    missing = take_stacks(started(process.pid), program=str(tmp_path / "nothing"))
    assert isinstance(missing, Unknown)
    assert "wsgi-sidecar[stacks]" in missing.remedy
    nonsense = take_stacks(started(process.pid), program=script(tmp_path, "echo hello"))
    assert isinstance(nonsense, Unknown)
    assert "something else" in nonsense.why


def test_py_spy_is_found_beside_our_python_when_path_has_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_py_spy() == str(Path(sys.executable).with_name("py-spy"))


def test_our_environment_is_not_handed_on(program, tmp_path, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "tok-123456")
    process = program(SPIN)
    refused = take_stacks(started(process.pid), program=script(tmp_path, "echo ${API_TOKEN:-none} >&2; exit 1"))
    assert isinstance(refused, Unknown)
    assert refused.why.endswith(": none")


LOOK_AS_NOBODY = """
import os, sys
from wsgi_contract.report import ProcessId
from wsgi_sidecar.stacks import take_stacks
os.setgroups([]); os.setgid(65534); os.setuid(65534)
told = take_stacks(ProcessId(pid=int(sys.argv[1]), started=int(sys.argv[2])), program=sys.argv[3])
print(told.why, told.remedy, sep="|")
"""


@pytest.mark.needs_root("start a look as another user")
def test_a_refused_look_says_which_user_to_run_as(program, tmp_path):
    # A copy that everybody may run: the one in a developer's home may be out of another user's reach.
    process, copy = program(SPIN), Path("/tmp") / f"py-spy-for-nobody-{os.getpid()}"
    copy.write_bytes(Path(find_py_spy()).read_bytes())
    copy.chmod(0o755)
    try:
        identity = started(process.pid)
        command = [sys.executable, "-c", LOOK_AS_NOBODY, str(identity.pid), str(identity.started), str(copy)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    finally:
        copy.unlink()
    assert "refused" in run.stdout or "ptrace_scope" in run.stdout
    assert "runAsUser" in run.stdout or "ptrace_scope" in run.stdout
