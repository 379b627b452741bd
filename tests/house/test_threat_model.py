"""Each claim of docs/threat-model.md that names a test names one that exists."""

import re
from pathlib import Path

from tests.house.tree import ROOT

TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests|operator|charts|examples)/[\w./-]+)(?:::(\w+))?`", TEXT)))


def test_many_claims_are_held_by_tests() -> None:
    assert len([name for _, name in NAMED if name]) > 25


def test_every_file_and_test_that_is_named_exists() -> None:
    for path, name in NAMED:
        file = ROOT / path
        assert file.exists(), path
        assert not name or f"def {name}(" in Path(file).read_text(encoding="utf-8"), f"{path}::{name}"
