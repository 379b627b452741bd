"""A control plane of one's own: real etcd, API server and controller manager, and no node.

In: the module that asks. Out: the same module, run again inside a network namespace where that control plane answers.
Rule: the cluster that somebody may be using meanwhile is never touched, whatever KUBECONFIG says; the control plane
ends with the benchmark, and leaves nothing behind. Needs root, as `make cluster-up` does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from benchmarks.tables import FOLDER, VARIABLE, progress
from tests.cluster.kube import ROOT, SCRIPTS, eventually, run
from tests.cluster.machine import Machine, fresh_machine

NAME: Final = "wsgi-plane-"
"""What comes before the pid of the process that made it: two benchmarks may run at the same time."""

INSIDE: Final = "WSGI_BENCHMARK_PLANE"
SYSTEM: Final = "wsgi-system"
ACCOUNT: Final = "wsgi-operator"
KINDS: Final = ("ServiceAccount", "ClusterRole", "MutatingAdmission")
"""What of the chart is installed: all but the operator itself, which runs here as a process."""


def enter(module: str, main: Callable[[], int]) -> int:
    """Run `main` inside; its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if INSIDE in os.environ:
        return main()
    if os.geteuid() != 0:
        print("error: a control plane of our own needs root: use sudo", file=sys.stderr)
        return 2
    _clear()
    name = f"{NAME}{os.getpid()}"
    with TemporaryDirectory(prefix="wsgi-", dir="/tmp") as folder, fresh_machine(Path(folder), name) as machine:
        up = machine.script("up", "--control-plane")
        if up.code != 0:
            print(up.said, file=sys.stderr)
            return up.code
        progress(f"control plane up, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
        command = machine.inside(sys.executable, "-m", module, *sys.argv[1:])
        plane = {INSIDE: folder, "KUBECONFIG": str(Plane(folder=Path(folder)).admin), VARIABLE: str(FOLDER)}
        child = subprocess.Popen(command, env=machine.env | plane)
        try:
            return child.wait()
        finally:
            child.terminate()
            child.wait(timeout=60)


def _clear() -> None:
    """End what benchmarks that were killed left here."""
    for left in Path("/run/netns").glob(f"{NAME}*"):
        if Path(f"/proc/{left.name.removeprefix(NAME)}").exists():
            continue
        with TemporaryDirectory(prefix="wsgi-", dir="/tmp") as folder:
            Machine(cache=Path(folder), name=left.name).script("down")
        subprocess.run(["ip", "netns", "delete", left.name], check=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The control plane, seen from inside.

    Attributes:
        folder: for files that end with it.
    """

    folder: Path

    @property
    def cluster(self) -> Path:
        """Where the cluster's scripts keep it."""
        return self.folder / "wsgi-operator" / "cluster"

    @property
    def admin(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster / "run" / "admin.kubeconfig"

    def tool(self, name: str, *args: str, stdin: str | None = None) -> str:
        """Call kubectl or helm; its output."""
        return run(self.cluster / "bin" / name, *args, stdin=stdin, env=os.environ | {"KUBECONFIG": str(self.admin)})

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Call kubectl; its output."""
        return self.tool("kubectl", *args, stdin=stdin)

    def restart(self, component: str, down_s: float = 0.0) -> None:
        """Kill a component, and start it again after so long."""
        run(SCRIPTS / "restart", component, f"{down_s:g}")

    def account(self) -> Path:
        """The CRD, and the chart's policy and role; a kubeconfig with the token of the role's account."""
        self.kubectl("create", "namespace", SYSTEM)
        self.kubectl("apply", "--server-side", "-f", str(ROOT / "charts/wsgi-operator/crds/wsgiservers.yaml"))
        crd = "crd/wsgiservers.wsgi.dev"
        eventually(lambda: self.kubectl("wait", "--for=condition=Established", crd, "--timeout=60s"))
        words = ("--namespace", SYSTEM, "--set", "admission=always")
        chart = self.tool("helm", "template", ACCOUNT, str(ROOT / "charts/wsgi-operator"), *words)
        found = [thing for thing in yaml.safe_load_all(chart) if thing and thing["kind"].startswith(KINDS)]
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(found))
        (account,) = (thing["metadata"]["name"] for thing in found if thing["kind"] == "ServiceAccount")
        token = self.kubectl("create", "token", account, "-n", SYSTEM, "--duration=10h").strip()
        config = yaml.safe_load(self.admin.read_text())
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        path = self.folder / "operator.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


def here() -> Plane:
    """The plane that this process is inside of."""
    return Plane(folder=Path(os.environ[INSIDE]))


class Program:
    """A program that runs beside, with a log of its own; an ordinary context manager."""

    def __init__(self, name: str, module: str, folder: Path, *args: str, **environ: str) -> None:
        """Nothing runs yet."""
        self.log = folder / f"{name}.log"
        self._command: Sequence[str] = (sys.executable, "-m", module, *args)
        self._environ = os.environ | environ
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, cpu: int | None = None) -> None:
        """Start it, on that CPU alone if one is named."""
        pinned = () if cpu is None else ("taskset", "--cpu-list", str(cpu))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                (*pinned, *self._command), env=self._environ, stdout=log, stderr=log, cwd=ROOT
            )

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        assert self.process.poll() is None, f"it ended:\n{self.log.read_text()[-3000:]}"
        return self.process.pid

    def end(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """End it, if it runs; its exit code."""
        if self.process is None:
            return None
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: Any) -> None:
        self.end(signal.SIGKILL)
