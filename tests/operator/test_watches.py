"""Following objects over real sockets, from an API server that behaves as badly as one can."""

import asyncio
import json
from contextlib import suppress

from aiohttp import web
from kubernetes.aio import client

from wsgi_operator.cluster import Cluster
from wsgi_operator.watches import Followed, follow, wait_s


class Told:
    """A sink that writes down what it is told."""

    def __init__(self):
        self.words = []

    def there(self, body):
        self.words.append(f"+{body['metadata']['name']}")

    def gone(self, body):
        self.words.append(f"-{body['metadata']['name']}")

    def only(self, namespace, uids):
        self.words.append(f"={','.join(sorted(uids))}")


def thing(name, version="1"):
    return {"metadata": {"name": name, "uid": name, "resourceVersion": version}}


def page(*names, version="5", go_on=""):
    metadata = {"resourceVersion": version} | ({"continue": go_on} if go_on else {})
    return {"metadata": metadata, "items": [thing(name) for name in names]}


def event(kind, name, version):
    return {"type": kind, "object": thing(name, version)}


TOO_OLD = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}


def followed(script, until, wait_s=lambda _failures: 0.01):
    """What the sink was told, and the queries, once a sink's word is `until`.

    Args:
        script: the answers in their order: a page, the events of a watch, or a status; then watches that say nothing.
        until: the word to wait for.
        wait_s: seconds between two tries, by how many failed.
    """
    told, queries, answers = Told(), [], list(script)

    async def handler(request):
        queries.append(dict(request.query))
        answer = answers.pop(0) if answers else None
        if isinstance(answer, dict):
            return web.json_response(answer)
        if isinstance(answer, int):
            return web.json_response({"message": "no"}, status=answer)
        response = web.StreamResponse()
        await response.prepare(request)
        text = b"".join(json.dumps(one).encode() + b"\n" if isinstance(one, dict) else one for one in answer or ())
        for begin in range(0, len(text), 20):
            await response.write(text[begin : begin + 20])
        if answer is None:
            await asyncio.sleep(30)
        return response

    async def run():
        app = web.Application()
        app.add_routes([web.get("/things", handler)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
        async with Cluster(configuration) as cluster:
            one = Followed(path="/things", namespace=None, sink=told, query={"labelSelector": "ours"})
            task = asyncio.create_task(follow(cluster, one, wait_s=wait_s))
            try:
                async with asyncio.timeout(20):
                    while until not in told.words:
                        await asyncio.sleep(0.01)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                await runner.cleanup()

    asyncio.run(run())
    return told.words, queries


def test_a_list_is_heard_page_by_page_and_the_watch_goes_on_from_it():
    words, queries = followed([page("a", go_on="more"), page("b", version="6"), [event("ADDED", "c", "7")]], "+c")
    assert words == ["+a", "+b", "=a,b", "+c"]
    assert [query.get("continue") for query in queries[:2]] == [None, "more"]
    assert queries[2]["resourceVersion"] == "6"
    assert {query["labelSelector"] for query in queries} == {"ours"}


def test_a_watch_that_ends_goes_on_where_it_was():
    words, queries = followed(
        [page("a"), [event("MODIFIED", "a", "8"), event("BOOKMARK", "", "9")], [event("DELETED", "a", "10")]], "-a"
    )
    assert words == ["+a", "=a", "+a", "-a"]
    assert [query.get("resourceVersion") for query in queries] == [None, "5", "9"]


def test_a_watch_that_is_too_old_begins_with_a_new_list():
    for refusal in ([TOO_OLD], 410):
        words, _ = followed([page("a"), refusal, page("b", version="20"), [event("ADDED", "c", "21")]], "+c")
        assert words == ["+a", "=a", "+b", "=b", "+c"]


def test_a_line_that_is_cut_off_is_not_heard_and_comes_again():
    cut = json.dumps(event("ADDED", "c", "7")).encode()[:-5]
    words, queries = followed([page("a"), [event("ADDED", "b", "6"), cut], [event("ADDED", "c", "7")]], "+c")
    assert words == ["+a", "=a", "+b", "+c"]
    assert queries[-1]["resourceVersion"] == "6"


def test_an_api_server_that_refuses_or_stumbles_is_asked_again():
    script = [500, 403, page("a", go_on="more"), 410, page("b"), 403, [{"type": "ERROR", "object": {"code": 500}}]]
    words, _ = followed([*script, [event("ADDED", "c", "7")]], "+c")
    assert words == ["+a", "+b", "=b", "+c"]


def test_a_watch_that_told_something_has_the_waits_begin_anew():
    waited = []
    cut = json.dumps(event("ADDED", "x", "9")).encode()[:-5]
    script = [500, 500, page("a"), 500, [event("ADDED", "b", "6"), cut], 500, [event("ADDED", "c", "7")]]
    followed(script, "+c", lambda failures: waited.append(failures) or 0.01)
    assert waited[:5] == [1, 2, 3, 1, 2]


def test_an_event_that_is_no_event_makes_a_new_list(caplog):
    words, _ = followed([page("a"), [{"type": "ADDED"}], page("b"), [event("ADDED", "c", "7")]], "+c")
    assert words == ["+a", "=a", "+b", "=b", "+c"]
    assert "following /things failed" in caplog.text


def test_the_waits_double_up_to_half_a_minute_and_no_two_are_alike():
    for failures, longest in ((1, 1), (2, 2), (5, 16), (6, 30), (5000, 30)):
        waits = {wait_s(failures) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest
