"""The lint: each rule fires on its fact, and is silent on the healthy one and on the unknown one."""

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.server import Server
from wsgi_contract.report import Finding
from wsgi_contract.servers.gunicorn import DEFAULTS, Sources, effective_settings
from wsgi_contract.settings import SETTING_NAMES, Setting
from wsgi_sidecar.core.limits import Limits
from wsgi_sidecar.core.lint import RULES, lint
from wsgi_sidecar.core.lints.facts import Facts
from wsgi_sidecar.core.lints.sizing import most_workers
from wsgi_sidecar.mounts import filesystem_under, parse_mount
from wsgi_sidecar.surroundings import Surroundings, read_surroundings


def settings(**values):
    """All settings at a healthy value but for those given; None makes one unknown."""
    healthy = DEFAULTS | {"workers": 4, "keepalive_s": 65, "graceful_timeout_s": 30, "worker_connections": 8}
    return tuple(
        Setting(name=name, value=value, source="unknown" if value is None else "config-file")
        for name in SETTING_NAMES
        for value in [({**healthy, **values})[name]]
    )


HEALTHY = Facts(
    kind="gunicorn", release="27.0.1", settings=settings(), limits=Limits(cpu_cores=2.0, memory_bytes=2**30, pids=100),
    machine_cpus=8, heartbeat_filesystem="tmpfs", somaxconn=4096, shell="", termination_grace_s=60, shared_peers=(),
    client_addresses=3,
)  # fmt: skip


def facts(*, its=None, **changes):
    return dataclasses.replace(HEALTHY, **({"settings": settings(**its)} if its is not None else {}), **changes)


GTHREAD = {"worker_class": "gthread", "threads": 4}
SYNC_WITH_THREADS = effective_settings(
    Sources(command_line=(), cmd_args="--threads 4 --keep-alive 65", web_concurrency="", config_file="")
)

# rule's id: facts on which it fires, and facts on which it must be silent (healthy ones and unknown ones)
TABLE = {
    "shared-sockets": (
        [facts(shared_peers=("10.0.0.5:5432",)), facts(shared_peers=("a:1", "b:2"), its={"preload_app": True})],
        [facts(shared_peers=()), facts(shared_peers=None), facts(its={"preload_app": True})],
    ),
    "gthread-freezes-when-full": (
        [facts(release=release, its=GTHREAD) for release in ("21.2.0", "22.0.0", "23.0.0")]
        + [facts(release="23.0.0", its=GTHREAD | {"worker_class": "gunicorn.workers.gthread.ThreadWorker"})],
        [facts(release=release, its=GTHREAD) for release in ("20.1.0", "24", "27.0.1", None, "dev")]
        + [facts(release="23.0.0"), facts(release="23.0.0", its={"worker_class": None})],
    ),
    "eventlet-stalls-arbiter": (
        [facts(release=release, its={"worker_class": "eventlet"}) for release in ("20.1.0", "21.2.0", "23.0.0")],
        [facts(release=release, its={"worker_class": "eventlet"}) for release in ("24", "24.0.0", "25.3.0", None)]
        + [facts(release="23.0.0"), facts(release="23.0.0", its={"worker_class": None})],
    ),
    "eventlet-removed": (
        [facts(release=release, its={"worker_class": "eventlet"}) for release in ("24.0.0", "25.3.0", "26.0.0")],
        [facts(release=release, its={"worker_class": "eventlet"}) for release in ("23.0.0", None)]
        + [facts(release="25.3.0"), facts(release="25.3.0", its={"worker_class": None})],
    ),
    "shell-without-exec": ([facts(shell="sh"), facts(shell="bash")], [facts(shell=""), facts(shell=None)]),
    "graceful-timeout-beyond-grace-period": (
        [facts(termination_grace_s=30), facts(termination_grace_s=34), facts(its={"graceful_timeout_s": 120})],
        [facts(termination_grace_s=35), facts(termination_grace_s=None), facts(its={"graceful_timeout_s": None})],
    ),
    "graceful-timeout-below-timeout": (
        [facts(its={"timeout_s": 31}), facts(its={"graceful_timeout_s": 5})],
        [facts(its={"timeout_s": 30}), facts(its={"timeout_s": None}), facts(its={"graceful_timeout_s": None}),
         facts(its=GTHREAD | {"timeout_s": 300}), facts(its={"timeout_s": 300, "worker_class": None}),
         facts(its={"timeout_s": 0, "graceful_timeout_s": 5})],
    ),
    "heartbeat-on-disk": (
        [facts(heartbeat_filesystem=kind) for kind in ("overlay", "ext4", "xfs", "nfs4")],
        [facts(heartbeat_filesystem=kind) for kind in ("tmpfs", "ramfs", None)],
    ),
    "sync-with-threads": (
        [facts(settings=SYNC_WITH_THREADS)],
        [facts(its=GTHREAD), facts(), facts(its={"worker_class": None, "threads": 4})],
    ),
    "max-requests-without-jitter": (
        [facts(its={"max_requests": 1000})],
        [facts(its={"max_requests": 0}), facts(its={"max_requests": 1000, "max_requests_jitter": 50}),
         facts(its={"max_requests": 1000, "workers": 1}), facts(its={"max_requests": 1000, "workers": None}),
         facts(its={"max_requests": None}), facts(its={"max_requests": 1000, "max_requests_jitter": None})],
    ),
    "keepalive-below-load-balancer": (
        [facts(its=GTHREAD | {"keepalive_s": seconds}) for seconds in (0, 2, 60)]
        + [facts(its={"worker_class": name, "keepalive_s": 5}) for name in ("gevent", "uvicorn.workers.UvicornWorker")],
        [facts(its=GTHREAD | {"keepalive_s": seconds}) for seconds in (61, 75, 620, None)]
        + [facts(its={"keepalive_s": 2}), facts(its={"worker_class": None, "keepalive_s": 2}),
           facts(its={"worker_class": "my.own.Worker", "keepalive_s": 2})],
    ),
    "workers-beyond-cpu-quota": (
        [facts(its={"workers": 9}), facts(its={"workers": 17}), facts(limits=Limits(cpu_cores=0.1))],
        [facts(its={"workers": 8}), facts(its={"workers": None}), facts(limits=None, its={"workers": 99}),
         facts(limits=Limits(), its={"workers": 99}), facts(limits=Limits(cpu_cores=math.inf), its={"workers": 99})],
    ),
    "connections-hoarded": (
        [facts(its=GTHREAD | {"worker_connections": limit}) for limit in (16, 1000)],
        [facts(its=GTHREAD | {"worker_connections": limit}) for limit in (4, 8, 15, None)]
        + [facts(its=GTHREAD | {"worker_connections": 1000, "workers": workers}) for workers in (1, None)]
        + [facts(release=None, its=GTHREAD | {"worker_connections": 1000}), facts(its={"worker_connections": 1000}),
           facts(release="23.0.0", its=GTHREAD | {"worker_connections": 1000}),
           facts(its=GTHREAD | {"worker_connections": 1000, "threads": None})],
    ),
    "backlog-above-somaxconn": (
        [facts(somaxconn=128), facts(its={"backlog": 5000})],
        [facts(somaxconn=2048), facts(somaxconn=None), facts(somaxconn=1, its={"backlog": None})],
    ),
    "sync-without-proxy": (
        [facts(client_addresses=20), facts(client_addresses=4000)],
        [facts(client_addresses=19), facts(client_addresses=None), facts(client_addresses=99, its=GTHREAD),
         facts(client_addresses=99, its={"worker_class": None})],
    ),
    "settings-pinned": (
        [facts(settings=(Setting(name="workers", value=3, source="command-line", said_by="-w 3"),))],
        [facts(settings=(Setting(name="workers", value=3, source="environment"),)), facts(settings=()),
         facts(settings=(Setting(name="backlog", value=3, source="command-line", said_by="--backlog 3"),))],
    ),
}  # fmt: skip


