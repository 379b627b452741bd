"""Whether anything that strangers write makes a parser crash, hang or grow: `make fuzz`.

In: a seed number. Out: 1,000,000 inputs and more over every parser of both houses, each mutated from sound ones: a
table of what they said, the slowest input, memory before and after. Rule: a parser answers, or raises the one error
that it promises; every input can be had again by its number: `--only NAME --first NUMBER --inputs 1`.
"""

import argparse
import gc
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.mutations import mutated
from benchmarks.tables import keep, progress, show
from tests.contract.reports import REPORT
from wsgi_contract.in_place import OrderError, parse_order
from wsgi_contract.names import ANNOTATION_ORIGINAL
from wsgi_contract.policy import Policy, PolicyError, dump_policy, parse_policy
from wsgi_contract.report import dump_report
from wsgi_contract.servers import gunicorn, uwsgi, uwsgi_files, uwsgi_options
from wsgi_contract.servers.gunicorn_file import parse_config_file
from wsgi_contract.servers.gunicorn_in_place import Boot, parse_boot, render_boot
from wsgi_contract.servers.gunicorn_values import ArgumentsError
from wsgi_contract.settings import Wanted
from wsgi_operator.answers import parse_answer
from wsgi_operator.core.evidence import Pod
from wsgi_operator.core.record import ANNOTATION_APPLIED, original_of, record_of
from wsgi_operator.core.standing import ANNOTATION_STANDING, standing_of
from wsgi_operator.core.turns import Turns
from wsgi_sidecar.core import command, control, limits, statsd_lines, syscalls, uwsgi_family
from wsgi_sidecar.core import uwsgi as uwsgi_stats
from wsgi_sidecar.core.addresses import parse_stream_address
from wsgi_sidecar.core.endpoints import parse_inet
from wsgi_sidecar.core.journal import parse_journal
from wsgi_sidecar.core.stacks import StackError, parse_dump
from wsgi_sidecar.core.traffic import Traffic, take_in
from wsgi_sidecar.mounts import parse_mount
from wsgi_sidecar.process_table import parse_argv, parse_cgroup

INPUTS, QUICK_INPUTS = 1_000_000, 20_000
SLOWEST_S: Final = 2.0
"""An input of 6 KB that takes longer than this is a hang: the usual one takes some microseconds."""
GROWTH_MIB: Final = 8.0
WARM: Final = 0.2
"""Memory is compared from here on: before, caches and the interpreter's own pools fill."""

