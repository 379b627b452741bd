"""A simulated kubelet: pods become Running without a container, and their report ports answer.

In: pods of the nodes `sim-*`, as the API server tells them. Out: their status, patched as a kubelet would; Reports at
each pod's own loopback address 127.x.y.z on the sidecar's port. Rule: what is simulated is the node and the server in
the pod; the objects, the addresses, the connections and the Reports are real. A pod reports the settings that its own
template gives it, or, with `--follow-template`, those of its workload now, as if a roll took no time.

    python -m benchmarks.simulated_kubelet [--follow-template] [--starts-in SECONDS]

On port 9178 of 127.0.0.1 it tells as JSON, per address, how often the pod was asked since `reset` was said there, when
first and last, and the longest that it was left alone.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Set
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import kopf

from wsgi_contract import names
from wsgi_contract.report import AcceptQueue, Container, PodIdentity, ProcessId, Saturation, WorkerInfo, dump_report
from wsgi_contract.servers.gunicorn import Sources, effective_settings
from wsgi_operator.cluster import Cluster
from wsgi_operator.connection import Conflict, load_configuration
from wsgi_operator.core.admission import ANNOTATION_FLAGS
from wsgi_operator.core.workload import env_entry
from wsgi_operator.testing import gunicorn, report
from wsgi_operator.watches import Followed, follow

NODES: Final = 10
TELLS: Final = 9178
LEASE_S: Final = 10.0
RESET: Final = b"reset\n"
TAKEN: Final = b'"taken_at":'

Asked = tuple[int, float, float, float]
"""How often, when first, when last (Unix seconds), and the longest time between two."""


class Admin(Cluster):
    """An administrator's way to the API server, for what no operator may do."""

    async def create(self, path: str, body: Mapping[str, Any]) -> None:
        """POST, until it is there."""
        with suppress(Conflict):
            await self._until_taken("POST", path, body, "application/json")

    async def merge(self, path: str, patch: Mapping[str, Any]) -> None:
        """Merge-patch, until it is taken."""
        await self._until_taken("PATCH", path, patch, "application/merge-patch+json")

    async def _until_taken(self, method: str, path: str, body: Mapping[str, Any], content: str) -> None:
        for _ in range(20):
            try:
                await self._call(method, path, {}, body, content)
                return
            except Conflict:
                raise
            except kopf.TemporaryError:
                await asyncio.sleep(0.5)
        raise AssertionError(f"the API server does not take {method} {path}")

    async def read(self, path: str) -> dict[str, Any] | None:
        """GET; None where there is nothing."""
        return await self._get(path)

    async def remove(self, path: str, uid: str | None = None) -> None:
        """DELETE, at once, that very object if its uid is given; what is gone is deleted."""
        very = {"preconditions": {"uid": uid}} if uid else {}
        with suppress(kopf.PermanentError, Conflict):
            await self._until_taken("DELETE", path, {"gracePeriodSeconds": 0} | very, "application/json")


def node_of(number: int) -> str:
    """The simulated node of the pod of that number."""
    return f"sim-{number % NODES}"


def addresses() -> Iterator[str]:
    """Loopback addresses, other ones first after each start: those of before may be in use."""
    first = int(time.time()) % 100 * 50_000
    for number in range(first, first + 5_000_000):
        yield f"127.{1 + number // 50_000 % 100}.{number // 250 % 200}.{number % 250 + 1}"


