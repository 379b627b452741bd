"""Health, log and the way to the API server, against real sockets."""

import asyncio
import json
import logging
import socket

import aiohttp
import kopf
import pytest
from aiohttp import web
from kubernetes.aio import client

from wsgi_operator import health
from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import AskedToWait, Conflict, Refused
from wsgi_operator.health import Pulse, serve_health
from wsgi_operator.logs import JsonLines, TextLines


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def asked(port, path):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status


def test_ready_means_that_watching_began_and_alive_that_rounds_end():
    async def run():
        pulse, port = Pulse(), free_port()
        async with serve_health(pulse, port):
            told = [await asked(port, "/readyz"), await asked(port, "/livez")]
            pulse.ready.set()
            pulse.begin("u")
            told += [await asked(port, "/readyz"), await asked(port, "/livez")]
            pulse._began["u"] -= health.STUCK_S + 1
            told.append(await asked(port, "/livez"))
            pulse.end("u")
            return [*told, await asked(port, "/livez")]

    assert asyncio.run(run()) == [503, 200, 200, 200, 503, 200]


def test_a_health_port_that_is_taken_is_an_error_at_the_start():
    async def run():
        with socket.create_server(("", 0)) as other:
            async with serve_health(Pulse(), other.getsockname()[1]):
                pass

    with pytest.raises(OSError, match="address already in use"):
        asyncio.run(run())


def record(**extra):
    made = logging.LogRecord("wsgi_operator", logging.INFO, "", 0, "applied %s", ("x",), None)
    made.created = 1_790_000_000.25
    vars(made).update(extra)
    return made


def test_a_log_line_says_when_what_and_about_whom():
    line = json.loads(JsonLines().format(record(object="shop/web")))
    assert line == {
        "time": "2026-09-21T14:13:20.250Z",
        "level": "info",
        "event": "wsgi_operator",
        "message": "applied x",
        "object": "shop/web",
    }
    text = TextLines().format(record(k8s_ref={"namespace": "shop", "name": "web"}))
    assert text == "2026-09-21T14:13:20.250Z INFO shop/web: applied x"


def test_a_log_line_of_ours_says_in_a_word_what_happened_and_why():
    line = json.loads(JsonLines().format(record(event="condition", object="shop/web", reason="PodsSilent")))
    assert (line["event"], line["object"], line["reason"]) == ("condition", "shop/web", "PodsSilent")


def test_a_text_line_stays_one_line_whatever_a_stranger_said():
    made = record()
    made.msg, made.args = "%s", ("a\n2026-01-01 CRITICAL all is lost\x1b[2J",)
    assert TextLines().format(made) == "2026-09-21T14:13:20.250Z INFO a 2026-01-01 CRITICAL all is lost\ufffd[2J"
    assert "\n" not in JsonLines().format(made)


def answered(status, body, headers=None):
    """What the door makes of an API server that answers so."""

    async def handler(_):
        return web.Response(status=status, body=body, headers=headers or {})

    async def run():
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", handler)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
        try:
            async with Cluster(configuration) as cluster:
                return await cluster.apply({"kind": "Deployment", "metadata": {"namespace": "a", "name": "b"}}, "1")
        finally:
            await runner.cleanup()

    return asyncio.run(run())


STATUS = b'{"kind": "Status", "message": "because"}'


def test_an_answer_is_a_plain_object():
    assert answered(200, b'{"metadata": {}}') == {"metadata": {}}


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "delay"),
    [
        (409, STATUS, {}, Conflict, 0.2),
        (422, STATUS, {}, Refused, None),
        (403, STATUS, {}, Refused, None),
        (429, STATUS, {"Retry-After": "7"}, AskedToWait, 7),
        (429, STATUS, {"Retry-After": "86400"}, AskedToWait, 60),
        (429, STATUS, {}, AskedToWait, 5),
        (503, STATUS, {"Retry-After": "7"}, AskedToWait, 7),
        (503, STATUS, {"Retry-After": "soon"}, kopf.TemporaryError, 5),
        (500, b"<html>", {}, kopf.TemporaryError, 5),
        (401, STATUS, {}, kopf.TemporaryError, 5),
        (200, b"not json [", {}, kopf.TemporaryError, 5),
    ],
)
def test_every_failure_says_whether_to_try_again_and_when(status, body, headers, error, delay):
    with pytest.raises(error) as raised:
        answered(status, body, headers)
    assert getattr(raised.value, "delay", None) == delay
    assert "because" in str(raised.value) or "status" in str(raised.value)


def test_a_watch_that_says_nothing_for_too_long_is_given_up():
    async def silent(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(30)
        return response

    async def run():
        app = web.Application()
        app.add_routes([web.get("/pods", silent)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with Cluster(client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")) as cluster:
                return [event async for event in cluster.watch("/pods", {}, 0.3)]
        finally:
            await runner.cleanup()

    with pytest.raises(kopf.TemporaryError, match="does not answer GET /pods"):
        asyncio.run(asyncio.wait_for(run(), 10))


def test_an_api_server_that_is_not_there_is_tried_again():
    async def run():
        async with Cluster(client.Configuration(host=f"http://127.0.0.1:{free_port()}")) as cluster:
            await cluster.workload("Deployment", "a", "b")

    with pytest.raises(kopf.TemporaryError, match="cannot be reached"):
        asyncio.run(run())