def ids(findings):
    return [finding.id for finding in findings]


def cases(column):
    return [
        pytest.param(name, case, id=f"{name}-{at}")
        for name, row in TABLE.items()
        for at, case in enumerate(row[column])
    ]


@pytest.mark.parametrize(("name", "case"), cases(0))
def test_a_rule_fires_on_its_fact(name, case):
    assert name in ids(lint(case))


@pytest.mark.parametrize(("name", "case"), cases(1))
def test_a_rule_is_silent_on_the_healthy_and_on_the_unknown(name, case):
    assert name not in ids(lint(case))


def test_a_healthy_server_has_no_findings():
    assert lint(HEALTHY) == ()


def test_of_an_unknown_server_nothing_is_said():
    assert lint(Facts(kind="gunicorn")) == ()
    unknown = tuple(Setting(name=name, value=None, source="unknown") for name in SETTING_NAMES)
    assert lint(Facts(kind="gunicorn", release="23.0.0", settings=unknown)) == ()


def test_the_table_knows_every_rule():
    fired = {finding.id for fires, _ in TABLE.values() for case in fires for finding in lint(case)}
    assert fired == set(TABLE)
    assert len(TABLE) == len(RULES)


def test_other_servers_are_left_alone():
    assert lint(facts(kind="uwsgi", shell="sh", shared_peers=("a:1",))) == ()


def everything():
    return [finding for fires, _ in TABLE.values() for case in fires for finding in lint(case)]


def test_every_finding_says_what_why_and_how_in_full():
    for finding in everything():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", finding.id)
        assert finding.link.startswith("https://")
        for text in (finding.what, finding.why, finding.fix):
            assert len(text) > 15
            assert "None" not in text
            assert not text.endswith(".")


def test_a_finding_carries_its_numbers():
    found = {finding.id: finding for finding in lint(facts(its={"workers": 17, "max_requests": 1000, "backlog": 9000}))}
    assert found["workers-beyond-cpu-quota"].what == (
        "17 workers (as if counted from the machine's 8 CPUs) share a CPU limit of 2 cores"
    )
    assert "workers = 5" in found["workers-beyond-cpu-quota"].fix
    assert found["max-requests-without-jitter"].fix == "max_requests_jitter = 100"
    assert "9000" in found["backlog-above-somaxconn"].what
    assert "4096" in found["backlog-above-somaxconn"].what


