"""kopf's way to the API server.

In: the credentials that kopf finds by itself. Out: the same, with a session whose connections are counted. Rule: each
connection costs 256 KiB for TLS alone, and kopf's own session opens one for every request that is under way: 300
WSGIServers that got their finalizers at the same moment were 336 connections.
"""

from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import kopf

AT_ONCE: Final = 16
"""Requests of kopf's that are under way at the same time, beside its watches."""


class Login:
    """Credentials for kopf, asked for at the start and again whenever the API server refuses them."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        """Leave room for a watch in each of these, or one over all."""
        self._limit = 2 * max(1, len(namespaces)) + AT_ONCE  # a watch that is renewed may overlap the one before
        self._last: tuple[kopf.ConnectionInfo, kopf.AiohttpSession] | None = None

    async def found(self, **kwargs: Any) -> kopf.AiohttpSession | None:
        """What the service account's files, or KUBECONFIG, say now.

        The same credentials are the same object: kopf knows by that which ones have been refused already.
        """
        info = kopf.login_via_client(**kwargs)
        if info is None:
            return None
        if self._last is None or self._last[0] != info:
            self._last = info, _session(info, self._limit)
        return self._last[1]


def _session(found: kopf.ConnectionInfo, limit: int) -> kopf.AiohttpSession:
    connector = aiohttp.TCPConnector(limit=limit, ssl=found.as_ssl_context())
    session = aiohttp.ClientSession(connector=connector, headers=found.as_http_headers(), trust_env=found.trust_env)
    return kopf.AiohttpSession(
        aiohttp_session=session,
        server=found.server,
        default_namespace=found.default_namespace,
        priority=found.priority,
    )
