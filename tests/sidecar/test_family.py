"""Who is who in one look: the master, its workers, what they left behind."""

from dataclasses import replace

import pytest

from wsgi_sidecar.core.family import Family, gather
from wsgi_sidecar.core.snapshot import HeartbeatFile, Process, Snapshot
from wsgi_sidecar.testing import AT, COMMAND, MONOTONIC, POD_CGROUP, heartbeat, listener, pid, process, snapshot

LISTENER = listener(900)
SIDECAR = process(50, ppid=0, cgroup="/kubepods/pod1/sidecar", name="wsgi-sidecar", command=("wsgi-sidecar",))
PAUSE = process(1, ppid=0, cgroup="/kubepods/pod1/pause", name="pause", command=("/pause",), started=1)


def master(*inodes: int, **fields: object) -> Process:
    beats = tuple(heartbeat(inode) for inode in inodes)
    defaults: dict[str, object] = {"ppid": 0, "fd_count": 9, "heartbeats": beats, "listeners": frozenset({900})}
    return process(100, **(defaults | fields | {"connections": frozenset()}))


def child(number: int, inode: int | None, **fields: object) -> Process:
    defaults: dict[str, object] = {
        "ppid": 100,
        "started": 5000 + number,
        "fd_count": 10,
        "heartbeats": (heartbeat(inode),) if inode is not None else (),
        "listeners": frozenset({900}),
        "connections": frozenset({1000 + number}),
    }
    return process(number, **(defaults | fields))


def look(*processes: Process, **fields: object) -> Snapshot:
    return snapshot(PAUSE, SIDECAR, *processes, **({"listeners": (LISTENER,), "observer_pid": 50} | fields))


def seen(*processes: Process, before: Family | None = None, **arguments: object) -> Family:
    family = gather(look(*processes), before, **arguments)  # type: ignore[arg-type]
    assert family is not None
    return family


def workers(family: Family) -> dict[int, int]:
    return {worker.slot: worker.process.id.pid for worker in family.workers}


def orphans(family: Family) -> list[int]:
    return [orphan.process.pid for orphan in family.orphans or ()]


# The master


def test_nothing_is_found_where_no_gunicorn_runs() -> None:
    assert gather(look()) is None
    assert gather(look(process(7, command=("sh", "-c", "gunicorn app:app")))) is None


def test_a_wrapper_is_not_the_master() -> None:
    shell = process(99, ppid=0, started=10, name="sh", command=("sh", "-c", "gunicorn app:app"))
    assert seen(shell, master(1, ppid=99), child(101, 1)).master.id.pid == 100


def test_a_master_that_is_still_importing_the_app_has_no_workers_yet() -> None:
    family = seen(master())
    assert (family.master.id.pid, family.workers) == (100, ())


def test_an_orphan_with_gunicorns_command_line_is_not_taken_for_the_master() -> None:
    orphan = process(90, ppid=1, started=6000, heartbeats=(heartbeat(1),))
    assert seen(orphan, master(2), child(102, 2)).master.id.pid == 100


def test_a_dead_master_is_no_master() -> None:
    assert gather(look(master(1, state="Z", command=()))) is None


def test_the_older_of_two_gunicorns_is_taken_and_kept() -> None:
    other = process(300, ppid=0, started=4000)
    first = seen(other, process(301, ppid=300, started=4001), master(1), child(101, 1))
    assert first.master.id.pid == 300
    older = process(80, ppid=0, started=3000)
    again = seen(older, process(81, ppid=80), other, process(301, ppid=300), before=first)
    assert again.master.id.pid == 300


def test_within_looks_only_below_that_process() -> None:
    other = process(300, ppid=0, started=4000)
    shell = process(99, ppid=0, command=("sh", "-c", "gunicorn"))
    everybody = (other, shell, master(1, ppid=99), child(101, 1))
    assert seen(*everybody, within=99).master.id.pid == 100
    assert seen(*everybody, within=100).master.id.pid == 100
    assert gather(look(*everybody), within=77) is None


def test_during_an_upgrade_the_old_master_is_taken_while_it_has_workers() -> None:
    successor = child(200, None, heartbeats=(heartbeat(7),), started=9000)
    grandchild = child(201, 7, ppid=200, started=9001)
    assert workers(seen(master(1), child(101, 1), successor, grandchild)) == {1: 101}
    family = seen(master(), successor, grandchild)
    assert (family.master.id.pid, workers(family)) == (200, {1: 201})


