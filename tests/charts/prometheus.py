"""A real Prometheus on loopback, started for a test and gone with it.

In: targets as a pod discovery would tell them, the relabelling that is tried, files of rules. Out: what it answers.
Rule: Debian's package, an ephemeral port, data in a temporary folder, scrapes and evaluations each second.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from tests.servers.packages import needed
from tests.servers.server import eventually, free_port

Relabelling = Mapping[str, Any]
Series = Mapping[str, str]
OPERATOR_S_OWN: Final[tuple[Relabelling, ...]] = (
    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
    {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
    {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
)
"""What prometheus-operator adds to every PodMonitor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One scrape job.

    Attributes:
        name: of the job.
        relabelling: as a Prometheus' own configuration has it.
        targets: address, and labels as service discovery gives them.
    """

    name: str
    relabelling: Sequence[Relabelling] = ()
    targets: Sequence[tuple[str, Mapping[str, str]]] = ()

    def config(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        static = [{"targets": [address], "labels": dict(labels)} for address, labels in self.targets]
        relabelling = [dict(one) for one in self.relabelling]
        return {"job_name": self.name, "static_configs": static, "relabel_configs": relabelling}


class Prometheus:
    """One that scrapes these jobs while the block lasts.

    Args:
        jobs: what it scrapes.
        rules: files of rules that it evaluates.
    """

    def __init__(self, jobs: Iterable[Job], rules: Iterable[Path] = ()) -> None:
        self._program = needed("prometheus")
        self._config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [job.config() for job in jobs],
        }

    def __enter__(self) -> Self:
        """Start it, and wait until it answers."""
        self._folder = tempfile.TemporaryDirectory(prefix="wsgi-prometheus-")
        folder = Path(self._folder.name)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._config))
        self._log = folder / "log"
        self.port = free_port()
        command = [
            self._program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            eventually("Prometheus is ready", self._is_ready)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if error is not None:
            error.add_note(f"--- prometheus\n{self._log.read_text(errors='replace')[-3000:]}")
        self._process.kill()
        self._process.wait(10)
        self._folder.cleanup()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression gives now; NaN is none.

        Raises:
            AssertionError: Prometheus refuses the expression; the message is its own.
        """
        found = self._ask("query", query=expr)["result"]
        return [one for one in found if one["value"][1] != "NaN"]

    def labels(self, expr: str) -> list[Series]:
        """The labels of the series that an expression gives now."""
        return [one["metric"] for one in self.query(expr)]

    def over(self, expr: str, seconds: int) -> list[Series]:
        """The labels of all series that an expression gave in the last seconds."""
        now = float(self._ask("query", query="time()")["result"][1])
        found = self._ask("query_range", query=expr, start=str(now - seconds), end=str(now), step="1")["result"]
        return [one["metric"] for one in found]

    def rules(self) -> list[dict[str, Any]]:
        """The groups of rules, with the alerts that are pending or firing."""
        return list(self._ask("rules", type="alert")["groups"])

    def _ask(self, what: str, **words: str) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(words)}"
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                return dict(json.load(answer)["data"])
        except urllib.error.HTTPError as refusal:
            raise AssertionError(f"{words}: {json.load(refusal)['error']}") from None

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"Prometheus ended with {self._process.returncode} while starting")
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
        return False


def discovered(pods: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, str]]]:
    """What Prometheus' discovery of the role `pod` makes of pods, as the API server gives them: a target for each port.

    Debian builds Prometheus without that discovery, so tests do it: init containers count, too.
    """
    return [
        (f"{pod['status']['podIP']}:{port['containerPort']}", _meta(pod, container, port))
        for pod in pods
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ()))
        for port in container.get("ports", ())
    ]


def _meta(pod: Mapping[str, Any], container: Mapping[str, Any], port: Mapping[str, Any]) -> dict[str, str]:
    labels = {re.sub(r"\W", "_", name): value for name, value in pod["metadata"].get("labels", {}).items()}
    return {
        "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
        "__meta_kubernetes_pod_name": pod["metadata"]["name"],
        "__meta_kubernetes_pod_phase": pod["status"]["phase"],
        "__meta_kubernetes_pod_container_name": container["name"],
        "__meta_kubernetes_pod_container_port_name": port["name"],
        **{f"__meta_kubernetes_pod_label_{name}": value for name, value in labels.items()},
        **{f"__meta_kubernetes_pod_labelpresent_{name}": "true" for name in labels},
    }


def relabelling_of(monitor: Mapping[str, Any]) -> list[Relabelling]:
    """What prometheus-operator would make of a PodMonitor's only endpoint: its own relabelling, then the given."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    given = [_snake(one) for one in endpoint.get("relabelings", ())]
    return [*OPERATOR_S_OWN, {"target_label": "endpoint", "replacement": endpoint["port"]}, *given]


def _snake(relabelling: Mapping[str, Any]) -> Relabelling:
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    return {names.get(name, name): value for name, value in relabelling.items()}


def promtool(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Prometheus' own checker."""
    return subprocess.run(
        [needed("promtool"), *words], capture_output=True, text=True, check=False, cwd=cwd, env=dict(os.environ)
    )
