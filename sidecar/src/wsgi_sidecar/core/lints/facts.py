"""What the lint's rules know of a server.

In: values that other parts have read. Out: `Facts`. Rule: a fact nobody could read is None, and a rule that needs it
says nothing: a finding is never a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wsgi_contract.report import Finding, ServerKind
from wsgi_contract.servers.gunicorn import parse_release
from wsgi_contract.settings import Setting, SettingName
from wsgi_sidecar.core.limits import Limits

GUNICORN_SETTINGS: Final = "https://docs.gunicorn.org/en/stable/settings.html"
GUNICORN_ISSUES: Final = "https://github.com/benoitc/gunicorn/issues"

_SYNC: Final = frozenset({"sync", "SyncWorker"})
_GTHREAD: Final = frozenset({"gthread", "ThreadWorker"})
_EVENTLET: Final = frozenset({"eventlet", "EventletWorker"})
_OTHER_KEEPING_ALIVE: Final = frozenset(
    {"gevent", "gevent_wsgi", "gevent_pywsgi", "GeventWorker", "GeventPyWSGIWorker", "tornado", "TornadoWorker",
     "asgi", "ASGIWorker", "UvicornWorker"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One server's set-up; None is unknown throughout.

    Attributes:
        kind: which server.
        release: for example `23.0.0`.
        settings: in force.
        limits: of its container.
        machine_cpus: of the whole machine: what `multiprocessing.cpu_count()` says in the container, too.
        heartbeat_filesystem: under the workers' heartbeat files, for example `tmpfs`, `overlay`.
        somaxconn: the kernel's bound on a backlog, in the server's network namespace.
        shell: name of the shell that is the master's parent inside its container; empty if its parent is none.
        termination_grace_s: the pod's `terminationGracePeriodSeconds`.
        shared_peers: far ends of connections that several of master and workers hold; empty if there are none.
        client_addresses: different addresses that clients came from so far.
    """

    kind: ServerKind
    release: str | None = None
    settings: tuple[Setting, ...] = ()
    limits: Limits | None = None
    machine_cpus: int | None = None
    heartbeat_filesystem: str | None = None
    somaxconn: int | None = None
    shell: str | None = None
    termination_grace_s: float | None = None
    shared_peers: tuple[str, ...] | None = None
    client_addresses: int | None = None

    def setting(self, name: SettingName) -> Setting | None:
        """The setting of that name, if it is known."""
        found = next((setting for setting in self.settings if setting.name == name), None)
        return found if found is not None and found.value is not None else None

    def number(self, name: SettingName) -> int | None:
        """The setting as a number; None where it is unknown."""
        setting = self.setting(name)
        return setting.value if setting is not None and isinstance(setting.value, int) else None

    @property
    def release_number(self) -> tuple[int, ...] | None:
        """The release as numbers that compare."""
        return parse_release(self.release)

    @property
    def is_sync(self) -> bool:
        """Whether the workers are known to be gunicorn's sync ones."""
        return self._class in _SYNC

    @property
    def is_gthread(self) -> bool:
        """Whether they are known to be its threaded ones."""
        return self._class in _GTHREAD

    @property
    def is_eventlet(self) -> bool:
        """Whether they are known to be its eventlet ones."""
        return self._class in _EVENTLET

    @property
    def keeps_alive(self) -> bool:
        """Whether they are known to hold idle connections for the client's next request; sync ones never do."""
        return self.is_gthread or self.is_eventlet or self._class in _OTHER_KEEPING_ALIVE

    @property
    def _class(self) -> str | None:
        setting = self.setting("worker_class")
        return str(setting.value).rpartition(".")[2] if setting is not None else None


Rule = Callable[[Facts], Finding | None]
"""None where the fact is healthy or unknown."""