class Kubelet:
    """Pods by address, and what they were asked."""

    def __init__(self, cluster: Admin, *, follow_template: bool, starts_in_s: float) -> None:
        """No pods yet."""
        self._starts_in_s = starts_in_s
        self._cluster = cluster
        self._follow_template = follow_template
        self._tasks: set[asyncio.Task[None]] = set()
        self._address_of: dict[str, str] = {}
        self._addresses = addresses()
        self._pods: dict[str, Mapping[str, Any]] = {}
        self._pods_of: dict[tuple[str, str], set[str]] = {}
        self._bodies: dict[str, tuple[bytes, bytes]] = {}
        self._templates: dict[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self.asked: dict[str, Asked] = {}

    # what a watch tells of pods

    def there(self, body: Mapping[str, Any]) -> None:
        """A pod, new or changed."""
        uid, metadata = body["metadata"]["uid"], body["metadata"]
        if "deletionTimestamp" in metadata:
            self._do(lambda: self._cluster.remove(_path(body), uid))
            return
        if uid not in self._address_of:
            known = (body.get("status") or {}).get("podIP")
            self._address_of[uid] = known or next(a for a in self._addresses if a not in self._pods)
            self._do(lambda: self._run(body, self._address_of[uid]))
        elif (body.get("status") or {}).get("podIP") is None:
            self._do(lambda: self._run(body, self._address_of[uid]))
        address = self._address_of[uid]
        self._pods[address] = _slim(body)
        self._pods_of.setdefault(_app(self._pods[address]), set()).add(address)
        self._bodies.pop(address, None)

    def gone(self, body: Mapping[str, Any]) -> None:
        """A pod that is no more."""
        address = self._address_of.pop(body["metadata"]["uid"], None)
        if address is not None:
            pod = self._pods.pop(address, None)
            self._pods_of.get(_app(pod), set()).discard(address) if pod is not None else None
            self._bodies.pop(address, None)
            self.asked.pop(address, None)

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Those that a full list did not name."""
        for uid in [uid for uid in self._address_of if uid not in uids]:
            self.gone({"metadata": {"uid": uid}})

    # what it does

    def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(_stubborn(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, body: Mapping[str, Any], address: str) -> None:
        if (body.get("status") or {}).get("podIP") != address:
            await asyncio.sleep(self._starts_in_s)
            very = {"uid": body["metadata"]["uid"]}
            status = _running(body["spec"], address)
            with suppress(Conflict):  # another of that name by now
                await self._cluster.merge(f"{_path(body)}/status", {"metadata": very, "status": status})

    def template(self, workload: Mapping[str, Any]) -> None:
        """A workload, new or changed: its pods report by its template from now on."""
        metadata = workload["metadata"]
        template = workload["spec"]["template"]
        key, told = (metadata["namespace"], metadata["name"]), (template["metadata"], template["spec"])
        if self._templates.get(key) == told:
            return
        self._templates[key] = told
        for address in self._pods_of.get(key, ()) if self._follow_template else ():
            self._bodies.pop(address, None)

    def answer(self, address: str) -> bytes | None:
        """The Report of the pod at this address; None where there is none."""
        pod = self._pods.get(address)
        if pod is None:
            return None
        if address not in self._bodies:
            before, after = dump_report(self._report(pod)).encode().split(TAKEN)
            self._bodies[address] = (before + TAKEN, after[after.index(b",") :])
        now = time.time()
        count, first, last, longest = self.asked.get(address, (0, now, now, 0.0))
        self.asked[address] = (count + 1, first, now, max(longest, now - last))
        before, after = self._bodies[address]
        return before + f"{now:.3f}".encode() + after

    def _report(self, pod: Mapping[str, Any]) -> Any:
        metadata = pod["metadata"]
        template = self._templates.get(_app(pod))
        about, spec = template if self._follow_template and template else (metadata, pod["spec"])
        args = _cmd_args(about, spec)
        settings = effective_settings(Sources(command_line=(), cmd_args=args, web_concurrency="", config_file=""))
        workers = next(int(s.value or 1) for s in settings if s.name == "workers")
        identity = PodIdentity(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
        return report(
            *settings,
            pod=identity,
            server=gunicorn(cmd_args=args),
            workers=tuple(_worker(slot) for slot in range(min(workers, 8))),
            accept_queue=AcceptQueue(length=0, limit=2048, listeners=("0.0.0.0:8000",)),
            container=Container(
                cpu_limit_cores=1.0,
                memory_limit_bytes=512 << 20,
                memory_working_set_bytes=200 << 20,
                throttled_s=0.0,
                oom_kills=0,
            ),
            saturation=Saturation(ratio=0.25, busy=1.0, slots=4, waiting=0),
        )


def _worker(slot: int) -> WorkerInfo:
    return WorkerInfo(
        slot=slot, process=ProcessId(pid=10 + slot, started=5000 + slot), state="alive", started_at=1_790_000_000.0,
        heartbeat_age_s=0.3, cpu_s=12.5, cpu_cores=0.1, threads=5, connections=2, rss_bytes=45 << 20, busy=0,
    )  # fmt: skip


def _cmd_args(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """What gunicorn gets: the variable of the template, and what the admission policy would write behind it."""
    variable = env_entry(spec["containers"][0], "GUNICORN_CMD_ARGS") or {}
    flags = (metadata.get("annotations") or {}).get(ANNOTATION_FLAGS, "")
    return f"{variable.get('value') or ''} {flags}".strip()


def _app(pod: Mapping[str, Any]) -> tuple[str, str]:
    """Namespace and name of the workload that a pod is of."""
    return pod["metadata"]["namespace"], pod["metadata"]["labels"].get("app", "")


def _slim(body: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = ("namespace", "name", "uid", "labels", "annotations")
    metadata = {key: body["metadata"].get(key) or {} for key in kept}
    containers = [{"name": c["name"], "env": c.get("env") or []} for c in body["spec"]["containers"]]
    return {"metadata": metadata, "spec": {"containers": containers}}


def _path(body: Mapping[str, Any]) -> str:
    return f"/api/v1/namespaces/{body['metadata']['namespace']}/pods/{body['metadata']['name']}"


def _running(spec: Mapping[str, Any], address: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": [_status(container, now) for container in spec["containers"]],
        "initContainerStatuses": [_status(container, now) for container in spec.get("initContainers") or ()],
    }


def _status(container: Mapping[str, Any], now: str) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": f"sha256:{0:064x}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    }


async def _stubborn(work: Callable[[], Awaitable[None]]) -> None:
    """Do it, however long the API server is away, unless it refuses: then the object is gone by now."""
    while True:
        try:
            await work()
        except kopf.PermanentError:
            return
        except (kopf.TemporaryError, AssertionError):
            await asyncio.sleep(1.0)
        else:
            return


class Templates:
    """A sink of workloads, for those that report by their template."""

    def __init__(self, kubelet: Kubelet) -> None:
        """Tell this kubelet."""
        self._kubelet = kubelet

    def there(self, body: Mapping[str, Any]) -> None:
        """A workload, new or changed."""
        self._kubelet.template(body)

    def gone(self, body: Mapping[str, Any]) -> None:
        """Its pods go, too."""

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Those that a full list named."""


class ReportPort(asyncio.Protocol):
    """The sidecar's port of all pods: which pod is meant is told by the address that was called."""

    def __init__(self, kubelet: Kubelet) -> None:
        """Answer for this kubelet's pods."""
        self._kubelet = kubelet
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody calls."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A request; each comes in one piece here."""
        body = self._kubelet.answer(self._transport.get_extra_info("sockname")[0])
        if body is None:
            self._transport.abort()
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)
        self._transport.close()


