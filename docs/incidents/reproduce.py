"""Every kind of incident, made on loopback: `uv run python docs/incidents/reproduce.py KIND [RELEASE]`.

In: a kind of incident and, if you like, a gunicorn release. Out: what it looks like from outside, then `reproduced`
and exit code 0. Rule: everything is real (server, clients, signals), bounded, and gone at the end.
"""

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.servers import processes  # noqa: E402  the root must be on the path first
from tests.servers.asking import SHARING, echoing  # noqa: E402
from tests.servers.rooms import room_of  # noqa: E402
from tests.servers.server import Server, eventually  # noqa: E402
from wsgi_contract.report import ProcessId  # noqa: E402
from wsgi_sidecar.cgroups import Cgroups  # noqa: E402
from wsgi_sidecar.sockets import SocketTable  # noqa: E402
from wsgi_sidecar.waits import read_waits  # noqa: E402


def say(text: str) -> None:
    """One line for the reader, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def insist(happened: object, what: str) -> None:
    """End here, with exit code 1, if it did not happen."""
    if not happened:
        raise SystemExit(f"not reproduced: {what}")


def frozen_worker(release: str) -> None:
    """More connections than worker_connections: the gthread worker spins, beats and serves nobody."""
    arguments = ("-k", "gthread", "-w", "1", "--threads", "3", "--worker-connections", "4", "--timeout", "3")
    with Server(release, *arguments) as server, silent_clients(server.port, 5):
        worker = psutil.Process(server.worker_pids()[0])
        time.sleep(3.0)
        wanted = eventually("the worker spins", lambda: spinning(worker))
        say(f"5 silent connections, worker_connections 4: the worker's main thread wants {wanted:.2f} cores")
        answered = answers(server, "/")
        say(f"a request gets {'an answer' if answered else 'no answer within 5 s'}; timeout is 3 s")
        say(f"TIMEOUT in gunicorn's log: {server.log.count('TIMEOUT')}; the worker lives: {worker.is_running()}")
        insist(not answered, "requests are served")


def stuck_arbiter(release: str) -> None:
    """Stderr is a pipe that nobody drains: the master blocks in its own log line and never respawns a worker."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # small, so that it is full after a dozen lines
    mark = processes.new_mark()
    python = room_of(release) / "bin" / "python"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "tests/servers"), processes.VARIABLE: mark}
    command = [str(python), "-m", "gunicorn", "-b", "127.0.0.1:0", "-w", "1", "apps:app"]
    master = psutil.Popen(command, stderr=write, env=environment, cwd="/", start_new_session=True)
    try:
        os.close(write)
        eventually("the pipe is full and no worker comes back", lambda: not _next_worker_killed(master), 120)
        switches = [master.num_ctx_switches().voluntary]
        time.sleep(5.0)
        switches.append(master.num_ctx_switches().voluntary)
        say(f"workers: {len(master.children())}; the master lives: {master.is_running()}")
        say(f"voluntary context switches of the master in 5 s: {switches[1] - switches[0]} (a healthy one makes 5)")
        say(f"it {read_waits(master.pid).threads[0].doing}")
        master.send_signal(signal.SIGTERM)
        time.sleep(2.0)
        say(f"2 s after SIGTERM it still lives: {master.is_running()}")
        insist(switches[0] == switches[1], "the master goes on")
    finally:
        processes.end_marked(mark)
        master.wait(10)
        os.close(read)


def _next_worker_killed(master: psutil.Popen) -> bool:
    """Kill the next worker; False if none appears within 3 s."""
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        living = [child for child in master.children() if child.status() != psutil.STATUS_ZOMBIE]
        if living:
            living[0].kill()
            living[0].wait(5)
            return True
        time.sleep(0.02)
    return False


def orphan_processes(release: str) -> None:
    """A request starts processes and outlives the timeout: gunicorn kills the worker only."""
    with Server(release, "-w", "1", "-t", "3") as server:
        answers(server, "/children?how=fork&n=2&s=300&block=60", within_s=20)
        eventually("a new worker serves", lambda: answers(server, "/"))
        family = {server.master_pid, *server.worker_pids()}
        orphans = [psutil.Process(pid) for pid in server.all_pids() if pid not in family]
        for orphan in orphans:
            say(f"left behind: pid {orphan.pid}, parent {orphan.ppid()}, {orphan.memory_info().rss >> 20} MB")
        for orphan in orphans:
            orphan.terminate()
        time.sleep(1.0)
        say(f"after SIGTERM {sum(orphan.is_running() for orphan in orphans)} of {len(orphans)} live on")
        insist(len(orphans) == 2, "nobody was left behind")


