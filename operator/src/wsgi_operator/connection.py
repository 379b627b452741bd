"""The way to the API server: one request, one answer, one watch.

In: a method, a path, a body. Out: plain objects as the server gives them. Rule: every failure becomes kopf's
TemporaryError (try again, and when) or PermanentError (the server refuses, and says why); nothing else leaves this
file.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import kopf
from kubernetes.aio import client
from kubernetes.aio import config as kube_config

from wsgi_operator.metrics import Meters

TIMEOUT: Final = aiohttp.ClientTimeout(total=15)

AT_ONCE: Final = 32
"""Requests under way, watches and the Lease aside. A thousand workloads that are adopted at the same moment wait here,
in our own queue, not in the API server's, which has other clients. 32 answers of 10 ms are 3,200 requests a second."""

WAIT_AT_MOST_S: Final = 60.0
"""How long an answer can have us wait: the API server itself asks for one second, a proxy before it for anything."""

_REFUSALS: Final = frozenset({400, 403, 404, 405, 413, 415, 422})
_UNDECLARED: Final = "field not declared in schema"
"""Word of server-side apply for a field that it does not know; its status is 500, as if asking again could help."""

Object = dict[str, Any]


class Refused(kopf.PermanentError):
    """The API server refuses the request, and will again until somebody changes something.

    Attributes:
        status: HTTP status; 404 is told apart by callers that may miss an object.
    """

    def __init__(self, message: str, status: int) -> None:
        """Keep the status beside the sentence."""
        super().__init__(message)
        self.status = status


class Undeclared(Refused):
    """The CustomResourceDefinition in the cluster does not declare a field that we write: it is older than we are."""


class Conflict(kopf.TemporaryError):
    """Somebody else was faster: look again."""


class AskedToWait(kopf.TemporaryError):
    """The API server has more to do than it can (429), or names a time to come back at: not before, whatever rings."""


class Connection:
    """One connection to one API server; an asynchronous context manager."""

    def __init__(self, configuration: client.Configuration, meters: Meters | None = None, watches: int = 0) -> None:
        """Keep the configuration; connections are opened on entering. Requests are counted in the meters.

        Args:
            configuration: the way to the API server.
            meters: where requests are counted.
            watches: how many may be open at the same time, besides other requests.
        """
        configuration.connection_pool_maxsize = watches + 2 * AT_ONCE
        self._configuration = configuration
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._meters = meters or Meters()
        self._api: client.ApiClient

    async def __aenter__(self) -> Self:
        self._api = client.ApiClient(self._configuration)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def page(self, path: str, query: Mapping[str, str]) -> Object:
        """One page of a list."""
        return await self._call("GET", path, query, None, "application/json")

    async def watch(self, path: str, query: Mapping[str, str], silent_s: float) -> AsyncGenerator[Object, None]:
        """The events of a watch, until the API server ends it.

        Args:
            path: of the list.
            query: with `watch`, `resourceVersion` and `timeoutSeconds`.
            silent_s: a server that says nothing for longer is gone.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=silent_s)
        async with self._request("GET", path, query, None, "application/json", timeout=timeout) as response:
            if response.status == 410:
                yield {"type": "ERROR", "object": {"code": 410}}
            elif response.status != 200:
                _answer("GET", path, response.status, await response.read(), response.headers)
            else:
                async for line in _lines(response.content):
                    yield json.loads(line)

    async def _get(self, path: str, query: Mapping[str, str] | None = None, *, waits: bool = True) -> Object | None:
        try:
            return await self._call("GET", path, query or {}, None, "application/json", waits=waits)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content: str,
        *,
        waits: bool = True,
    ) -> Object:
        status = 0
        try:
            async with (
                self._slots if waits else nullcontext(),
                self._request(method, path, query, body, content, timeout=TIMEOUT) as response,
            ):
                text, status = await response.read(), response.status
        finally:
            self._meters.requested(method, status)
        return _answer(method, path, status, text, response.headers)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content: str,
        *,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, while its body is still to be read."""
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = (await self._api.call_api(*request, _request_timeout=timeout)).response
            try:
                yield response
            finally:
                response.close()
        except TimeoutError:
            raise kopf.TemporaryError(f"the API server does not answer {method} {path}", delay=5) from None
        except (aiohttp.ClientError, OSError) as error:
            raise kopf.TemporaryError(f"the API server cannot be reached: {error}", delay=5) from None


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines, however long; what follows the last one was cut off."""
    rest: list[bytes] = []
    async for chunk in content.iter_any():
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield b"".join((*rest, line))
            rest.clear()
        rest.append(last)


def _answer(method: str, path: str, status: int, text: bytes, headers: Mapping[str, str]) -> Object:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if status < 300 and isinstance(answer, dict):
        return answer
    said = answer.get("message") if isinstance(answer, dict) else None
    message = f"{method} {path}: {said or f'an answer that is no object, status {status}'}"
    if _UNDECLARED in message:
        raise Undeclared(str(said), status)
    if status == 409:
        raise Conflict(message, delay=0.2)
    if status in _REFUSALS:
        raise Refused(str(said or message), status)
    after = headers.get("Retry-After", "")
    if after.isdigit() or status == 429:
        raise AskedToWait(message, delay=min(float(after), WAIT_AT_MOST_S) if after.isdigit() else 5)
    raise kopf.TemporaryError(message, delay=5)


async def load_configuration() -> client.Configuration:
    """How to reach the API server: a pod's service account, else KUBECONFIG or ~/.kube/config.

    Raises:
        kopf.PermanentError: neither is there.
    """
    configuration = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            kube_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration
            )
    except kube_config.ConfigException as error:
        raise kopf.PermanentError(
            f"no way to a Kubernetes API server ({error}): run in a pod with a service account, or set KUBECONFIG"
        ) from None
    return configuration
