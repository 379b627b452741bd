"""Everything that is said to the Kubernetes API server.

In: names, configurations. Out: plain objects as the server gives them, or None where there is none. Rule: one method
per kind of request; what can go wrong with any of them is the connection's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from wsgi_contract import names
from wsgi_operator.connection import Conflict, Connection, Object, Refused

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_NO_VERSION: Final = "1"
"""A version that no object has: with it an apply makes an object, and meets one that is there with a conflict."""

_GROUPS: Final = {
    "Deployment": "/apis/apps/v1",
    "StatefulSet": "/apis/apps/v1",
    "Service": "/api/v1",
    "PodDisruptionBudget": "/apis/policy/v1",
    "PodMonitor": "/apis/monitoring.coreos.com/v1",
}
_LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


class Cluster(Connection):
    """What the operator asks of the API server."""

    async def workload(self, kind: str, namespace: str, name: str) -> Object | None:
        """The Deployment or StatefulSet; None if there is none."""
        return await self._get(_path(kind, namespace, name))

    async def servers_exist(self, namespace: str | None) -> bool:
        """Whether the API server knows the resource, and lets us list it."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        return await self._get(f"/apis/{names.API_VERSION}{scope}/{names.PLURAL}", {"limit": "1"}) is not None

    async def budgets(self, namespace: str) -> Sequence[Object]:
        """The PodDisruptionBudgets of a namespace; from the API server's cache, which is cheap."""
        found = await self._get(
            f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", {"resourceVersion": "0"}
        )
        return (found or {}).get("items") or ()

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Ask for the end of one pod, with its own grace; its disruption budgets are heeded.

        Raises:
            kopf.TemporaryError: a budget does not allow it now.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
        try:
            await self._call("POST", path, {}, body, "application/json")
        except Refused as error:
            if error.status != 404:
                raise

    async def apply(
        self, config: Mapping[str, Any], resource_version: str | None, manager: str = names.FIELD_MANAGER
    ) -> Object:
        """Server-side apply, as our field manager, if the object is still the one that we looked at.

        Args:
            config: the apply configuration.
            resource_version: of the object that we looked at; None: there was none, and one is made.
            manager: another one than ours.

        Raises:
            kopf.TemporaryError: somebody changed or made it meanwhile: look again.
        """
        metadata = config["metadata"]
        path = _path(config["kind"], metadata["namespace"], metadata["name"])
        body = dict(config) | {"metadata": dict(metadata) | {"resourceVersion": resource_version or _NO_VERSION}}
        return await self._call("PATCH", path, {"fieldManager": manager, "force": "true"}, body, _APPLY)

    async def made(self, kind: str, namespace: str, name: str) -> Object | None:
        """An object of a kind that we make; None if there is none, or the cluster does not know the kind."""
        return await self._get(_path(kind, namespace, name))

    async def delete(self, kind: str, namespace: str, name: str, resource_version: str) -> None:
        """Delete an object, if it is still the one that we looked at; one that is gone is deleted already."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": resource_version}}
        try:
            await self._call("DELETE", _path(kind, namespace, name), {}, body, "application/json")
        except Refused as error:
            if error.status != 404:
                raise

    async def merge_workload(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        """Merge-patch a workload."""
        path = _path(kind, namespace, name)
        return await self._call("PATCH", path, {"fieldManager": names.FIELD_MANAGER}, patch, _MERGE)

    async def order_pod(self, namespace: str, name: str, uid: str, order: str) -> Object:
        """Give a pod an order by annotation, if it is still the one that is meant."""
        metadata = {"uid": uid, "annotations": {names.ANNOTATION_ORDER: order}}
        path, manager = f"/api/v1/namespaces/{namespace}/pods/{name}", {"fieldManager": names.FIELD_MANAGER}
        return await self._call("PATCH", path, manager, {"metadata": metadata}, _MERGE)

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
        return await self._get(f"{_LEASES.format(namespace)}/{name}", waits=False)

    async def write_lease(self, lease: Mapping[str, Any], *, new: bool) -> Object:
        """Create a Lease, or replace the version that it names.

        Raises:
            kopf.TemporaryError: somebody else was faster.
        """
        path = _LEASES.format(lease["metadata"]["namespace"])
        if new:
            return await self._call("POST", path, {}, lease, "application/json", waits=False)
        path = f"{path}/{lease['metadata']['name']}"
        return await self._call("PUT", path, {}, lease, "application/json", waits=False)

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Create an Event; one of that name that exists already tells the same thing."""
        namespace = event["metadata"]["namespace"]
        try:
            await self._call("POST", f"/api/v1/namespaces/{namespace}/events", {}, event, "application/json")
        except Conflict:
            return


def _path(kind: str, namespace: str, name: str) -> str:
    return f"{_GROUPS[kind]}/namespaces/{namespace}/{kind.lower()}s/{name}"
