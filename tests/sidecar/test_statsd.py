"""The receiver against real gunicorn releases, and against senders that mean no good."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.server import Server, eventually
from wsgi_sidecar.core.statsd_lines import MAX_BYTES, parse_destination
from wsgi_sidecar.forward import Forwarder
from wsgi_sidecar.statsd import PAUSE_S, AddressTakenError, Receiver, bind_udp, bind_unix

FAILED_SEND = "Error sending message to statsd"


@pytest.fixture
def udp() -> Iterator[Receiver]:
    receiver = Receiver(bind_udp(0))
    receiver.start()
    yield receiver
    receiver.stop()


def port_of(receiver: Receiver) -> int:
    return int(receiver._socket.getsockname()[1])


def sender_to(port: int) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", port))
    return sender


def short_folder(tmp_path: Path) -> Path:
    """A unix socket's path has 107 bytes at most, and pytest's folders are long."""
    link = Path(f"/tmp/wsgi-{os.getpid()}-{time.monotonic_ns()}")
    link.symlink_to(tmp_path)
    return link


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    link = short_folder(tmp_path)
    yield link
    link.unlink()


@pytest.mark.servers
@pytest.mark.parametrize("release", ["20.1.0", "23.0.0", "27.0.1"])
def test_every_request_is_counted_over_udp(release: str, udp: Receiver) -> None:
    where = f"127.0.0.1:{port_of(udp)}"
    with Server(release, "--statsd-host", where, "--statsd-prefix", "shop", "-w", "2") as server:
        for _ in range(20):
            server.get("/")
        server.get("/nothing")
        server.get("/slow?s=0.3")
        # Of what a request sends its status is the last, in a datagram of its own.
        eventually("22 requests are counted", lambda: sum(udp.traffic.by_status.values()) == 22)
        traffic = udp.traffic
        assert traffic.requests == 22
        assert traffic.by_status == {"200": 21, "404": 1}
        assert traffic.durations.count == 22
        assert 0.3 <= traffic.durations.sum_s < 10
        assert traffic.by_worker == {}
        assert (traffic.malformed, traffic.foreign, udp.dropped) == (0, 0, 0)
        eventually("the number of workers is told", lambda: udp.traffic.workers == 2)
        assert FAILED_SEND not in server.log


@pytest.mark.servers
@pytest.mark.parametrize("release", ["21.2.0", "27.0.1"])
def test_a_unix_socket_tells_which_worker_served(release: str, folder: Path) -> None:
    receiver = Receiver(bind_unix(folder / "statsd"))
    receiver.start()
    with Server(release, "--statsd-host", f"unix://{folder}/statsd", "-w", "2", "--dogstatsd-tags", "a:b") as server:
        served = [int(server.get("/pid").body.split()[0]) for _ in range(20)]
        traffic = eventually("20 are counted", lambda: receiver.traffic if receiver.traffic.requests == 20 else None)
        by_worker = {pid: part.requests for pid, part in traffic.by_worker.items() if part.requests}
        assert by_worker == {pid: served.count(pid) for pid in set(served)}
        receiver.forget(tuple(by_worker))
        assert not any(part.requests for part in receiver.traffic.by_worker.values())
        # The server first: it would write a line for every send to a socket that is gone.
        server.stop()
    receiver.stop()


@pytest.mark.servers
def test_a_worker_timeout_is_a_critical_line(udp: Receiver) -> None:
    arguments = ("--statsd-host", f"127.0.0.1:{port_of(udp)}", "--timeout", "1", "--graceful-timeout", "1")
    with Server("27.0.1", *arguments) as server:
        assert server.get("/slow?s=30").status == 500
        eventually("the timeout is counted", lambda: udp.traffic.log_lines.get("critical") == 1)


@pytest.mark.servers
@pytest.mark.parametrize("release", ["20.1.0", "27.0.1"])
def test_no_line_in_the_servers_log_while_the_receiver_restarts_behind_a_held_socket(release: str) -> None:
    held = bind_udp(0)
    receiver = Receiver(held.dup())
    receiver.start()
    with Server(release, "--statsd-host", f"127.0.0.1:{held.getsockname()[1]}") as server:
        server.get("/")
        eventually("the first request is counted", lambda: receiver.traffic.requests == 1)
        receiver.stop()
        for _ in range(10):
            server.get("/")
        again = Receiver(held)
        again.start()
        eventually("what came meanwhile is counted", lambda: again.traffic.requests == 10)
        assert FAILED_SEND not in server.log
        server.stop()
    again.stop()


@pytest.mark.servers
def test_without_a_holder_the_log_fills_which_is_why_there_is_one(udp: Receiver) -> None:
    gone = bind_udp(0)
    port = gone.getsockname()[1]
    gone.close()
    with Server("27.0.1", "--statsd-host", f"127.0.0.1:{port}") as server:
        for _ in range(10):
            server.get("/")
        eventually("failed sends are in its log", lambda: server.log.count(FAILED_SEND) >= 10)


@pytest.mark.servers
def test_a_receiver_that_stands_still_never_slows_the_server_over_udp() -> None:
    never_read = bind_udp(0)
    never_read.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with closing(never_read), Server("27.0.1", "--statsd-host", f"127.0.0.1:{never_read.getsockname()[1]}") as server:
        for _ in range(50):
            assert server.get("/", timeout_s=5).status == 200
        assert FAILED_SEND not in server.log


@pytest.mark.servers
def test_a_receiver_that_stands_still_stops_the_server_over_a_unix_socket(folder: Path) -> None:
    """Known and documented: the reason why UDP is the default. If this fails, the kernel has changed for the better."""
    never_read = bind_unix(folder / "statsd")
    with closing(never_read), Server("27.0.1", "--statsd-host", f"unix://{folder}/statsd") as server:
        assert any(not answers(server) for _ in range(200))


def answers(server: Server) -> bool:
    try:
        return server.get("/", timeout_s=1).status == 200
    except OSError:
        return False


def test_what_the_kernel_drops_is_counted() -> None:
    small = bind_udp(0)
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    receiver = Receiver(small)
    with closing(sender_to(small.getsockname()[1])) as sender:
        for _ in range(500):
            sender.send(b"gunicorn.requests:1|c|@1.0")
        receiver.start()
        eventually("the rest is counted", lambda: receiver.traffic.requests > 0)
        assert receiver.dropped == 500 - receiver.traffic.requests
    receiver.stop()


def test_datagrams_too_long_or_empty_or_wild_are_counted_and_the_thread_lives(udp: Receiver) -> None:
    with closing(sender_to(port_of(udp))) as sender:
        for data in (b"", b"\0" * 100, os.urandom(200), b"x" * (MAX_BYTES + 1), b"y" * 60_000):
            sender.send(data)
        sender.send(b"gunicorn.requests:1|c|@1.0")
        eventually("the good one is counted", lambda: udp.traffic.requests == 1)
    assert udp.traffic.malformed >= 5
    assert udp.traffic.datagrams == 6


def test_stop_takes_in_what_has_arrived_without_waiting_for_the_end_of_the_batch() -> None:
    receiver = Receiver(bind_udp(0), pause_s=600)
    receiver.start()
    with closing(sender_to(port_of(receiver))) as sender:
        sender.send(b"gunicorn.requests:1|c|@1.0")
        sender.send(b"gunicorn.requests:1|c|@1.0")
        receiver.stop()
    assert receiver.traffic.requests == 2


def test_only_udp_is_gathered_because_a_unix_sender_would_wait_for_the_batch(folder: Path) -> None:
    """A unix socket's queue holds 11 datagrams; 3 requests would fill it."""
    for opened, pause_s in ((bind_udp(0), PAUSE_S), (bind_unix(folder / "statsd"), 0)):
        receiver = Receiver(opened)
        assert receiver._pause_s == pause_s
        receiver.stop()


