"""Our reading of gunicorn's settings, held against what each real release makes of the same words."""

import functools
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers.rooms import RELEASES, prepare, room_of
from wsgi_contract.servers.gunicorn import CMD_ARGS, ArgumentsError, Sources, effective_settings, merge_cmd_args
from wsgi_contract.settings import SETTING_NAMES, Wanted

pytestmark = pytest.mark.servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Words given to gunicorn; `unknown`: settings that may honestly stay unknown to us."""

    line: str = ""
    env: str | None = None
    concurrency: str | None = None
    file: str = ""
    unknown: frozenset[str] = field(default=frozenset())

    @property
    def arguments(self) -> list[str]:
        return [*self.line.split(), "apps:app"]

    def asked(self) -> dict[str, Any]:
        given = {CMD_ARGS: self.env, "WEB_CONCURRENCY": self.concurrency}
        environment = {name: text for name, text in given.items() if text is not None}
        return {"arguments": self.arguments, "environment": environment, "file": self.file}

    def sources(self) -> Sources:
        return Sources(
            command_line=tuple(self.arguments),
            cmd_args=self.env or "",
            web_concurrency=self.concurrency or "",
            config_file=self.file,
        )


ALL = frozenset(SETTING_NAMES)

CASES = (
    Case(),
    # Spellings
    Case(line="-w4"),
    Case(line="-w 4"),
    Case(line="-w=4"),
    Case(line="--workers=4"),
    Case(line="--workers 4"),
    Case(line="-Dw4"),
    Case(line="-RDw4 -t90"),
    Case(line="-w4 -w5 --workers 6"),
    Case(line="--thr 3 --grace 5 --keep 7 --back 9 --time 11"),
    Case(line="--max-requests 10 --max-requests-jitter=3"),
    Case(line="--pre"),
    Case(line="--preload -k gevent"),
    Case(line="--worker-class=gthread --worker-connections 20"),
    Case(line="--name=-w4 -w3"),
    Case(line="-w 3 -- -w 9"),
    Case(line="-w 3 --threads 2 other:app"),
    Case(line="--access-logformat %(h)s -e A=-w7 -w 2"),
    Case(line="--statsd-host localhost:8125 --limit-request-line 100 -t 0"),
    Case(line="-w +4"),
    Case(line="-w 1_0"),
    # sync with threads is gthread
    Case(line="--threads 2"),
    Case(line="-k sync --threads 2"),
    Case(line="-k gunicorn.workers.sync.SyncWorker --threads 2"),
    Case(line="-k gunicorn.workers.sync.SyncWorker"),
    Case(line="-k gevent --threads 2"),
    Case(line="--threads 1", env="-k sync --threads 4"),
    Case(env="--threads 4", file="worker_class = 'sync'"),
    # Precedence: file < environment < command line; WEB_CONCURRENCY is only a default
    Case(line="-w 4", env="-w 3", concurrency="2", file="workers = 1"),
    Case(env="-w 3", concurrency="2", file="workers = 1"),
    Case(concurrency="2", file="workers = 1"),
    Case(concurrency="2"),
    Case(concurrency=" 5 "),
    Case(env="--timeout 5 --preload", file="timeout = 9; preload_app = False"),
    Case(env="--timeout 5 --log-level 'de bug' --name \"a -w 9\" -w2"),
    Case(env="-c ./gunicorn.conf.py -w 2", file="threads = 2"),
    Case(env="-w 2\n--threads\t3"),
    Case(env=" "),
    Case(env="'--workers=8'"),
    Case(env="-w 3 # -w 5"),
    Case(env="-w 3 other:app"),
    # Config files: literals
    Case(file="workers = 4\ntimeout: int = 75\nthreads = 2"),
    Case(file="workers = threads = 3"),
    Case(file="workers, threads = 2, 4", unknown=frozenset({"workers", "threads", "worker_class"})),
    Case(file="workers = '4'\ntimeout = '0x10'\npreload_app = 'True'"),
    Case(file="preload_app = 'false'\nworkers = True"),
    Case(file="worker_class = ' gthread '"),
    Case(file="workers = 2\nworkers = 3"),
    Case(file="timeout = 60 * 2\nmax_requests = 1000 + 24 * 2\nkeepalive = 7 // 2\nbacklog = 64 - -2"),
    Case(file="max_requests = 10 ** 3", unknown=frozenset({"max_requests"})),
    Case(file="Workers = 9\nworker = 3"),
    Case(file="loglevel = 'info'\nbind = ['127.0.0.1:1']"),
    # Config files: what only running them would tell
    Case(file="import os\nworkers = int(os.environ.get('N', 3))", unknown=frozenset({"workers"})),
    Case(file="workers = 2\nworkers += 3", unknown=frozenset({"workers"})),
    Case(file="workers = 2\nif True:\n    workers = 5", unknown=frozenset({"workers"})),
    Case(file="if True:\n    workers = 5\nworkers = 2"),
    Case(file="for workers in range(5):\n    pass", unknown=frozenset({"workers"})),
    Case(file="(workers := 6)", unknown=frozenset({"workers"})),
    Case(file="from os import O_RDWR as workers", unknown=frozenset({"workers"})),
    Case(file="from math import *\nworkers = 3", unknown=ALL - {"workers"}),
    Case(file="workers = 3\nexec('workers = 7')", unknown=ALL),
    Case(file="globals()['workers'] = 7", unknown=ALL),
    Case(file="def f():\n    global workers\n    workers = 8\nf()\n", unknown=frozenset({"workers"})),
    Case(file="def f():\n    workers = 8\nf()\n"),
    Case(file="class A:\n    workers = 8\n"),
    Case(file="workers = 5\nx = [0 for workers in range(9)]\n"),
    Case(file="workers = 5\ndel workers", unknown=frozenset({"workers"})),
    Case(file="try:\n    1 / 0\nexcept ZeroDivisionError:\n    timeout = 6", unknown=frozenset({"timeout_s"})),
    Case(file="n = 4\nworkers = n * 2", unknown=frozenset({"workers"})),
    Case(line="-w 2", file="import os\nworkers = os.cpu_count()"),
)  # fmt: skip

REFUSED = (
    Case(line="-w"),
    Case(line="-b -w"),
    Case(line="-n -w4"),
    Case(line="-w four"),
    Case(line="-w -1"),
    Case(line="-w 0x4"),
    Case(line="--timeout 1.5"),
    Case(line="--work 4"),
    Case(line="--preload=yes"),
    Case(env="--workers"),
    Case(env="-w 3 'oops"),
    Case(env="--threads none"),
    Case(file="workers ="),
    Case(file="workers = 'many'"),
    Case(file="workers = -1"),
    Case(file="timeout = 1.5"),
    Case(file="preload_app = 'maybe'"),
)

MERGES = (
    ("", Wanted(workers=3)),
    ("-w 2", Wanted(workers=3)),
    ("--threads=9 -t 5 -w2", Wanted(workers=3, threads=2, timeout_s=60)),
    ("--log-level 'de bug' --preload", Wanted(graceful_timeout_s=4, keepalive_s=5, worker_connections=6)),
    ("-Dw4  ", Wanted(max_requests=100, max_requests_jitter=10, workers=1)),
    ("-w 2", Wanted()),
)


@pytest.mark.parametrize("release", RELEASES)
def test_settings_are_read_as_the_release_reads_them(release: str) -> None:
    for case, real in zip(CASES, answers(release)["cases"], strict=True):
        assert "refused" not in real, f"{case}: {real}"
        ours = {setting.name: setting.value for setting in effective_settings(case.sources())}
        known = {name: value for name, value in ours.items() if value is not None}
        assert known == {name: real[name] for name in known}, case
        assert set(ours) - set(known) <= case.unknown, f"{case}: needlessly unknown"
        assert all(type(known[name]) is type(real[name]) for name in known), case


@pytest.mark.parametrize("release", RELEASES)
def test_what_the_release_refuses_is_refused_in_words(release: str) -> None:
    for case, real in zip(REFUSED, answers(release)["refused"], strict=True):
        assert "refused" in real, case
        with pytest.raises(ArgumentsError, match=r"\S+ \S+"):
            effective_settings(case.sources())


@pytest.mark.parametrize("release", RELEASES)
def test_merged_arguments_give_the_release_the_wanted_settings_and_leave_the_others(release: str) -> None:
    found = answers(release)
    for (existing, wanted), before, after in zip(MERGES, found["before"], found["merged"], strict=True):
        assert after == before | dict(wanted.items()) | _gthread(after), existing


def _gthread(real: dict[str, Any]) -> dict[str, str]:
    return {"worker_class": "gthread"} if real["threads"] > 1 else {"worker_class": "sync"}


@functools.cache
def answers(release: str) -> dict[str, list[dict[str, Any]]]:
    """What the release says to all cases of this file, asked at once."""
    prepare()
    groups = {
        "cases": [case.asked() for case in CASES],
        "refused": [case.asked() for case in REFUSED],
        "before": [Case(env=existing).asked() for existing, _ in MERGES],
        "merged": [Case(env=merge_cmd_args(existing, wanted)).asked() for existing, wanted in MERGES],
    }
    python, script = room_of(release) / "bin" / "python", Path(__file__).parent / "ask_gunicorn.py"
    asked = json.dumps([case for group in groups.values() for case in group])
    said = subprocess.run([python, script], input=asked, capture_output=True, text=True, check=True, timeout=120)
    found = iter(json.loads(said.stdout))
    return {name: [next(found) for _ in group] for name, group in groups.items()}
