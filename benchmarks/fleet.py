"""The operator at fleet size: `make bench-operator`.

Out: for 100 and for 1,000 WSGIServers with ten pods each: from a changed resource to the patched template, how fresh
the reports are, a whole sweep, memory, what is asked of the API server at rest, and from a start to all reconciled.
Rule: a real etcd and API server, and the real program under the chart's own role, on one CPU; nodes and the servers in
the pods are simulated (simulated_kubelet.py), reports travel over real connections. Deployments have no replicas, so
that no roll of the controller manager's is measured; their pods are created here, from the adopted template.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import plane
from benchmarks.plane import Plane, Program, here
from benchmarks.simulated_kubelet import Admin, asked, node_of
from benchmarks.tables import keep, progress, show
from wsgi_contract import names
from wsgi_operator.connection import load_configuration
from wsgi_operator.core.pods import pods_of
from wsgi_operator.core.record import record_of
from wsgi_operator.reports import Reports
from wsgi_operator.watches import Followed, follow

TEAM: Final = 50
"""WSGIServers in one namespace."""

PORT: Final = 8080
TARGETS: Final = {"change_p99_s": 1.0, "sweep_s": 15.0, "memory_mib": 300.0, "writes": 0.0}
TOLERATIONS: Final = [{"operator": "Exists", "effect": "NoExecute"}]
"""A busy machine that renews its nodes' Leases late must not lose pods in the middle of a measurement."""

OURS: Final = ("wsgiservers", "deployments", "statefulsets", "pods", "events")


