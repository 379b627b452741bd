"""A namespace with an operator of its own in it: the real program, with the chart's own role and nothing more.

In: a cluster. Out: `Ground`, whose operator can be started, killed and started again. Rule: the operator runs here as a
process, under a ServiceAccount's token, so that a test can end it at any moment and read its log.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kube import ROOT, Cluster, eventually

ACCOUNT = "operator"


@dataclass(kw_only=True)
class Ground:
    """One namespace, its operator, and short words for what tests ask."""

    cluster: Cluster
    namespace: str
    folder: Path
    image: str = "localhost/wsgi-sidecar:none"
    process: subprocess.Popen[bytes] | None = None
    said_before: int = 0
    policies: list[str] = field(default_factory=list)

    def start(self, *, wait: bool = True, module: str = "wsgi_operator", **environ: str) -> None:
        """Start the operator (or a module that starts it), and wait until it watches."""
        assert self.process is None
        self.said_before = len(self.said())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", module],
                env=self._environ() | environ,
                stderr=log,
                stdout=log,
                cwd=self.folder,
            )
        if wait:
            eventually(self.works)

    def twin(self, name: str) -> Ground:
        """Another operator for the same namespace, under the same account; not started."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "kubeconfig").write_text(self.kubeconfig().read_text())
        return replace(self, folder=folder, process=None, said_before=0, policies=[])

    def _environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig()),
            "WSGI_OPERATOR_SIDECAR_IMAGE": self.image,
            "WSGI_OPERATOR_NAMESPACES": self.namespace,
            "WSGI_OPERATOR_REPORT_INTERVAL_SECONDS": "1",
            "WSGI_OPERATOR_PORT": "0",
        }

    def give_policy(self) -> None:
        """Install the chart's admission policy for this namespace, and wait until the API server heeds it."""
        values = ("--set", f"watch.namespaces={{{self.namespace}}},admission=always,rbac.create=false")
        chart = self.cluster.helm("template", self.namespace, str(ROOT / "charts/wsgi-operator"), *values)
        made = [thing for thing in yaml.safe_load_all(chart) if thing and "MutatingAdmission" in thing["kind"]]
        assert len(made) == 2
        self.policies = [f"{thing['kind']}/{thing['metadata']['name']}" for thing in made]
        self.apply(*made)
        eventually(lambda: self.admitted({"wsgi.dev/container": "web"})["spec"].get("shareProcessNamespace"))

    def take_policy(self) -> None:
        """Remove it again, and wait until the API server has noticed."""
        if self.policies:
            self.kubectl("delete", *self.policies, "--ignore-not-found")
            self.policies = []

    def admitted(self, annotations: Mapping[str, str], **container: Any) -> dict[str, Any]:
        """What the API server would make of a pod with these annotations."""
        template = deployment("x", **container)["spec"]["template"]
        template["metadata"] |= {"name": "x", "labels": {"wsgi.dev/server": "x"}, "annotations": dict(annotations)}
        body = {"apiVersion": "v1", "kind": "Pod"} | template
        said = self.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(body))
        return dict(json.loads(said))

    def alive(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the operator ended:\n{self.log.read_text()}"
        return True

    def kill(self) -> None:
        """kill -9: no time for last words."""
        self._end(signal.SIGKILL)

    def works(self) -> bool:
        """Whether it says that it watches."""
        return self.alive() and '"wsgi-operator ' in self.said()[self.said_before :]

    def said(self) -> str:
        """All that the operators of this ground have logged."""
        return self.log.read_text() if self.log.exists() else ""

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    @property
    def log(self) -> Path:
        return self.folder / "operator.log"

    def kubeconfig(self) -> Path:
        """The cluster's kubeconfig with the ServiceAccount's token in the place of the administrator's key."""
        path = self.folder / "kubeconfig"
        if not path.exists():
            token = self.kubectl("create", "token", ACCOUNT, "--duration=3h").strip()
            text = self.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten")
            config = yaml.safe_load(text)
            config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
            path.write_text(yaml.safe_dump(config))
        return path

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *args, stdin=stdin)

    def get(self, kind: str, name: str = "", *, selector: str = "") -> dict[str, Any]:
        return self.cluster.get(kind, name, namespace=self.namespace, selector=selector)

    def apply(self, *manifests: Mapping[str, Any], args: tuple[str, ...] = ()) -> None:
        self.cluster.apply(*manifests, namespace=self.namespace, args=args)

    def adopt(self, name: str, *, server: str | None = None, **spec: Any) -> str:
        """Create (or change) the WSGIServer of that Deployment."""
        named = server or name
        spec = {"workload": {"name": name}} | spec
        self.apply({"apiVersion": "wsgi.dev/v1alpha1", "kind": "WSGIServer", "metadata": {"name": named}, "spec": spec})
        return named

    def server(self, name: str) -> dict[str, Any]:
        return self.get("wsgiservers", name)

    def deployment(self, name: str) -> dict[str, Any]:
        return self.get("deployments", name)

    def template(self, name: str) -> str:
        """The pod template as canonical JSON: equal texts are equal to the byte."""
        return json.dumps(self.deployment(name)["spec"]["template"], sort_keys=True)

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """(status, reason, message), for the newest spec."""
        body = self.server(name)
        found = next(c for c in body.get("status", {}).get("conditions", [EMPTY]) if c["type"] in (kind, ""))
        assert found["observedGeneration"] == body["metadata"]["generation"], "the status is not of this spec yet"
        return found["status"], found["reason"], found["message"]

    def until(self, name: str, kind: str, status: str, reason: str | None = None, *, within_s: float = 60) -> str:
        """Wait for a condition; its message."""

        def look() -> str | None:
            found = self.condition(name, kind)
            assert found[0] == status, found
            assert reason in (None, found[1]), found
            return found[2]

        try:
            return eventually(look, within_s=within_s) or ""
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None

    def release(self, *servers: str) -> None:
        """Delete the WSGIServers, and wait until they are gone."""
        self.kubectl("delete", "wsgi", *servers, "--timeout=60s")

    def revision(self, name: str) -> int:
        """How many templates a Deployment has had; its generation rises with our annotations, too."""
        told = self.deployment(name)["metadata"].get("annotations") or {}
        return int(told.get("deployment.kubernetes.io/revision", 0))

    def replica_sets(self, app: str) -> int:
        return self.replica_sets_of(f"app={app}")

    def replica_sets_of(self, selector: str) -> int:
        return len(self.get("replicasets", selector=selector)["items"])

    def events(self, kind: str, name: str) -> list[tuple[str, str]]:
        """(reason, message) of the Events on an object."""
        items = self.get("events")["items"]
        return [
            (event["reason"], event["message"])
            for event in items
            if (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == (kind, name)
        ]


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


EMPTY: dict[str, Any] = {"type": "", "status": "", "reason": "", "message": "", "observedGeneration": -1}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def deployment(
    name: str, *, replicas: int = 0, pod: Mapping[str, Any] | None = None, **container: Any
) -> dict[str, Any]:
    """A Deployment manifest as an owner writes it; without pods unless asked for.

    GUNICORN_CMD_ARGS is there, and empty, unless the test says otherwise: then nobody has to look into an image first.
    """
    web = {
        "name": "web",
        "image": "localhost/nothing:1",
        "env": [{"name": "GUNICORN_CMD_ARGS", "value": ""}],
        "securityContext": RESTRICTED,
    } | container
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [web]} | dict(pod or {}),
            },
        },
    }


