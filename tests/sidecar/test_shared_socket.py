"""Connections that several processes hold: the rule, and the door that finds them and their users."""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.servers.server import eventually
from wsgi_contract.policy import Policy
from wsgi_contract.report import ProcessId, SharedSocket
from wsgi_sidecar.connections import Connections, TcpConnection
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms
from wsgi_sidecar.core.rules.shared_socket import RULE
from wsgi_sidecar.shared_sockets import SharedSockets
from wsgi_sidecar.testing import family, pid, process, worker

TERMS = Terms(release="27.0.1", worker_class="sync", connection_limit=1, timeout_s=30)
MASTER, FIRST, SECOND = pid(100, 5000), pid(101, 5001), pid(102, 5002)


def shared(*users: ProcessId, peer: str = "10.0.0.5:5432", inode: int = 7) -> SharedSocket:
    holders = (MASTER, FIRST, SECOND)
    return SharedSocket(peer=peer, service="PostgreSQL", holders=holders, users=users, moved=bool(users), inode=inode)


def faults(*found: SharedSocket, unknown: bool = False) -> tuple[Fault, ...]:
    around = Circumstances(shared=None if unknown else found)
    seen = family(worker(1), worker(2))
    sight = Sight(family=seen, before=None, terms=TERMS, policy=Policy(), closeups={}, around=around)
    assert RULE.suspects(sight, RULE.blank) == frozenset()
    return RULE.judge(sight, RULE.blank).faults


def test_a_connection_that_two_workers_were_seen_using_is_told_and_nobody_is_killed() -> None:
    (fault,) = faults(shared(FIRST, SECOND))
    assert (fault.kind, fault.process, fault.target) == ("shared-socket", MASTER, None)
    assert "10.0.0.5:5432 (PostgreSQL)" in fault.summary
    assert "worker 1 (pid 101), worker 2 (pid 102)" in fault.summary


def test_the_master_counts_as_a_user_too() -> None:
    (fault,) = faults(shared(MASTER, SECOND))
    assert "the master (pid 100), worker 2 (pid 102)" in fault.summary


@pytest.mark.parametrize(
    "found", [(), (shared(),), (shared(FIRST),)], ids=["none", "inherited, unused", "used by one process"]
)
def test_a_risk_is_no_incident(found: tuple[SharedSocket, ...]) -> None:
    assert faults(*found) == ()


def test_what_could_not_be_looked_for_is_no_incident() -> None:
    assert faults(unknown=True) == ()


def test_several_connections_are_one_incident() -> None:
    (fault,) = faults(shared(FIRST, SECOND), shared(FIRST, SECOND, peer="10.0.0.6:6379"))
    assert "and 1 more connections" in fault.summary
    assert {e.name: e.value for e in fault.evidence}["connections"] == 2


class Story:
    """Looks at one server, one after the other; each gives its faults' summaries."""

    def __init__(self) -> None:
        self.memory = RULE.blank

    def look(self, *found: SharedSocket, unknown: bool = False, workers: int = 2, master: int = 100) -> list[str]:
        seen = replace(family(master=process(master)), workers=tuple(worker(slot + 1) for slot in range(workers)))
        around = Circumstances(shared=None if unknown else found)
        sight = Sight(family=seen, before=None, terms=TERMS, policy=Policy(), closeups={}, around=around)
        verdict = RULE.judge(sight, self.memory)
        self.memory = verdict.memory
        return [fault.summary for fault in verdict.faults]


def test_the_incident_goes_on_while_the_connection_is_shared_though_its_users_die() -> None:
    story = Story()
    story.look(shared(FIRST, SECOND))
    (one_lives,) = story.look(shared(SECOND))
    assert "worker 2 (pid 102) and processes that hold it no more were seen using it" in one_lives
    (none_lives,) = story.look(shared())
    assert ", and processes that hold it no more were seen using it" in none_lives
    (both_anew,) = story.look(shared(FIRST, SECOND))
    assert "worker 1 (pid 101), worker 2 (pid 102) were seen using it" in both_anew


@pytest.mark.parametrize("gap", [{"workers": 0}, {"unknown": True}], ids=["no worker lives", "unreadable"])
def test_a_look_with_nothing_to_compare_ends_no_incident_and_begins_none(gap: dict[str, Any]) -> None:
    story = Story()
    assert story.look(**gap) == []
    told = story.look(shared(FIRST, SECOND))
    assert story.look(**gap) == told
    assert len(story.look(shared(FIRST))) == 1
    assert story.look(master=200, **gap) == [], "another master's connections are others"


def test_the_incident_ends_with_the_connection_and_is_not_remembered() -> None:
    story = Story()
    story.look(shared(FIRST, SECOND))
    assert story.look(shared(inode=8)) == [], "another connection to the same peer that nobody was seen using"
    assert story.look(shared(FIRST)) == []


