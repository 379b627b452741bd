import json
import logging
import re

import pytest

from wsgi_sidecar.core.lines import Line
from wsgi_sidecar.log import LOGGER, JsonFormatter, TextFormatter


def record(line: Line) -> logging.LogRecord:
    level = logging.getLevelName(line.level.upper())
    made = LOGGER.makeRecord(LOGGER.name, level, "", 0, line.message, (), None)
    made.event, made.fields, made.created = line.event, dict(line.fields), 1_795_248_605.4

    return made


LINE = Line(event="kill", message="killed: worker in slot 1\n(pid 7)", level="warning", fields={"pid": 7, "slot": None})


def test_text_is_one_line_with_the_time_in_utc() -> None:
    assert TextFormatter().format(record(LINE)) == (
        "2026-11-21T08:10:05.400Z WARNING kill: killed: worker in slot 1\\n(pid 7)"
    )


def test_what_a_process_calls_itself_moves_no_cursor() -> None:
    hostile = Line(event="incident", message="gunicorn\x1b[2J\x1b]0;owned\x07 \u202e\udc80")
    text = TextFormatter().format(record(hostile))
    assert text.isprintable()
    assert text.endswith("gunicorn\\x1b[2J\\x1b]0;owned\\x07 \\u202e\\udc80")
    assert JsonFormatter().format(record(hostile)).isprintable()


def test_json_is_one_object_on_one_line() -> None:
    text = JsonFormatter().format(record(LINE))
    assert "\n" not in text
    assert json.loads(text) == {
        "time": "2026-11-21T08:10:05.400Z", "level": "warning", "event": "kill",
        "message": "killed: worker in slot 1\n(pid 7)", "pid": 7, "slot": None,
    }  # fmt: skip


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_an_exception_brings_its_traceback(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
        made = LOGGER.makeRecord("uvicorn.error", logging.ERROR, "", 0, "failed: %s", ("x",), info)
    told = formatter.format(made)
    assert re.search("failed: x", told)
    assert "ValueError: broken" in told
    assert "uvicorn.error" in told
