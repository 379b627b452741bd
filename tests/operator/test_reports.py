"""Reading reports from pods that behave, and from pods that do not: real sockets on loopback."""

import asyncio
import json
import tracemalloc
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from wsgi_contract.report import SCHEMA, PodIdentity, dump_report
from wsgi_operator.answers import parse_answer
from wsgi_operator.core.evidence import Heard, Silence
from wsgi_operator.reports import LARGE_AT_ONCE, LOOK_LIMIT, Reports
from wsgi_operator.testing import incident, kill, pod, report

GOOD = dump_report(report(incidents=(incident(),), kills=(kill(),))).encode()


async def good(_):
    return web.Response(body=GOOD)


@asynccontextmanager
async def served(handler):
    """A report port on loopback that answers as the handler does; gives the port."""
    app = web.Application()
    app.add_routes([web.get("/report", handler), web.get("/elsewhere", good)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def slow(_):
    await asyncio.sleep(30)
    return web.Response(body=GOOD)


async def broken(_):
    return web.Response(status=503)


async def elsewhere(_):
    raise web.HTTPFound("/elsewhere")


async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def dripping(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def raw(head, again):
    """A port that speaks no HTTP that anybody should: one text, then another for ever; gives the port."""

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        with suppress(ConnectionError):
            while again:
                writer.write(again)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x-%d: y\r\n" % 7 * 1000),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 65536),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", b" " * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", b" " * 65536),
        (b"\x1b]0;owned\x07\r\n\r\n", b""),
        (b"HTTP/1.1 200 \x1b[2J\r\nContent-Length: -1\r\n\r\n", b""),
        (b"", b""),
    ],
    ids=["headers", "header", "continue", "length", "chunk", "terminal", "negative", "nothing"],
)
def test_a_port_that_speaks_no_http_is_silent_and_costs_little(head, again):
    async def run():
        reports = Reports(timeout_s=1)
        async with raw(head, again) as port:
            return (await reports.read([pod(ip="127.0.0.1")], port))[0]

    tracemalloc.start()
    try:
        answer = asyncio.run(run())
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    assert isinstance(answer, Silence)
    assert answer.reason.isprintable()


def ask(handler, timeout_s=0.5):
    async def run():
        reports = Reports(timeout_s=timeout_s)
        async with served(handler) as port:
            return (await reports.read([pod(ip="127.0.0.1")], port))[0]

    return asyncio.run(run())


def test_a_report_is_heard():
    answer = ask(good, timeout_s=10)
    assert isinstance(answer, Heard)
    assert answer.report == report(incidents=(incident(),), kills=(kill(),))


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (slow, "no answer from 127.0.0.1"),
        (dripping, "no answer from 127.0.0.1"),
        (broken, "status 503"),
        (elsewhere, "status 302"),
        (endless, "more than 1048576 bytes"),
    ],
)
def test_a_pod_that_misbehaves_is_silent(handler, words):
    answer = ask(handler, timeout_s=0.5 if handler in (slow, dripping) else 10)
    assert isinstance(answer, Silence)
    assert words in answer.reason


def test_a_port_where_nobody_listens_is_silent():
    async def run():
        async with served(good) as port:
            pass
        reports = Reports(timeout_s=5)
        return (await reports.read([pod(ip="127.0.0.1")], port))[0]

    answer = asyncio.run(run())
    assert isinstance(answer, Silence)
    assert "127.0.0.1" in answer.reason


def test_a_pod_that_cannot_answer_is_not_asked():
    async def run():
        reports = Reports(timeout_s=5)
        return await reports.read([pod(waiting="the sidecar is waiting (ErrImagePull)"), pod(ip=None)], 1)

    assert [answer.reason for answer in asyncio.run(run())] == [
        "the sidecar is waiting (ErrImagePull)",
        "it has no address yet",
    ]