@dataclass(slots=True)
class Patched:
    """A sink of Deployments: when which wanted number of workers arrived in a template.

    Attributes:
        waited: what is waited for, by namespace and name.
        seen: when it came, by the loop's clock.
    """

    waited: dict[tuple[str, str], int] = field(default_factory=dict)
    seen: dict[tuple[str, str], float] = field(default_factory=dict)

    def there(self, body: Mapping[str, Any]) -> None:
        """A Deployment, new or changed."""
        key = body["metadata"]["namespace"], body["metadata"]["name"]
        record = record_of(body)
        workers = record.settings.get("workers") if record is not None else None
        if key not in self.seen and workers is not None and workers == self.waited.get(key):
            self.seen[key] = time.monotonic()

    def gone(self, body: Mapping[str, Any]) -> None:
        """Nothing is deleted here."""

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Those that a full list named."""


@dataclass(slots=True, kw_only=True)
class Fleet:
    """What is measured, and with what.

    Attributes:
        cluster: the administrator's way to the API server.
        operator: the program that is measured.
        cpu: the only one that it may use.
        pods_each: pods per WSGIServer.
        servers: how many there are by now.
        pods: likewise.
        workers: the number from which the last changes began.
        changes: what the Deployments tell.
    """

    cluster: Admin
    operator: Program
    cpu: int
    pods_each: int
    servers: int = 0
    pods: int = 0
    workers: int = 3
    changes: Patched = field(default_factory=Patched)

    def named(self, number: int) -> tuple[str, str]:
        """Namespace and name of the WSGIServer of that number, and of its Deployment."""
        return f"team-{number // TEAM}", f"shop-{number}"

    async def all_of(self, numbers: Sequence[int], work: Callable[[int], Awaitable[Any]]) -> None:
        """Do it for each of these, many at a time."""
        free = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            async with free:
                await work(number)

        await asyncio.gather(*map(one, numbers))

    async def grow(self, servers: int) -> None:
        """Create namespaces, Deployments and WSGIServers up to that number."""
        new = range(self.servers, servers)
        for team in sorted({number // TEAM for number in new} - {number // TEAM for number in range(self.servers)}):
            await self.cluster.create("/api/v1/namespaces", {"metadata": {"name": f"team-{team}"}})
        await until(self.accounts, within_s=60)
        await self.all_of(new, self.create)
        self.servers = servers

    async def accounts(self) -> bool:
        """Whether each namespace has its default account, without which no pod can be."""
        found = await self.cluster.page("/api/v1/serviceaccounts", {"fieldSelector": "metadata.name=default"})
        spaces = await self.cluster.page("/api/v1/namespaces", {})
        return len(found["items"]) == len(spaces["items"])

    async def create(self, number: int) -> None:
        """One Deployment, one WSGIServer."""
        namespace, name = self.named(number)
        await self.cluster.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(name))
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": {"workload": {"name": name}, "settings": {"workers": 3, "threads": 4, "timeoutSeconds": 60}},
        }
        await self.cluster.create(server_path(namespace), body)

    async def give_pods(self, first: int) -> None:
        """Pods from the adopted templates, for all WSGIServers from this one on."""

        async def one(number: int) -> None:
            namespace, name = self.named(number)
            live = await self.cluster.workload("Deployment", namespace, name)
            assert live is not None
            template = live["spec"]["template"]
            for pod in range(self.pods_each):
                body = {
                    "metadata": template["metadata"] | {"name": f"{name}-{pod}"},
                    "spec": template["spec"] | {"nodeName": node_of(number + pod), "tolerations": TOLERATIONS},
                }
                body["metadata"].pop("creationTimestamp", None)
                await self.cluster.create(f"/api/v1/namespaces/{namespace}/pods", body)

        await self.all_of(range(first, self.servers), one)
        self.pods = self.servers * self.pods_each

    async def start(self) -> float:
        """Start the operator; seconds until all is reconciled and all pods report."""
        began = time.monotonic()
        self.operator.start(self.cpu)
        await until(self.settled, within_s=900, every_s=0.1)
        return time.monotonic() - began

    async def settled(self) -> bool:
        """Whether the operator says that all is as wanted, and that it hears all pods."""
        assert self.operator.pid
        try:
            told = await metrics()
        except aiohttp.ClientError:
            return False
        ready, reporting = told["wsgi_operator_servers", "True"], told["wsgi_operator_pods", "reporting"]
        return (ready, reporting) == (self.servers, self.pods)

    async def change(self, number: int, workers: int) -> float:
        """Change one resource; seconds until its template is patched, as whoever watches sees it."""
        key = namespace, name = self.named(number)
        self.changes.seen.pop(key, None)
        self.changes.waited[key] = workers
        began = time.monotonic()
        await self.cluster.merge(f"{server_path(namespace)}/{name}", {"spec": {"settings": {"workers": workers}}})
        await until(lambda: _now(key in self.changes.seen), within_s=60, every_s=0.005)
        return self.changes.seen[key] - began


async def _now(value: bool) -> bool:
    return value


def server_path(namespace: str) -> str:
    """Path of a namespace's WSGIServers."""
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"


def deployment(name: str) -> dict[str, Any]:
    """An ordinary Deployment, as large as they are: probes, resources, a few variables."""
    probe = {"httpGet": {"path": "/healthz", "port": 8000}, "periodSeconds": 10, "timeoutSeconds": 2}
    variables = {"GUNICORN_CMD_ARGS": "--bind=0.0.0.0:8000 --access-logfile=-", "DJANGO_SETTINGS_MODULE": "shop.prod"}
    web = {
        "name": "web",
        "image": "registry.example/shop:1.2.3",
        "ports": [{"name": "http", "containerPort": 8000}],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "envFrom": [{"configMapRef": {"name": "shop"}}],
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
        "readinessProbe": probe,
        "livenessProbe": probe,
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "allowPrivilegeEscalation": False},
    }
    labels = {"app": name, "app.kubernetes.io/name": "shop", "app.kubernetes.io/part-of": "store"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [web], "terminationGracePeriodSeconds": 60}}
    selector = {"matchLabels": {"app": name}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": 0, "selector": selector, "template": template},
    }


async def until(look: Callable[[], Awaitable[bool]], *, within_s: float, every_s: float = 0.1) -> None:
    """Look until it is true.

    Raises:
        TimeoutError: it was not, in time.
    """
    async with asyncio.timeout(within_s):
        while not await look():
            await asyncio.sleep(every_s)