def test_what_a_hook_started_gives_way_to_the_one_that_started_it_once_that_has_workers() -> None:
    nested, below = child(200, None, heartbeats=(heartbeat(7),)), child(201, 7, ppid=200, started=9001)
    early = seen(master(), nested, below)
    assert early.master.id.pid == 200
    late = seen(master(1), child(101, 1), nested, below, before=early)
    assert (late.master.id.pid, workers(late)) == (100, {1: 101})


def test_what_a_hook_started_through_a_shell_is_not_taken_either() -> None:
    shell = process(190, ppid=100, name="sh", command=("sh", "-c", "gunicorn admin:app"))
    nested = child(200, None, ppid=190, heartbeats=(heartbeat(7),))
    below = child(201, 7, ppid=200, started=9001)
    assert seen(master(), shell, nested, below).master.id.pid == 100


def test_while_a_successor_serves_its_line_is_kept_whoever_else_is_there() -> None:
    successor = child(200, None, heartbeats=(heartbeat(7),), started=9000)
    grandchild = child(201, 7, ppid=200, started=9001)
    upgraded = seen(master(), successor, grandchild)
    older = process(80, ppid=0, started=3000)
    assert seen(older, process(81, ppid=80), master(), successor, grandchild, before=upgraded).master.id.pid == 200


def test_a_successor_stays_the_master_while_neither_it_nor_the_old_one_has_workers() -> None:
    successor = child(200, None, heartbeats=(heartbeat(7),), started=9000)
    grandchild = child(201, 7, ppid=200, started=9001)
    upgraded = seen(master(), successor, grandchild)
    assert seen(master(), replace(successor, heartbeats=()), before=upgraded).master.id.pid == 200


# Workers


def test_workers_are_the_masters_children_that_share_a_heartbeat_with_it() -> None:
    tracker = process(150, ppid=100, command=("python", "-c", "resource_tracker"), heartbeats=())
    family = seen(master(1, 2), child(101, 1), child(102, 2), tracker)
    assert workers(family) == {1: 101, 2: 102}
    assert family.workers[0].connections == 1
    assert not family.by_title


def test_a_child_that_holds_a_siblings_file_does_not_take_its_place() -> None:
    dirty = child(103, None, heartbeats=(heartbeat(1), heartbeat(2)), started=9000)
    assert workers(seen(master(1, 2), child(101, 1), child(102, 2), dirty)) == {1: 101, 2: 102}


def test_a_forked_worker_that_still_holds_its_siblings_files_is_told_by_its_own() -> None:
    young = child(102, None, heartbeats=(heartbeat(1), heartbeat(2)), started=9000)
    owners = {worker.process.id.pid: worker.heartbeat for worker in seen(master(1, 2), child(101, 1), young).workers}
    assert {number: file and file.inode for number, file in owners.items()} == {101: 1, 102: 2}


def test_a_file_of_the_same_number_on_another_file_system_is_nobodys_mark() -> None:
    """Each tmpfs counts from the same start: a child with heartbeats of its own, elsewhere, is no worker of ours."""
    hooks = child(200, None, heartbeats=(replace(heartbeat(1), device=99),), started=9000)
    assert workers(seen(master(1), child(101, 1), hooks)) == {1: 101}
    assert workers(seen(master(1), hooks)) == {}


def test_of_two_files_that_nobody_else_owns_the_one_that_beats_is_the_workers() -> None:
    dead = child(101, None, state="Z", command=(), heartbeats=None)
    young = child(102, None, heartbeats=(heartbeat(1, age_s=40), heartbeat(2, age_s=1)), started=9000)
    (one,) = seen(master(1, 2), dead, young).workers
    assert one.heartbeat_age_s == pytest.approx(1)


def test_a_successor_takes_the_slot_and_a_reused_pid_is_a_new_worker() -> None:
    first = seen(master(1, 2), child(101, 1), child(102, 2))
    second = seen(master(3, 2), child(101, 3, started=9000), child(102, 2), before=first)
    assert workers(second) == {1: 101, 2: 102}
    assert second.workers[0].process.id != first.workers[0].process.id


def test_slots_start_anew_with_a_new_master() -> None:
    first = seen(master(1, 2), child(101, 1), child(102, 2))
    restarted = master(8, id=pid(100, 7777))
    assert workers(seen(restarted, child(102, 8, started=8000), before=first)) == {1: 102}


