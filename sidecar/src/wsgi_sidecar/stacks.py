"""Python stacks of another process, taken by py-spy without stopping it.

In: a process. Out: `Stacks`, or an `Unknown` that says why there are none and what to do. Rule: bounded in time and
size, never an exception: a kill does not wait for its souvenir. py-spy is optional; it is looked for on PATH and beside
our own Python.

`--nonblocking` reads the process while it runs (0 ms pause; it also works on a stopped process, where the other way
hangs), so a stack that changes meanwhile can come out garbled: then py-spy fails and is asked again.
"""

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from wsgi_contract.report import ProcessId, Unknown
from wsgi_sidecar.core.stacks import StackError, Stacks, parse_dump

TIMEOUT_S: Final = 2.0
"""py-spy takes 11 to 61 ms; two seconds mean that it never will."""
AT_MOST_BYTES: Final = 64 * 1024
"""For `render`: what an incident carries."""

_DUMP_AT_MOST_BYTES: Final = 8 * 1024 * 1024  # JSON is about 250 bytes for a frame: 600 threads with 50 frames each
_ATTEMPTS: Final = 3
_WHAT: Final = "Python stacks"
_YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")


def find_py_spy() -> str | None:
    """The program, on PATH or beside our Python; None where it is not installed."""
    beside = os.path.dirname(sys.executable)
    return shutil.which("py-spy") or shutil.which("py-spy", path=beside)


def take_stacks(
    process: ProcessId, *, timeout_s: float = TIMEOUT_S, program: str | None = None, proc: Path = Path("/proc")
) -> Stacks | Unknown:
    """Take the stacks of all threads; never raises, and returns within the timeout and a second.

    Args:
        process: whose; another process that got the same pid is told apart.
        timeout_s: for all attempts together.
        program: py-spy; None looks for it.
        proc: where /proc is.
    """
    program = program or find_py_spy()
    if program is None:
        remedy = "use the image wsgi-sidecar, which has it, or install wsgi-sidecar[stacks]"
        return Unknown(what=_WHAT, why="py-spy is not installed beside the sidecar", remedy=remedy)
    begun = time.monotonic()
    failed = _gone()
    for _ in range(_ATTEMPTS):
        if not _lives(process, proc):
            return _gone()
        left = begun + timeout_s - time.monotonic()
        ended = _run([program, "dump", "--nonblocking", "--json", "--pid", str(process.pid)], left)
        took = time.monotonic() - begun
        try:
            if isinstance(ended, str) and _lives(process, proc):
                return Stacks(process=process, threads=parse_dump(ended, process.pid), took_s=took)
            failed = ended if isinstance(ended, Unknown) else _gone()
        except StackError as error:
            failed = Unknown(what=_WHAT, why=str(error), remedy="install py-spy 0.4 or later")
        if took >= timeout_s:
            break
    return failed


def _run(command: list[str], timeout_s: float) -> str | Unknown:
    # Nothing of our environment: it may hold secrets, and RUST_BACKTRACE would bury the reason.
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}, cwd="/"
        )
    except OSError as error:
        why = f"{command[0]} could not be started: {error.strerror}"
        return Unknown(what=_WHAT, why=why, remedy="install wsgi-sidecar[stacks] anew")
    output = _collect(child, time.monotonic() + timeout_s)
    if output is None or not _ended(child):
        child.kill()
        _ended(child)
        why = f"py-spy did not finish within {timeout_s:.1f} s, or printed more than {_DUMP_AT_MOST_BYTES >> 20} MiB"
        return Unknown(what=_WHAT, why=why, remedy="none: the machine is too busy, or the process has too many threads")
    stdout, stderr = output
    return stdout.decode(errors="replace") if child.returncode == 0 else _reason(stderr.decode(errors="replace"))


def _ended(child: "subprocess.Popen[bytes]") -> bool:
    """Whether it ends within a second; one that the kernel holds on to is reaped by subprocess later."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(1.0)
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
    return child.returncode is not None


def _collect(child: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, bytes] | None:
    """Both outputs until they end; None past the deadline or the bound."""
    assert child.stdout is not None  # noqa: S101  they were asked for
    assert child.stderr is not None  # noqa: S101
    got = {child.stdout: bytearray(), child.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in got:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready or sum(map(len, got.values())) > _DUMP_AT_MOST_BYTES:
                return None
            for pipe in (child.stdout, child.stderr):
                if pipe in {key.fileobj for key, _ in ready}:
                    chunk = os.read(pipe.fileno(), 1 << 16)
                    got[pipe] += chunk
                    if not chunk:
                        selector.unregister(pipe)
    return bytes(got[child.stdout]), bytes(got[child.stderr])


def _lives(process: ProcessId, proc: Path) -> bool:
    try:
        fields = (proc / str(process.pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == str(process.started) and fields[0] not in "ZX"


def _gone() -> Unknown:
    return Unknown(what=_WHAT, why="the process is gone", remedy="none")


def _reason(stderr: str) -> Unknown:
    first = next((line.strip() for line in stderr.splitlines() if line.strip()), "no reason given")
    if "permission denied" in stderr.lower():
        scope = _yama()
        if scope not in (None, "0"):
            why = f"the node forbids looking into processes (kernel.yama.ptrace_scope is {scope})"
            remedy = "set kernel.yama.ptrace_scope=0 on the node, or give the sidecar CAP_SYS_PTRACE"
            return Unknown(what=_WHAT, why=why, remedy=remedy)
        why = f"the kernel refused py-spy (the sidecar runs as uid {os.getuid()}, gid {os.getgid()})"
        return Unknown(what=_WHAT, why=why, remedy="run the sidecar with the server's runAsUser and runAsGroup")
    why = f"py-spy could not read the process: {first[:200]}"
    return Unknown(what=_WHAT, why=why, remedy="none, if it is no Python process; else a py-spy that knows its Python")


def _yama() -> str | None:
    try:
        return _YAMA.read_text().strip()
    except OSError:
        return None
