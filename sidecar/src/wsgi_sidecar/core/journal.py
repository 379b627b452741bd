"""What is written where the server reads it: the settings, and all that a restarted sidecar needs to go on.

In: JSON text of the live file. Out: `Journal`, and its text. Rule: one file, replaced as a whole, written before the
server is told. So whoever comes after a crash, of the server or the sidecar, finds either the last good settings or a
change that is still to be verified, and the settings to go back to.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from wsgi_contract.in_place import BOUNDS, MEANS, STATES, Means, Named, OrderError, State, parse_settings
from wsgi_contract.report import ProcessId
from wsgi_contract.settings import SettingName, Wanted

MOST_BYTES: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One order and how far it is.

    Attributes:
        order: its id.
        means: by what it is carried out.
        ordered: its settings.
        settings: what the server reads.
        good: what it read before, and came up with.
        state: see `InPlace`.
        reason: likewise.
        since: likewise.
        before: likewise.
        master: who was told; None where nobody was.
        told_ticks: when, in clock ticks since boot like `ProcessId.started`.
        within_s: how long its workers may take to be up.
        count: workers that there were when it was told: what is expected where no setting says a number.
        settled: the server was seen up with `settings`, or was given up.
    """

    order: str
    means: Means
    ordered: Wanted
    settings: Wanted
    good: Wanted
    state: State
    reason: str
    since: float
    before: Named = ()
    master: ProcessId | None = None
    told_ticks: int = 0
    within_s: float = 60.0
    count: int = 1
    settled: bool = True

    def now(self, state: State, reason: str, *, at: float, **others: Any) -> "Journal":
        """The same order in another state."""
        return replace(self, state=state, reason=reason, since=at, **others)


def taken_back(journal: Journal) -> Journal:
    """For a server about to be started: a change that was never verified is what the last one may have died of."""
    reason = "the server ended under it, so it starts with the last good settings"
    return replace(journal, state="RolledBack", reason=reason, settings=journal.good, told_ticks=0, settled=False)


def dump_journal(journal: Journal) -> str:
    """The live file's text; what gunicorn reads of it is `settings`."""
    wanted = {name: dict(getattr(journal, name).items()) for name in ("ordered", "settings", "good")}
    return json.dumps(asdict(journal) | wanted, sort_keys=True)


def parse_journal(text: str) -> Journal | None:
    """The journal of a live file; None if it is none of ours, or was spoilt: then it is written anew."""
    try:
        raw = json.loads(text)
        master = raw["master"] and ProcessId(pid=int(raw["master"]["pid"]), started=int(raw["master"]["started"]))
        return Journal(
            order=str(raw["order"]),
            means=MEANS[MEANS.index(raw["means"])],
            ordered=parse_settings(raw["ordered"]),
            settings=parse_settings(raw["settings"]),
            good=parse_settings(raw["good"]),
            state=STATES[STATES.index(raw["state"])],
            reason=str(raw["reason"]),
            since=float(raw["since"]),
            before=tuple((_name(name), int(value)) for name, value in raw["before"]),
            master=master or None,
            told_ticks=int(raw["told_ticks"]),
            within_s=float(raw["within_s"]),
            count=int(raw["count"]),
            settled=bool(raw["settled"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, OrderError):
        return None


def _name(text: str) -> SettingName:
    if text not in BOUNDS:
        raise ValueError(text)
    return text  # type: ignore[return-value]