def test_without_its_files_workers_are_told_by_name_and_the_family_says_so() -> None:
    dark = master(fd_count=None, heartbeats=None, listeners=None)
    hidden = process(101, ppid=100, started=5001)
    titled = process(102, ppid=100, started=5002, command=("gunicorn: worker [app]",))
    helper = process(103, ppid=100, started=5003, command=("python", "-c", "resource_tracker"))
    family = seen(dark, hidden, titled, helper)
    assert workers(family) == {1: 101, 2: 102}
    assert family.by_title
    assert family.workers[0].heartbeat_age_s is None
    assert family.workers[0].connections is None
    assert family.listeners is None


def test_a_worker_that_dropped_its_privileges_is_still_a_worker() -> None:
    hidden = process(101, ppid=100, started=5001, uid=33, gid=33)
    family = seen(master(1), hidden)
    assert workers(family) == {1: 101}
    assert family.workers[0].heartbeat_age_s is None


def test_a_zombie_is_no_worker() -> None:
    assert workers(seen(master(1), child(101, None, state="Z", command=(), heartbeats=None))) == {}


@pytest.mark.parametrize(
    ("file", "listeners", "timeout_s", "state"),
    [
        pytest.param(heartbeat(1, age_s=29), {900}, 30, "alive", id="late, but not too late"),
        pytest.param(heartbeat(1, age_s=31), {900}, 30, "overdue", id="too late"),
        pytest.param(heartbeat(1, age_s=31), {900}, None, "alive", id="no timeout known"),
        pytest.param(heartbeat(1, age_s=31), {900}, 0, "alive", id="timeout switched off"),
        pytest.param(heartbeat(1, age_s=31), set(), 30, "draining", id="its listeners are closed: it is leaving"),
        pytest.param(heartbeat(1, age_s=1), {900}, 30, "alive", id="healthy"),
        pytest.param(HeartbeatFile(inode=1, mtime=AT - 99, ctime=AT - 99, mode=0o600), {900}, 30, "booting", id="boot"),
    ],
)
def test_a_workers_state(file: HeartbeatFile, listeners: set[int], timeout_s: float | None, state: str) -> None:
    one = child(101, None, heartbeats=(file,), listeners=frozenset(listeners))
    assert seen(master(1), one, timeout_s=timeout_s).workers[0].state == state


def test_a_worker_without_listeners_is_not_draining_where_the_server_does_not_listen_yet() -> None:
    family = gather(look(master(1, listeners=frozenset()), child(101, 1, listeners=frozenset()), listeners=()))
    assert family is not None
    assert family.workers[0].state == "alive"


def test_a_workers_tree_has_all_below_it() -> None:
    family = seen(master(1), child(101, 1), process(110, ppid=101), process(111, ppid=110))
    assert [each.id.pid for each in family.workers[0].tree] == [111, 110]


# Listeners


def test_the_control_socket_is_no_listener_of_the_server() -> None:
    control = listener(901, address="unix:/run/user/1000/gunicorn.ctl", queue=0)
    family = gather(look(master(1, listeners=frozenset({900, 901})), child(101, 1), listeners=(LISTENER, control)))
    assert family is not None
    assert family.listeners == (LISTENER,)


def test_with_reuse_port_the_workers_hold_the_listeners() -> None:
    own = listener(905)
    found = gather(look(master(1, listeners=frozenset()), child(101, 1, listeners=frozenset({905})), listeners=(own,)))
    assert found is not None
    assert found.listeners == (own,)


def test_listeners_are_unknown_where_the_socket_table_is() -> None:
    family = gather(look(master(1, listeners=None), child(101, 1, listeners=None), listeners=None))
    assert family is not None
    assert family.listeners is None


# Orphans


def test_what_shares_the_cgroup_and_hangs_below_init_is_an_orphan() -> None:
    left = process(120, ppid=1, started=6000, name="child")
    family = seen(master(1), child(101, 1), left, process(121, ppid=120, started=6001))
    assert orphans(family) == [120, 121]
    assert family.sees_all_orphans


