"""The Report: everything the sidecar knows about one server at one moment.

In: nothing. Out: frozen values, and their JSON. Rule: what could not be seen is None (or the whole part is None) and
has an `Unknown` that says why and what to do; it is never 0 and never an empty tuple.

Times are Unix seconds (float) unless a name says otherwise; durations are seconds.
"""

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

from wsgi_contract.in_place import InPlace
from wsgi_contract.policy import Policy
from wsgi_contract.settings import Setting

SCHEMA: Final = 1

IncidentKind = Literal[
    "frozen-worker",
    "stuck-arbiter",
    "orphan-processes",
    "worker-timeout",
    "shared-socket",
    "stuck-request",
    "boot-hang",
    "connection-saturation",
    "oom-kill",
    "memory-limit",
]
RestartReason = Literal["timeout", "oom", "max_requests", "reload", "boot-error", "signal", "watchdog", "unknown"]
ServerKind = Literal["gunicorn", "uwsgi", "uvicorn", "granian", "hypercorn"]
WorkerState = Literal["booting", "alive", "draining", "overdue"]
KillTarget = Literal["worker", "server", "orphan"]
KillOutcome = Literal["killed", "survived", "gone", "spared", "dry-run", "refused"]
Limit = float | Literal["unlimited"]

RESTART_REASONS: Final[tuple[RestartReason, ...]] = (
    "timeout", "oom", "max_requests", "reload", "boot-error", "signal", "watchdog", "unknown",
)  # fmt: skip
INCIDENT_KINDS: Final[tuple[IncidentKind, ...]] = (
    "frozen-worker", "stuck-arbiter", "orphan-processes", "worker-timeout", "shared-socket",
    "stuck-request", "boot-hang", "connection-saturation", "oom-kill", "memory-limit",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ProcessId:
    """A process, never a bare pid.

    Attributes:
        pid: in the PID namespace of the sidecar.
        started: start time in clock ticks since boot (`/proc/PID/stat` field 22): tells a reused pid.
    """

    pid: int
    started: int

    def __hash__(self) -> int:
        """Of the pid alone, which two in one set hardly share: half the time, and a look hashes some 600."""
        return self.pid


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """The pod that the sidecar runs in, from the downward API; None in the Report outside Kubernetes."""

    namespace: str
    name: str
    uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarInfo:
    """The sidecar itself.

    Attributes:
        version: of the package.
        started_at: counters in the Report count from here.
        uid: user id it runs as.
        gid: group id it runs as.
        guarded: whether its report asks for a token.
    """

    version: str
    started_at: float
    uid: int
    gid: int
    guarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The server's master process (gunicorn: the arbiter).

    Attributes:
        kind: which server.
        release: for example `23.0.0`; None where it could not be read.
        process: the master.
        uid: user id the master runs as: what the sidecar should run as, too.
        gid: group id the master runs as.
        started_at: when the master started.
        cmd_args: the `GUNICORN_CMD_ARGS` it was started with, empty if there was none; None where its environment could
            not be read. The operator, which sees pod templates but no images, needs it so as not to drop what an
            image sets.
    """

    kind: ServerKind
    release: str | None
    process: ProcessId
    uid: int
    gid: int
    started_at: float
    cmd_args: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One worker in its stable slot.

    Attributes:
        slot: smallest free number at the worker's first sight; kept until it dies, then given to its successor.
        process: the worker.
        state: `booting` until the first heartbeat; `overdue` past the timeout.
        started_at: when it started.
        heartbeat_age_s: exactly as the arbiter computes it; None where the heartbeat could not be read.
        cpu_s: CPU seconds used by the whole worker since it started.
        cpu_cores: cores used over the last scan interval; None at the first sight.
        threads: operating system threads.
        connections: accepted connections that it holds; None where its fds could not be read.
        rss_bytes: resident memory.
        busy: threads of it that work on a request (sync: 0 or 1); None where it cannot be told, or nobody looked yet.
        pss_bytes: memory with shared pages divided among their users; None unless the policy has workers weighed.
    """

    slot: int
    process: ProcessId
    state: WorkerState
    started_at: float
    heartbeat_age_s: float | None
    cpu_s: float
    cpu_cores: float | None
    threads: int
    connections: int | None
    rss_bytes: int
    busy: int | None = None
    pss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptQueue:
    """The kernel's queue of connections that no worker has accepted yet, over all listeners of the server.

    Attributes:
        length: connections waiting now.
        limit: the backlog in force; None where the kernel did not tell it.
        listeners: addresses, for example `0.0.0.0:8000` or `unix:/run/app.sock`.
    """

    length: int
    limit: int | None
    listeners: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the server's container may use, and how hard it leans on that; each None where it could not be read.

    Attributes:
        cpu_limit_cores: quota as cores.
        memory_limit_bytes: beyond it the kernel kills.
        memory_working_set_bytes: used now, without the page cache that the kernel can drop.
        throttled_s: seconds that the quota held it back, since the container started.
        oom_kills: processes that the kernel's OOM killer ended, since the container started.
    """

    cpu_limit_cores: Limit | None
    memory_limit_bytes: Limit | None
    memory_working_set_bytes: int | None
    throttled_s: float | None
    oom_kills: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """How much of what the server can do at a time is taken.

    Attributes:
        ratio: 0 idle, 1 all taken, up to 2: as many requests wait as are served; smoothed over some 15 s.
        busy: slots taken now: workers (sync), threads (gthread), or the cores that event loops use.
        slots: all of them.
        waiting: requests and connections that wait for one: in the accept queue, or unread in a worker.
    """

    ratio: float
    busy: float
    slots: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSocket:
    """A connection that several of master and workers hold, none of them having accepted it.

    Attributes:
        peer: the far end's address.
        service: what usually listens there, for example `PostgreSQL`; None where its port says nothing.
        holders: processes that hold it.
        users: those of them that were seen using it.
        moved: whether bytes moved on it while we looked; None where the kernel does not tell.
        inode: of the socket, the number in `socket:[...]` of /proc/PID/fd; None where an older sidecar did not tell it.
    """

    peer: str
    service: str | None
    holders: tuple[ProcessId, ...]
    users: tuple[ProcessId, ...]
    moved: bool | None
    inode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTotals:
    """Requests that the server says it answered, since the sidecar began to listen.

    Attributes:
        count: all of them.
        by_status: (code, responses), codes outside 100 to 599 as `other`; None where the source does not tell.
        durations: (upper bound in seconds, requests in that bucket alone) for buckets that are not empty, bound None
            beyond the last; neighbouring bounds are a factor of 1.28 apart at most. None where it does not tell.
        duration_sum_s: of all requests.
        by_slot: (slot, requests), dead workers' included; empty where the sender is not known.
        log_lines: (level, lines) of the server's log; None where it does not tell.
        dropped: datagrams that the kernel threw away: the other numbers are too small; None where it does not say.
        forwarded: datagrams passed on to the owner's statsd; None where none is.
        forward_failed: those that could not be passed on; None likewise.
    """

    count: int
    by_status: tuple[tuple[str, int], ...] | None
    durations: tuple[tuple[float | None, int], ...] | None
    duration_sum_s: float
    by_slot: tuple[tuple[int, int], ...] = ()
    log_lines: tuple[tuple[str, int], ...] | None = None
    dropped: int | None = None
    forwarded: int | None = None
    forward_failed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A process of the server's container that no living worker owns any more."""

    process: ProcessId
    name: str
    since: float
    rss_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One measured fact behind an incident.

    Attributes:
        name: what was measured, for example `main thread CPU`.
        value: the number, or a word.
        unit: for example `cores`, `s`, `connections`; empty for words.
    """

    name: str
    value: float | str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something the server does wrong, told so that a person at night knows what to do.

    Attributes:
        id: stable while the incident lasts, unique within this sidecar's life.
        kind: which.
        since: when it began, as far as could be seen.
        slot: the worker's slot; None where it concerns the whole server.
        process: the process it concerns.
        summary: one sentence with the evidence in it.
        evidence: the numbers.
        action: what is done, or why nothing is.
        outcome: how it ended; None while it lasts.
        ended_at: when it ended; None while it lasts.
    """

    id: str
    kind: IncidentKind
    since: float
    slot: int | None
    process: ProcessId | None
    summary: str
    evidence: tuple[Evidence, ...]
    action: str
    outcome: str | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill (or what a dry run would have killed), with its reason and outcome.

    Attributes:
        id: unique within this sidecar's life; the operator deduplicates Events by it.
        at: when the first signal was sent.
        target: what was to be ended.
        slot: the worker's slot, if a worker.
        process: root of the tree.
        reason: the incident that asked for it.
        message: the reason as a person reads it.
        outcome: `killed` all of the tree; `survived` some did (see survivors); `gone` before the first signal;
            `spared` the second look found it healthy; `dry-run`; `refused` by the kernel (no permission).
        processes: how many processes were ended.
        survivors: who is left.
        duration_s: from the first signal until the tree was gone.
        stack: Python stacks of the root's threads right before the first signal, names only, or a line that says why
            there are none; None where the policy does not want them, and for all but the last few kills.
    """

    id: str
    at: float
    target: KillTarget
    slot: int | None
    process: ProcessId
    reason: IncidentKind
    message: str
    outcome: KillOutcome
    processes: int
    survivors: tuple[ProcessId, ...]
    duration_s: float
    stack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Something the sidecar cannot see, why, and the remedy.

    Attributes:
        what: for example `heartbeats`.
        why: for example `the sidecar runs as uid 2000, the server as uid 1000`.
        remedy: for example `run the sidecar with runAsUser: 1000 and runAsGroup: 1000`.
    """

    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something in how the server is set up that will hurt one day; nothing is done about it but to tell.

    Attributes:
        id: which rule, in kebab-case: stable over releases, so that it can be searched for and silenced.
        what: what was seen, with the numbers.
        why: what goes wrong because of it.
        fix: the exact setting that mends it.
        link: where the server's own documentation or issue tracker says so.
    """

    id: str
    what: str
    why: str
    fix: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Totals since `sidecar.started_at`; they survive respawns of workers.

    Attributes:
        restarts: (reason, count) for each reason seen.
        timeouts: workers that the arbiter killed for a late heartbeat.
        incidents: (kind, count) for each kind seen.
        scans: looks taken.
        scan_errors: looks that failed as a whole.
    """

    restarts: tuple[tuple[RestartReason, int], ...] = ()
    timeouts: int = 0
    incidents: tuple[tuple[IncidentKind, int], ...] = ()
    scans: int = 0
    scan_errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the sidecar says when asked; see the module's rule for absence.

    Attributes:
        schema: version of this shape; a reader refuses a larger one.
        taken_at: when the last look was taken.
        sidecar: the teller.
        pod: where it runs; None outside Kubernetes.
        server: the master; None while no server is found.
        settings: settings in force, one per name in `SETTING_NAMES`.
        workers: by slot; None where they could not be listed.
        accept_queue: None where the listeners could not be found.
        connection_limit: connections one worker accepts at most; None where the class has none, or unknown.
        orphans: None where they could not be looked for.
        incidents: open ones first, then the last ended ones.
        kills: the last ones, newest last.
        counts: totals.
        unknowns: what cannot be seen, and the remedy.
        policy: in force.
        findings: what the lint says about the set-up; a fact that is unknown gives no finding.
        container: None where no server was found.
        saturation: None where it cannot be told: an unknown setting, another server, or too few looks.
        shared_sockets: None where they could not be looked for.
        requests: None where nobody told them: statsd is off, or the server has no numbers.
        in_place: settings changed in place; None where this sidecar takes no such orders.
    """

    schema: int
    taken_at: float
    sidecar: SidecarInfo
    pod: PodIdentity | None
    server: ServerInfo | None
    settings: tuple[Setting, ...]
    workers: tuple[WorkerInfo, ...] | None
    accept_queue: AcceptQueue | None
    connection_limit: int | None
    orphans: tuple[Orphan, ...] | None
    incidents: tuple[Incident, ...]
    kills: tuple[Kill, ...]
    counts: Counts
    unknowns: tuple[Unknown, ...]
    policy: Policy
    findings: tuple[Finding, ...] = ()
    container: Container | None = None
    saturation: Saturation | None = None
    shared_sockets: tuple[SharedSocket, ...] | None = None
    requests: RequestTotals | None = None
    in_place: InPlace | None = None

    def setting(self, name: str) -> Setting | None:
        """The setting of that name, if the Report has it."""
        return next((s for s in self.settings if s.name == name), None)


def dump_report(report: Report) -> str:
    """The Report as compact JSON."""
    return json.dumps(asdict(report), separators=(",", ":"), allow_nan=False)