def test_a_taken_port_is_told_with_the_way_out(udp: Receiver) -> None:
    with pytest.raises(AddressTakenError, match="give the sidecar another statsd port"):
        bind_udp(port_of(udp))


def test_a_dead_unix_socket_is_replaced_and_a_living_one_is_not(folder: Path) -> None:
    bind_unix(folder / "statsd").close()
    with closing(bind_unix(folder / "statsd")), pytest.raises(AddressTakenError, match="somebody else receives"):
        bind_unix(folder / "statsd")
    (folder / "file").write_text("precious")
    with pytest.raises(AddressTakenError, match="is not a socket"):
        bind_unix(folder / "file")
    assert sorted(entry.name for entry in folder.iterdir()) == ["file", "statsd"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_datagram_is_forwarded_to_the_letter(host: str) -> None:
    with closing(bind_udp(0, host)) as users:
        forward = Forwarder(
            parse_destination(
                f"[{host}]:{users.getsockname()[1]}" if ":" in host else f"{host}:{users.getsockname()[1]}"
            )
        )
        eventually("the name is resolved", lambda: forward._target)
        receiver = Receiver(bind_udp(0), pass_on=forward)
        receiver.start()
        sent = [b"gunicorn.requests:1|c|@1.0|#a:b", b"\xff\x00 not statsd", b"app.orders:3|c\napp.x:1|g"]
        with closing(sender_to(port_of(receiver))) as sender:
            for data in sent:
                sender.send(data)
        users.setblocking(True)
        users.settimeout(30)
        assert [users.recv(MAX_BYTES) for _ in sent] == sent
        receiver.stop()
        assert (forward.forwarded.sent, forward.forwarded.failed) == (3, 0)
        forward.close()


def test_a_unix_destination_may_be_absent_come_be_full_and_come_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forward = Forwarder(parse_destination(f"unix://{folder}/users"))
    forward(b"absent")
    for _ in range(2):
        with closing(bind_unix(folder / "users")) as users:
            forward(b"x")
            assert users.recv(10) == b"x"
            for _ in range(2000):
                forward(b"nobody reads")
        forward(b"gone")
    assert forward.forwarded.failed > 1000
    assert len(caplog.records) == 1
    forward.close()


def test_a_udp_destination_where_nobody_listens_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    users = bind_udp(0)
    port = users.getsockname()[1]
    users.close()
    forward = Forwarder(parse_destination(f"127.0.0.1:{port}"))
    eventually("the address is known", lambda: forward._target)
    for _ in range(100):
        forward(b"x")
    assert (forward.forwarded.sent, forward.forwarded.failed, caplog.records) == (100, 0, [])
    forward.close()


def test_a_name_that_does_not_resolve_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    forward = Forwarder(parse_destination("no-such-host.invalid:8125"))
    for _ in range(100):
        forward(b"x")
    assert forward.forwarded.failed == 100
    assert [record.getMessage() for record in caplog.records if "not resolved" in record.getMessage()]
    assert len(caplog.records) == 1
    forward.close()


HOLDER = """
import os, signal, sys, time
from pathlib import Path
from wsgi_sidecar.hold import outlive
runs = Path(sys.argv[1])
def work():
    number = len(runs.read_text().split()) if runs.exists() else 0
    with runs.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    exec(sys.argv[2], {"number": number, "os": os, "signal": signal, "sys": sys, "time": time})
    return 0
sys.exit(outlive(work))
"""


def test_work_that_dies_is_started_again_until_it_ends_well(tmp_path: Path) -> None:
    body = "if number == 0: os.kill(os.getpid(), 9)\nif number == 1: 1 / 0\nif number == 2: sys.exit(7)"
    done = subprocess.run(
        [sys.executable, "-c", HOLDER, tmp_path / "runs", body], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert len((tmp_path / "runs").read_text().split()) == 4
    assert [word for word in ("137", "ZeroDivisionError", "with 1", "with 7") if word not in done.stderr] == []


@pytest.mark.parametrize(("body", "code"), [("sys.exit(2)", 2), ("time.sleep(600)", 128 + signal.SIGTERM)])
def test_a_usage_error_and_a_signal_are_not_cured_by_starting_again(tmp_path: Path, body: str, code: int) -> None:
    runs = tmp_path / "runs"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, runs, body])
    eventually("the work runs", lambda: runs.exists() and runs.read_text())
    if "sleep" in body:
        holder.terminate()
    assert holder.wait(60) == code
    assert len(runs.read_text().split()) == 1