@pytest.mark.parametrize(
    "innocent",
    [
        pytest.param(process(120, ppid=0, started=6000, command=("bash",)), id="a kubectl exec"),
        pytest.param(process(120, ppid=101, started=6000), id="a worker's living child"),
        pytest.param(process(120, ppid=100, started=6000), id="a child of the master"),
        pytest.param(process(120, ppid=1, started=4000), id="older than the master"),
        pytest.param(process(120, ppid=1, started=6000, state="Z"), id="a zombie"),
        pytest.param(process(120, ppid=1, started=6000, cgroup="/kubepods/pod1/other"), id="another container's"),
        pytest.param(process(120, ppid=1, started=6000, cgroup=POD_CGROUP + "2"), id="a cgroup with a like name"),
    ],
)
def test_no_orphan_is(innocent: Process) -> None:
    assert orphans(seen(master(1), child(101, 1), innocent)) == []


DAEMON = process(120, ppid=1, started=6000, session=119, command=("crond",))


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param(DAEMON, [], id="a daemon of the entrypoint, or what an exec left running"),
        pytest.param(replace(DAEMON, says_gunicorn=False), [], id="whose environment knows no gunicorn"),
        pytest.param(replace(DAEMON, says_gunicorn=True), [120], id="whose environment names gunicorn"),
        pytest.param(replace(DAEMON, session=0), [120], id="of the server's own session"),
        pytest.param(replace(DAEMON, command=COMMAND), [120], id="forked, so with the master's command line"),
        pytest.param(replace(DAEMON, command=("gunicorn: worker [a]",)), [120], id="forked from a worker with a title"),
        pytest.param(replace(DAEMON, command=("/usr/bin/gunicorn", "-D", "b:b")), [], id="another gunicorn, detached"),
    ],
)
def test_an_orphan_bears_a_sign_of_the_server(left: Process, expected: list[int]) -> None:
    assert orphans(seen(master(1), child(101, 1), left)) == expected


def origins(family: Family) -> dict[int, str]:
    return {who.pid: each.origin for who, each in family.descents.items()}


FORK = process(120, ppid=1, started=6000, session=119, listeners=frozenset({900}), heartbeats=(heartbeat(66),))


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param(FORK, "dead worker", id="a fork that holds the heartbeat of a worker that the master has reaped"),
        pytest.param(replace(FORK, heartbeats=(heartbeat(1),)), "worker", id="a fork of a worker that lives"),
        pytest.param(replace(FORK, heartbeats=(heartbeat(1), heartbeat(66))), "worker", id="a fork of either"),
        pytest.param(replace(FORK, heartbeats=()), "worker", id="a fork of the server"),
        pytest.param(
            replace(FORK, listeners=frozenset({77})), "unknown", id="another gunicorn of the same command line"
        ),
        pytest.param(replace(DAEMON, says_gunicorn=True), "worker", id="executed by the server"),
        pytest.param(replace(DAEMON, session=0), "unknown", id="the session alone proves nothing"),
        pytest.param(replace(DAEMON, command=COMMAND), "unknown", id="nor does the command line"),
        pytest.param(replace(DAEMON, command=("gunicorn: worker [a]",)), "unknown", id="nor a title"),
    ],
)
def test_only_what_a_server_alone_hands_down_proves_where_an_orphan_comes_from(
    left: Process, expected: str | None
) -> None:
    assert origins(seen(master(1), child(101, 1), left)).get(120) == expected


def test_what_the_master_started_right_before_its_workers_is_not_taken_for_a_workers() -> None:
    hooked = replace(DAEMON, says_gunicorn=True, started_at=AT - 600.5)
    assert origins(seen(master(1), child(101, 1, started_at=AT - 600), hooked)) == {120: "unknown"}
    assert origins(seen(master(1), child(101, 1, started_at=AT - 599), hooked)) == {120: "worker"}


def test_a_tree_is_judged_by_its_root_not_by_what_is_in_it() -> None:
    older = process(120, ppid=1, started=4000, command=("celery",))
    other = process(130, ppid=1, started=6000, session=130, command=("gunicorn: master [b]",))
    family = seen(
        master(1), child(101, 1), older, process(121, ppid=120, started=6000), other,
        process(131, ppid=130, started=6001, session=130, command=("gunicorn: worker [b]",)),
    )  # fmt: skip
    assert orphans(family) == []