def test_pins_are_named_as_the_user_wrote_them():
    pinned = effective_settings(
        Sources(
            command_line=("-w", "3", "-t60", "--preload", "app:app"), cmd_args="", web_concurrency="", config_file=""
        )
    )
    (finding,) = [finding for finding in lint(facts(settings=pinned)) if finding.id == "settings-pinned"]
    assert finding.what == "the command line gives -w 3, -t 60"


def test_who_shares_a_socket_is_told_without_a_flood():
    (finding,) = lint(facts(shared_peers=tuple(f"10.0.0.{at}:5432" for at in range(9)), its={"preload_app": True}))
    assert finding.what.endswith("10.0.0.0:5432, 10.0.0.1:5432, 10.0.0.2:5432 and 6 more")
    assert "preload_app is on" in finding.why


def test_the_gravest_finding_comes_first():
    case = facts(shared_peers=("a:1",), shell="sh", somaxconn=128)
    assert ids(lint(case)) == ["shared-sockets", "shell-without-exec", "backlog-above-somaxconn"]


@pytest.mark.parametrize(("cores", "most"), [(0.1, 3), (0.5, 3), (1, 4), (1.5, 6), (2, 8), (4, 16)])
def test_the_bound_on_workers_follows_both_of_gunicorns_rules(cores, most):
    assert most_workers(cores) == most


def test_a_finding_is_a_plain_value():
    assert isinstance(everything()[0], Finding)
    assert hash(everything()[0])


# From here on: the doors that bring the facts.


@pytest.mark.servers
@pytest.mark.parametrize(("release", "folder"), [("20.1.0", "/dev/shm"), ("27.0.1", "/dev/shm")])
def test_a_heartbeat_in_memory_is_seen_so(release, folder):
    with Server(release, "-w", "1", "--worker-tmp-dir", folder) as server:
        seen = read_surroundings(server.master_pid, server.worker_pids()[0])
    assert seen.heartbeat_filesystem == "tmpfs"


@pytest.mark.servers
def test_a_heartbeat_elsewhere_is_seen_with_its_file_system(tmp_path):
    command = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(tmp_path)]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with Server("23.0.0", "-w", "1", "--worker-tmp-dir", str(tmp_path)) as server:
        seen = read_surroundings(server.master_pid, server.worker_pids()[0])
    assert seen.heartbeat_filesystem == expected
    assert seen.shell == ""
    assert seen.machine_cpus
    assert seen.somaxconn == int(Path("/proc/sys/net/core/somaxconn").read_text())


def test_of_a_server_that_is_gone_nothing_is_known():
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    seen = read_surroundings(gone.pid, gone.pid)
    assert (seen.heartbeat_filesystem, seen.shell) == (None, None)


def lay(proc, pid, ppid, name):
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({name}) S {ppid} {pid} 0 0 -1 0\n")
    (folder / "comm").write_text(f"{name}\n")


@pytest.mark.parametrize(
    ("tree", "shell"),
    [
        ([(7, 0, "sh"), (8, 7, "gunicorn")], "sh"),  # shared PID namespace: the container's first process has no parent
        ([(1, 0, "bash"), (8, 1, "gunicorn")], "bash"),
        ([(8, 0, "gunicorn")], ""),
        ([(7, 0, "tini"), (8, 7, "gunicorn")], ""),
        ([(1, 0, "systemd"), (5, 1, "sshd"), (7, 5, "bash"), (8, 7, "gunicorn")], ""),  # a person's own shell
    ],
)
def test_only_a_shell_that_is_the_containers_first_process_counts(tmp_path, tree, shell):
    for pid, ppid, name in tree:
        lay(tmp_path, pid, ppid, name)
    assert read_surroundings(8, None, tmp_path).shell == shell


def test_a_bare_folder_gives_no_facts(tmp_path):
    seen = read_surroundings(8, 9, tmp_path)
    assert dataclasses.replace(seen, machine_cpus=None) == Surroundings(
        heartbeat_filesystem=None, somaxconn=None, machine_cpus=None, shell=None
    )


def test_an_unlinked_file_still_tells_its_file_system(tmp_path):
    with (tmp_path / "gone").open("w") as file:
        (tmp_path / "gone").unlink()
        kind = filesystem_under(Path("/proc/self"), file.fileno())
    with open("/dev/null") as null:
        other = filesystem_under(Path("/proc/self"), null.fileno())
    assert kind is not None
    assert other is not None
    assert filesystem_under(Path("/proc/self"), 4096) is None


@pytest.mark.parametrize("line", ["", "1 2 3", "a b c d e f - g h i", "36 35 98:0 /a /b rw no separator"])
def test_a_line_that_is_no_mount_is_left_out(line):
    assert parse_mount(line) is None


def test_a_mount_path_with_a_space_is_read():
    mount = parse_mount(
        r"36 35 98:0 /my\040app /mnt/my\134disk rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    )
    assert mount is not None
    assert (mount.root, mount.path, mount.kind) == ("/my app", "/mnt/my\\disk", "ext3")
