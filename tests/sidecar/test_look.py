"""Real gunicorns looked at from outside, held against psutil and against what we did to them."""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from tests.servers import apps
from tests.servers.container import container
from tests.servers.processes import VARIABLE, end_marked, new_mark
from tests.servers.rooms import prepare, room_of
from tests.servers.server import Server, eventually
from wsgi_contract.policy import Policy
from wsgi_sidecar.core.family import Family, Worker, gather
from wsgi_sidecar.core.rules import boot_hang
from wsgi_sidecar.core.rules.rule import terms
from wsgi_sidecar.core.unknowns import tell_unknowns
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.server_files import ServerFiles
from wsgi_sidecar.sockets import SocketTable

pytestmark = pytest.mark.servers

RELEASES = ("20.1.0", "22.0.0", "23.0.0", "25.3.0", "27.0.1")
TERMS = terms(None, ())
Seen = TypeVar("Seen")


@pytest.fixture(scope="module", autouse=True)
def _rooms() -> None:
    prepare()


class Watcher:
    """Looks again and again, as the sidecar's loop does."""

    def __init__(self, server: Server | int, sockets: SocketTable | None = None, timeout_s: float = 30.0) -> None:
        self.reader = ProcReader(sockets=sockets)
        self.family: Family | None = None
        self._within = server.pid if isinstance(server, Server) else server
        self._timeout_s = timeout_s

    def maybe(self) -> Family | None:
        """One look; None while there is no master."""
        snapshot = self.reader.look(self._within)
        self.family = gather(snapshot, self.family, within=self._within, timeout_s=self._timeout_s)
        return self.family

    def look(self) -> Family:
        """One look at a server that runs."""
        family = self.maybe()
        assert family is not None
        return family

    def alive(self, count: int) -> Family:
        """The first look at which so many workers have beaten."""

        def look() -> Family | None:
            family = self.look()
            return family if [worker.state for worker in family.workers] == ["alive"] * count else None

        return eventually(f"{count} workers are alive", look)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    with contextlib.ExitStack() as stack:

        def start(server: Server | int, **arguments: object) -> Watcher:
            watcher = Watcher(server, **arguments)  # type: ignore[arg-type]
            stack.callback(watcher.reader.close)
            return watcher

        yield start


@contextlib.contextmanager
def silent(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Clients that connect and say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]


def held_by_psutil(pid: int, port: int) -> int:
    connections = psutil.Process(pid).net_connections("tcp")
    return sum(c.laddr.port == port and c.status in ("ESTABLISHED", "CLOSE_WAIT") for c in connections)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_workers_are_the_masters_children_and_the_queue_is_the_listeners(
    watch: Callable[..., Watcher], release: str, worker_class: str
) -> None:
    threads = ("--threads", "3") if worker_class == "gthread" else ()
    with Server(release, "-k", worker_class, "-w", "3", "--backlog", "33", *threads) as server:
        watcher = watch(server)
        family = watcher.alive(3)
        assert (family.master.id.pid, family.by_title) == (server.master_pid, False)
        assert [worker.process.id.pid for worker in family.workers] == list(server.worker_pids())
        assert [worker.slot for worker in family.workers] == [1, 2, 3]
        assert family.listeners is not None
        assert [(each.address, each.backlog) for each in family.listeners] == [(f"127.0.0.1:{server.port}", 33)]
        assert all(worker.heartbeat_age_s is not None and worker.heartbeat_age_s < 20 for worker in family.workers)
        oracles = [psutil.Process(worker.process.id.pid) for worker in family.workers]

        def agree() -> bool:  # a worker that is only just up closes a file, or starts a thread, in between
            counted = [(worker.process.fd_count, worker.process.thread_count) for worker in watcher.look().workers]
            return counted == [(oracle.num_fds(), oracle.num_threads()) for oracle in oracles]

        eventually("psutil counts the same", agree)