def worker_timeout(release: str) -> None:
    """Requests of 8 s under a timeout of 3 s: one WORKER TIMEOUT after the other."""
    with Server(release, "-w", "2", "-t", "3") as server, ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(answers, server, "/slow?s=8", 20.0)
        time.sleep(1.5)
        for pid in server.worker_pids():
            say(f"worker {pid} {read_waits(pid).threads[0].doing}")
        eventually("workers time out", lambda: server.log.count("WORKER TIMEOUT") >= 3)
        say(f"{server.log.count('WORKER TIMEOUT')} times WORKER TIMEOUT in gunicorn's log, and no word about why")


def shared_socket(release: str) -> None:
    """A connection opened at import, with preload_app: two workers read each other's answers."""
    with echoing() as port:
        given = {"environment": {"DATABASE_PORT": str(port)}, "files": {"shared.py": SHARING}}
        with Server(release, "-w", "2", "--preload", application="shared:app", **given) as server:
            eventually("both workers are up", lambda: len(server.worker_pids()) == 2)
            holders = [pid for pid in server.all_pids() if _connected_to(pid, port)]
            say(f"processes that hold the one connection to 127.0.0.1:{port}: {holders}")
            with ThreadPoolExecutor(8) as clients:
                told = list(clients.map(lambda number: _body(server, f"/?{number}"), range(200)))
            wrong = [body for body in told if body != "right"]
            say(f"wrong answers: {len(wrong)} of {len(told)}, for example {wrong[0] if wrong else 'none'}")
            insist(len(holders) == 3, "the connection is not shared")
            insist(wrong, "all answers were right")


def _body(server: Server, path: str) -> str:
    try:
        return server.get(path, 5.0).body
    except OSError:
        return "no answer at all: another worker read it"


def _connected_to(pid: int, port: int) -> bool:
    connections = psutil.Process(pid).net_connections()
    return any(connection.raddr and connection.raddr.port == port for connection in connections)


def stuck_request(release: str) -> None:
    """A gthread request that never ends: no timeout ever ends it."""
    arguments = ("-k", "gthread", "-w", "1", "--threads", "4", "-t", "3")
    with Server(release, *arguments) as server, ThreadPoolExecutor(1) as client:
        client.submit(answers, server, "/slow?s=300", 14.0)
        worker = server.worker_pids()[0]
        time.sleep(12.0)
        told = "; ".join(wait.doing for wait in read_waits(worker).threads)
        say(f"12 s into the request, timeout 3 s: the worker is the same: {server.worker_pids() == (worker,)}")
        say(f"its threads: {told}")
        say(f"other requests are served: {answers(server, '/')}; TIMEOUT in the log: {server.log.count('TIMEOUT')}")
        insist(server.worker_pids() == (worker,), "the worker was replaced")


def boot_hang(release: str) -> None:
    """An application that never finishes importing: from gunicorn 22 on no timeout ends it."""
    hang = "import time\ntime.sleep(600)\ndef app(environ, start_response): ...\n"
    with Server(release, "-w", "1", "-t", "3", application="hang:app", files={"hang.py": hang}) as server:
        (worker,) = server.worker_pids()
        time.sleep(10.0)
        same = server.worker_pids() == (worker,)
        say(f"10 s after its start, timeout 3 s: the worker still imports: {same}")
        say(f"a request is answered: {answers(server, '/', 3.0)}; TIMEOUT in the log: {server.log.count('TIMEOUT')}")
        insist(same, "the worker was replaced (gunicorn before 22 does that)")


def connection_saturation(release: str) -> None:
    """More clients than worker and backlog hold: the kernel drops, and gunicorn's log says nothing."""
    with Server(release, "-w", "1", "--backlog", "4", "-t", "60") as server, silent_clients(server.port, 20) as clients:
        time.sleep(2.0)
        table = SocketTable()
        listener = next(each for each in table.listeners() or () if each.address.endswith(f":{server.port}"))
        table.close()
        say(f"20 clients: accept queue {listener.queue}, backlog {listener.backlog}")
        say(f"clients that got no connection within a second: {20 - len(clients)}")
        say(f"a further request is answered: {answers(server, '/', 3.0)}")
        insist(listener.backlog is not None and listener.queue > listener.backlog, "the queue has room")
        insist(len(clients) < 20, "every client was taken")


