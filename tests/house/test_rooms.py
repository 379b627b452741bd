"""The rooms of the house: what may lie where, and what may not lie anywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.house.tree import MEMBERS, ROOT, files, name_of, written_files


def test_the_operators_folder_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_the_standard_librarys_operator_is_found_although_the_root_is_on_the_path() -> None:
    code = "import operator, kopf, sys; print(operator.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT) not in found.stdout


def test_no_file_knows_the_machine_that_it_was_written_on() -> None:
    # a folder of somebody's home, or a registry that only some workplaces reach
    private = re.compile(r"(?<![\w.])/(?:root|work|home)/\w|[\w-]+\.(?:pkg\.dev|jfrog\.io|corp)\b")
    found = [
        f"{name_of(path)}: {match[0]}"
        for path in written_files()
        if path != Path(__file__)
        for match in private.finditer(path.read_text())
    ]
    assert found == []


def test_the_lock_names_no_index_but_pypi() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts <= {"pypi.org", "files.pythonhosted.org"}


def test_nothing_that_a_tool_made_lies_in_the_tree() -> None:
    made = {".pyc", ".egg-info", ".tar", ".whl", ".log", ".pid"}
    assert [name_of(path) for path in files() if path.suffix in made] == []


def test_every_member_says_its_python_and_its_licence() -> None:
    for member in MEMBERS:
        text = (ROOT / member / "pyproject.toml").read_text()
        assert 'requires-python = ">=3.11"' in text, member
        assert 'license = "Apache-2.0"' in text, member


def test_every_member_ships_its_types() -> None:
    for member in MEMBERS:
        assert (ROOT / member / "src" / f"wsgi_{member}" / "py.typed").exists(), member