@contextmanager
def ground(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Ground]:
    """Give the namespace the chart's role for the operator; end the operator, and let go of every WSGIServer."""
    here = Ground(cluster=cluster, namespace=namespace, folder=folder)
    eventually(lambda: not _others(cluster), within_s=120, every_s=1)
    here.apply(*_account(cluster, namespace))
    try:
        yield here
    finally:
        here.kill()
        here.take_policy()
        names = here.kubectl("get", "wsgi", "-o", "name").split()
        for name in names:
            here.kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        here.kubectl("delete", "wsgi", "--all", "--timeout=60s")


def _others(cluster: Cluster) -> list[str]:
    """Operators in the cluster that serve all namespaces: they would work on our objects, too."""
    items = cluster.get("deployments", selector="app.kubernetes.io/name=wsgi-operator")["items"]
    return [item["metadata"]["namespace"] for item in items if _serves_all(item)]


def _serves_all(operator: Mapping[str, Any]) -> bool:
    variables = operator["spec"]["template"]["spec"]["containers"][0].get("env", ())
    return not any(entry["name"] == "WSGI_OPERATOR_NAMESPACES" and entry.get("value") for entry in variables)


def _account(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    chart = cluster.helm(
        "template", "op", str(ROOT / "charts/wsgi-operator"), "--namespace", namespace,
        "--set", f"watch.namespaces={{{namespace}}},replicas=2",
    )  # fmt: skip
    documents = [document for document in yaml.safe_load_all(chart) if document]
    roles = [d for d in documents if d["kind"] == "Role" and d["metadata"].get("namespace") == namespace]
    role = roles[0] | {"rules": [rule for role in roles for rule in role["rules"]]}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    meta = {"name": ACCOUNT}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": role["apiVersion"], "kind": "Role", "metadata": meta, "rules": role["rules"]},
        {
            "apiVersion": role["apiVersion"],
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            "subjects": [subject],
        },
    ]
