"""The door to cgroups, against this machine's own v1 hierarchies and against v2 trees as kernels print them."""

import contextlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wsgi_contract.report import ProcessId
from wsgi_sidecar.cgroups import Cgroups

SPIN = "while True: pass"
HOARD = "import time; time.sleep(0.2); b = bytearray(64 << 20); b[::4096] = bytes(len(b[::4096])); time.sleep(60)"


def started(pid: int) -> ProcessId:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ProcessId(pid=pid, started=int(fields[19]))


def own_folder(controller: str) -> Path:
    """The v1 folder of this test's own cgroup, or a skip that says what is missing."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            folder = Path("/sys/fs/cgroup", controller, path.lstrip("/"))
            if folder.is_dir() and os.access(folder, os.W_OK):
                return folder
    pytest.skip(f"needs a writable cgroup v1 hierarchy with the controller {controller}")


@pytest.fixture
def boxed():
    """Starts a Python program inside new child cgroups: boxed(code, {controller: {file: value}})."""
    folders: list[Path] = []
    processes: list[subprocess.Popen[bytes]] = []

    def start(code: str, limits: dict[str, dict[str, str]]) -> subprocess.Popen[bytes]:
        for controller, settings in limits.items():
            folder = own_folder(controller) / f"wsgi-sidecar-test-{os.getpid()}"
            folder.mkdir()
            folders.append(folder)
            for name, value in settings.items():
                (folder / name).write_text(value)
        # The child enters before it becomes Python, so that all it ever uses is charged to the box.
        enter = "".join(f"echo $$ > {folder}/cgroup.procs && " for folder in folders)
        process = subprocess.Popen(["sh", "-c", enter + 'exec "$0" -c "$1"', sys.executable, code])
        processes.append(process)
        await_that(lambda: all(inside(folder, process.pid) for folder in folders))
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
    for folder in folders:
        await_that(lambda folder=folder: removed(folder))


def inside(folder: Path, pid: int) -> bool:
    return str(pid) in (folder / "cgroup.procs").read_text().split()


def removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def await_that(condition, deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def test_the_limits_of_a_boxed_server_are_read(boxed):
    server = boxed(
        "import time; time.sleep(60)",
        {
            "cpu": {"cpu.cfs_quota_us": "150000"},
            "memory": {"memory.limit_in_bytes": str(96 << 20)},
            "pids": {"pids.max": "77"},
        },
    )
    looked = Cgroups().read(started(server.pid))
    assert looked.limits.cpu_cores == 1.5
    assert looked.limits.memory_bytes == 96 << 20
    assert looked.limits.pids == 77
    assert looked.pressure.pids == 1
    assert looked.pressure.oom_kills == 0
    assert looked.unknowns == ()


def test_a_limit_changed_while_the_files_are_open_is_seen(boxed):
    server = boxed("import time; time.sleep(60)", {"memory": {"memory.limit_in_bytes": str(96 << 20)}})
    cgroups = Cgroups()
    assert cgroups.read(started(server.pid)).limits.memory_bytes == 96 << 20
    (own_folder("memory") / f"wsgi-sidecar-test-{os.getpid()}" / "memory.limit_in_bytes").write_text(str(128 << 20))
    assert cgroups.read(started(server.pid)).limits.memory_bytes == 128 << 20


def test_a_server_that_moves_to_another_cgroup_is_followed(boxed):
    server = boxed("import time; time.sleep(60)", {"pids": {"pids.max": "77"}})
    cgroups = Cgroups()
    assert cgroups.read(started(server.pid)).limits.pids == 77
    (own_folder("pids") / "cgroup.procs").write_text(str(server.pid))
    assert cgroups.read(started(server.pid)).limits.pids != 77


def test_throttling_is_counted_in_seconds(boxed):
    server = boxed(SPIN, {"cpu": {"cpu.cfs_quota_us": "10000"}})
    cgroups = Cgroups()
    await_that(lambda: (cgroups.read(started(server.pid)).pressure.throttled_s or 0) > 0.2)
    pressure = cgroups.read(started(server.pid)).pressure
    assert pressure.throttled_periods
    assert pressure.periods
    assert pressure.throttled_periods <= pressure.periods


def test_a_kill_by_the_oom_killer_is_counted(boxed):
    server = boxed(
        f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {HOARD!r}]); time.sleep(60)",
        {"memory": {"memory.limit_in_bytes": str(40 << 20)}},
    )
    cgroups = Cgroups()
    assert cgroups.read(started(server.pid)).pressure.oom_kills == 0
    await_that(lambda: cgroups.read(started(server.pid)).pressure.oom_kills == 1)
    assert (cgroups.read(started(server.pid)).pressure.memory_limit_hits or 0) > 0


def test_a_server_without_limits_has_infinite_ones():
    own_folder("cpu")
    looked = Cgroups().read(started(os.getpid()))
    assert looked.limits.pids is not None
    assert looked.limits.cpu_cores is not None
    assert looked.unknowns == ()


def test_a_server_that_is_gone_is_unknown_and_leaves_no_open_files():
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    cgroups, identity = Cgroups(), started(server.pid)
    before = len(os.listdir("/proc/self/fd"))
    cgroups.read(identity)
    server.kill()
    server.wait()
    cgroups.close()
    looked = cgroups.read(identity)
    assert looked.limits.memory_bytes is None
    assert "gone" in looked.unknowns[0].why
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_server_is_looked_at_in_its_own_cgroup(boxed):
    server = boxed("import time; time.sleep(60)", {"pids": {"pids.max": "77"}})
    cgroups = Cgroups()
    before = len(os.listdir("/proc/self/fd"))
    assert cgroups.read(started(os.getpid())).limits.pids != 77
    assert cgroups.read(started(server.pid)).limits.pids == 77
    assert cgroups.read(started(os.getpid())).limits.pids != 77
    cgroups.close()
    assert len(os.listdir("/proc/self/fd")) == before


LOOK_AS_NOBODY = """
import os, sys
from wsgi_contract.report import ProcessId
from wsgi_sidecar.cgroups import Cgroups
os.setgroups([]); os.setgid(65534); os.setuid(65534)
looked = Cgroups().read(ProcessId(pid=int(sys.argv[1]), started=0))
print(looked.limits.memory_bytes, looked.unknowns[0].remedy, sep="|")
"""


@pytest.mark.needs_root("start a look as another user")
def test_a_refused_look_is_unknown_and_says_which_user_to_run_as():
    run = subprocess.run(
        [sys.executable, "-c", LOOK_AS_NOBODY, str(os.getpid())], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "None|run the sidecar with runAsUser: 0 and runAsGroup: 0"


LOOK = """
import sys
from wsgi_contract.report import ProcessId
from wsgi_sidecar.cgroups import Cgroups
looked = Cgroups().read(ProcessId(pid=int(sys.argv[1]), started=int(sys.argv[2])))
print(looked.limits.pids, looked.pressure.pids)
"""
OWN_MOUNT = "umount -l /sys/fs/cgroup/pids && mount -t cgroup -o pids none /sys/fs/cgroup/pids"


@pytest.mark.needs_root("make namespaces")
@pytest.mark.parametrize(
    "sidecar", [(), ("unshare", "--cgroup")], ids=["the host's namespace", "a namespace of its own"]
)
def test_a_server_in_a_cgroup_namespace_of_its_own_is_read_from_another_one(boxed, sidecar):
    outer = (
        f"import os; os.execvp('unshare', ['unshare', '--cgroup', '--mount', 'sh', '-c',"
        f" {OWN_MOUNT + ' && exec sleep 60'!r}])"
    )
    server = boxed(outer, {"pids": {"pids.max": "77"}})
    await_that(lambda: b"sleep" in Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")[0])
    mounts = [line for line in Path(f"/proc/{server.pid}/mountinfo").read_text().splitlines() if "rw,pids" in line]
    assert mounts[0].split()[3].endswith(f"wsgi-sidecar-test-{os.getpid()}")  # the container's view, as in a pod
    identity = started(server.pid)
    run = subprocess.run(
        [*sidecar, sys.executable, "-c", LOOK, str(identity.pid), str(identity.started)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert run.stdout.split() == ["77", "1"]


# From here on: trees as the kernel shows them for a container on a cgroup v2 machine (the formats are Linux 6.1's).
V2_MOUNT = "1525 1520 0:27 {root} /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
OVERLAY = "1500 1400 0:300 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d\n"
V2_FILES = {
    "cgroup.type": "domain\n",
    "cpu.max": "200000 100000\n",
    "cpu.stat": "usage_usec 1000000\nnr_periods 5\nnr_throttled 2\nthrottled_usec 300000\n",
    "memory.max": "268435456\n",
    "memory.current": "104857600\n",
    "memory.stat": "inactive_file 4194304\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n",
    "pids.max": "max\n",
    "pids.current": "9\n",
}


def lay(tmp_path: Path, *, path: str, root: str, folders: dict[str, dict[str, str]]) -> Path:
    process = tmp_path / "42"
    for folder, files in folders.items():
        place = process / "root/sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text)
    (process / "mountinfo").write_text(OVERLAY + V2_MOUNT.format(root=root))
    (process / "cgroup").write_text(f"0::{path}\n")
    return tmp_path


SERVER = ProcessId(pid=42, started=1)


@pytest.mark.parametrize(
    "path",
    [
        "/",  # the sidecar shares the server's cgroup namespace
        "/../cri-containerd-2f1c.scope",  # the sidecar has its own: Kubernetes on cgroup v2
        "/kubepods.slice/kubepods-pod7.slice/cri-containerd-2f1c.scope",  # nobody has one
    ],
)
def test_a_pod_on_cgroup_v2_sees_its_own_cgroup_whatever_the_namespace(tmp_path, path):
    looked = Cgroups(lay(tmp_path, path=path, root=path, folders={"": V2_FILES})).read(SERVER)
    assert looked.limits.cpu_cores == 2.0
    assert looked.limits.memory_bytes == 268435456
    assert looked.limits.pids == math.inf
    assert looked.pressure.oom_kills == 1
    assert looked.pressure.memory_working_set_bytes == 100663296
    assert looked.unknowns == ()


def test_a_service_on_a_bare_cgroup_v2_machine_is_bound_by_its_slice(tmp_path):
    service = V2_FILES | {"memory.max": "max\n", "cpu.max": "max 100000\n"}
    folders = {
        "": {"cgroup.procs": "1\n"},  # the real top: no cgroup.type, no limits
        "system.slice": {"cgroup.type": "domain\n", "memory.max": "1073741824\n", "cpu.max": "100000 100000\n"},
        "system.slice/web.service": service,
    }
    looked = Cgroups(lay(tmp_path, path="/system.slice/web.service", root="/", folders=folders)).read(SERVER)
    assert looked.limits.memory_bytes == 1073741824
    assert looked.limits.cpu_cores == 1.0
    assert looked.limits.pids == math.inf
    assert looked.pressure.oom_kills == 1


def test_a_process_at_the_real_top_of_cgroup_v2_has_no_limits(tmp_path):
    looked = Cgroups(lay(tmp_path, path="/", root="/", folders={"": {"cpu.stat": "usage_usec 5\n"}})).read(SERVER)
    assert (looked.limits.cpu_cores, looked.limits.memory_bytes, looked.limits.pids) == (math.inf,) * 3


def test_a_controller_that_is_off_in_the_container_is_unknown_with_its_remedy(tmp_path):
    files = {name: text for name, text in V2_FILES.items() if not name.startswith("memory.")}
    looked = Cgroups(lay(tmp_path, path="/", root="/", folders={"": files})).read(SERVER)
    assert looked.limits.memory_bytes is None
    assert looked.limits.cpu_cores == 2.0
    assert {unknown.what for unknown in looked.unknowns} == {"memory limit", "OOM kills"}
    assert "enable the memory controller" in looked.unknowns[0].remedy


def test_a_container_without_a_cgroup_mount_is_unknown_with_its_remedy(tmp_path):
    proc = lay(tmp_path, path="/", root="/", folders={"": V2_FILES})
    (proc / "42" / "mountinfo").write_text(OVERLAY)
    looked = Cgroups(proc).read(SERVER)
    assert looked.limits.memory_bytes is None
    assert "mount cgroups" in looked.unknowns[0].remedy


def test_a_cgroup_outside_what_is_mounted_is_not_taken_for_the_mounted_one(tmp_path):
    proc = lay(tmp_path, path="/kubepods/other", root="/kubepods/mine", folders={"": V2_FILES})
    assert Cgroups(proc).read(SERVER).limits.memory_bytes is None


def test_a_v1_pod_with_joined_controllers_is_read_through_its_bind_mounts(tmp_path):
    process = tmp_path / "42"
    pod = "/kubepods/burstable/pod7/2f1c"
    mounts = [
        f"700 690 0:30 {pod} /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct",
        f"701 690 0:35 {pod} /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory",
    ]
    files = {
        "cpu,cpuacct": {
            "cpu.cfs_quota_us": "50000\n",
            "cpu.cfs_period_us": "100000\n",
            "cpuacct.usage": "7000000000\n",
        },
        "memory": {"memory.limit_in_bytes": "67108864\n", "memory.oom_control": "under_oom 0\noom_kill 4\n"},
    }
    for folder, texts in files.items():
        place = process / "root/sys/fs/cgroup" / folder
        place.mkdir(parents=True)
        for name, text in texts.items():
            (place / name).write_text(text)
    (process / "mountinfo").write_text("\n".join(mounts) + "\n")
    (process / "cgroup").write_text(f"9:memory:{pod}\n4:cpu,cpuacct:{pod}\n1:name=systemd:{pod}\n")
    looked = Cgroups(tmp_path).read(SERVER)
    assert looked.limits.cpu_cores == 0.5
    assert looked.limits.memory_bytes == 64 << 20
    assert looked.limits.pids is None
    assert looked.pressure.cpu_used_s == pytest.approx(7.0)
    assert looked.pressure.oom_kills == 4
