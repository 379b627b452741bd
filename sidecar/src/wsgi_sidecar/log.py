"""The log: one line per event on stderr, as text for a person or JSON for a machine.

In: `Line`s and the standard library's own records. Out: stderr. Rule: times are UTC ISO 8601 with milliseconds; what
cannot be printed inside a message is escaped, so an event stays one line whatever a process was called.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal

from wsgi_sidecar.core.lines import Line

Format = Literal["text", "json"]
FORMATS: Final[tuple[Format, ...]] = ("text", "json")
LOGGER: Final = logging.getLogger("wsgi_sidecar")
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def open_log(form: Format) -> None:
    """Send everything, libraries' warnings included, to stderr in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(logging.INFO)


def write(line: Line) -> None:
    """Write one line."""
    LOGGER.log(_LEVELS[line.level], line.message, extra={"event": line.event, "fields": dict(line.fields)})


class TextFormatter(logging.Formatter):
    """`2026-11-21T08:10:05.400Z WARNING incident: frozen-worker: ...`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, or with its traceback on the lines behind it."""
        message = "".join(map(_shown, record.getMessage()))
        line = f"{_time(record)} {record.levelname} {getattr(record, 'event', record.name)}: {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """`{"time":"2026-11-21T08:10:05.400Z","level":"warning","event":"incident","message":"...",...}`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object on one line."""
        told: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told | getattr(record, "fields", {}), default=str)


def _shown(letter: str) -> str:
    """The letter, or how Python writes it: what a process calls itself must neither end a line nor move a cursor."""
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
