"""`cluster/up`, `cluster/down`, `cluster/build`: tried on a machine of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.kube import SCRIPTS, eventually
from tests.cluster.machine import NAME, Machine, fresh_machine

pytestmark = [pytest.mark.cluster, pytest.mark.own_cluster]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="wsgi-", dir="/tmp") as folder, fresh_machine(Path(folder)) as fresh:
        yield fresh


@pytest.fixture
def empty_cache() -> Iterator[str]:
    # not tmp_path: it is too long for the sockets below it
    with tempfile.TemporaryDirectory(prefix="wsgi-", dir="/tmp") as folder:
        yield folder


@pytest.fixture
def running(machine: Machine) -> Machine:
    up = machine.script("up", "--if-needed")
    assert up.code == 0, up.said
    return machine


def a_pod(machine: Machine) -> None:
    machine.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    machine.kubectl("run", "sleeper", "--image=localhost/wsgi-operator-pause:1", "--image-pull-policy=Never")
    machine.kubectl("wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s")


def test_up_ends_with_a_ready_node_and_says_how_to_use_it(machine: Machine) -> None:
    up = machine.script("up")
    assert up.code == 0, up.said
    assert f"export KUBECONFIG={machine.state}/run/admin.kubeconfig" in up.said
    assert "node1" in machine.kubectl("get", "nodes", "--no-headers")
    assert machine.script("kubeconfig").said.strip() == f"{machine.state}/run/admin.kubeconfig"


def test_a_second_up_is_refused_and_says_whose_cluster_it_is_and_how_to_stop_it(running: Machine) -> None:
    before = running.components()
    second = running.script("up")
    assert second.code != 0
    assert "already up" in second.said
    assert f"KUBECONFIG={running.state}/run/admin.kubeconfig" in second.said
    assert "make cluster-down" in second.said
    assert running.components() == before


def test_a_second_up_with_another_cache_is_refused_too(running: Machine, empty_cache: str) -> None:
    second = running.script("up", "--if-needed", env={"XDG_CACHE_HOME": empty_cache})
    assert second.code != 0
    assert f"KUBECONFIG={running.state}/run/admin.kubeconfig" in second.said


def test_who_comes_while_another_is_at_work_is_told_to_wait(machine: Machine) -> None:
    with open(f"/run/lock/{NAME}-cluster.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        late = machine.script("down")
    assert late.code != 0
    assert "is at work on this machine" in late.said


def test_what_a_killed_cluster_left_is_cleaned_by_the_next_up(running: Machine) -> None:
    a_pod(running)
    for pid in running.pids():
        with suppress(ProcessLookupError):  # short-lived tools of the runtime are among them
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not running.pids())
    assert {"mounts", "links", "nftables", "cgroups", "state"} <= running.traces().keys()
    # a pid of the dead cluster now belongs to somebody else
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (running.state / "run" / "pids" / "etcd").write_text(f"{bystander.pid}\n")
        assert running.script("kubeconfig").code != 0
        up = running.script("up")
        assert up.code == 0, up.said
        assert "Cleaning up what a killed cluster left behind" in up.said
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert running.kubectl("get", "pods", "--no-headers", "--ignore-not-found") == ""


def test_a_cluster_that_lost_one_component_is_replaced(running: Machine) -> None:
    scheduler = int((running.state / "run" / "pids" / "kube-scheduler").read_text())
    os.kill(scheduler, signal.SIGKILL)
    eventually(lambda: scheduler not in running.pids())
    up = running.script("up", "--if-needed")
    assert up.code == 0, up.said
    assert "not running: kube-scheduler" in up.said


def test_a_component_that_is_restarted_is_another_process_and_the_cluster_goes_on(running: Machine) -> None:
    before = running.components()
    for component in ("kube-apiserver", "kubelet"):
        again = running.script("restart", component, "0.2")
        assert again.code == 0, again.said
    after = running.components()
    assert {name for name in before if before[name] != after[name]} == {"kube-apiserver", "kubelet"}
    a_pod(running)
    running.kubectl("delete", "pod", "sleeper", "--wait=false")


def test_nobody_restarts_what_is_not_there(machine: Machine) -> None:
    machine.script("down")
    refused = machine.script("restart", "kube-apiserver")
    assert refused.code != 0
    assert "make cluster-up" in refused.said
    assert machine.script("restart", "sshd").code != 0


def test_a_control_plane_alone_has_no_node_and_leaves_nothing_behind(machine: Machine) -> None:
    machine.script("down")
    up = machine.script("up", "--control-plane")
    assert up.code == 0, up.said
    assert set(machine.components()) == {"etcd", "kube-apiserver", "kube-controller-manager"}
    assert machine.kubectl("get", "nodes", "--ignore-not-found") == ""
    assert machine.script("down").code == 0
    assert machine.traces() == {}


def test_down_leaves_nothing_behind_not_even_what_is_frozen(running: Machine) -> None:
    a_pod(running)
    running.freeze_pods()
    settings = ("kernel.panic", "kernel.panic_on_oops", "vm.overcommit_memory")
    remembered = (running.state / "run" / "sysctls").read_text()
    down = running.script("down")
    assert down.code == 0, down.said
    assert running.traces() == {}
    for name in settings:
        assert f"{name} = {running.run('sysctl', '-n', name).said.strip()}" in remembered


@pytest.mark.parametrize("script", ["up", "down"])
def test_a_wrong_argument_is_refused_and_changes_nothing(running: Machine, script: str) -> None:
    before = running.components()
    wrong = running.script(script, "--help")
    assert wrong.code != 0
    assert wrong.said.startswith(f"error: usage: cluster/{script}")
    assert running.components() == before


def test_down_where_nothing_is_up_says_so(machine: Machine) -> None:
    machine.script("down")
    again = machine.script("down")
    assert again.code == 0
    assert again.said.strip() == "No cluster is up."
    none = machine.script("kubeconfig")
    assert none.code != 0
    assert "make cluster-up" in none.said


def test_a_taken_port_is_named_with_its_holder(machine: Machine) -> None:
    machine.script("down")
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 6443)); print('on', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{NAME}", "python3", "-c", code], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "on\n"
        up = machine.script("up")
    finally:
        holder.kill()
        holder.communicate()
    assert up.code != 0
    assert f"port 6443 of this machine is taken (by python3, pid {holder.pid})" in up.said
    assert machine.traces() == {}


def test_with_a_kubeconfig_of_another_cluster_none_is_started_and_none_is_stopped(machine: Machine) -> None:
    machine.script("down")
    elsewhere = {"KUBECONFIG": "/somewhere/else"}
    assert "is used, and none is started" in machine.script("up", env=elsewhere).said
    assert "not ours to stop" in machine.script("down", env=elsewhere).said
    assert machine.script("kubeconfig", env=elsewhere).said == "/somewhere/else\n"
    assert machine.traces() == {}


def test_without_go_a_sentence_says_what_to_do(machine: Machine, empty_cache: str) -> None:
    machine.script("down")
    up = machine.script("up", env={"GO": "/nowhere/go", "XDG_CACHE_HOME": empty_cache})
    assert up.code != 0
    assert "there is no Go here: install it (https://go.dev/dl), or set KUBECONFIG" in up.said
    assert len(up.said.splitlines()) == 1


def test_a_go_too_old_is_told_in_its_own_words(machine: Machine, tmp_path: Path, empty_cache: str) -> None:
    machine.script("down")
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho 'go: go.mod requires go >= 1.26.0 (running go 1.19.8)' >&2; exit 1\n")
    old.chmod(0o755)
    up = machine.script("up", env={"GO": str(old), "XDG_CACHE_HOME": empty_cache})
    assert up.code != 0
    assert "running go 1.19.8" in up.said
    assert "Install a newer Go" in up.said


def test_without_root_a_sentence_says_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as folder:
        readable = Path(folder)
        readable.chmod(0o755)
        shutil.copytree(SCRIPTS, readable / "cluster")
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", readable / "cluster" / "up"],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "needs root" in done.stderr
    assert "or set KUBECONFIG" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_root_without_its_rights_is_told_so(machine: Machine) -> None:
    bounded = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    up = machine.run(*bounded, SCRIPTS / "up", "--check")
    assert up.code != 0
    assert "may not make bridges and mounts" in up.said
    assert "or set KUBECONFIG" in up.said


def test_a_cache_folder_too_long_for_sockets_is_refused(machine: Machine, tmp_path: Path) -> None:
    up = machine.script("up", "--check", env={"XDG_CACHE_HOME": str(tmp_path / ("long" * 20))})
    assert up.code != 0
    assert "too long a path for a socket" in up.said
