"""A server's settings as values: what the user wants, what is in force, and who said so.

In: nothing. Out: `Setting`, `Wanted`. Rule: a setting nobody could read has `value=None` and source `unknown`;
it is never a guess and never zero.
"""

from dataclasses import dataclass, fields
from typing import Final, Literal

SettingName = Literal[
    "workers",
    "threads",
    "timeout_s",
    "graceful_timeout_s",
    "keepalive_s",
    "worker_connections",
    "worker_class",
    "max_requests",
    "max_requests_jitter",
    "backlog",
    "preload_app",
]
Value = int | float | str | bool
Source = Literal["default", "config-file", "in-place", "environment", "command-line", "control-socket", "unknown"]

SETTING_NAMES: Final[tuple[SettingName, ...]] = (
    "workers",
    "threads",
    "timeout_s",
    "graceful_timeout_s",
    "keepalive_s",
    "worker_connections",
    "worker_class",
    "max_requests",
    "max_requests_jitter",
    "backlog",
    "preload_app",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting in force.

    Attributes:
        name: the setting, with its unit in the name.
        value: what the server uses; None where it could not be read (source is then `unknown`).
        source: who gave the value; the later in gunicorn's own order of precedence wins.
        said_by: the words that gave it, for example `-w 3` or `GUNICORN_CMD_ARGS`; None for defaults.
    """

    name: SettingName
    value: Value | None
    source: Source
    said_by: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether the command line gives it, so that nothing the operator can set changes it."""
        return self.source == "command-line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The settings that the user (or the tuner) wants; None leaves a setting to its owner.

    Attributes:
        workers: processes, >= 1.
        threads: threads per worker, >= 1.
        timeout_s: seconds without a heartbeat after which the arbiter kills a worker; 0 switches it off.
        graceful_timeout_s: seconds that a worker may take to finish its requests at exit.
        keepalive_s: seconds an idle keep-alive connection is held.
        worker_connections: connections that one worker accepts at most.
        max_requests: requests after which a worker is replaced; 0 never.
        max_requests_jitter: random addition to max_requests, so that workers do not restart together.
    """

    workers: int | None = None
    threads: int | None = None
    timeout_s: int | None = None
    graceful_timeout_s: int | None = None
    keepalive_s: int | None = None
    worker_connections: int | None = None
    max_requests: int | None = None
    max_requests_jitter: int | None = None

    def items(self) -> tuple[tuple[SettingName, int], ...]:
        """The wanted settings that are set, in declaration order."""
        return tuple((f.name, value) for f in fields(self) if (value := getattr(self, f.name)) is not None)  # type: ignore[misc]
