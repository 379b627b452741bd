"""Requests that no timeout bounds: whose age counts, whose does not, and when a worker is ended for one."""

import contextlib
import os
import socket
import time
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_sidecar.core.exchanges import Exchange
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms, about
from wsgi_sidecar.core.rules.stuck_request import RULE, unbounded
from wsgi_sidecar.core.waits import Wait, Waits
from wsgi_sidecar.exchanges import read_exchanges
from wsgi_sidecar.testing import AT, MONOTONIC, closeup, family, process, thread, worker

CLIENT = "10.1.2.3:51234"
POSTGRES = Wait(thread=102, kind="network", doing="reads from 10.0.0.5:5432 (PostgreSQL)", peer="10.0.0.5:5432")
IDLE = Wait(thread=103, kind="lock", doing="waits for a lock or for work (futex)")
LOOP = Wait(thread=101, kind="events", doing="waits for events")


def terms(worker_class: str = "gthread", timeout_s: float | None = 30.0) -> Terms:
    return Terms(release="23.0.0", worker_class=worker_class, connection_limit=1000, timeout_s=timeout_s)


def exchange(**fields: Any) -> Exchange:
    defaults: dict[str, Any] = {
        "inode": 7, "peer": CLIENT, "heard_s": 400.0, "said_s": 400.1, "received": 80, "confirmed": 0, "left": False,
    }  # fmt: skip
    return Exchange(**(defaults | fields))


@pytest.mark.parametrize(
    ("fields", "unanswered_s"),
    [
        ({}, 400.0),
        ({"said_s": 400.0}, 400.0),  # within one tick of the kernel's clock, and nothing was ever sent
        ({"said_s": 400.0, "confirmed": 200}, None),  # within one tick: answered
        ({"said_s": 399.0, "confirmed": 200}, None),  # idle keep-alive
        ({"said_s": 0.1, "confirmed": 200}, None),  # a stream
        ({"said_s": 500.0, "confirmed": 200}, 400.0),  # the next request of a connection
        ({"received": 0}, None),  # silent
        ({"received": 1}, None),  # silent, and gone
        ({"left": True}, 400.0),
    ],
)
def test_a_request_is_as_old_as_the_client_s_last_unanswered_words(
    fields: dict[str, Any], unanswered_s: float | None
) -> None:
    assert exchange(**fields).unanswered_s == unanswered_s


@pytest.mark.parametrize(
    ("worker_class", "timeout_s", "expected"),
    [
        ("gthread", 30.0, True),
        ("gunicorn.workers.ggevent.GeventWorker", 30.0, True),
        ("sync", 30.0, False),
        ("sync", None, False),
        ("sync", 0.0, True),
        ("", 30.0, False),
    ],
)
def test_only_what_no_timeout_bounds_is_looked_at(worker_class: str, timeout_s: float | None, expected: bool) -> None:
    assert unbounded("gunicorn", terms(worker_class, timeout_s)) == expected


def test_harakiri_bounds_the_requests_of_every_uwsgi_worker() -> None:
    assert not unbounded("uwsgi", terms("threads", 30.0))
    assert unbounded("uwsgi", terms("threads", 0.0))
    assert not unbounded("hypercorn", terms("asyncio", None))


def told(
    *exchanges: Exchange, waits: tuple[Wait, ...] = (LOOP, POSTGRES, IDLE), of: Terms | None = None, **policy: Any
) -> tuple[Fault, ...]:
    """Two looks at a worker that holds connection 7."""
    memory = RULE.blank
    faults: tuple[Fault, ...] = ()
    held = process(101, ppid=100, started=5001, connections=frozenset({7}))
    someone = worker(1, process=held, connections=1)
    for second in (0.0, 1.0):
        now = MONOTONIC + second
        here = Sight(
            family=family(someone, at=AT + second, monotonic=now),
            before=None,
            terms=of or terms(),
            policy=Policy(**policy),
            closeups={},
        )
        wanted, wished = RULE.suspects(here, memory), RULE.wishes(here, memory)
        threads = [thread(tid, switches=5) for tid in (101, 102, 103)]
        look = closeup(*threads, monotonic=now, connections=frozenset({7}))
        seen = Sight(
            family=here.family,
            before=None,
            terms=here.terms,
            policy=here.policy,
            closeups={held.id: look} if held.id in wanted else {},
            waits={held.id: Waits(threads=waits)} if held.id in wished.waits else {},
            exchanges=exchanges if wished.exchanges else None,
        )
        verdict = RULE.judge(seen, memory)
        memory, faults = verdict.memory, verdict.faults
    return faults