async def metrics(url: str = f"http://127.0.0.1:{PORT}/metrics") -> Counter[tuple[str, ...]]:
    """What the operator counts: name and labels' values."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        text = await answer.text()
    return samples(text)


def samples(text: str) -> Counter[tuple[str, ...]]:
    """Samples by name and labels' values."""
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, *sample.labels.values()] += sample.value  # type: ignore[assignment]
    return found


def asked_of_the_server(text: str) -> Counter[tuple[str, str]]:
    """What the API server counts for the kinds that the operator deals with: verb and resource, whoever asked."""
    found: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.rindex("}")].split(","))
            resource = labels["resource"].strip('"')
            if resource in OURS:
                found[labels["verb"].strip('"'), resource] += int(float(line.rsplit(" ", 1)[1]))
    return found


def cpu_s(pid: int) -> float:
    """CPU time of a process, all living threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory_mib(pid: int, field: str) -> float:
    """`VmRSS`: now; `VmHWM`: the most that it ever was."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


async def rest(fleet: Fleet, where: Plane, rest_s: float) -> dict[str, Any]:
    """What goes on while nothing happens: requests, CPU, and how often each pod is asked."""
    await asyncio.sleep(15)
    pid = fleet.operator.pid
    before, served = await metrics(), asked_of_the_server(where.kubectl("get", "--raw", "/metrics"))
    await asked(reset=True)
    cpu, began = cpu_s(pid), time.time()
    await asyncio.sleep(rest_s)
    pods, cpu, lasted = await asked(), cpu_s(pid) - cpu, time.time() - began
    after, served_after = await metrics(), asked_of_the_server(where.kubectl("get", "--raw", "/metrics"))
    methods: Counter[str] = Counter()
    for (name, *labels), count in (after - before).items():
        if name == "wsgi_operator_api_requests_total":
            methods[labels[0]] += int(count)
    served_after.subtract(served)
    return {
        "rest_s": lasted,
        "requests": dict(methods),
        "writes": sum(count for method, count in methods.items() if method != "GET"),
        "reads": methods["GET"],
        "api_server": {f"{verb} {what}": count for (verb, what), count in served_after.items() if count},
        "cpu_cores": cpu / lasted,
        "pods_asked": len(pods),
        "asked_per_s": sum(count for count, *_ in pods.values()) / lasted,
        "all_asked_once_s": max(first for _, first, *_ in pods.values()) - began,
        "longest_unasked_s": max(longest for *_, longest in pods.values()),
        "memory_mib": memory_mib(pid, "VmRSS"),
        "memory_peak_mib": memory_mib(pid, "VmHWM"),
    }


