"""Following what is in the cluster: listed once, and told of every change from there on.

In: the API server's lists and watches. Out: what they tell, into a `Sink`. Rule: whatever happens to a watch (it ends,
breaks, is too old, the API server is away for an hour), it goes on where it was or begins with a new list; no change is
lost, and a list is heard to its end before anything is called gone.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import kopf

from wsgi_contract import names
from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import Refused
from wsgi_operator.mirror import Mirror, Sink

log = logging.getLogger("wsgi_operator")

WATCHES: Final = 3
"""Kinds that are followed in each namespace: Deployments, StatefulSets, pods."""

PAGE: Final = 100
"""Objects per page of a list: 100 pods are about 0.6 MB of JSON, several times that as objects, and three kinds are
listed at the same time."""

WATCH_S: Final = 300
"""The API server ends each watch after so long."""

SILENT_S: Final = 150.0
"""A watch that says nothing for so long has died unseen: the API server sends a bookmark each minute (measured where
nothing happens at all: the first after 121 s, the next after 61 s)."""

_BROKEN: Final = {"event": "watch-broken"}
_GONE: Final = 410
"""HTTP's word for a version that the API server no longer remembers."""

LONGEST_WAIT_S: Final = 30.0
"""Between two tries. The first waits are 1, 2, 4, ... s, each shortened by up to half: many must not come at once."""


@dataclass(slots=True, kw_only=True)
class Followed:
    """One kind of object in one namespace, or in all.

    Attributes:
        path: of its list.
        query: which of them.
        namespace: None: all.
        sink: who is told.
        listed: set once the first list was heard to its end.
        version: from which changes have to be told; empty: a list has to come first.
        heard: events that its watches have told, bookmarks too.
    """

    path: str
    sink: Sink
    namespace: str | None
    query: Mapping[str, str] = field(default_factory=dict)
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    version: str = ""
    heard: int = 0


def followed(mirror: Mirror, namespaces: Sequence[str]) -> tuple[Followed, ...]:
    """All that the mirror holds, in these namespaces; none named: in all."""
    found = []
    for namespace in namespaces or (None,):
        scope = f"namespaces/{namespace}/" if namespace else ""
        found += [
            Followed(path=f"/apis/apps/v1/{scope}{kind.lower()}s", namespace=namespace, sink=sink)
            for kind, sink in mirror.workloads.items()
        ]
        query = {"labelSelector": names.LABEL_SERVER}
        found.append(Followed(path=f"/api/v1/{scope}pods", query=query, namespace=namespace, sink=mirror.pods))
    return tuple(found)


async def keep(cluster: Cluster, mirror: Mirror, namespaces: Sequence[str]) -> None:
    """Keep the mirror true until cancelled."""
    everything = followed(mirror, namespaces)
    async with asyncio.TaskGroup() as group:
        for one in everything:
            group.create_task(follow(cluster, one))
        for one in everything:
            await one.listed.wait()
        mirror.complete.set()


def wait_s(failures: int) -> float:
    """Seconds until the next try, after so many failures in a row."""
    return min(2.0 ** min(failures - 1, 10), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)  # noqa: S311  # no secret hangs on it


async def follow(cluster: Cluster, one: Followed, *, wait_s: Callable[[int], float] = wait_s) -> None:
    """Follow one kind of object until cancelled. This is an outermost loop: it logs, waits and lives.

    A watch that told something worked, however it ended: then the waits begin anew. Else one that breaks each day would
    be away for half a minute after a week.
    """
    failures = 0
    while True:
        began, before, error = asyncio.get_running_loop().time(), one.heard, None
        try:
            if not one.version:
                await _list(cluster, one)
            await _watch(cluster, one)
            failed = asyncio.get_running_loop().time() - began <= 1
        except (kopf.TemporaryError, Refused) as broken:
            failed, error = True, broken
        except Exception:
            failed, one.version = True, ""
            log.exception("following %s failed", one.path, extra=_BROKEN)
        failures = (0 if one.heard > before else failures) + 1 if failed else 0
        if error is not None:
            level = logging.WARNING if failures > 2 else logging.INFO
            log.log(level, "cannot follow %s: %s", one.path, error, extra=_BROKEN)
        if failures:
            await asyncio.sleep(wait_s(failures))


async def _list(cluster: Cluster, one: Followed) -> None:
    """Tell everything that is there."""
    uids: set[str] = set()
    go_on = ""
    while True:
        query = dict(one.query) | {"limit": str(PAGE)} | ({"continue": go_on} if go_on else {})
        page = await cluster.page(one.path, query)
        for body in page.get("items") or ():
            uids.add(body["metadata"]["uid"])
            one.sink.there(body)
        go_on = page["metadata"].get("continue") or ""
        if not go_on:
            break
    one.sink.only(one.namespace, uids)
    one.version = page["metadata"]["resourceVersion"]
    one.listed.set()


async def _watch(cluster: Cluster, one: Followed) -> None:
    """Tell changes until the watch ends; where it is too old for that, a list has to come first."""
    query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": one.version}
    events = cluster.watch(one.path, dict(one.query) | query | {"timeoutSeconds": str(WATCH_S)}, SILENT_S)
    async with aclosing(events) as heard:
        async for event in heard:
            _tell(one, event["type"], event["object"])
            if not one.version:
                return


def _tell(one: Followed, kind: str, body: Mapping[str, Any]) -> None:
    if kind == "ERROR":
        if body.get("code") != _GONE:
            raise kopf.TemporaryError(f"the watch ended: {body.get('message')}", delay=1)
        one.version = ""
        return
    if kind == "DELETED":
        one.sink.gone(body)
    elif kind != "BOOKMARK":
        one.sink.there(body)
    one.version = body["metadata"]["resourceVersion"]
    one.heard += 1
