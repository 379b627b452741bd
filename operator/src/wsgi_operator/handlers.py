"""What kopf calls, and when.

In: watch events of WSGIServers. Out: bells rung, followers started and ended, workloads given back. Rule:
a handler says that something happened and decides nothing; one round at a time per WSGIServer, and its restore never
beside a round.
"""

from typing import Any

import kopf

from wsgi_contract import names
from wsgi_operator.desk import Desk, workload_of
from wsgi_operator.following import follow
from wsgi_operator.giving_back import restore
from wsgi_operator.login import Login


def build_registry(desk: Desk) -> kopf.OperatorRegistry:
    """Tell kopf what to call."""
    registry = kopf.OperatorRegistry()
    ours = (names.GROUP, names.VERSION, names.PLURAL)

    kopf.on.login(registry=registry)(Login(desk.config.namespaces).found)

    @kopf.on.cleanup(registry=registry)
    def on_end(**_: Any) -> None:
        desk.told.set()  # kopf itself waits for that (its stop flag), and would do so for 5 s after everybody has ended

    @kopf.index(*ours, id="claims", registry=registry)
    def claims(body: kopf.Body, **_: Any) -> Any:
        keys = ("name", "uid", "creationTimestamp")
        return {workload_of(body): {"metadata": {key: body["metadata"][key] for key in keys}}}

    @kopf.on.event(*ours, registry=registry)
    def on_server(event: Any, body: kopf.Body, **_: Any) -> None:
        metadata, gone = body["metadata"], event["type"] == "DELETED"
        desk.bells.ring_if_new(workload_of(body), metadata["uid"], metadata["generation"], gone=gone)

    @kopf.daemon(*ours, registry=registry, cancellation_backoff=1.0, cancellation_timeout=10.0)
    async def follow_server(stopped: Any, body: kopf.Body, **kwargs: Any) -> None:
        await follow(desk, stopped, body, kwargs["claims"])

    @kopf.on.delete(*ours, registry=registry, when=_is_ending, backoff=5.0)
    async def on_delete(body: kopf.Body, **_: Any) -> None:
        await restore(desk, body)

    return registry


def _is_ending(meta: Any, **_: Any) -> bool:
    """Keeps kopf from storing its own annotations on WSGIServers that live."""
    return "deletionTimestamp" in meta
