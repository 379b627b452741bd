"""The tree as git would carry it.

In:   the checkout.
Out:  its files, its Python modules, its shell scripts.
Rule: what git ignores is not part of the house.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
MEMBERS: Final = ("contract", "tuning", "sidecar", "operator")
GENERATED: Final = ("uv.lock", "go.sum")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is tracked, or would be with the next commit; without git, every file that is not hidden."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found = (ROOT / name for name in listed.stdout.split("\0") if name)
    else:
        found = (path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.parts))
    return tuple(path for path in found if path.is_file())


def written_files() -> tuple[Path, ...]:
    """Every text file that somebody wrote by hand."""
    return tuple(path for path in files() if path.name not in GENERATED and b"\0" not in path.read_bytes()[:4096])


def modules(*folders: str) -> tuple[Path, ...]:
    """Python modules below the given folders."""
    wanted = tuple(f"{ROOT / folder}/" for folder in folders)
    return tuple(path for path in files() if path.suffix == ".py" and str(path).startswith(wanted))


def shell_scripts() -> tuple[Path, ...]:
    """Bash scripts that are run, not sourced."""
    return tuple(path for path in written_files() if path.read_text().startswith("#!/bin/bash"))


@cache
def parsed(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    """A file as a person names it."""
    return str(path.relative_to(ROOT))
