"""Settings as values."""

import dataclasses
from typing import get_args

import pytest

from wsgi_contract.servers.gunicorn import DEFAULTS, FLAGS
from wsgi_contract.servers.gunicorn_file import FILE_NAMES
from wsgi_contract.settings import SETTING_NAMES, Setting, Source, Wanted


def test_only_what_is_wanted_is_listed_and_zero_is_wanted() -> None:
    assert Wanted(timeout_s=0, workers=2).items() == (("workers", 2), ("timeout_s", 0))
    assert Wanted().items() == ()


def test_only_the_command_line_pins() -> None:
    pinned = [source for source in get_args(Source) if Setting(name="workers", value=1, source=source).pinned]
    assert pinned == ["command-line"]


@pytest.mark.parametrize("table", [FLAGS, DEFAULTS, dict.fromkeys(FILE_NAMES.values())])
def test_every_setting_stands_in_every_table(table: dict[str, object]) -> None:
    assert set(table) == set(SETTING_NAMES)


def test_what_can_be_wanted_is_a_setting() -> None:
    assert {f.name for f in dataclasses.fields(Wanted)} <= set(SETTING_NAMES)