@pytest.mark.parametrize("use_netlink", [True, False], ids=["netlink", "procfs"])
def test_connections_of_each_worker_are_psutils_while_they_come_and_go(
    watch: Callable[..., Watcher], use_netlink: bool
) -> None:
    with Server("27.0.1", "-k", "gthread", "-w", "3", "--threads", "2", "--keep-alive", "600") as server:
        watcher = watch(server, sockets=SocketTable(use_netlink=use_netlink))
        watcher.alive(3)
        pids = server.worker_pids()

        def agrees() -> bool:
            before = [held_by_psutil(pid, server.port) for pid in pids]
            seen = {worker.process.id.pid: worker.connections for worker in watcher.look().workers}
            after = [held_by_psutil(pid, server.port) for pid in pids]
            return before == after == [seen[pid] for pid in pids] and sum(before) == expected

        for expected in (7, 25, 3, 0, 12):
            with silent(server.port, expected):
                eventually(f"{expected} connections are counted as psutil counts them", agrees)
        expected = 0
        eventually("none is left", agrees)


def test_a_closeup_holds_the_connections_of_the_server_and_no_others(watch: Callable[..., Watcher]) -> None:
    with Server("23.0.0", "-k", "gthread", "--threads", "3") as server, silent(server.port, 4):
        watcher = watch(server)
        family = watcher.alive(1)
        pid = family.workers[0].process.id
        eventually("all are accepted", lambda: held_by_psutil(pid.pid, server.port) == 4)
        seen = watcher.reader.closeup(pid, family.listeners or ())
        assert seen is not None
        assert seen.connections is not None
        assert len(seen.connections) == 4
        assert seen.threads[0].tid == pid.pid
        assert len(seen.threads) == psutil.Process(pid.pid).num_threads()


@pytest.mark.parametrize("release", ["20.1.0", "27.0.1"])
def test_a_closeup_tells_that_a_worker_beats_by_now(watch: Callable[..., Watcher], release: str) -> None:
    files = {"slow.py": "import time\ntime.sleep(3)\nfrom apps import app\n"}
    with Server(release, application="slow:app", files=files) as server:
        watcher = watch(server)
        (worker,) = eventually("its worker is seen", lambda: watcher.look().workers)
        assert worker.state == "booting"

        def doubt() -> str | None:
            seen = watcher.reader.closeup(worker.process.id, ())
            assert seen is not None
            return boot_hang.RULE.doubt(seen, seen, TERMS, Policy())

        assert doubt() is None
        assert eventually("it beats", doubt) == "it beats"


@pytest.mark.parametrize("release", RELEASES)
def test_a_respawned_worker_takes_its_predecessors_slot(watch: Callable[..., Watcher], release: str) -> None:
    with Server(release, "-w", "3") as server:
        watcher = watch(server)
        before = {worker.slot: worker.process.id for worker in watcher.alive(3).workers}
        os.kill(before[2].pid, signal.SIGKILL)
        eventually("it is gone", lambda: before[2] not in {w.process.id for w in watcher.look().workers})
        after = {worker.slot: worker.process.id for worker in watcher.alive(3).workers}
        assert {slot for slot in after if after[slot] != before[slot]} == {2}


def test_the_queue_counts_who_is_not_accepted_yet(watch: Callable[..., Watcher]) -> None:
    with Server("23.0.0", "-w", "1", "--backlog", "20") as server, silent(server.port, 6):
        watcher = watch(server)
        family = watcher.alive(1)
        # A sync worker takes one and waits for it to speak; five wait in the kernel.
        eventually("five wait", lambda: watcher.look().listeners[0].queue == 5)  # type: ignore[index]
        assert watcher.look().workers[0].connections == 1
        assert family.workers[0].slot == 1


def test_a_unix_socket_is_a_listener_with_connections(watch: Callable[..., Watcher], tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with Server("27.0.1", "-k", "gthread", "--threads", "2", "--bind", f"unix:{path}") as server:
        watcher = watch(server)
        watcher.alive(1)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(path))
            family = eventually("three are held", lambda: (f := watcher.look()).workers[0].connections == 3 and f)
        assert f"unix:{path}" in {listener.address for listener in family.listeners or ()}


def _number(path: Path) -> int | None:
    return int(path.read_text() or 0) if path.exists() else None


