"""Whether each rule's story goes red without the rule: `make red`; one of them: `BENCH_ARGS="--only frozen-worker"`.

Out: a row for each kind of incident and each cause of a restart: its end-to-end story with the rule, and without it.
Rule: the story is told twice in a copy of the tree with a virtualenv of its own, untouched and then with the rule's one
line taken out; with it the story must be green, without it red by an assertion. An error, a skip or a story that stays
green proves nothing and fails the command. Both tellings are equally impatient, so that waiting in vain is short.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from benchmarks.tables import keep, progress, show
from tests.servers.rooms import find_uv, prepare

ROOT: Final = Path(__file__).resolve().parents[1]
CORE: Final = Path("sidecar/src/wsgi_sidecar/core")
STORIES: Final = Path("tests/incidents")
AT_ONCE: Final = 3
PATIENCE_S: Final = 30.0
LONGEST_S: Final = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One rule and its quickest story.

    Attributes:
        file: where the rule is put into use, below the sidecar's core.
        line: that does it.
        story: a test, below tests/incidents.
    """

    file: str
    line: str
    story: str


def _kind(module: str, story: str) -> Proof:
    return Proof(file="diagnosis.py", line=f"    {module}.RULE,\n", story=story)


def _cause(line: str, story: str) -> Proof:
    return Proof(file="departures.py", line=f"    {line},\n", story=story)


PROOFS: Final[dict[str, Proof]] = {
    "frozen-worker": _kind(
        "frozen_worker",
        "test_frozen_worker.py::test_a_frozen_worker_serves_nobody_until_it_is_killed_and_replaced[23.0.0]",
    ),
    "stuck-arbiter": _kind(
        "stuck_arbiter", "test_stuck_arbiter.py::test_a_stuck_arbiter_is_told_and_its_server_ended[twin 23.0.0]"
    ),
    "orphan-processes": _kind(
        "orphan_processes", "test_orphan_processes.py::test_what_a_dead_worker_left_behind_is_ended[fork]"
    ),
    "shared-socket": _kind(
        "shared_socket",
        "test_shared_socket.py::test_a_connection_opened_before_the_fork_is_told_as_a_risk_and_then_as_an_incident"
        "[Redis-23.0.0]",
    ),
    "worker-timeout": _kind(
        "worker_timeout", "test_worker_timeout.py::test_a_storm_is_told_with_what_the_requests_waited_on[27.0.1]"
    ),
    "stuck-request": _kind(
        "stuck_request", "test_stuck_request.py::test_a_stuck_request_is_told_with_what_it_waits_on[gthread 27.0.1]"
    ),
    "boot-hang": _kind("boot_hang", "test_boot_hang.py::test_it_is_ended_at_its_limit_with_its_stack[27.0.1]"),
    "connection-saturation": _kind(
        "connection_saturation",
        "test_connection_saturation.py::test_clients_beyond_the_backlog_are_told_with_who_was_turned_away",
    ),
    "oom-kill": _kind(
        "oom_kill", "test_memory.py::test_a_worker_that_the_kernel_kills_for_memory_is_told_and_counted"
    ),
    "memory-limit": _kind(
        "memory_limit", "test_memory.py::test_a_policy_has_a_growing_worker_recycled_before_the_kernel_takes_one"
    ),
    "restart: watchdog": _cause(
        '("watchdog", _by_us)', "test_frozen_worker.py::test_the_restart_is_counted_as_the_watchdog_s[23.0.0]"
    ),
    "restart: oom": _cause(
        '("oom", _out_of_memory)', "test_memory.py::test_a_worker_that_the_kernel_kills_for_memory_is_told_and_counted"
    ),
    "restart: timeout": _cause(
        '("timeout", _timed_out)', "test_worker_timeout.py::test_one_timeout_is_counted_and_no_incident"
    ),
    "restart: boot-error": _cause(
        '("boot-error", _boot_error)', "test_restarts.py::test_a_restart_has_its_cause[boot error 27.0.1]"
    ),
    "restart: reload": _cause(
        '("reload", _reloaded)', "test_restarts.py::test_a_restart_has_its_cause[reload 27.0.1 gthread]"
    ),
    "restart: max_requests": _cause(
        '("max_requests", _had_its_requests)',
        "test_restarts.py::test_a_restart_has_its_cause[max_requests 20.1.0 sync]",
    ),
    "restart: signal": _cause(
        '("signal", _signalled)', "test_restarts.py::test_a_restart_has_its_cause[SIGTERM 23.0.0]"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a story ended.

    Attributes:
        colour: `green`; `red` by an assertion; `skipped`; `broken` by anything else.
        words: the assertion's, the skip's or the error's first line.
        seconds: that it took.
    """

    colour: str
    words: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One proof, tried."""

    having: Told
    lacking: Told

    @property
    def sound(self) -> bool:
        """Whether it proves what it says."""
        return (self.having.colour, self.lacking.colour) == ("green", "red")


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tree, with a virtualenv in which the copy's packages are installed."""
    uv = find_uv()
    if uv is None:
        raise SystemExit("needs uv, which `make red` brings")
    with tempfile.TemporaryDirectory(prefix="wsgi-red-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__"))
        environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(copy / ".venv")}
        subprocess.run([uv, "sync", "--quiet", "--frozen"], cwd=copy, env=environment, check=True)
        yield copy


