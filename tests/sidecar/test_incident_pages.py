"""The runbook: a page for each kind of incident, true about what we do, with a reproduction that works."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.rooms import prepare
from wsgi_contract.report import INCIDENT_KINDS
from wsgi_sidecar.core.diagnosis import RULES

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "incidents"
HEADINGS = ["What it looks like", "Why", "What we do", "What you should do", "Reproduce"]
NEEDS_A_CGROUP_OF_OUR_OWN = "oom-kill"


def page(kind):
    return (PAGES / f"{kind}.md").read_text()


def test_there_is_a_page_for_each_kind_and_no_other():
    assert {path.stem for path in PAGES.glob("*.md")} == {*INCIDENT_KINDS, "README"}


@pytest.mark.parametrize("kind", INCIDENT_KINDS)
def test_every_page_answers_the_same_questions(kind):
    text = page(kind)
    assert text.startswith(f"# {kind}\n\nStatus: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("kind", INCIDENT_KINDS)
def test_a_page_claims_detection_exactly_where_there_is_a_rule(kind):
    status = page(kind).splitlines()[2]
    detected = kind in {rule.kind for rule in RULES}
    assert status.startswith("Status: detected" if detected else "Status: not detected yet")
    row = next(line for line in (PAGES / "README.md").read_text().splitlines() if line.startswith(f"| [{kind}]"))
    assert row.rstrip("| ").rpartition("| ")[2].startswith("yes") == detected


def test_the_index_names_every_page():
    index = (PAGES / "README.md").read_text()
    assert all(f"({kind}.md)" in index for kind in INCIDENT_KINDS)


@pytest.mark.parametrize("name", [*INCIDENT_KINDS, "README"])
def test_every_metric_and_page_that_is_named_exists(name):
    text = page(name)
    known = set(re.findall(r"`(wsgi_\w+)", (ROOT / "docs" / "metrics.md").read_text()))
    # wsgi_sidecar is the package: it stands in commands.
    assert {*re.findall(r"\bwsgi_\w+", text)} - {"wsgi_sidecar"} <= known
    assert all((PAGES / target).exists() for target in re.findall(r"\]\(([\w-]+\.md)", text))


@pytest.fixture(scope="module")
def runs():
    """All reproductions, begun at the same time: they mostly wait."""
    prepare()
    with ThreadPoolExecutor(len(INCIDENT_KINDS)) as pool:
        yield {kind: pool.submit(reproduce, kind) for kind in INCIDENT_KINDS}


def reproduce(kind):
    command = [sys.executable, str(PAGES / "reproduce.py"), kind]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.servers
@pytest.mark.parametrize("kind", INCIDENT_KINDS)
def test_the_reproduction_reproduces(kind, runs):
    run = runs[kind].result()
    if kind == NEEDS_A_CGROUP_OF_OUR_OWN and "no cgroup of our own" in run.stderr:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "reproduced"


def test_an_unknown_kind_is_told_which_there_are():
    run = reproduce("nonsense")
    assert run.returncode == 2
    assert all(kind in run.stdout for kind in INCIDENT_KINDS)
