"""Fixtures that several houses of tests share.

In:   KUBECONFIG (a cluster to use), REQUIRE_CLUSTER=1 (its absence is a failure).
Out:  `cluster`, `images`, `namespace`.
Rule: what a test session started, it ends; what it found, it leaves.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import CACHE, ROOT, SCRIPTS, Cluster, Images, fresh_namespace
from tests.servers.processes import end_leftovers

BROUGHT = pytest.StashKey[bool]()


def pytest_configure() -> None:
    """Begin with the signals of a terminal, also where the tests were started under nohup, or in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if "PYTEST_XDIST_WORKER" not in os.environ:  # those are told to end by the one that started them
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark whatever asks for the cluster, so that `-m "not cluster"` leaves none out, and whatever starts one.

    Files that use a cluster share it; whoever starts one of its own, or changes it for everybody, runs alone.
    """
    if "cluster" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.cluster)
    if item.path.parent.name == "cluster" or item.get_closest_marker("own_cluster"):
        item.add_marker(pytest.mark.alone)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: whoever begins with one at the end is waited for."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the cluster that these tests brought up: the processes of a session share it, so the one that leads does."""
    brought = session.config.stash.get(BROUGHT, False)
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["brought"] = brought
    elif brought:
        _script("down")


def pytest_unconfigure() -> None:
    """After Ctrl-C, end the servers of processes of this session that had no time to end them."""
    if "PYTEST_XDIST_WORKER" not in os.environ and Path("/proc/self").exists():
        end_leftovers()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a process of this session whether it brought up the cluster."""
    said = getattr(node, "workeroutput", {})
    node.config.stash[BROUGHT] = node.config.stash.get(BROUGHT, False) or said.get("brought", False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What starts a cluster itself needs a machine that can have one, and some things only root may do."""
    if (what := item.get_closest_marker("needs_root")) and os.geteuid() != 0:
        pytest.skip(f"only root can {what.args[0]}")
    if item.get_closest_marker("own_cluster"):
        _need("up", "--check", without="KUBECONFIG")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly, as the last thing before pytest's own line, what this machine could not run."""
    skipped = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    if not skipped:
        return
    terminalreporter.section("NOT RUN ON THIS MACHINE", red=True, bold=True)
    for reason, count in skipped.most_common():
        terminalreporter.line(f"{count} tests were skipped: {reason}")


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """A Kubernetes cluster: the one of KUBECONFIG, else ours when it is up, else ours brought up for this session."""
    pytestconfig.stash[BROUGHT] = "The cluster is up, in" in _need("up", "--if-needed")
    path = _script("kubeconfig").stdout.strip()
    return Cluster(kubeconfig=Path(path), ours=path.startswith(str(CACHE)))


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """The sidecar's and the operator's image, built from this tree and loaded into the cluster."""
    return Images(
        sidecar=cluster.load_image("wsgi-sidecar", "dev", ROOT, "sidecar"),
        operator=cluster.load_image("wsgi-operator", "dev", ROOT, "operator"),
    )


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, in which Pod Security "restricted" is enforced; deleted afterwards."""
    with fresh_namespace(cluster) as name:
        yield name


def _script(name: str, *args: str, without: str = "") -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != without}
    return subprocess.run([SCRIPTS / name, *args], env=env, capture_output=True, text=True, check=False)


@cache
def _answer(name: str, *args: str, without: str) -> tuple[int, str]:
    done = _script(name, *args, without=without)
    return done.returncode, (done.stdout + done.stderr).strip()


def _need(name: str, *args: str, without: str = "") -> str:
    """What a script says, run once; where it refuses, skip with its reason, or fail where a cluster is required."""
    refused, said = _answer(name, *args, without=without)
    if refused and os.environ.get("REQUIRE_CLUSTER") == "1":
        pytest.fail(f"REQUIRE_CLUSTER=1, and:\n{said}", pytrace=False)
    if refused:
        pytest.skip(f"no cluster: {said.splitlines()[-1].removeprefix('error: ')}")
    return said