def test_a_second_gunicorn_of_the_same_title_is_no_orphan() -> None:
    title = ("gunicorn: master [app]",)
    second = process(130, ppid=1, started=6000, session=130, command=title)
    family = seen(
        master(1, command=title), child(101, 1, command=("gunicorn: worker [app]",)), second,
        process(131, ppid=130, started=6001, session=130, command=("gunicorn: worker [app]",)),
    )  # fmt: skip
    assert orphans(family) == []


def test_a_worker_that_leaves_a_master_that_is_process_1_is_no_orphan() -> None:
    boss = master(2, id=pid(1, 1000), ppid=0)
    leaving = child(101, None, ppid=1)
    job = process(120, ppid=101, started=6000)
    family = gather(
        snapshot(
            SIDECAR, boss, leaving, job, child(102, 2, ppid=1, started=9000), listeners=(LISTENER,), observer_pid=50
        )
    )
    assert family is not None
    assert (workers(family), orphans(family)) == ({1: 102}, [])


def test_what_is_older_than_the_first_worker_is_never_an_orphan_nor_is_what_it_started() -> None:
    helper = process(120, ppid=1, started=5050, session=0)
    first = seen(master(1), child(101, 1), helper, awaited=True)
    assert orphans(first) == []
    grown = process(121, ppid=120, started=6000)
    second = seen(master(1), child(101, 1), helper, grown, before=first)
    third = seen(master(2), child(102, 2, started=9000), replace(grown, ppid=1), before=second)
    assert orphans(third) == []
    assert orphans(seen(master(1), child(101, 1), helper)) == [120], "unless nobody saw the first worker"


def test_what_a_program_of_the_master_started_before_the_first_worker_leaves_behind_is_no_orphan() -> None:
    script = process(120, ppid=100, started=5050, command=("sh", "start-helper.sh"))
    first = seen(master(1), child(101, 1), script, process(121, ppid=120, started=6000), awaited=True)
    second = seen(master(2), child(102, 2, started=9000), process(121, ppid=1, started=6000), before=first)
    assert orphans(second) == []


def test_what_process_1_started_beside_the_server_is_no_orphan_where_it_started_the_server_too() -> None:
    init = process(1, ppid=0, started=1, command=("supervisord",))
    celery = process(120, ppid=1, started=6000, command=("celery", "worker"))
    executed, forked = replace(DAEMON, id=pid(121, 6000), says_gunicorn=True), replace(FORK, id=pid(122, 6000))
    everybody = (SIDECAR, init, master(1, ppid=1), child(101, 1), celery, executed, forked)
    family = gather(snapshot(*everybody, listeners=(LISTENER,), observer_pid=50))
    assert family is not None
    assert origins(family) == {121: "worker", 122: "dead worker"}


def test_after_an_upgrade_the_workers_of_a_master_that_is_process_1_are_no_orphans() -> None:
    old = master(1, id=pid(1, 1000), ppid=0)
    successor = master(7, id=pid(200, 5000), ppid=1)
    everybody = (SIDECAR, old, successor, child(201, 7, ppid=200), child(101, 1, ppid=1, started=9000))
    before = gather(snapshot(SIDECAR, replace(old, heartbeats=()), *everybody[2:4], observer_pid=50))
    family = gather(snapshot(*everybody, listeners=(LISTENER,), observer_pid=50), before)
    assert family is not None
    assert (family.master.id.pid, orphans(family)) == (1, [])


def test_the_children_of_a_worker_that_leaves_in_good_order_are_no_orphans_before_it_has_ended() -> None:
    job = process(120, ppid=101, started=6000)
    first = seen(master(1), child(101, 1), job)
    leaving = seen(master(1, 2), child(101, None), child(102, 2, started=9000), job, before=first)
    assert (workers(leaving), orphans(leaving)) == ({1: 102}, [])
    zombie = child(101, None, state="Z", command=(), heartbeats=None)
    ended = seen(master(2), zombie, child(102, 2, started=9000), replace(job, ppid=1), before=leaving)
    assert orphans(ended) == [120]
    assert leaving.memory.workers - ended.memory.workers == {pid(101, 5101)}


def test_what_an_exec_started_stays_exempt_when_the_exec_ends() -> None:
    shell = process(120, ppid=0, started=6000, command=("bash",))
    first = seen(master(1), child(101, 1), shell, process(121, ppid=120, started=6001))
    assert orphans(seen(master(1), child(101, 1), process(121, ppid=1, started=6001), before=first)) == []


