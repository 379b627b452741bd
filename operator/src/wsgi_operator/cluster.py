"""Everything that is said to the Kubernetes API server.

In: names, configurations. Out: plain objects as the server gives them, or None where there is none. Rule: one method
per kind of request, all through one wrapper that turns every failure into kopf's TemporaryError (try again, and when)
or PermanentError (the server refuses, and says why); nothing else leaves this file.
"""

import json
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import kopf
from kubernetes.aio import client
from kubernetes.aio import config as kube_config

from wsgi_contract import names
from wsgi_operator.metrics import Meters

TIMEOUT: Final = aiohttp.ClientTimeout(total=15)
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
_REFUSALS: Final = frozenset({400, 403, 404, 405, 413, 415, 422})

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


class Cluster:
    """One connection to one API server; an asynchronous context manager."""

    def __init__(self, configuration: client.Configuration, meters: Meters | None = None) -> None:
        """Keep the configuration; the connection is opened on entering. Requests are counted in the meters."""
        self._configuration = configuration
        self._meters = meters or Meters()
        self._api: client.ApiClient

    async def __aenter__(self) -> Self:
        self._api = client.ApiClient(self._configuration)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def workload(self, kind: str, namespace: str, name: str) -> Object | None:
        """The Deployment or StatefulSet; None if there is none."""
        return await self._get(_workload(kind, namespace, name))

    async def servers_exist(self, namespace: str | None) -> bool:
        """Whether the API server knows the resource, and lets us list it."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        return await self._get(f"/apis/{names.API_VERSION}{scope}/{names.PLURAL}", {"limit": "1"}) is not None

    async def pods(self, namespace: str, server: str) -> Sequence[Object]:
        """The pods that carry the label of this WSGIServer; from the API server's cache, which is cheap."""
        query = {"labelSelector": f"{names.LABEL_SERVER}={server}", "resourceVersion": "0"}
        found = await self._get(f"/api/v1/namespaces/{namespace}/pods", query)
        return (found or {}).get("items") or ()

    async def apply(self, config: Mapping[str, Any], resource_version: str) -> Object:
        """Server-side apply to a workload, as our field manager, if it is still the one that we looked at.

        Raises:
            kopf.TemporaryError: somebody changed it meanwhile: look again.
        """
        metadata = config["metadata"]
        path = _workload(config["kind"], metadata["namespace"], metadata["name"])
        body = dict(config) | {"metadata": dict(metadata) | {"resourceVersion": resource_version}}
        return await self._call("PATCH", path, {"fieldManager": names.FIELD_MANAGER, "force": "true"}, body, _APPLY)

    async def merge_workload(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        """Merge-patch a workload."""
        path = _workload(kind, namespace, name)
        return await self._call("PATCH", path, {"fieldManager": names.FIELD_MANAGER}, patch, _MERGE)

    async def write_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Replace a WSGIServer's status; a WSGIServer that is gone needs none."""
        path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}/{name}/status"
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": dict(status),
        }
        try:
            await self._call("PATCH", path, {"fieldManager": names.FIELD_MANAGER, "force": "true"}, body, _APPLY)
        except Refused as error:
            if error.status != 404:
                raise

    async def lease(self, namespace: str, name: str) -> Object | None:
        """The Lease; None if there is none."""
        return await self._get(f"{_LEASES.format(namespace)}/{name}")

    async def write_lease(self, lease: Mapping[str, Any], *, new: bool) -> Object:
        """Create a Lease, or replace the version that it names.

        Raises:
            kopf.TemporaryError: somebody else was faster.
        """
        path = _LEASES.format(lease["metadata"]["namespace"])
        if new:
            return await self._call("POST", path, {}, lease, "application/json")
        return await self._call("PUT", f"{path}/{lease['metadata']['name']}", {}, lease, "application/json")

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Create an Event; one of that name that exists already tells the same thing."""
        namespace = event["metadata"]["namespace"]
        try:
            await self._call("POST", f"/api/v1/namespaces/{namespace}/events", {}, event, "application/json")
        except Conflict:
            return

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> Object | None:
        try:
            return await self._call("GET", path, query or {}, None, "application/json")
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None, content: str
    ) -> Object:
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=TIMEOUT)
            text = await response.read()  # type: ignore[no-untyped-call]
        except TimeoutError:
            self._meters.requested(method, 0)
            raise kopf.TemporaryError(f"the API server does not answer {method} {path}", delay=5) from None
        except (aiohttp.ClientError, OSError) as error:
            self._meters.requested(method, 0)
            raise kopf.TemporaryError(f"the API server cannot be reached: {error}", delay=5) from None
        self._meters.requested(method, response.status)
        return _answer(method, path, response.status, text, response.headers)


def _workload(kind: str, namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s/{name}"


class Conflict(kopf.TemporaryError):
    """Somebody else was faster: look again."""


def _answer(method: str, path: str, status: int, text: bytes, headers: Mapping[str, str]) -> Object:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if status < 300 and isinstance(answer, dict):
        return answer
    said = answer.get("message") if isinstance(answer, dict) else None
    message = f"{method} {path}: {said or f'an answer that is no object, status {status}'}"
    if status == 409:
        raise Conflict(message, delay=0.2)
    if status in _REFUSALS:
        raise Refused(str(said or message), status)
    after = headers.get("Retry-After", "")
    raise kopf.TemporaryError(message, delay=float(after) if after.isdigit() else 5)


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
