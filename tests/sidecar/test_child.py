"""The server as our child: real processes, real signals. Any program will do as the server."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.processes import VARIABLE, end_marked, new_mark
from wsgi_sidecar.child import FORWARDED

READY = "print('ready', flush=True)\n"


@contextmanager
def run(code: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`wsgi-sidecar run` with Python code as the server; it has said `ready`."""
    command = [sys.executable, "-m", "wsgi_sidecar", "run", "--port", "0", "--", sys.executable, "-c", code, *arguments]
    mark = new_mark()
    environ = os.environ | environment | {VARIABLE: mark}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as sidecar:
        assert sidecar.stdout is not None
        try:
            assert sidecar.stdout.readline() == "ready\n"
            yield sidecar
        finally:
            end_marked(mark)  # the server too: nobody ends that of a sidecar that was killed


def said(sidecar: subprocess.Popen[str]) -> str:
    assert sidecar.stdout is not None
    return sidecar.stdout.readline().strip()


TELLS_SIGNALS = """
import signal
numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
           signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
while True:
    print(signal.sigwaitinfo(numbers).si_signo, flush=True)
"""


def test_every_signal_that_servers_listen_to_is_forwarded_once() -> None:
    with run(TELLS_SIGNALS) as sidecar:
        for number in sorted(FORWARDED):
            sidecar.send_signal(number)
            assert said(sidecar) == str(int(number))


GLIBC_S_OWN = 0b11 << 31
"""Signals 32 and 33: posix_spawn leaves them ignored in every child; glibc takes them back when it needs them."""


def test_the_server_starts_with_the_same_signals_blocked_and_ignored_as_without_us() -> None:
    code = (
        READY + "lines = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(*(lines[name].strip() for name in ('SigBlk', 'SigIgn')), flush=True)\n"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with run(code) as sidecar:
        masks = [int(mask, 16) & ~GLIBC_S_OWN for mask in said(sidecar).split()]
    assert masks == [int(mask, 16) & ~GLIBC_S_OWN for mask in alone.stdout.split()[1:]]


NOHUP = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-m", "wsgi_sidecar")


def test_what_nohup_ignores_the_server_finds_ignored() -> None:
    code = "import signal\n" + READY + "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)\ninput()"
    with subprocess.Popen(
        [*NOHUP, "run", "--port", "0", "--", sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as sidecar:  # fmt: skip
        assert (said(sidecar), said(sidecar)) == ("ready", "True")
        sidecar.send_signal(signal.SIGHUP)
        sidecar.communicate("go on\n", timeout=60)
    assert sidecar.returncode == 0


@pytest.mark.parametrize(("prefix", "last"), [(NOHUP, signal.SIGTERM), (NOHUP[4:], signal.SIGHUP)])
def test_watch_ends_well_when_told_to_but_not_by_a_hang_up_under_nohup(
    prefix: tuple[str, ...], last: signal.Signals
) -> None:
    command = [*prefix, "watch", "--port", "0", "--pid", str(os.getpid())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sidecar:
        assert sidecar.stderr is not None
        assert "listening" in sidecar.stderr.readline()
        if prefix == NOHUP:
            sidecar.send_signal(signal.SIGHUP)
        sidecar.send_signal(last)
        assert last.name in sidecar.communicate(timeout=60)[1]
    assert sidecar.returncode == 0


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)", 143),
    ],
)
def test_the_servers_end_is_ours(end: str, code: int) -> None:
    with run(f"import os, signal, sys\n{READY}{end}") as sidecar:
        assert sidecar.wait(timeout=60) == code


def test_what_the_server_leaves_behind_comes_to_us_and_is_reaped(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"  # a child whose own child outlives it
        "    parent = os.getpid()\n"
        "    if os.fork() == 0:\n"
        "        while os.getppid() == parent: time.sleep(0.01)\n"
        "        with open(sys.argv[1] + '.new', 'w') as told: told.write(f'{os.getpid()} {os.getppid()}')\n"
        "        os.rename(told.name, sys.argv[1])\n"
        "        os._exit(0)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n" + READY + "input()\n"
    )
    told = tmp_path / "told"
    with run(code, str(told)) as sidecar:
        orphan, adopter = (int(word) for word in told.read_text().split())
        assert adopter == sidecar.pid
        deadline = 3000
        while Path(f"/proc/{orphan}").exists() and deadline:
            deadline -= 1
            signal.sigtimedwait((), 0.01)
        assert deadline, "the orphan was not reaped"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("no-such-server", 127, "was not found on PATH"),
        ("./no-such-server", 127, "there is no program"),
        ("/etc", 126, "cannot start '/etc'"),
        ("/etc/passwd", 126, "Permission denied"),
    ],
)
def test_what_cannot_be_started_is_told_with_the_shells_code(command: str, code: int, words: str) -> None:
    arguments = [sys.executable, "-m", "wsgi_sidecar", "run", "--port", "0", "--", command]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert line.startswith("wsgi-sidecar: ")
    assert words in line


def test_a_script_without_its_interpreter_is_told(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    arguments = [sys.executable, "-m", "wsgi_sidecar", "run", "--port", "0", "--", str(script)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 127
    assert "interpreter (the #! line) is missing" in done.stderr
