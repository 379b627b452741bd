"""House style, as far as a machine can hold it; linters hold the rest."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.tree import MEMBERS, modules, name_of, parsed, shell_scripts, written_files

SOURCES = tuple(f"{member}/src" for member in MEMBERS)

# a list of names has no way in and no way out
WITHOUT_A_WAY = {"contract/src/wsgi_contract/names.py", "demo/app/app.py"}

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}


def functions() -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for path in modules(*SOURCES)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_every_module_says_what_it_is() -> None:
    silent = [
        name_of(path)
        for path in modules(*SOURCES, "demo", "tests", "benchmarks", "cluster")
        if not path.name.startswith("test_") and path.read_text().strip() and not ast.get_docstring(parsed(path))
    ]
    assert silent == []


def test_every_room_opens_with_what_comes_in_what_goes_out_and_its_rule() -> None:
    without = [
        name_of(path)
        for path in modules(*SOURCES, "demo")
        if not path.name.startswith("__") and name_of(path) not in WITHOUT_A_WAY
        if not all(word in (ast.get_docstring(parsed(path)) or "") for word in ("In:", "Out:", "Rule:"))
    ]
    assert without == []


def test_no_module_is_called_after_nothing() -> None:
    assert [name_of(path) for path in modules(*SOURCES, "demo", "tests") if path.stem in FORBIDDEN_NAMES] == []


def test_functions_stay_small() -> None:
    lengths = sorted(length(function) for function in functions())
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[len(lengths) * 9 // 10] <= 30


def test_no_test_patches_our_own_modules() -> None:
    patching = re.compile(r"""(?:patch|setattr)\(\s*(?:["'])?wsgi_""")
    assert [name_of(path) for path in modules("tests") if patching.search(path.read_text())] == []


@pytest.mark.parametrize("script", shell_scripts(), ids=name_of)
def test_a_script_stops_at_its_first_failure_and_says_what_it_is_for(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[1].startswith("# ")
    assert "set -euo pipefail" in lines
    assert script.stat().st_mode & 0o111


def test_every_text_ends_with_a_newline_and_no_line_with_a_blank() -> None:
    untidy = [
        name_of(path)
        for path in written_files()
        if (text := path.read_text()) and (not text.endswith("\n") or re.search(r"[ \t]+$", text, re.MULTILINE))
    ]
    assert untidy == []
