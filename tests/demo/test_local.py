"""`make demo-local`, as a newcomer runs it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo.local", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """Both at once: they mostly wait."""
    with ThreadPoolExecutor(2) as pool:
        yield {"healing": pool.submit(run), "telling only": pool.submit(run, "--dry-run")}


def test_it_shows_served_frozen_healed_within_two_minutes(
    runs: dict[str, Future[subprocess.CompletedProcess[str]]],
) -> None:
    done = runs["healing"].result()
    assert done.returncode == 0, done.stdout + done.stderr
    took = re.search(r"Every step happened, in (\d+) s", done.stdout)
    assert took is not None
    assert int(took[1]) < 120
    words = re.findall(r"served  |FROZEN|kill: killed|healed:", done.stdout)
    story = [word for word, before in zip(words, ["", *words], strict=False) if word != before]
    # a second in which the freeze began, or ended, may show either word
    assert story[:3] == ["served  ", "FROZEN", "served  "]
    assert story.index("kill: killed") < story.index("healed:")
    assert "\033" not in done.stdout, "no colours where nobody sees them"


def test_a_sidecar_that_does_not_heal_fails_the_demo(
    runs: dict[str, Future[subprocess.CompletedProcess[str]]],
) -> None:
    done = runs["telling only"].result()
    assert done.returncode == 1
    assert "FAILED" in done.stderr
    assert "nothing was killed" in done.stderr
    assert "Every step happened" not in done.stdout
