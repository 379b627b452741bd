"""`make demo`: every step happens, or its exit code says that one did not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.kube import ROOT, Cluster


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_every_step_of_the_demo_happens(cluster: Cluster) -> None:
    environment = None if cluster.ours else cluster.env
    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert re.search(r"serving +\d{2,} requests/s", done.stdout)
    assert re.search(r"frozen +0 requests/s", done.stdout)
    assert re.search(r"wsgi_kills_total\{.*frozen-worker.*\} [1-9]", done.stdout)
    assert "Warning WorkerKilled" in done.stdout
    assert re.search(r"requests during the roll: [1-9]\d+ served, 0 failed", done.stdout)
    assert "equal byte for byte" in done.stdout


def test_a_cluster_that_does_not_answer_is_told_in_a_sentence(tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    environment = {**os.environ, "KUBECONFIG": str(nowhere)}
    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(nowhere) in done.stderr
