"""The Report's way through JSON: what the sidecar writes, the operator reads, and nothing is lost or made up."""

import json
from dataclasses import MISSING, fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tests.contract.reports import REPORT
from wsgi_contract import report as contract
from wsgi_contract.policy import Policy
from wsgi_contract.report import INCIDENT_KINDS, RESTART_REASONS, SCHEMA, Evidence, Report, SidecarInfo, dump_report
from wsgi_contract.settings import SETTING_NAMES, SettingName

ADAPTER = TypeAdapter(Report)

finite = st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(float, finite)


def test_a_report_with_every_part_comes_back_equal() -> None:
    assert ADAPTER.validate_json(dump_report(REPORT)) == REPORT
    assert all(getattr(REPORT, f.name) not in (None, ()) for f in fields(Report)), "the example has every part"


@given(st.from_type(Report))
def test_every_report_comes_back_equal(report: Report) -> None:
    assert ADAPTER.validate_json(dump_report(report)) == report


@given(st.from_type(Report))
def test_a_report_is_written_in_one_way_only(report: Report) -> None:
    assert dump_report(ADAPTER.validate_json(dump_report(report))) == dump_report(report)


def test_absence_stays_absence() -> None:
    nothing = replace(REPORT, pod=None, server=None, workers=None, accept_queue=None, orphans=None, settings=())
    read = ADAPTER.validate_json(dump_report(nothing))
    assert (read.server, read.workers, read.accept_queue, read.orphans) == (None, None, None, None)
    assert read.setting("workers") is None


def test_no_workers_is_not_unknown_workers() -> None:
    assert ADAPTER.validate_json(dump_report(replace(REPORT, workers=()))).workers == ()


def test_a_measured_zero_and_a_truth_keep_their_kind() -> None:
    evidence = Evidence(name="main thread CPU", value=0.0, unit="cores")
    settings = tuple(replace(s, value=False) for s in REPORT.settings if s.name == "preload_app")
    read = ADAPTER.validate_json(dump_report(replace(REPORT, settings=settings)))
    assert read.settings[0].value is False
    assert TypeAdapter(Evidence).validate_python({"name": "n", "value": 0.0}).value == evidence.value


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_never_written(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump_report(replace(REPORT, taken_at=number))


BROKEN: dict[str, dict[str, Any]] = {
    "schema": {"schema": "one"},
    "sidecar": {"sidecar": None},
    "workers.0.slot": {"workers": [{"slot": "first"}]},
    "counts.restarts": {"counts": {"restarts": [["boredom", 1]]}},
    "server.kind": {"server": {"kind": "apache"}},
    "taken_at": {"taken_at": {}},
}


@pytest.mark.parametrize("place", BROKEN)
def test_a_report_that_lies_about_its_shape_is_refused_by_place(place: str) -> None:
    written = json.loads(dump_report(REPORT)) | BROKEN[place]
    with pytest.raises(ValidationError) as refused:
        ADAPTER.validate_python(written)
    places = [".".join(map(str, error["loc"])) for error in refused.value.errors()]
    assert any(found.startswith(place) for found in places), places


@pytest.mark.parametrize("part", [f.name for f in fields(Report) if f.default is MISSING])
def test_no_part_may_be_missing(part: str) -> None:
    written = json.loads(dump_report(REPORT))
    del written[part]
    with pytest.raises(ValidationError, match=part):
        ADAPTER.validate_python(written)


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '{"schema": 1}', "\x00", "[" * 100_000])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_json(text)


def test_a_reader_tells_the_schema_it_knows() -> None:
    assert SCHEMA == REPORT.schema == 1


def test_the_lists_hold_every_word_of_their_types() -> None:
    assert get_args(contract.IncidentKind) == INCIDENT_KINDS
    assert get_args(contract.RestartReason) == RESTART_REASONS
    assert get_args(SettingName) == SETTING_NAMES


def test_nothing_of_the_example_is_a_secret_of_the_server() -> None:
    """Command lines and environments may hold passwords: the Report has no place for them."""
    names = {f.name for kind in (Report, SidecarInfo, contract.ServerInfo, contract.WorkerInfo) for f in fields(kind)}
    assert not names & {"command", "cmdline", "environ", "environment", "argv"}


def test_the_default_policy_is_part_of_the_report() -> None:
    assert ADAPTER.validate_json(dump_report(replace(REPORT, policy=Policy()))).policy == Policy()