Read = Callable[[bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser under test.

    Attributes:
        read: it, given bytes as they came.
        seeds: sound inputs.
        refuses: what it may raise.
    """

    read: Read
    seeds: tuple[bytes, ...]
    refuses: tuple[type[Exception], ...] = ()


@dataclass(kw_only=True)
class Tally:
    """What one target said."""

    answered: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    slowest: int = 0
    crashes: list[tuple[int, str]] = field(default_factory=list)


def _text(read: Callable[[str], object]) -> Read:
    return lambda data: read(data.decode(errors="surrogateescape"))


def _words(read: Callable[[tuple[str, ...]], object]) -> Read:
    return lambda data: read(tuple(data.decode(errors="surrogateescape").split("\0")))


class _Statsd:
    """The receiver's totals over a life: they must not grow with what strangers make up."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._pid = 0

    def __call__(self, data: bytes) -> object:
        self._pid = (self._pid + 1) % 100_000
        self.traffic = take_in(self.traffic, {(self._pid, data): 1})
        return self.traffic

    def series(self) -> int:
        return len(self.traffic.by_status) + len(self.traffic.log_lines) + len(self.traffic.by_worker)


STATSD: Final = _Statsd()
POD: Final = Pod(name="shop-1", uid="uid-1", ip="10.0.0.1")
WANTED: Final = Wanted(workers=4, timeout_s=60)
CGROUP: Final = ("cpu.max", "cpu.stat", "memory.max", "memory.events", "memory.current", "cpu.pressure", "pids.max")
V1: Final = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.limit_in_bytes", "memory.oom_control", "cpuacct.usage")


def _cgroup(data: bytes) -> object:
    texts = data.decode(errors="replace").split("\f")
    newer, older = dict(zip(CGROUP, texts, strict=False)), dict(zip(V1, texts, strict=False))
    return (limits.limits_of(2, [newer]), limits.pressure_of(2, newer), limits.limits_of(1, [older]),
            limits.pressure_of(1, older))  # fmt: skip


def _control_answer(data: bytes) -> object:
    control.payload_length(data[:4].ljust(4, b"\0"))
    found = control.parse_payload(data[4:])
    return control.parse_answer(found, found, found)


def _gunicorn(data: bytes) -> object:
    one, two, three, four = (data.decode(errors="surrogateescape").split("\f") + [""] * 4)[:4]
    sources = gunicorn.Sources(command_line=tuple(one.split()), cmd_args=two, web_concurrency=three, config_file=four)
    settings = gunicorn.effective_settings(sources)
    return gunicorn.connection_limit(settings), gunicorn.freezes_when_full(one)


def _merged(data: bytes) -> object:
    text = data.decode(errors="surrogateescape")
    merged = gunicorn.merge_cmd_args(text, WANTED)
    assert dict(WANTED.items()) == {name: value for name, value, _ in gunicorn.parse_cmd_args(merged).settings
                                    if name in dict(WANTED.items())}, "what was merged does not count"  # fmt: skip
    return merged


def _uwsgi(data: bytes) -> object:
    one, two, three = (data.decode(errors="surrogateescape").split("\f") + [""] * 3)[:3]
    pairs = tuple((name, value) for name, _, value in (line.partition("=") for line in two.split("\0")))
    files = {"a.ini": three, "b.yaml": three, "c.xml": three}
    sources = uwsgi_options.Sources(command_line=tuple(one.split("\0")), environment=pairs, files=files)
    given = uwsgi_options.options_given(sources)
    return uwsgi.effective_settings(sources), uwsgi.stats_addresses(given), uwsgi.strange_listeners(given)


def _annotations(data: bytes) -> object:
    text = data.decode(errors="replace")
    texts = dict.fromkeys((ANNOTATION_APPLIED, ANNOTATION_ORIGINAL, ANNOTATION_STANDING), text)
    deployment, turns = {"metadata": {"annotations": texts}}, Turns()
    record = record_of(deployment)
    if record is not None:
        turns.told(record, "shop/web")
    return record, original_of(deployment), standing_of(deployment)


def _roles(words: tuple[str, ...]) -> object:
    return command.role(words), command.arguments(words), command.script(words), uwsgi_family.role(words)


CORE: Final = b'{"id":0,"requests":3,"in_request":1,"vars":["A=b"],"req_info":{"request_start":1700000000}}'
UWSGI_JSON: Final = (
    b'{"version":"2.0.31","listen_queue":0,"listen_queue_errors":0,"load":1,"pid":10,"sockets":[{"name":"127.0.0.1:80",'
    b'"proto":"http","queue":0,"max_queue":100,"can_offload":0}],"workers":[{"id":1,"pid":11,"accepting":1,"requests":3,'
    b'"exceptions":0,"harakiri_count":0,"signals":0,"status":"busy","rss":1024,"running_time":4455,"last_spawn":'
    b'1700000000,"respawn_count":1,"avg_rt":20,"cores":[' + CORE + b"]}]}"
)
CONTROL_JSON: Final = (
    b'\0\0\0\xff{"id":1,"status":"ok","data":{"pid":5,"workers_target":2,"workers_spawned":2,"workers_killed":0,'
    b'"reloads":0,"uptime":5.5,"timeout":30,"threads":2,"worker_class":"<class \'a.gthread.ThreadWorker\'>",'
    b'"preload_app":false,"workers":[{"pid":7,"age":1,"last_heartbeat":0.4,"aborted":false}]}}'
)
DUMP: Final = (
    b'[{"pid":5,"thread_id":1,"thread_name":"MainThread","os_thread_id":5,"active":true,"owns_gil":true,"frames":'
    b'[{"name":"run","filename":"/a.py","short_filename":"a.py","line":5,"locals":null}]}]'
)
INET: Final = (
    b"   1: 0100007F:1F40 0500000A:1538 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0",
    b"   2: 00000000000000000000000001000000:1F40 0000000000000000FFFF00000100007F:1538 08 0:0 00:0 0 0 0 4712 1",
)
CGROUP_FILES: Final = (
    b"50000 100000\fusage_usec 5\nnr_periods 2\nnr_throttled 1\nthrottled_usec 9\fmax\flow 0\noom_kill 1\f4096\f"
    b"some avg10=0.00 avg60=0.00 avg300=0.00 total=12345\nfull avg10=0.00 total=5\fmax",
)
OPTIONS: Final = b"--workers=4 -k gthread --threads 8 -t 30 --preload -c 'python:conf' --log-level=debug -w $(N)"
CONFIG: Final = b"import os\nworkers = 4\nthreads = int(os.environ['N'])\ntimeout = 60 * 2\nworker_class = 'gthread'\n"
CHANGE: Final = b'[{"name":"workers","before":"1","after":"2"}]'
WISH: Final = b'{"settings":{"workers":2},"policy":"{}","sidecar":{"image":"i"}}'
RECORD: Final = (
    b'{"server":"u","generation":1,"config":"h","share":true,"settings":{},"policy":"{}","image":"i","learnt":{"uid":1,'
    b'"gid":2},"inherited":null,"drifts":0,"drift_at":0,"at":1.5,"roll":{"kind":"upgrade","began":1,"theirs":"h",'
    b'"calm":true},"undone":{"generation":1,"at":1.5,"tried":"x","why":"y","kind":"upgrade","wish":' + WISH + b"},"
    b'"before":' + WISH + b',"changes":' + CHANGE + b"}",
    b'{"container":"app","variables":{"A":{"value":"-w 1","owners":[{"manager":"helm","operation":"Apply"}]}},'
    b'"share":null}',
    b'{"order":"g1-a","generation":1,"settings":{"workers":4},"before":{},"phase":"Applied","reason":"so","at":1.5}',
)
BOOT: Final = Boot(live="/run/in-place.json", settings=Wanted(workers=2))
JOURNAL: Final = (
    b'{"order": "a", "means": "config-file", "ordered": {"workers": 3}, "settings": {"workers": 3}, "good": {},'
    b' "state": "Verifying", "reason": "", "since": 1.5,'
    b' "before": [["workers", 2]], "master": {"pid": 7, "started": 9},'
    b' "told_ticks": 99, "within_s": 60.0, "count": 2, "settled": false}'
)
INI: Final = b"[uwsgi]\nprocesses = 4\nthreads=2\nharakiri = 30\nif-env = X\nstats=%(p).sock\nendif=\n"

TARGETS: Final[Mapping[str, Target]] = {
    "statsd": Target(
        read=STATSD,
        seeds=(
            b"gunicorn.requests:1|c|@1.0",
            b"gunicorn.request.duration:12.5|ms\ngunicorn.request.status.200:1|c",
            b"gunicorn.workers:4|g",
            b"gunicorn.log.error:1|c|#env:prod",
            b"shop.gunicorn.requests:1|c",
        ),
    ),
    "statsd-address": Target(
        read=_text(statsd_lines.parse_destination),
        seeds=(b"127.0.0.1:8125", b"[::1]:8125", b"unix:///run/s.sock", b"udp://statsd"),
        refuses=(statsd_lines.DestinationError,),
    ),
    "uwsgi-stats": Target(
        read=uwsgi_stats.parse_stats,
        seeds=(UWSGI_JSON, b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + UWSGI_JSON),
        refuses=(uwsgi_stats.StatsError,),
    ),
    "control-socket": Target(read=_control_answer, seeds=(CONTROL_JSON,), refuses=(control.ControlError,)),
    "stacks": Target(read=_text(lambda text: parse_dump(text, 5)), seeds=(DUMP,), refuses=(StackError,)),
    "cmdline": Target(
        read=parse_argv, seeds=(b"/usr/bin/python\0/bin/gunicorn\0-w\0004\0app:app\0", b"gunicorn: master\0")
    ),
    "roles": Target(
        read=_words(_roles), seeds=(b"python3\0-m\0gunicorn\0app:app", b"shop uWSGI worker 2", b"/bin/uwsgi")
    ),
    "cgroup": Target(
        read=parse_cgroup, seeds=(b"0::/kubepods/pod1/c1\n", b"4:memory:/docker/x\n3:cpu,cpuacct:/a (deleted)\n")
    ),
    "cgroup-files": Target(read=_cgroup, seeds=CGROUP_FILES),
    "net-tcp": Target(read=_text(lambda text: parse_inet(text, "tcp")), seeds=INET),
    "syscall": Target(
        read=_text(lambda text: syscalls.parse_call(text, "x86_64")),
        seeds=(b"45 0x4 0x7f9e 0x1 0x0 0x0 0x0 0x7f9e 0x7f9e", b"running", b"-1 0x7f 0x7f"),
    ),
    "mountinfo": Target(
        read=_text(parse_mount),
        seeds=(
            b"32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct",
            b"1 0 8:1 /a\\040b / rw - ext4 x rw",
        ),
    ),
    "address": Target(
        read=_text(parse_stream_address), seeds=(b"127.0.0.1:1717", b"/run/stats.sock", b"@abstract", b"[::1]:1")
    ),
    "policy": Target(read=_text(parse_policy), seeds=(dump_policy(Policy()).encode(), b"{}"), refuses=(PolicyError,)),
    "order": Target(
        read=_text(parse_order),
        seeds=(b'{"id": "a", "settings": {"workers": 4, "timeout_s": 60}, "within_s": 30}',),
        refuses=(OrderError,),
    ),
    "in-place-file": Target(read=_text(parse_boot), seeds=(render_boot(BOOT).encode(),)),
    "journal": Target(read=_text(parse_journal), seeds=(JOURNAL,)),
    "gunicorn": Target(
        read=_gunicorn,
        seeds=(b"\f".join((OPTIONS, OPTIONS, b"4", CONFIG)), b"-w 2 app:app\f\f\f", b"23.0.0"),
        refuses=(ArgumentsError,),
    ),
    "gunicorn-file": Target(read=_text(parse_config_file), seeds=(CONFIG,), refuses=(ArgumentsError,)),
    "cmd-args": Target(read=_merged, seeds=(OPTIONS, b"", b"--bind=:80 --"), refuses=(ArgumentsError,)),
    "uwsgi": Target(
        read=_uwsgi,
        seeds=(b"--ini\0a.ini:uwsgi\0--processes\0004\fUWSGI_THREADS=2\0UWSGI_YAML=b.yaml\f" + INI, b"a.ini\f\f" + INI),
    ),
    "uwsgi-file": Target(
        read=_text(
            lambda text: [
                uwsgi_files.read_file(text, name)
                for name in (uwsgi_files.FileName(path="a", section="uwsgi", format=f) for f in ("ini", "yaml", "xml"))
            ]
        ),
        seeds=(INI, b"uwsgi:\n  processes: 4\n  # no\n  stats: x\n", b"<uwsgi><processes>4</processes></uwsgi>"),
    ),
    "report": Target(read=lambda data: parse_answer(POD, data), seeds=(dump_report(REPORT).encode(),)),
    "annotations": Target(read=_annotations, seeds=RECORD),
}


def generator(seed: int, name: str, number: int) -> random.Random:
    """The generator of one input."""
    place = list(TARGETS).index(name)
    return random.Random((seed << 80) | (place << 64) | number)


def attempt(target: Target, data: bytes, number: int, tally: Tally) -> None:
    """Give a target one input."""
    began = time.perf_counter()
    try:
        target.read(data)
    except target.refuses:
        tally.refused += 1
    except Exception:
        tally.crashes.append((number, traceback.format_exc(limit=-2)))
    else:
        tally.answered += 1
    if (took_s := time.perf_counter() - began) > tally.slowest_s:
        tally.slowest_s, tally.slowest = took_s, number


def run(names: list[str], first: int, inputs: int, seed: int) -> tuple[dict[str, Tally], list[float]]:
    """All inputs, the targets in turns; also the memory after each twentieth, MiB."""
    tallies, memory = {name: Tally() for name in names}, []
    each = -(-inputs // len(names))
    step = max(1, each // 20)
    for begin in range(first, first + each, step):
        for name in names:
            target, tally = TARGETS[name], tallies[name]
            for number in range(begin, min(begin + step, first + each)):
                chance = generator(seed, name, number)
                attempt(target, mutated(chance.choice(target.seeds), chance), number, tally)
        gc.collect()
        memory.append(rss_mib())
        progress(f"{(begin - first + step) * len(names)} inputs, {memory[-1]:.1f} MiB")
    return tallies, memory


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def tell(tallies: dict[str, Tally], grown: float) -> None:
    rows = [
        [name, str(t.answered), str(t.refused), str(len(t.crashes)), f"{t.slowest_s * 1000:.1f} ms (#{t.slowest})"]
        for name, t in tallies.items()
    ]
    total = sum(t.answered + t.refused + len(t.crashes) for t in tallies.values())
    show(f"{total} inputs", ["parser", "answered", "refused", "crashed", "slowest"], rows)
    show("growth", ["", ""], [["memory", f"{grown:+.1f} MiB"], ["series of statsd", str(STATSD.series())]])
    for name, tally in tallies.items():
        for kind, (number, trace) in {
            trace.splitlines()[-1][:60]: (number, trace) for number, trace in tally.crashes
        }.items():
            print(f"\n{name} #{number} ({kind}): --only {name} --first {number} --inputs 1\n{trace}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_INPUTS} inputs")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--only", choices=TARGETS, help="one parser")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    inputs = QUICK_INPUTS if given.quick else given.inputs
    progress(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs; seed {given.seed}")
    began = time.monotonic()
    tallies, memory = run([given.only] if given.only else list(TARGETS), given.first, inputs, given.seed)
    grown = memory[-1] - memory[int(len(memory) * WARM)]
    tell(tallies, grown)
    crashes = sum(len(tally.crashes) for tally in tallies.values())
    slowest_s = max(tally.slowest_s for tally in tallies.values())
    done = {name: tally.answered + tally.refused for name, tally in tallies.items()}
    figures = {"inputs": done, "crashes": crashes, "memory_mib": memory, "series": STATSD.series()}
    if not given.dry:
        keep("fuzz", figures | {"seed": given.seed, "took_s": time.monotonic() - began})
    return 1 if crashes or slowest_s > SLOWEST_S or grown > GROWTH_MIB else 0


if __name__ == "__main__":
    sys.exit(main())