@contextlib.contextmanager
def children(*lives: Callable[[], None]) -> Iterator[list[ProcessId]]:
    """Forked processes that hold what we hold, each with a life of its own."""
    started = []
    try:
        for life in lives:
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    life()
                    time.sleep(60)
                os._exit(0)
            started.append(child)
        yield [ProcessId(pid=child, started=1) for child in started]
    finally:
        for child in started:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def held_by(ours: socket.socket, *members: ProcessId) -> dict[ProcessId, frozenset[int]]:
    inode = os.fstat(ours.fileno()).st_ino
    return {member: frozenset({inode}) for member in members}


def family_of(master: ProcessId, *members: ProcessId) -> Family:
    workers = [worker(slot, process=process(each.pid, started=1)) for slot, each in enumerate(members, 1)]
    return family(*workers, master=process(master.pid, started=1))


@pytest.fixture
def database() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a connection, and the far one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        with ours, theirs:
            yield ours, theirs


def test_two_processes_that_read_from_the_same_connection_are_seen(
    database: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = database
    me = ProcessId(pid=os.getpid(), started=1)

    def reads() -> None:
        ours.recv(1)

    def polls() -> None:
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        poll.poll()

    door = SharedSockets()
    with children(reads, polls) as (first, second):
        members = family_of(me, first, second)

        def users() -> tuple[ProcessId, ...]:
            (found,) = door.look(members, held_by(ours, me, first, second)) or ()
            assert found.peer == f"127.0.0.1:{theirs.getsockname()[1]}"
            assert set(found.holders) == {me, first, second}
            assert found.inode == os.fstat(ours.fileno()).st_ino
            return found.users if len(found.users) == 2 else ()

        assert set(eventually("both were seen", users)) == {first, second}


def test_an_inherited_connection_that_only_one_uses_has_one_user_and_moves(
    database: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = database
    me = ProcessId(pid=os.getpid(), started=1)

    def asks() -> None:
        while True:
            ours.sendall(b"?")
            ours.recv(1)

    def answers() -> None:
        with contextlib.suppress(OSError):
            while theirs.recv(1):
                time.sleep(0.01)
                theirs.sendall(b"!")

    door = SharedSockets()
    with children(asks, lambda: None) as (asking, idle):
        threading.Thread(target=answers, daemon=True).start()
        members = family_of(me, asking, idle)

        def moving() -> SharedSocket | None:
            (one,) = door.look(members, held_by(ours, me, asking, idle)) or ()
            return one if one.moved and one.users else None

        assert eventually("bytes move", moving).users == (asking,)
    theirs.shutdown(socket.SHUT_RDWR)


def test_pipes_listeners_and_accepted_connections_are_no_candidates(
    database: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = database
    one, other = socket.socketpair()
    me = ProcessId(pid=os.getpid(), started=1)
    sockets = [ours, theirs, one, other]
    inodes = frozenset(os.fstat(each.fileno()).st_ino for each in sockets)
    accepted = frozenset(os.fstat(each.fileno()).st_ino for each in (ours, theirs))
    with one, other, children(lambda: None) as (child,):
        members = family(
            worker(1, process=process(child.pid, started=1, connections=accepted)), master=process(me.pid, started=1)
        )
        assert SharedSockets().look(members, {me: inodes, child: inodes}) == ()


def test_a_connection_that_ended_is_forgotten(database: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = database
    me = ProcessId(pid=os.getpid(), started=1)
    inode = os.fstat(ours.fileno()).st_ino
    door = SharedSockets()
    with children(lambda: None) as (child,):
        members, held = (
            family_of(me, child),
            {me: frozenset({inode}), ProcessId(pid=child.pid, started=1): frozenset({inode})},
        )
        assert len(door.look(members, held) or ()) == 1
        theirs.shutdown(socket.SHUT_RDWR)
        eventually("it is no longer established", lambda: door.look(members, held) == ())


def test_without_a_look_at_every_member_nothing_is_claimed() -> None:
    assert SharedSockets().look(family(worker(1)), {MASTER: frozenset()}) is None


def test_the_kernel_tells_both_ends_and_the_bytes_of_a_connection(
    database: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = database
    kernel = Connections()
    try:
        before = _told(kernel, ours)
        assert before.peer_port == theirs.getsockname()[1]
        ours.sendall(b"x" * 1000)
        theirs.recv(1000, socket.MSG_WAITALL)
        eventually("they are counted", lambda: (_told(kernel, ours).moved or 0) - (before.moved or 0) == 1000)
    finally:
        kernel.close()


def _told(kernel: Connections, ours: socket.socket) -> TcpConnection:
    """What the kernel tells of this very connection; others may come from the same port, to other ends."""
    told, inode = kernel.established({ours.getsockname()[1]}, traffic=True), os.fstat(ours.fileno()).st_ino
    (connection,) = (each for each in told if each.inode == inode)
    return connection