def test_what_a_wrapper_started_beside_the_server_is_no_orphan() -> None:
    shell = process(99, ppid=0, started=10, command=("sh", "-c", "nginx & gunicorn app:app"))
    nginx = process(98, ppid=99, started=6000, name="nginx", command=("nginx",))
    family = seen(shell, nginx, master(1, ppid=99), child(101, 1))
    assert orphans(family) == []


def test_an_orphans_age_counts_from_its_first_sight() -> None:
    left = process(120, ppid=1, started=6000)
    first = seen(master(1), child(101, 1), left)
    later = gather(replace(look(master(1), child(101, 1), left), at=AT + 9, monotonic=MONOTONIC + 9), first)
    assert later is not None
    assert [orphan.since for orphan in later.orphans or ()] == [AT]


BARE = {"cgroup": "/session"}
OBSERVER = process(50, ppid=1, command=("wsgi-sidecar",), cgroup="/session")


def bare(*processes: Process, before: Family | None = None, adopter: int | None = None) -> Family:
    everybody = (process(1, ppid=0, started=1, cgroup="/init", command=("/sbin/init",)), OBSERVER, *processes)
    family = gather(snapshot(*everybody, listeners=(LISTENER,), observer_pid=50), before, adopter=adopter)
    assert family is not None
    return family


def test_on_a_bare_machine_only_what_was_seen_in_a_workers_tree_is_an_orphan() -> None:
    ours, theirs = process(120, ppid=101, started=6000, **BARE), process(130, ppid=1, started=6000, **BARE)
    first = bare(master(1, **BARE), child(101, 1, **BARE), ours, theirs)
    assert orphans(first) == []
    assert not first.sees_all_orphans
    left = replace(ours, ppid=1)
    second = bare(master(2, **BARE), child(102, 2, **BARE), left, theirs, before=first)
    assert orphans(second) == [120]
    third = bare(master(2, **BARE), child(102, 2, **BARE), left, theirs, before=second)
    assert orphans(third) == [120]


def test_an_adopter_tells_all_orphans_without_a_cgroup() -> None:
    left = process(120, ppid=50, started=6000, **BARE)
    family = bare(
        master(1, ppid=50, **BARE), child(101, 1, **BARE), left, process(121, ppid=120, started=6001, **BARE),
        process(122, ppid=1, started=6001, **BARE), adopter=50,
    )  # fmt: skip
    assert orphans(family) == [120, 121]
    assert family.sees_all_orphans


def test_what_the_adopter_got_needs_more_than_adoption_to_be_ended() -> None:
    servers = (master(1, ppid=50, **BARE), child(101, 1, **BARE))
    cron = replace(DAEMON, ppid=50, **BARE)
    known = replace(cron, id=pid(121, 6000), says_gunicorn=True)
    assert origins(bare(*servers, cron, known, adopter=50)) == {120: "unknown", 121: "worker"}
    helper = replace(cron, id=pid(122, 5050))
    assert origins(bare(*servers, helper, adopter=50)) == {}, "older than the first worker"
    script = process(60, ppid=50, started=100, command=("sh", "entrypoint.sh"), **BARE)
    below = (script, replace(servers[0], ppid=60), servers[1])
    assert origins(bare(*below, cron, known, adopter=50)) == {121: "worker"}


def test_where_the_master_is_process_1_its_adopted_children_are_orphans() -> None:
    def boss(inode: int) -> Process:
        return master(inode, id=pid(1, 1000), ppid=0)

    everybody = (SIDECAR, boss(1), child(101, 1, ppid=1), process(120, ppid=101, started=6000))
    first = gather(snapshot(*everybody, listeners=(LISTENER,), observer_pid=50))
    after = (SIDECAR, boss(2), child(102, 2, ppid=1), process(120, ppid=1, started=6000))
    second = gather(snapshot(*after, listeners=(LISTENER,), observer_pid=50), first)
    assert second is not None
    assert orphans(second) == [120]


def test_a_login_session_is_no_container() -> None:
    session = {"cgroup": "/user.slice/user-0.slice/session-3.scope"}
    family = seen(master(1, **session), child(101, 1, **session), process(120, ppid=1, started=6000, **session))
    assert orphans(family) == []
    assert not family.sees_all_orphans


def test_command_lines_of_the_builders_are_gunicorns() -> None:
    assert COMMAND[1].endswith("gunicorn")
