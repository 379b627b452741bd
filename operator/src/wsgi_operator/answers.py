"""What a pod's answer is: its Report, or Silence with the reason.

In: a pod, and the bytes that came from its address. Out: `Answer`. Rule: whoever sent them may have taken the pod over
and may know this file. Reading costs a bounded time and memory whatever they hold (one megabyte of empty objects where
kills should be made pydantic fill 3.6 GB with complaints: hence the first complaint ends the reading), and what comes
out can be counted, sorted, stored and shown.
"""

import json
import math
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from wsgi_contract.report import SCHEMA, Report
from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Answer, Heard, Pod, Silence
from wsgi_operator.core.excess import excess_of

VALUES_LIMIT: Final = 100_000
"""Values in one report. That of 1,000 workers, each with 11 fields, has some 16,000."""

GREATEST: Final = 2**53 - 1
"""The greatest whole number that every reader of JSON understands alike."""

CMD_ARGS_LIMIT: Final = 8192
"""Characters of a server's GUNICORN_CMD_ARGS: they end up in a template, and all annotations of an object together may
hold 256 KiB."""

USER_LIMIT: Final = 2**31
"""User and group ids that Kubernetes takes are smaller."""


def _first_complaint_only(schema: Any) -> Any:
    """The schema, with every list given up at its first bad item."""
    if isinstance(schema, dict):
        strict = {key: _first_complaint_only(part) for key, part in schema.items()}
        return strict | {"fail_fast": True} if strict.get("type") in ("tuple", "list") else strict
    return [_first_complaint_only(part) for part in schema] if isinstance(schema, list) else schema


_REPORT: Final = SchemaValidator(_first_complaint_only(TypeAdapter(Report).core_schema))


def parse_answer(pod: Pod, body: bytes) -> Answer:
    """Read a report's JSON; what is no report of this pod is Silence."""
    try:
        raw: Any = json.loads(body.decode("utf-8"), parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        return _silence(pod, f"its report is not JSON ({error})")
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(schema, int) and schema != SCHEMA:
        older = schema < SCHEMA
        remedy = "roll the workload, so that it gets this operator's sidecar" if older else "upgrade the operator"
        return _silence(pod, f"its report is of version {schema}, this operator reads {SCHEMA}: {remedy}")
    if _count(raw, VALUES_LIMIT) > VALUES_LIMIT:
        return _silence(pod, f"its report holds more than {VALUES_LIMIT} values")
    try:
        report: Report = _REPORT.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        return _silence(pod, f"its report cannot be read: {where}: {first['msg']}")
    if report.pod is not None and report.pod.uid not in (None, pod.uid):
        return _silence(pod, f"somebody else answers at its address: pod {clip(report.pod.name, 253)}")
    lie = impossible(report)
    return Heard(pod=pod, report=report) if lie is None else _silence(pod, f"its report cannot be true: {lie}")


def impossible(report: Report) -> str | None:
    """What in a report no sidecar of ours says, and would do harm further on; None: nothing."""
    if (excess := excess_of(report)) is not None:
        return excess
    counts = report.counts
    totals = [counts.timeouts, *(n for _, n in counts.restarts), *(n for _, n in counts.incidents)]
    if min(totals) < 0:
        return "it counts below zero"
    if report.server is None:
        return None
    ids = (report.server.uid, report.server.gid, report.sidecar.uid, report.sidecar.gid)
    if not all(0 <= each < USER_LIMIT for each in ids):
        return "nobody has such a user or group id"
    args = report.server.cmd_args or ""
    if len(args) > CMD_ARGS_LIMIT or not all(c.isprintable() or c in "\t\n" for c in args):
        return f"GUNICORN_CMD_ARGS of more than {CMD_ARGS_LIMIT} characters, or with characters that no flag has"
    return None


def _silence(pod: Pod, reason: str) -> Silence:
    return Silence(pod=pod, reason=clip(reason))


def _count(raw: Any, most: int) -> int:
    """How many values there are; counting ends a little beyond the most."""
    counted, open_ones = 0, [raw]
    while open_ones and counted <= most:
        found = open_ones.pop()
        parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        counted += 1
        open_ones.extend(parts)
    return counted


def _no_number(text: str) -> Any:
    raise ValueError(f"{text[:40]} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _whole(text: str) -> int:
    value = int(text) if len(text) <= 17 else GREATEST + 1
    return value if abs(value) <= GREATEST else _no_number(text)