def test_one_dead_pod_does_not_hold_up_the_others():
    async def run():
        reports = Reports(timeout_s=2)
        async with served(good) as port:
            pods = [pod("dead", ip="127.0.0.2")] + [pod(f"web-{n}", ip="127.0.0.1") for n in range(100)]
            return await asyncio.wait_for(reports.read(pods, port), 10)

    answers = asyncio.run(run())
    assert [type(answer) for answer in answers] == [Silence] + [Heard] * 100


def changed(**fields):
    return json.dumps(json.loads(GOOD) | fields).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[1, 2]", "cannot be read"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schema": NaN}', "NaN is no number"),
        (b"\xff\xfe", "not JSON"),
        (changed(schema=SCHEMA + 1), "upgrade the operator"),
        (changed(kills="many"), "kills"),
        (changed(taken_at="yesterday"), "taken_at"),
        (changed(server={"kind": "apache"}), "server.kind"),
    ],
)
def test_what_is_no_report_is_silence_with_the_reason(body, words):
    answer = parse_answer(pod(), body)
    assert isinstance(answer, Silence)
    assert words in answer.reason


def test_another_pod_at_the_address_is_silence():
    other = dump_report(report(pod=PodIdentity(namespace="default", name="web-2", uid="uid-web-2"))).encode()
    answer = parse_answer(pod("web-1"), other)
    assert isinstance(answer, Silence)
    assert "web-2" in answer.reason


def test_an_answer_that_breaks_off_is_silence_that_says_so():
    async def run():
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + GOOD[:100]
        async with raw(head, b"") as port:
            return (await Reports(timeout_s=5).read([pod(ip="127.0.0.1")], port))[0]

    answer = asyncio.run(run())
    assert isinstance(answer, Silence)
    assert "broke off after 100 of 5000 bytes" in answer.reason


def test_large_answers_wait_for_one_another_and_all_are_heard():
    async def handler(_):
        return web.Response(body=GOOD + b" " * 140_000)

    async def run():
        async with served(handler) as port:
            pods = [pod(f"web-{n}", ip="127.0.0.1") for n in range(12)]
            reports = Reports(timeout_s=20)
            return await asyncio.gather(*(reports.read(pods, port) for _ in range(LARGE_AT_ONCE // 6)))

    assert {type(answer) for look in asyncio.run(run()) for answer in look} == {Heard}


def test_large_answers_that_come_together_are_read_one_at_a_time():
    told = GOOD + b" " * 200_000
    answer = b"HTTP/1.0 200 OK\r\n\r\n" + told
    turns, heard_at, waiting = 0, [], []

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer[:-1])
        await writer.drain()
        waiting.append(writer)
        if len(waiting) == 20:
            await asyncio.sleep(0.1)
            for each in waiting:
                each.write(answer[-1:])
                each.close()

    async def turning():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def one(reports, port, name):
        answer = (await reports.read([pod(name, ip="127.0.0.1")], port))[0]
        heard_at.append(turns)
        return answer

    async def run():
        reports = Reports(timeout_s=20)
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port, others = server.sockets[0].getsockname()[1], asyncio.create_task(turning())
            answers = await asyncio.gather(*(one(reports, port, f"web-{number}") for number in range(20)))
            others.cancel()
        return answers

    assert {type(answer) for answer in asyncio.run(run())} == {Heard}
    assert len(set(heard_at)) == 20


def test_large_reports_of_one_look_have_a_bound_together_and_small_ones_are_heard_beside_them():
    async def large(_):
        return web.Response(body=GOOD + b" " * (900_000 - len(GOOD)))

    async def run():
        reports = Reports(timeout_s=20)
        async with served(large) as port, served(good) as other:
            pods = [pod(f"web-{n}", ip="127.0.0.1") for n in range(30)]
            looks = [await reports.read(pods, port) for _ in range(2)]
            return looks, await reports.read(pods, other)

    looks, small = asyncio.run(run())
    for answers in looks:
        silent = [answer for answer in answers if isinstance(answer, Silence)]
        assert len(silent) == 30 - LOOK_LIMIT // 900_000
        assert "sends more than 131072 bytes, as other pods do, and all together may send 8 MiB" in silent[0].reason
    assert {type(answer) for answer in small} == {Heard}
