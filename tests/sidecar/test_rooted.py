"""Files of another root are found as the process in it finds them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.server import eventually
from wsgi_sidecar.rooted import Rooted

ELSEWHERE = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/app'); print('in', flush=True); sys.stdin.read()"


@pytest.fixture
def container(tmp_path: Path) -> Iterator[tuple[Rooted, Path]]:
    """A process in a root of its own, where the machine lets us make one; else in ours."""
    (tmp_path / "app").mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root to change the root of a process")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        yield Rooted(process.pid), tmp_path
        process.kill()


def test_paths_are_inside_the_root(container: tuple[Rooted, Path]) -> None:
    files, root = container
    (root / "app" / "gunicorn.conf.py").write_text("workers = 3\n")
    assert files.cwd() == "/app"
    assert files.text("/app/gunicorn.conf.py") == "workers = 3\n"
    assert files.names("/") == ("app",)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("app/a.py", "/config/real.py"),
        ("app/a.py", "../config/real.py"),
        ("app/a.py", "../../../../../config/real.py"),
        ("app/a.py", "/app/../config/./real.py"),
    ],
)
def test_links_stay_inside_the_root(container: tuple[Rooted, Path], link: str, target: str) -> None:
    files, root = container
    (root / "config").mkdir()
    (root / "config" / "real.py").write_text("inside")
    (root / link).symlink_to(target)
    assert files.text("/app/a.py") == "inside"


def test_a_linked_folder_is_followed_as_a_config_map_needs_it(container: tuple[Rooted, Path]) -> None:
    files, root = container
    (root / "etc" / "..2026").mkdir(parents=True)
    (root / "etc" / "..2026" / "conf.py").write_text("from the map")
    (root / "etc" / "..data").symlink_to("..2026")
    (root / "etc" / "conf.py").symlink_to("..data/conf.py")
    assert files.text("/etc/conf.py") == "from the map"
    assert files.stamp("/etc/conf.py") is not None


def test_a_link_out_of_the_root_leads_nowhere(container: tuple[Rooted, Path]) -> None:
    files, root = container
    (root / "app" / "shadow").symlink_to("/etc/passwd")
    assert files.stamp("/app/shadow") is None
    with pytest.raises(FileNotFoundError):
        files.text("/app/shadow")


def test_a_circle_of_links_is_refused(container: tuple[Rooted, Path]) -> None:
    files, root = container
    (root / "app" / "a").symlink_to("b")
    (root / "app" / "b").symlink_to("a")
    with pytest.raises(OSError, match="links"):
        files.text("/app/a")


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for_and_a_huge_file_is_not_read(tmp_path: Path) -> None:
    files = Rooted(os.getpid())
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(2 << 20)
    for name in ("pipe", "huge"):
        with pytest.raises(OSError, match="not a regular file"):
            files.text(str(tmp_path / name))
    with pytest.raises(OSError):  # noqa: PT011  (a folder: the kernel's own words)
        files.text(str(tmp_path))


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path, files = tmp_path / "a", Rooted(os.getpid())
    assert files.stamp(str(path)) is None
    path.write_text("one")
    first = files.stamp(str(path))
    assert files.stamp(str(path)) == first
    path.write_text("longer")
    assert files.stamp(str(path)) not in (None, first)


def test_names_of_no_folder_are_none(tmp_path: Path) -> None:
    assert Rooted(os.getpid()).names(str(tmp_path / "absent")) == ()


def test_a_process_that_is_gone_says_so() -> None:
    done = subprocess.Popen(["true"])
    eventually("it ended", lambda: done.poll() is not None)
    with pytest.raises(OSError, match="No such"):
        Rooted(done.pid).cwd()
