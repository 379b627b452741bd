"""Whether a cgroup is frozen, against this machine's own freezers, and where nothing can be read."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.servers.freezer_box import Version, freezer_box
from wsgi_sidecar.freezer import read_frozen


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_frozen_cgroup_is_told_by_the_kernel_until_it_is_thawed(version: Version) -> None:
    with freezer_box(version) as box:
        sleeper = subprocess.Popen([*box.inside, "sleep", "60"])
        try:
            while str(sleeper.pid) not in (box.folder / "cgroup.procs").read_text().split():
                pass
            assert read_frozen(sleeper.pid) is False
            with box.frozen():
                assert read_frozen(sleeper.pid) is True
            assert read_frozen(sleeper.pid) is False
        finally:
            sleeper.kill()
            sleeper.wait()


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert read_frozen(os.getpid(), tmp_path) is None


def test_one_whose_container_shows_no_cgroups_is_unknown(tmp_path: Path) -> None:
    process = tmp_path / "7"
    process.mkdir()
    (process / "mountinfo").write_text("1 0 0:1 / / rw - overlay overlay rw\n")
    (process / "cgroup").write_text("0::/\n")
    assert read_frozen(7, tmp_path) is None


def test_a_pod_s_own_view_tells_it_too(tmp_path: Path) -> None:
    """As a sidecar in a cgroup namespace of its own sees another container."""
    process = tmp_path / "7"
    folder = process / "root/sys/fs/cgroup"
    folder.mkdir(parents=True)
    (process / "mountinfo").write_text("1 0 0:1 /../abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n")
    (process / "cgroup").write_text("0::/../abc\n")
    (folder / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert read_frozen(7, tmp_path) is True
