"""Reading a cluster without a process for each question.

In: a kubeconfig, a kind. Out: objects as the API server gives them. Rule: what a person would type is typed, with
kubectl; what is looked at again and again until it is so is asked for here: a kubectl is 0.1 s of CPU.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config
from urllib3.exceptions import HTTPError

_GROUPS: Final = {
    "deployments": "apps/v1",
    "statefulsets": "apps/v1",
    "replicasets": "apps/v1",
    "roles": "rbac.authorization.k8s.io/v1",
    "leases": "coordination.k8s.io/v1",
    "networkpolicies": "networking.k8s.io/v1",
    "customresourcedefinitions": "apiextensions.k8s.io/v1",
    "podmonitors": "monitoring.coreos.com/v1",
    "prometheusrules": "monitoring.coreos.com/v1",
    "wsgiservers": "wsgi.dev/v1alpha1",
}
TIMEOUT_S: Final = 30


class ReadError(AssertionError):
    """The API server refused, or was away; the message holds what it said."""


def read(kubeconfig: Path, kind: str, name: str = "", *, namespace: str = "", selector: str = "") -> dict[str, Any]:
    """One object, or a list of them.

    Args:
        kubeconfig: the cluster and who asks.
        kind: plural, as in a path of the API server.
        name: of the one; empty: all of them.
        namespace: empty: of all namespaces, or of a kind that has none.
        selector: by labels.

    Raises:
        ReadError: no answer, or a refusal; 404 is one.
    """
    group = _GROUPS.get(kind)
    path = "/".join(part for part in (
        f"/apis/{group}" if group else "/api/v1", f"namespaces/{namespace}" if namespace else "", kind, name,
    ) if part)  # fmt: skip
    query = [("labelSelector", selector)] if selector else []
    try:
        api = _client(kubeconfig, kubeconfig.stat().st_mtime_ns)
        request = api.param_serialize(
            "GET",
            path,
            query_params=query,
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        answer = api.call_api(*request, _request_timeout=TIMEOUT_S)
        text: bytes = answer.read()  # type: ignore[no-untyped-call]
    except (client.ApiException, HTTPError, OSError) as error:
        raise ReadError(f"GET {path}: {error}") from error
    if answer.status != 200:
        raise ReadError(f"GET {path}: {answer.status} {text.decode(errors='replace')}")
    return dict(json.loads(text))


@cache
def _client(kubeconfig: Path, written_ns: int) -> client.ApiClient:
    """One per cluster: whoever starts another one writes another kubeconfig, with other certificates."""
    made: client.ApiClient = config.new_client_from_config(config_file=str(kubeconfig))  # type: ignore[no-untyped-call]
    return made
