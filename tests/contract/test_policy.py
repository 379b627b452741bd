"""A policy comes from people and from files that may be half written: every bad one is told, none is half obeyed."""

import json
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_contract.policy import BOUNDS, Policy, PolicyError, dump_policy, parse_policy


def test_what_is_left_out_takes_its_default() -> None:
    assert parse_policy("{}") == Policy()
    assert parse_policy('{"mode": "DryRun"}') == replace(Policy(), mode="DryRun")


def test_a_dumped_policy_comes_back_equal() -> None:
    policy = Policy(mode="DryRun", frozen_window_s=9.5, frozen_cpu=0.5, kills_per_minute=0, cooldown_s=0)
    assert parse_policy(dump_policy(policy)) == policy


def test_whole_seconds_may_be_written_without_a_point() -> None:
    assert parse_policy('{"frozen_window_s": 7}').frozen_window_s == 7.0


@pytest.mark.parametrize(("field", "bounds"), BOUNDS.items())
def test_both_bounds_may_be_taken_and_nothing_beyond(field: str, bounds: tuple[float, float]) -> None:
    for value in bounds:
        assert getattr(parse_policy(json.dumps({field: value})), field) == value
    for value in (bounds[0] - 1, bounds[1] + 1):
        with pytest.raises(PolicyError, match=rf"policy field {field} is {value}; it may be a .*number from"):
            parse_policy(json.dumps({field: value}))


def test_every_number_has_bounds_and_a_default_within_them() -> None:
    numbers = {f.name for f in fields(Policy) if type(getattr(Policy(), f.name)) in (int, float)}
    assert numbers == set(BOUNDS)
    assert all(low <= getattr(Policy(), name) <= high for name, (low, high) in BOUNDS.items())


BAD = (
    ("", r"not JSON .*write an object such as \{"),
    ("{", "not JSON"),
    ("[" * 50_000, "not JSON"),
    ("[]", "is a list; write an object"),
    ("null", "is a NoneType; write an object"),
    ('"Enforce"', "is a str; write an object"),
    ('{"mode": "enforce"}', "mode is 'enforce'; it may be Enforce or DryRun"),
    ('{"mode": null}', "mode is None; it may be Enforce or DryRun"),
    ('{"mode": ["Enforce"]}', "mode is"),
    ('{"frozenWindow": 5}', r"no field 'frozenWindow'; it has mode, frozen_window_s"),
    ('{"frozen_cpu": "0.3"}', "frozen_cpu is '0.3'; it may be a number from 0.05 to 1"),
    ('{"frozen_cpu": true}', "frozen_cpu is True"),
    ('{"frozen_cpu": NaN}', "frozen_cpu is nan"),
    ('{"cooldown_s": Infinity}', "cooldown_s is inf"),
    ('{"cooldown_s": 1e999}', "cooldown_s is inf"),
    ('{"kills_per_minute": 1.5}', "kills_per_minute is 1.5; it may be a whole number from 0 to 600"),
    ('{"kills_per_minute": {}}', "kills_per_minute is {}"),
)


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_policy_says_which_field_and_what_it_may_be(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        parse_policy(text)


def test_an_endless_value_does_not_make_an_endless_message() -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(json.dumps({"mode": "x" * 1_000_000}))
    assert len(str(refused.value)) < 500


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from([*BOUNDS, "mode"]) | st.text(), anything) | anything)
def test_any_json_is_a_policy_within_bounds_or_an_error(value: Any) -> None:
    with suppress(PolicyError):
        policy = parse_policy(json.dumps(value))
        assert all(low <= getattr(policy, name) <= high for name, (low, high) in BOUNDS.items())


@given(st.text())
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    with suppress(PolicyError):
        assert isinstance(parse_policy(text), Policy)
