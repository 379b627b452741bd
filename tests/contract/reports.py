"""One Report with every part in it."""

from wsgi_contract.policy import Policy
from wsgi_contract.report import (
    SCHEMA,
    AcceptQueue,
    Counts,
    Evidence,
    Finding,
    Incident,
    Kill,
    Orphan,
    PodIdentity,
    ProcessId,
    Report,
    ServerInfo,
    SidecarInfo,
    Unknown,
    WorkerInfo,
)
from wsgi_contract.settings import Setting

WORKER = ProcessId(pid=12, started=5600)

REPORT = Report(
    schema=SCHEMA,
    taken_at=1_790_000_010.5,
    sidecar=SidecarInfo(version="0.1.0", started_at=1_790_000_000.0, uid=1000, gid=1000),
    pod=PodIdentity(namespace="shop", name="web-5d9-x", uid="0b1e"),
    server=ServerInfo(
        kind="gunicorn",
        release="23.0.0",
        process=ProcessId(pid=7, started=5500),
        uid=1000,
        gid=1000,
        started_at=1_790_000_001.0,
    ),
    settings=(
        Setting(name="workers", value=2, source="command-line", said_by="-w 2"),
        Setting(name="worker_class", value="gthread", source="default"),
        Setting(name="preload_app", value=True, source="config-file", said_by="config file"),
        Setting(name="threads", value=None, source="unknown"),
    ),
    workers=(
        WorkerInfo(
            slot=1,
            process=WORKER,
            state="alive",
            started_at=1_790_000_002.0,
            heartbeat_age_s=0.4,
            cpu_s=3.25,
            cpu_cores=0.9,
            threads=4,
            connections=5,
            rss_bytes=30_000_000,
        ),
    ),
    accept_queue=AcceptQueue(length=3, limit=2048, listeners=("0.0.0.0:8000", "unix:/run/app.sock")),
    connection_limit=1000,
    orphans=(Orphan(process=ProcessId(pid=40, started=5700), name="convert", since=1_790_000_003.0, rss_bytes=None),),
    incidents=(
        Incident(
            id="1",
            kind="frozen-worker",
            since=1_790_000_004.0,
            slot=1,
            process=WORKER,
            summary="worker in slot 1 uses 0.9 cores and accepts nothing",
            evidence=(Evidence(name="main thread CPU", value=0.9, unit="cores"), Evidence(name="state", value="R")),
            action="kill its whole tree",
            outcome="killed",
            ended_at=1_790_000_009.0,
        ),
    ),
    kills=(
        Kill(
            id="1",
            at=1_790_000_009.0,
            target="worker",
            slot=1,
            process=WORKER,
            reason="frozen-worker",
            message="frozen for 5 s",
            outcome="survived",
            processes=2,
            survivors=(ProcessId(pid=41, started=5800),),
            duration_s=0.05,
        ),
    ),
    counts=Counts(
        restarts=(("watchdog", 1), ("timeout", 2)),
        timeouts=2,
        incidents=(("frozen-worker", 1),),
        scans=10,
        scan_errors=1,
    ),
    unknowns=(Unknown(what="heartbeats", why="uid 2000 against 1000", remedy="run as uid 1000"),),
    policy=Policy(mode="DryRun", frozen_window_s=6.0),
    findings=(Finding(id="x", what="seen", why="hurts", fix="--this", link="https://docs.gunicorn.org"),),
)