def tried(proof: Proof, copy: Path) -> Tried:
    """The story with the rule, then without it; the copy is as before afterwards."""
    file = copy / CORE / proof.file
    text = file.read_text()
    if text.count(proof.line) != 1:
        raise SystemExit(f"{proof.file} has the line {proof.line.strip()!r} {text.count(proof.line)} times, not once")
    having = tell(proof.story, copy)
    file.write_text(text.replace(proof.line, ""))
    try:
        return Tried(having=having, lacking=tell(proof.story, copy))
    finally:
        file.write_text(text)


def tell(story: str, copy: Path) -> Told:
    """One test, by the copy's own Python."""
    result, began = copy / "result.xml", time.monotonic()
    result.unlink(missing_ok=True)
    command = [str(copy / ".venv/bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={result}"]
    environment = os.environ | {"WSGI_TEST_PATIENCE_S": f"{PATIENCE_S:g}"}
    try:
        done = subprocess.run(
            [*command, str(STORIES / story)], cwd=copy, env=environment, capture_output=True, text=True, check=False,
            timeout=LONGEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Told(colour="broken", words=f"not over within {LONGEST_S:g} s", seconds=LONGEST_S)
    colour, words = verdict(result, done)
    return Told(colour=colour, words=words, seconds=time.monotonic() - began)


def verdict(result: Path, done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """What pytest wrote down about the one test; whatever else happened is told as it stands."""
    cases = list(ElementTree.parse(result).iter("testcase")) if result.exists() else []
    if len(cases) != 1:
        return "broken", (done.stdout + done.stderr).strip().rpartition("\n")[2]
    marks = {child.tag: child.get("message", "").partition("\n")[0] for child in cases[0]}
    if "skipped" in marks:
        return "skipped", marks["skipped"]
    # A story that is told by a fixture fails in there.
    words = marks.get("failure", marks.get("error", "")).removeprefix('failed on setup with "')
    if words:
        return ("red" if words.startswith(("AssertionError", "assert ")) else "broken"), words
    return ("green", "") if done.returncode == 0 else ("broken", f"pytest ended with {done.returncode}")


def all_tried(names: list[str], at_once: int) -> dict[str, Tried]:
    """So many at the same time, each in a copy of its own."""
    with ExitStack() as stack, ThreadPoolExecutor(at_once) as pool:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for copy in pool.map(lambda _: stack.enter_context(copied()), range(min(at_once, len(names)))):
            copies.put(copy)

        def in_turn(name: str) -> Tried:
            copy = copies.get()
            try:
                found = tried(PROOFS[name], copy)
            finally:
                copies.put(copy)
            progress(f"{name}: {found.having.colour} with it, {found.lacking.colour} without it")
            return found

        return dict(zip(names, pool.map(in_turn, names), strict=True))


def row(name: str, found: Tried) -> list[str]:
    """Of the table."""
    shown = [f"{told.colour}, {told.seconds:.0f} s" for told in (found.having, found.lacking)]
    words = found.lacking.words if found.having.colour == "green" else found.having.words
    return [name, PROOFS[name].story.partition("::")[0], *shown, words.removeprefix("AssertionError: ")[:110]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PROOFS, nargs="+", help="some of them")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="stories at the same time")
    given = parser.parse_args()
    prepare()
    began, load = time.monotonic(), os.getloadavg()[0]
    found = all_tried(given.only or list(PROOFS), given.at_once)
    header = ["rule", "story", "with it", "without it", "what the story said without it"]
    show("Stories without their rules", header, [row(name, each) for name, each in found.items()])
    unsound = [name for name, each in found.items() if not each.sound]
    print(f"  {len(found) - len(unsound)} of {len(found)} proved in {time.monotonic() - began:.0f} s; load average "
          f"{load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} CPUs")  # fmt: skip
    for name in unsound:
        print(f"  NOT PROVED: {name}: {found[name]}")
    keep("red", {name: asdict(each) for name, each in found.items()})
    return 1 if unsound else 0


if __name__ == "__main__":
    sys.exit(main())
