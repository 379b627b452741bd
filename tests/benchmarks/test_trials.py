"""Small versions of `make kill-trials` and `make fuzz`: a change that breaks what they prove is seen at once."""

import subprocess
import sys

import pytest

from tests.house.tree import ROOT


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def can_have_a_room() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_no_kill_hits_a_reused_pid_and_no_tree_outlives_one() -> None:
    if not can_have_a_room():
        pytest.skip("makes a PID namespace of its own, so it needs root on Linux")
    done = run("benchmarks.kill_trials", "--kills", "150", "--trees", "2", "--dry")
    assert done.returncode == 0, done.stdout + done.stderr


def test_whatever_strangers_write_is_answered_or_refused() -> None:
    done = run("benchmarks.fuzz", "--inputs", "8000", "--seed", "11", "--dry")
    assert done.returncode == 0, done.stdout + done.stderr
