"""An operator whose way to the API server is the fault proxy, and what its tests ask."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.kube import eventually
from tests.operator.fault_proxy import FaultProxy, fault_proxy
from tests.operator.ground import Ground, deployment, free_port

PORT = free_port()


@contextmanager
def behind_a_proxy(here: Ground, folder: Path) -> Iterator[FaultProxy]:
    """The operator started behind a proxy, and ended as it should be."""
    with fault_proxy(here.kubeconfig(), folder) as proxy:
        start(here, proxy)
        yield proxy
        proxy.heal()
        assert here.stop() == 0


def start(here: Ground, proxy: FaultProxy) -> None:
    """Start the operator behind this proxy."""
    here.start(KUBECONFIG=str(proxy.kubeconfig), WSGI_OPERATOR_PORT=str(PORT))


def asks(method: str, *parts: str, watch: bool = False) -> Callable[[str, str], bool]:
    """Which requests a fault is meant for."""
    return lambda said, path: said == method and all(part in path for part in parts) and watch == ("watch=true" in path)


def adopted(here: Ground, name: str) -> int:
    """A Deployment that is adopted with two workers; its revision."""
    here.apply(deployment(name))
    here.adopt(name, settings={"workers": 2})
    here.until(name, "Ready", "True")
    return here.revision(name)


def resized(here: Ground, name: str, before: int, *, within_s: float = 60) -> None:
    """Wait until three workers are set, and see that they were set by one change that is told once."""
    here.until(name, "Ready", "True", within_s=within_s)
    web = here.deployment(name)["spec"]["template"]["spec"]["containers"][0]
    assert [entry["value"] for entry in web["env"] if entry["name"] == "GUNICORN_CMD_ARGS"] == ["--workers=3"]
    assert here.revision(name) == before + 1
    assert here.replica_sets(name) == 3

    def told() -> list[str]:
        return [message for reason, message in here.events("WSGIServer", name) if reason == "SettingsChanged"]

    eventually(lambda: told() == [f"Deployment {name} rolls: workers 2 -> 3"], within_s=30)


def alive(here: Ground) -> bool:
    """Whether the kubelet would leave the operator alone."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/livez", timeout=10) as answer:
        return bool(answer.status == 200) and here.alive()
