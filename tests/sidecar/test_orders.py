from pathlib import Path

import pytest

from wsgi_contract.policy import Policy, dump_policy
from wsgi_sidecar.orders import PolicyFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy"


def test_without_a_file_the_defaults_hold(path: Path) -> None:
    for file in (PolicyFile(None), PolicyFile(path)):
        assert (file.read().policy, file.read().trouble) == (Policy(), None)


def test_a_file_is_followed_as_it_changes_and_when_it_goes(path: Path) -> None:
    file = PolicyFile(path)
    path.write_text(dump_policy(Policy(kills_per_minute=1)))
    assert file.read().policy.kills_per_minute == 1
    path.write_text(dump_policy(Policy(kills_per_minute=2)))
    assert file.read().policy.kills_per_minute == 2
    path.write_text("  \n")
    assert file.read().policy == Policy()
    path.write_text(dump_policy(Policy(kills_per_minute=3)))
    assert file.read().policy.kills_per_minute == 3
    path.unlink()
    assert file.read().policy == Policy()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"{", "not JSON"),
        (b'{"mode": "Sometimes"}', "Enforce or DryRun"),
        (b'{"frozen_window": 1}', "frozen_window"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_bad_file_keeps_the_last_good_policy_and_says_so(path: Path, content: bytes, word: str) -> None:
    file = PolicyFile(path)
    path.write_text(dump_policy(Policy(kills_per_minute=1)))
    file.read()
    path.write_bytes(content)
    for _ in range(2):
        orders = file.read()
        assert orders.policy.kills_per_minute == 1
        assert orders.trouble is not None
        assert word in orders.trouble
        assert str(path) in orders.trouble
    path.write_text(dump_policy(Policy(kills_per_minute=1)))
    assert file.read().trouble is None


def test_a_folder_in_its_place_is_told(path: Path) -> None:
    path.mkdir()
    assert "cannot be read" in (PolicyFile(path).read().trouble or "")


def test_a_dry_run_on_the_command_line_beats_every_file(path: Path) -> None:
    file = PolicyFile(path, dry_run=True)
    assert file.read().policy.mode == "DryRun"
    path.write_text(dump_policy(Policy(mode="Enforce", cooldown_s=1.0)))
    assert (file.read().policy.mode, file.read().policy.cooldown_s) == ("DryRun", 1.0)