async def changes(fleet: Fleet, count: int, every_s: float, seed: int) -> list[float]:
    """Seconds from a change to the patched template, for so many changes of different WSGIServers."""
    chosen = random.Random(seed).sample(range(fleet.servers), min(count, fleet.servers))
    lasted, running = [], []
    # Another number at each size: a resource that is set to what it says already is no change.
    fleet.workers += 10
    first = fleet.workers

    async def one(number: int, workers: int) -> None:
        lasted.append(await fleet.change(number, workers))

    for turn in range(count):
        number = chosen[turn % len(chosen)]
        running.append(asyncio.create_task(one(number, first + turn // len(chosen))))
        await asyncio.sleep(every_s)
    await asyncio.gather(*running)
    return sorted(lasted)


async def sweep(fleet: Fleet) -> tuple[float, float]:
    """Seconds and CPU seconds to read the reports of all pods in one go, on one CPU, by the operator's own reader."""
    found: list[Any] = []
    go_on = ""
    while True:
        page = await fleet.cluster.page("/api/v1/pods", {"limit": "500"} | ({"continue": go_on} if go_on else {}))
        found += pods_of(page["items"])
        if not (go_on := page["metadata"].get("continue", "")):
            break
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {fleet.cpu})
    try:
        reports = Reports(timeout_s=TARGETS["sweep_s"])  # one simulated kubelet answers for all of them
        began, cpu = time.monotonic(), time.process_time()
        answers = await reports.read(found, names.SIDECAR_PORT)
        lasted = time.monotonic() - began, time.process_time() - cpu
    finally:
        os.sched_setaffinity(0, before)
    silent = [answer for answer in answers if not hasattr(answer, "report")]
    assert not silent, f"{len(silent)} of {len(answers)} pods are silent: {silent[0]}"
    return lasted


async def measure(fleet: Fleet, where: Plane, servers: int, given: argparse.Namespace) -> dict[str, Any]:
    """All figures for that many WSGIServers."""
    first = fleet.servers
    progress(f"{servers} WSGIServers: creating them")
    await fleet.grow(servers)
    adopted = await fleet.start()
    adopted_cpu = cpu_s(fleet.operator.pid)
    progress(
        f"adopted in {adopted:.1f} s ({adopted_cpu:.1f} s of CPU); creating {(servers - first) * fleet.pods_each} pods"
    )
    await fleet.give_pods(first)
    await until(fleet.settled, within_s=900)
    fleet.operator.end()
    started = await fleet.start()
    started_cpu = cpu_s(fleet.operator.pid)
    progress(f"from a start to all reconciled: {started:.1f} s ({started_cpu:.1f} s of CPU); {given.rest:g} s of rest")
    figures = await rest(fleet, where, given.rest)
    progress("a sweep in one go")
    lasted, cpu = await sweep(fleet)
    await asyncio.sleep(15)  # ten thousand answers in one go keep the simulated kubelet from the operator for a while
    progress(f"{given.changes} changes, one every {given.every:g} s")
    latencies = await changes(fleet, given.changes, given.every, given.seed)
    await until(fleet.settled, within_s=120)
    figures |= {
        "servers": servers,
        "pods": fleet.pods,
        "adopted_s": adopted,
        "adopted": servers - first,
        "adopted_cpu_s": adopted_cpu,
        "started_s": started,
        "started_cpu_s": started_cpu,
        "sweep_s": lasted,
        "sweep_cpu_s": cpu,
        "changes_s": latencies,
        "memory_after_mib": memory_mib(fleet.operator.pid, "VmRSS"),
        "memory_peak_mib": memory_mib(fleet.operator.pid, "VmHWM"),
    }
    fleet.operator.end()
    return figures


def quantile(figures: Sequence[float], part: float) -> float:
    """The figure below which that part of them lies."""
    return figures[min(len(figures) - 1, int(part * len(figures)))]


def verdicts(figures: Mapping[str, Any]) -> dict[str, bool]:
    """Which targets the largest fleet keeps."""
    return {
        "change": quantile(figures["changes_s"], 0.99) <= TARGETS["change_p99_s"],
        "sweep": max(figures["sweep_s"], figures["all_asked_once_s"]) <= TARGETS["sweep_s"],
        "memory": figures["memory_peak_mib"] <= TARGETS["memory_mib"],
        "writes": figures["writes"] <= TARGETS["writes"],
    }


def tell(stages: Sequence[Mapping[str, Any]], every: float) -> None:
    """The table: one column per size, and how it grew."""

    def row(title: str, figure: Callable[[Mapping[str, Any]], float], unit: str, digits: int = 1) -> list[str]:
        found = [figure(stage) for stage in stages]
        grew = f"x {found[-1] / found[0]:.1f}" if found[0] else "-"
        return [title, *(f"{one:.{digits}f} {unit}".rstrip() for one in found), grew if len(found) > 1 else ""]

    rows = [
        row(
            f"one change each {every:g} s; from it to the patched template, p50",
            lambda s: quantile(s["changes_s"], 0.5),
            "s",
            3,
        ),
        row("    p99 (target 1 s)", lambda s: quantile(s["changes_s"], 0.99), "s", 3),
        row("    longest", lambda s: s["changes_s"][-1], "s", 3),
        row("all reports read in one go, one CPU (target 15 s)", lambda s: s["sweep_s"], "s", 2),
        row("    CPU of that", lambda s: s["sweep_cpu_s"], "s", 2),
        row("at rest: every pod asked at least once within", lambda s: s["all_asked_once_s"], "s"),
        row("    the longest that one was not asked", lambda s: s["longest_unasked_s"], "s"),
        row("    reports read", lambda s: s["asked_per_s"], "per s"),
        row("    CPU", lambda s: s["cpu_cores"], "cores", 3),
        row("    writes to the API server (target 0)", lambda s: s["writes"], "", 0),
        row("    reads of the API server, watches aside", lambda s: s["reads"], "", 0),
        row("resident memory at rest", lambda s: s["memory_mib"], "MiB", 0),
        row("    the most that it ever was (target 300 MiB)", lambda s: s["memory_peak_mib"], "MiB", 0),
        row("from a start to all reconciled", lambda s: s["started_s"], "s"),
        row("    CPU of that", lambda s: s["started_cpu_s"], "s"),
        row("from a start to all newly adopted", lambda s: s["adopted_s"], "s"),
        row("    CPU of that", lambda s: s["adopted_cpu_s"], "s"),
    ]
    header = ["", *(f"{stage['servers']} WSGIServers, {stage['pods']} pods" for stage in stages), "grew"]
    show("the operator on one CPU; nodes and servers simulated, API server and reports real", header, rows)
    print(f"  at rest the API server itself counted (whoever asked): {stages[-1]['api_server'] or 'nothing'}")


async def run(where: Plane, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure at each size, in one go."""
    environ = {
        "KUBECONFIG": str(where.account()),
        "WSGI_OPERATOR_SIDECAR_IMAGE": "registry.example/wsgi-sidecar:1",
        "WSGI_OPERATOR_ADMISSION": "true",
        "WSGI_OPERATOR_ROLLS_AT_ONCE": "1000",  # it is the operator that is timed, not the queue for its turns
        "WSGI_OPERATOR_PORT": str(PORT),
    }
    operator = Program("operator", "wsgi_operator", where.folder, **environ)
    kubelet = Program("kubelet", "benchmarks.simulated_kubelet", where.folder, "--follow-template")
    with operator, kubelet:
        kubelet.start()
        async with Admin(await load_configuration(), watches=1) as cluster:
            fleet = Fleet(cluster=cluster, operator=operator, cpu=given.cpu, pods_each=given.pods)
            deployments = Followed(path="/apis/apps/v1/deployments", namespace=None, sink=fleet.changes)
            watching = asyncio.create_task(follow(cluster, deployments))
            try:
                return [await measure(fleet, where, servers, given) for servers in given.servers]
            except BaseException:
                print(operator.log.read_text()[-4000:], file=sys.stderr)
                raise
            finally:
                watching.cancel()


def main() -> int:
    """Measure, tell, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, nargs="+", default=[100, 1000], help="sizes of the fleet, growing")
    parser.add_argument("--pods", type=int, default=10, help="per WSGIServer")
    parser.add_argument("--changes", type=int, default=100, help="that are timed at each size")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two changes")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds of rest that are looked at")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the operator's only one")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20 and 100 WSGIServers, 30 s of rest")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    if given.quick:
        given.servers, given.changes, given.rest = [20, 100], 30, 30.0
    load = os.getloadavg()[0]
    stages = asyncio.run(run(here(), given))
    tell(stages, given.every)
    kept = verdicts(stages[-1])
    print(f"  load average {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} CPUs")
    print("  targets: " + ", ".join(f"{name} {'kept' if kept[name] else 'MISSED'}" for name in kept))
    if not given.dry:
        keep(
            "operator",
            {"stages": stages, "every_s": given.every, "load": [load, os.getloadavg()[0]], "targets": TARGETS},
        )
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(plane.enter("benchmarks.fleet", main))