def test_an_old_request_is_told_with_its_client_and_what_the_threads_wait_on() -> None:
    (fault,) = told(exchange())
    assert CLIENT in fault.summary
    assert "1 reads from 10.0.0.5:5432 (PostgreSQL)" in fault.summary
    assert "for a lock" not in fault.summary, "an idle thread of the pool"
    assert fault.since == AT + 1 - 400
    assert "request_limit_s" in (fault.spare or "")


@pytest.mark.parametrize("age_s", [10.0, 299.0])
def test_a_younger_one_is_not(age_s: float) -> None:
    assert told(exchange(heard_s=age_s, said_s=age_s + 0.1)) == ()


def test_a_connection_of_another_worker_is_not_this_one_s() -> None:
    assert told(exchange(inode=8)) == ()


def test_half_a_request_is_its_client_s_to_end() -> None:
    reading = Wait(thread=102, kind="client", doing=f"reads the request of client {CLIENT}", peer=CLIENT)
    assert told(exchange(), waits=(LOOP, reading)) == ()


def test_in_an_event_loop_a_client_that_got_an_answer_before_may_speak_last() -> None:
    websocket = exchange(said_s=500.0, confirmed=200)
    assert len(told(websocket)) == 1
    assert told(websocket, of=terms("gevent")) == ()
    assert len(told(exchange(), of=terms("gevent"))) == 1


def test_a_limit_ends_the_worker_and_is_told_before_it_does() -> None:
    assert [fault.spare for fault in told(exchange(), request_limit_s=390.0)] == [None]
    (fault,) = told(exchange(), request_limit_s=900.0)
    assert "900 s" in (fault.spare or "")
    assert len(told(exchange(heard_s=61, said_s=62), request_limit_s=60.0)) == 1, "a limit below the threshold"


def test_the_second_look_asks_whether_the_oldest_request_still_waits() -> None:
    policy = Policy(request_limit_s=390.0)
    (fault,) = told(exchange(), request_limit_s=390.0)
    one, younger = exchange(), exchange(inode=8, heard_s=395.0, said_s=396.0)

    def doubt(*exchanges: Exchange, holds: tuple[int, ...] = (7, 8)) -> str | None:
        first = closeup(connections=frozenset({7, 8}))
        second = closeup(connections=frozenset(holds), exchanges=exchanges)
        return RULE.doubt(about(fault, first), about(fault, second), terms(), policy)

    assert doubt(one, younger) is None
    assert "is gone" in (doubt(younger, holds=(8,)) or "")
    assert "was answered" in (doubt(younger) or ""), "and its connection kept"
    assert "was answered" in (doubt(exchange(heard_s=0.1, said_s=0.2), younger) or ""), "and the next one came"
    unread = closeup(connections=frozenset({7}))
    assert "could not be read" in (RULE.doubt(unread, unread, terms(), policy) or "")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_s_clocks_tell_who_spoke_last(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((host, port)) as client, listener.accept()[0] as accepted:
            assert read_exchanges([port]) == ()
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            time.sleep(0.2)
            (asked,) = read_exchanges([port]) or ()
            assert asked.unanswered_s is not None
            assert 0.15 < asked.unanswered_s < 5
            assert asked.peer.endswith(f":{client.getsockname()[1]}")
            accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            assert read_exchanges([port]) == ()
            client.recv(100)
            time.sleep(0.05)  # the kernel's clock has ticks
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            client.close()
            time.sleep(0.1)
            assert [each.left for each in read_exchanges([port]) or ()] == [True]


def test_the_few_that_wait_are_found_among_many_that_do_not() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        clients, accepted = [], []
        for _ in range(300):
            clients.append(stack.enter_context(socket.create_connection(listener.getsockname())))
            accepted.append(stack.enter_context(listener.accept()[0]))
        for client, ours in zip(clients[:200], accepted[:200], strict=True):
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            ours.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        time.sleep(0.05)
        for client in (clients[7], clients[299]):
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        found = read_exchanges([listener.getsockname()[1]]) or ()
        assert {each.inode for each in found} == {os.fstat(accepted[number].fileno()).st_ino for number in (7, 299)}