@contextlib.contextmanager
def bare(release: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A gunicorn that the harness cannot start, because it does not say its port, or leaves."""
    mark = new_mark()
    gunicorn = str(room_of(release) / "bin" / "gunicorn")
    command = (gunicorn, "--pythonpath", str(Path(apps.__file__).parent), *arguments, "apps:app")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {VARIABLE: mark}) as process:
        try:
            yield process
        finally:
            end_marked(mark)


def test_where_each_worker_listens_for_itself_all_listeners_count(watch: Callable[..., Watcher]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with bare("27.0.1", "--reuse-port", "-w", "2", "--bind", f"127.0.0.1:{port}") as server:
        watcher = watch(server.pid)
        eventually("the master is there", watcher.maybe)
        family = eventually("each worker listens", lambda: len((f := watcher.look()).listeners or ()) == 2 and f)
        assert {listener.address for listener in family.listeners or ()} == {f"127.0.0.1:{port}"}
        assert family.master.listeners == frozenset()
        assert all(len(worker.process.listeners or ()) == 1 for worker in family.workers)


def test_a_hanging_import_is_a_booting_worker(watch: Callable[..., Watcher]) -> None:
    files = {"slowapp.py": "import time\ntime.sleep(600)\n"}
    with Server("27.0.1", application="slowapp:app", files=files) as server:
        watcher = watch(server, timeout_s=0.5)
        first = eventually("a worker boots", lambda: (f := watcher.look()).workers and f)
        assert first.workers[0].state == "booting"
        later = eventually("its age grows", lambda: (f := watcher.look()).workers[0].heartbeat_age_s > 1 and f)  # type: ignore[operator]
        assert later.workers[0].state == "booting"


SWAPS_A_FILE = """
import os, sys, tempfile, time
kept = open(os.devnull)
print("looked", flush=True)
sys.stdin.readline()
kept.close()
beat = tempfile.NamedTemporaryFile(prefix="wgunicorn-")
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
print("forked", flush=True)
time.sleep(60)
"""


def test_a_master_that_opened_a_heartbeat_for_another_file_has_its_worker(
    watch: Callable[..., Watcher], tmp_path: Path
) -> None:
    script = tmp_path / "gunicorn"
    script.write_text(SWAPS_A_FILE)
    command = [sys.executable, str(script), "app:app"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as master:
        try:
            assert master.stdout is not None
            assert master.stdin is not None
            master.stdout.readline()
            watcher = watch(master.pid)
            assert watcher.look().workers == ()
            master.stdin.write("\n")
            master.stdin.flush()
            master.stdout.readline()
            assert len(watcher.look().workers) == 1
        finally:
            for process in (*psutil.Process(master.pid).children(), master):
                process.kill()


def test_a_blocked_sync_worker_becomes_overdue(watch: Callable[..., Watcher]) -> None:
    with Server("23.0.0", "--timeout", "30") as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        watcher = watch(server, timeout_s=1.0)
        watcher.look()
        client.sendall(b"GET /slow?s=30 HTTP/1.0\r\n\r\n")
        eventually("it is overdue", lambda: watcher.look().workers[0].state == "overdue")


def test_a_leaving_worker_is_draining_not_overdue(watch: Callable[..., Watcher]) -> None:
    arguments = ("-k", "gthread", "--threads", "2", "--graceful-timeout", "60")
    with Server("23.0.0", *arguments) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        watcher = watch(server)
        old = watcher.alive(1).workers[0].process.id
        client.sendall(b"GET /slow?s=20 HTTP/1.0\r\n\r\n")
        eventually("the request runs", lambda: watcher.look().workers[0].connections == 1)
        os.kill(server.master_pid, signal.SIGHUP)

        def states() -> dict[bool, str]:
            return {worker.process.id == old: worker.state for worker in watcher.look().workers}

        eventually("the old leaves, a new one serves", lambda: states() == {True: "draining", False: "alive"})


def test_during_an_upgrade_the_old_master_is_watched_while_it_has_workers(
    watch: Callable[..., Watcher], tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    # Only a daemon takes WINCH to mean that its workers shall go.
    with bare("23.0.0", "-D", "-w", "2", "--bind", f"unix:{tmp_path / 'app.sock'}", "-p", str(pid_file)):
        old = eventually("it runs", lambda: _number(pid_file))
        watcher = watch(old)
        eventually("the master is there", watcher.maybe)
        watcher.alive(2)
        os.kill(old, signal.SIGUSR2)
        new = eventually("a new master runs", lambda: _number(tmp_path / "pid.2"))
        eventually("it has workers", lambda: len(psutil.Process(new).children()) == 2)
        family = watcher.alive(2)
        assert (family.master.id.pid, family.orphans) == (old, ())
        os.kill(old, signal.SIGWINCH)
        eventually("the new one is watched", lambda: watcher.look().master.id.pid == new)
        assert watcher.alive(2).orphans == ()
        assert psutil.Process(new).ppid() == old


def settled(watcher: Watcher) -> Worker | None:
    """The worker, once its tree has used no CPU for a while: a spawned child that still starts dies with its parent."""
    before = watcher.look().workers[0]
    time.sleep(0.3)
    after = watcher.look().workers[0]
    return after if [(p.id, p.cpu_s) for p in before.tree] == [(p.id, p.cpu_s) for p in after.tree] else None


@pytest.mark.parametrize("how", ["fork", "spawn", "popen", "session", "daemon"])
def test_on_a_bare_machine_orphans_are_those_seen_in_the_tree(watch: Callable[..., Watcher], how: str) -> None:
    with Server("23.0.0", "-k", "gthread", "--threads", "2") as server:
        watcher = watch(server)
        watcher.alive(1)
        server.get(f"/children?how={how}&n=2&s=60")
        worker = eventually("the children have started", lambda: settled(watcher))
        known = {process.id for process in worker.tree}
        os.kill(worker.process.id.pid, signal.SIGKILL)
        eventually("it is gone", lambda: worker.process.id not in {w.process.id for w in watcher.look().workers})
        family = watcher.alive(1)
        left = {orphan.process for orphan in family.orphans or ()}
        assert left <= known
        assert len(left) >= (0 if how == "daemon" else 2)
        assert not family.sees_all_orphans


def _left_of(server: Server) -> set[int]:
    """By the mark in their environment: all that came from the server and is neither master nor worker."""
    return set(server.all_pids()) - {server.master_pid, *server.worker_pids()}


@pytest.fixture
def inside() -> Iterator[tuple[str, ...]]:
    """A command that starts the server in a cgroup of its own, as a container's is."""
    with container() as command:
        yield command


@pytest.mark.parametrize("how", ["fork", "forkserver", "spawn", "popen", "session", "daemon"])
def test_in_a_container_all_orphans_are_told_by_who_comes_afterwards(
    watch: Callable[..., Watcher], inside: tuple[str, ...], how: str
) -> None:
    with Server("23.0.0", "-k", "gthread", "--threads", "2", inside=inside) as server:
        early = watch(server)
        early.alive(1)
        server.get(f"/children?how={how}&n=2&s=60")
        worker = eventually("the children have started", lambda: settled(early))
        assert [process.name for process in worker.tree] or how == "daemon"
        os.kill(worker.process.id.pid, signal.SIGKILL)
        late = watch(server)

        def left() -> set[int]:
            family = late.alive(1)
            return {orphan.process.pid for orphan in family.orphans or ()}

        # Nothing else is told: not the shell around, not the tests. The helpers of multiprocessing (a forkserver, a
        # resource tracker) stay as long as a child holds their pipes.
        eventually("the two children are told", lambda: len(left()) >= 2)
        eventually("all that is left of the server is told, and nothing else", lambda: left() == _left_of(server))
        assert late.family is not None
        assert late.family.sees_all_orphans
        for orphan in left():
            os.kill(orphan, signal.SIGKILL)
        eventually("none is left", lambda: not left())


def test_in_a_container_what_others_left_running_is_no_orphan(
    watch: Callable[..., Watcher], inside: tuple[str, ...]
) -> None:
    # As an entrypoint that starts a daemon does; and, from elsewhere, as a `kubectl exec` does.
    daemon = "(setsid sleep 600 >/dev/null 2>&1 &)"
    entrypoint = (*inside[:2], inside[2].replace(" && exec", f" && {daemon} && sleep 0.05 && exec"), "sh")
    with Server("23.0.0", "-k", "gthread", "--threads", "2", inside=entrypoint) as server:
        watcher = watch(server)
        watcher.alive(1)
        server.get("/children?how=daemon&n=1&s=60")
        family = eventually("the worker's daemon is told", lambda: (f := watcher.look()).orphans and f)
        names = [psutil.Process(orphan.process.pid).name() for orphan in family.orphans or ()]
        assert names == ["python"]
        assert "sleep" in {psutil.Process(pid).name() for pid in server.all_pids()}
        end_marked_children(server)


def end_marked_children(server: Server) -> None:
    """End what outlives the server, so that its cgroup can be removed."""
    for pid in set(server.all_pids()) - {server.master_pid, *server.worker_pids()}:
        os.kill(pid, signal.SIGKILL)


def as_another(uid: int, look: Callable[[], Seen]) -> Seen:
    """What another user would see; in a child, because a process cannot take its privileges back."""
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                file.write(pickle.dumps(look()))
                file.flush()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        file.seek(0)
        return pickle.loads(file.read())  # type: ignore[no-any-return]


@pytest.mark.needs_root("become somebody else")
def test_another_user_sees_workers_by_name_and_is_told_whom_to_run_as() -> None:
    with Server("23.0.0", "-w", "2") as server:

        def look() -> tuple[list[int], bool, list[str]]:
            with contextlib.closing(ProcReader()) as reader:
                family = gather(reader.look(server.pid), within=server.pid)
            assert family is not None
            facts = ServerFiles().read(family.master)
            unknowns = tell_unknowns(family, facts.sources, facts.release, uid=os.getuid(), gid=os.getgid())
            return [w.process.id.pid for w in family.workers], family.by_title, [u.remedy for u in unknowns]

        eventually("two workers run", lambda: len(server.worker_pids()) == 2)
        pids, by_title, remedies = as_another(65534, look)
        assert pids == list(server.worker_pids())
        assert by_title
        assert remedies == ["run the sidecar with runAsUser: 0 and runAsGroup: 0"]


@pytest.mark.needs_root("become somebody else")
def test_root_sees_through_a_server_that_dropped_its_privileges(watch: Callable[..., Watcher]) -> None:
    # Preloaded: the interpreter's own folder may be closed to that user.
    with Server("23.0.0", "-u", "65534", "-g", "65534", "--preload", "--worker-tmp-dir", "/dev/shm") as server:
        family = watch(server).alive(1)
        assert not family.by_title
        assert (family.master.uid, family.workers[0].process.uid) == (0, 65534)

        def look() -> tuple[list[int], list[float | None]]:
            with contextlib.closing(ProcReader()) as reader:
                family = gather(reader.look(server.pid), within=server.pid)
            assert family is not None
            return [w.process.id.pid for w in family.workers], [w.heartbeat_age_s for w in family.workers]

        # Its own user does not: a process that changed its uid shows its files to root alone.
        assert as_another(65534, look) == (list(server.worker_pids()), [None])


def test_a_look_costs_little_however_many_connections_idle(watch: Callable[..., Watcher]) -> None:
    with Server("27.0.1", "-k", "gthread", "-w", "4", "--threads", "4", "--keep-alive", "600") as server:
        watcher = watch(server)
        watcher.alive(4)
        with silent(server.port, 400):
            eventually("all are held", lambda: sum(w.connections or 0 for w in watcher.look().workers) == 400)
            for _ in range(6):
                watcher.look()
            costs = []
            for _ in range(30):
                before = time.thread_time()
                watcher.look()
                costs.append(time.thread_time() - before)
        before = time.thread_time()
        for pid in server.worker_pids():
            Counter(c.status for c in psutil.Process(pid).net_connections("tcp"))
        by_psutil = time.thread_time() - before
        assert min(costs) * 5 < by_psutil