def oom_kill(release: str) -> None:
    """A worker beyond the container's memory limit: SIGKILL by the kernel, guessed at by gunicorn."""
    with memory_box(160 << 20) as box:
        enter = ("sh", "-c", f'echo $$ > {box}/cgroup.procs && exec "$@"', "sh")
        with Server(release, "-w", "1", inside=enter) as server:
            for _ in range(10):
                answers(server, "/memory?mb=50")
            master = psutil.Process(server.master_pid)
            looked = Cgroups().read(ProcessId(pid=master.pid, started=0))
            say(f"the container's limit: {(looked.limits.memory_bytes or 0) / (1 << 20):.0f} MB")
            say(f"kills by the kernel's OOM killer: {looked.pressure.oom_kills}")
            say("gunicorn's log: " + next((line for line in server.log.splitlines() if "SIGKILL" in line), "no word"))
            insist(looked.pressure.oom_kills, "nobody was killed")


@contextlib.contextmanager
def memory_box(limit_bytes: int) -> Iterator[Path]:
    """A cgroup of our own with a memory limit, below the one that we run in (v1; on v2 use a container)."""
    paths = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    box = Path("/sys/fs/cgroup/memory", paths.get("memory", "").lstrip("/"), f"reproduce-{os.getpid()}")
    try:
        box.mkdir()
        (box / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as error:
        raise SystemExit(
            f"no cgroup of our own to be had ({error}): run it in a container with a memory limit"
        ) from None
    try:
        yield box
    finally:
        eventually("the cgroup is empty", lambda: _removed(box))


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def memory_limit(release: str) -> None:
    """A worker that keeps what it allocates: it grows until the limit, and gunicorn does not watch."""
    with Server(release, "-w", "1") as server:
        worker = psutil.Process(server.worker_pids()[0])
        before = worker.memory_full_info().pss
        for _ in range(4):
            answers(server, "/memory?mb=50")
        grown = worker.memory_full_info().pss - before
        say(f"after 4 requests that keep 50 MB each the worker's PSS grew by {grown >> 20} MB")
        say(f"it is the same worker: {server.worker_pids() == (worker.pid,)}")
        insist(grown > 150 << 20, "the worker did not grow")


@contextlib.contextmanager
def silent_clients(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that send nothing; those that the kernel does not take within a second are left out."""
    with contextlib.ExitStack() as stack:
        connected = []
        for _ in range(count):
            with contextlib.suppress(TimeoutError):
                connected.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1.0)))
        yield connected


def answers(server: Server, path: str, within_s: float = 5.0) -> bool:
    """Whether a request is answered with 200."""
    try:
        return server.get(path, within_s).status == 200
    except OSError:
        return False


def spinning(process: psutil.Process) -> float | None:
    """Cores that its main thread used or waited for over 3 s, if they are a frozen one's."""

    def wanted_s() -> float:
        # On a busy machine a spinning thread gets few: the time that it waited for a CPU counts, too.
        used_ns, waited_ns, _ = Path(f"/proc/{process.pid}/schedstat").read_text().split()
        return (int(used_ns) + int(waited_ns)) / 1e9

    before, began = wanted_s(), time.monotonic()
    time.sleep(3.0)
    wanted = (wanted_s() - before) / (time.monotonic() - began)
    return wanted if wanted > 0.3 else None


KINDS: Final[dict[str, tuple[Callable[[str], None], str]]] = {
    "frozen-worker": (frozen_worker, "23.0.0"),
    "stuck-arbiter": (stuck_arbiter, "27.0.1"),
    "orphan-processes": (orphan_processes, "27.0.1"),
    "worker-timeout": (worker_timeout, "27.0.1"),
    "shared-socket": (shared_socket, "27.0.1"),
    "stuck-request": (stuck_request, "27.0.1"),
    "boot-hang": (boot_hang, "27.0.1"),
    "connection-saturation": (connection_saturation, "27.0.1"),
    "oom-kill": (oom_kill, "27.0.1"),
    "memory-limit": (memory_limit, "27.0.1"),
}


def main() -> int:
    """Reproduce the kind that was asked for."""
    kind, *release = sys.argv[1:] or [""]
    if kind not in KINDS:
        say(f"usage: reproduce.py KIND [RELEASE]; KIND is one of {', '.join(KINDS)}")
        return 2
    reproduce, usual = KINDS[kind]
    say(f"{kind} on gunicorn {(release or [usual])[0]}: {reproduce.__doc__}")
    reproduce((release or [usual])[0])
    say("reproduced")
    return 0


if __name__ == "__main__":
    sys.exit(main())
