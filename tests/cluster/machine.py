"""A machine inside the machine, on which the cluster's own scripts are tried.

In:   a folder for its cache, root.
Out:  a network namespace of its own, scripts run in it, and every trace that a cluster left.
Rule: the cluster that somebody may be using meanwhile is never touched: bridge, ports and nftables are the namespace's,
      cgroup, lock and owner bear another name.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.kube import CACHE, SCRIPTS, run

NAME: Final = "wsgi-trial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A script that ended: its exit code and everything it said."""

    code: int
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A network namespace and a cache folder.

    Attributes:
        cache: what stands in the place of `~/.cache`.
        name: of namespace, cgroup and lock; two machines of one name cannot be.
    """

    cache: Path
    name: str = NAME

    @property
    def state(self) -> Path:
        """Where a cluster on this machine keeps everything."""
        return self.cache / "wsgi-operator" / "cluster"

    @property
    def env(self) -> dict[str, str]:
        """Environment of everything that runs on it; KUBECONFIG of the outside does not reach it."""
        outside = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        return {**outside, "XDG_CACHE_HOME": str(self.cache), "WSGI_CLUSTER_NAME": self.name}

    def inside(self, *command: str | Path) -> list[str]:
        """The command that runs this one in the namespace."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *map(str, command)]

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run a command in the namespace to its end."""
        process = subprocess.Popen(
            self.inside(*command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self.env, **(env or {})},
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Done(code=process.returncode, said=said)

    def script(self, name: str, *args: str, env: Mapping[str, str] | None = None) -> Done:
        """Run one of the cluster's scripts."""
        return self.run(SCRIPTS / name, *args, env=env)

    def kubectl(self, *args: str) -> str:
        """Call kubectl against the cluster on this machine."""
        done = self.run(self.state / "bin" / "kubectl", f"--kubeconfig={self.state}/run/admin.kubeconfig", *args)
        assert done.code == 0, done.said
        return done.said

    def pids(self) -> set[int]:
        """Every process in the cluster's cgroups."""
        files = Path("/sys/fs/cgroup").glob(f"**/{self.name}/**/cgroup.procs")
        found: set[int] = set()
        for file in files:
            with suppress(OSError):
                found.update(int(line) for line in file.read_text().split())
        return found

    def freeze_pods(self) -> None:
        """Leave the pods as runc leaves them when it is killed while it ends them: frozen."""
        for state, word in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            for file in Path("/sys/fs/cgroup").glob(f"**/{self.name}/**/kubepods/**/{state}"):
                with suppress(OSError):
                    file.write_text(word)

    def components(self) -> dict[str, int]:
        """Pid of every component of the cluster that runs."""
        running = self.pids()
        noted = {file.name: int(file.read_text()) for file in (self.state / "run" / "pids").iterdir()}
        return {name: pid for name, pid in noted.items() if pid in running}

    def traces(self) -> dict[str, object]:
        """All that a cluster left on this machine; empty when it left nothing."""
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        links = self.run("ip", "-br", "link").said.splitlines()
        found: dict[str, object] = {
            "processes": self.pids(),
            "mounts": [mount for mount in mounts if mount.startswith(str(self.cache))],
            "links": [link.split()[0] for link in links if link.split()[0] != "lo"],
            "nftables": self.run("nft", "list", "tables").said.split(),
            "cgroups": [str(folder) for folder in Path("/sys/fs/cgroup").glob(f"*/{self.name}")],
            "owner": [str(file) for file in [Path(f"/run/{self.name}-cluster")] if file.exists()],
            "state": [str(folder) for folder in [self.state / "run"] if folder.exists()],
        }
        return {what: left for what, left in found.items() if left}


@contextmanager
def fresh_machine(cache: Path, name: str = NAME) -> Iterator[Machine]:
    """A machine whose binaries are compiled, on which no cluster is up; gone afterwards, with what ran on it."""
    machine = Machine(cache=cache, name=name)
    machine.state.mkdir(parents=True)
    run(SCRIPTS / "build", timeout_s=1800)  # with the caches of the outside: they are warm
    (machine.state / "built").symlink_to(CACHE / "built")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        machine.run("ip", "link", "set", "lo", "up")
        yield machine
    finally:
        machine.script("down")
        subprocess.run(["ip", "netns", "delete", name], check=True)
