"""The operator's own log: one line per thing, JSON or text, on standard error.

In: log records, ours and kopf's. Out: lines. Rule: the same field names as the sidecar's log, so that one query finds
both: `event` is a word that does not change (a library's own lines have its logger's name there), `object` the
WSGIServer as namespace/name, `reason` the condition's.
"""

import json
import logging
import sys
import time
from typing import Final

from wsgi_operator.config import LogFormat
from wsgi_operator.core.clip import clip

_MOST: Final = 16_384
_QUIET: Final = ("kopf.objects", "kopf.activities.authentication", "kopf._core")


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            "message": record.getMessage(),
        }
        more = {"object": _about(record), "reason": getattr(record, "reason", "")}
        line |= {key: told for key, told in more.items() if told}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """One readable line per record (and the traceback behind it, if there is one)."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        about = _about(record)
        message = clip(record.getMessage(), _MOST)
        line = f"{_utc(record.created)} {record.levelname} {about + ': ' if about else ''}{message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _about(record: logging.LogRecord) -> str:
    reference = getattr(record, "k8s_ref", None)  # kopf's own way to say which object it talks of
    if isinstance(reference, dict):
        return f"{reference.get('namespace')}/{reference.get('name')}"
    return str(getattr(record, "object", ""))


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"


def configure_logs(form: LogFormat, level: str) -> None:
    """Send everything to standard error in that form, from that level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
