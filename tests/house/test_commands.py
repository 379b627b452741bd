"""The commands that a newcomer types: they exist, they are told, and they work from an empty cache."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

from tests.house.tree import ROOT, files, written_files

# steps of other targets, not commands of their own
STEPS = {"ground", "venv"}


def make(*targets: str, cache: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_PROJECT", "MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", *targets],
        cwd=ROOT,
        env={**env, "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def phony() -> set[str]:
    return set(re.findall(r"^\.PHONY: ([\w-]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))


def told(tmp_path: Path) -> set[str]:
    return set(re.findall(r"^  make ([\w-]+)  ", make(cache=tmp_path), re.MULTILINE))


def test_make_alone_lists_every_command(tmp_path: Path) -> None:
    assert told(tmp_path) == phony() - STEPS
    assert {"demo", "demo-local", "test", "check", "cluster-up", "cluster-down", "help"} <= told(tmp_path)


def test_make_help_needs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    make("help", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_command_that_a_page_names_exists() -> None:
    pages = [path for path in written_files() if path.suffix == ".md"]
    named = {
        name for page in pages for name in re.findall(r"(?:^ {4}|`)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE)
    }
    assert named <= phony()


def test_every_link_between_our_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in files()
        if page.suffix == ".md"
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert broken == []


def test_one_release_of_uv_is_meant_everywhere() -> None:
    makefile = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    dockerfile = re.search(r"uv==(\S+)", (ROOT / "Dockerfile").read_text())
    assert makefile is not None
    assert dockerfile is not None
    assert makefile[1] == dockerfile[1]


def test_every_member_has_the_version_of_the_whole() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for path in ROOT.glob("*/pyproject.toml"):
        assert tomllib.loads(path.read_text())["project"]["version"] == whole, path