async def keep_nodes(cluster: Admin) -> None:
    """Nodes that are Ready, and stay so: each renews its Lease as a kubelet does."""
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    for node in map(node_of, range(NODES)):
        await cluster.create("/api/v1/nodes", {"metadata": {"name": node}})
        ready = {"type": "Ready", "status": "True", "reason": "Simulated", "message": "no kubelet is here"}
        await cluster.merge(f"/api/v1/nodes/{node}/status", {"status": {"conditions": [ready]}})
        await cluster.create(leases, {"metadata": {"name": node}, "spec": {"leaseDurationSeconds": 40}})
    while True:
        for node in map(node_of, range(NODES)):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            lease = {"spec": {"holderIdentity": node, "renewTime": now}}
            await _stubborn(lambda node=node, lease=lease: cluster.merge(f"{leases}/{node}", lease))  # type: ignore[misc]
        await asyncio.sleep(LEASE_S)


async def serve(*, follow_template: bool, starts_in_s: float) -> None:
    """Be the kubelet of all simulated nodes until cancelled."""
    async with Admin(await load_configuration(), watches=2) as cluster:
        kubelet, loop = (
            Kubelet(cluster, follow_template=follow_template, starts_in_s=starts_in_s),
            asyncio.get_running_loop(),
        )
        await loop.create_server(lambda: ReportPort(kubelet), "0.0.0.0", names.SIDECAR_PORT, backlog=4096)

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reset = await reader.readline() == RESET
            writer.write(json.dumps(kubelet.asked).encode())
            kubelet.asked = {} if reset else kubelet.asked
            await writer.drain()
            writer.close()

        await asyncio.start_server(tell, "127.0.0.1", TELLS)
        pods = Followed(path="/api/v1/pods", namespace=None, sink=kubelet)
        works = [keep_nodes(cluster), follow(cluster, pods)]
        if follow_template:
            sink = Templates(kubelet)
            works.append(follow(cluster, Followed(path="/apis/apps/v1/deployments", namespace=None, sink=sink)))
        await asyncio.gather(*works)


async def asked(*, reset: bool = False) -> dict[str, Asked]:
    """How the pods were asked, by address: what the running kubelet tells, and forgets if so told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", TELLS)
    writer.write(RESET if reset else b"\n")
    try:
        return dict(json.loads(await reader.read()))
    finally:
        writer.close()


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--follow-template", action="store_true", help="report by the workload's template")
    parser.add_argument("--starts-in", type=float, default=0.0, help="seconds that a pod takes until it is Running")
    given = parser.parse_args()
    asyncio.run(serve(follow_template=given.follow_template, starts_in_s=given.starts_in))
    return 0


if __name__ == "__main__":
    sys.exit(main())
