"""Releases of gunicorn that are known to fail in a certain set-up.

In: `Facts`. Out: a `Finding`, or None. Rule: fires only where release and worker class are both known.
"""

from wsgi_contract.report import Finding
from wsgi_contract.servers.gunicorn import freezes_when_full
from wsgi_sidecar.core.lints.facts import GUNICORN_ISSUES, Facts


def gthread_freezes(facts: Facts) -> Finding | None:
    """21.2 to 23: a full gthread worker spins for ever, with a fresh heartbeat."""
    if not (facts.is_gthread and freezes_when_full(facts.release)):
        return None
    limit = facts.number("worker_connections")
    return Finding(
        id="gthread-freezes-when-full",
        what=f"gunicorn {facts.release} with gthread workers"
        + (f", each of which takes up to {limit} connections (worker_connections)" if limit is not None else ""),
        why="in releases 21.2 to 23 a gthread worker that holds worker_connections connections (idle ones count) spins "
        "in its accept loop and never serves again; its heartbeat stays fresh, so the timeout does not end it",
        fix="gunicorn>=24; until then keep worker_connections far above the connections that clients can hold open",
        link=f"{GUNICORN_ISSUES}/3146",
    )


def eventlet_stalls(facts: Facts) -> Finding | None:
    """Before 24: the arbiter never respawns once eventlet has patched it."""
    release = facts.release_number
    if not facts.is_eventlet or release is None or release >= (24,):
        return None
    return Finding(
        id="eventlet-stalls-arbiter",
        what=f"gunicorn {facts.release} with eventlet workers",
        why="if eventlet.monkey_patch() also runs in the master (preload_app, or gunicorn.conf.py), the master blocks "
        "for ever in its wake-up pipe when a worker ends: no worker is ever started again, and SIGTERM is ignored",
        fix="worker_class = 'gthread' (or 'gevent'), or gunicorn>=24,<26; else call monkey_patch() in post_fork only",
        link=f"{GUNICORN_ISSUES}/3299",
    )


def eventlet_removed(facts: Facts) -> Finding | None:
    """From 26 on there is no eventlet worker."""
    release = facts.release_number
    if not facts.is_eventlet or release is None or release < (24,):
        return None
    return Finding(
        id="eventlet-removed",
        what=f"gunicorn {facts.release} with eventlet workers",
        why="gunicorn 26 has no eventlet worker any more: an upgrade past 25 does not start",
        fix="worker_class = 'gthread' (or 'gevent'); until then pin gunicorn<26",
        link="https://github.com/benoitc/gunicorn/pull/3623",
    )
