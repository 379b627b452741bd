"""What is wrong with how a server is set up, before it hurts.

In: `Facts`. Out: `Finding`s, the gravest first. Rule: each rule stands alone, fires on facts it knows and is silent on
what it does not; the order is that of `RULES`.
"""

from typing import Final

from wsgi_contract.report import Finding
from wsgi_sidecar.core.lints.connections import (
    backlog_cut,
    connections_hoarded,
    keepalive_below_balancer,
    sockets_shared,
    sync_without_proxy,
)
from wsgi_sidecar.core.lints.facts import Facts, Rule
from wsgi_sidecar.core.lints.lifecycle import (
    graceful_below_timeout,
    graceful_beyond_grace,
    heartbeat_on_disk,
    no_jitter,
    shell_in_front,
    timeout_unbinding,
)
from wsgi_sidecar.core.lints.releases import eventlet_removed, eventlet_stalls, gthread_freezes
from wsgi_sidecar.core.lints.sizing import settings_pinned, workers_beyond_quota

RULES: Final[tuple[Rule, ...]] = (
    # wrong answers and full stops
    sockets_shared, gthread_freezes, eventlet_stalls,
    # lost requests
    shell_in_front, graceful_beyond_grace, graceful_below_timeout, heartbeat_on_disk, timeout_unbinding, no_jitter,
    keepalive_below_balancer,
    # slowness
    workers_beyond_quota, connections_hoarded, backlog_cut, sync_without_proxy,
    # what stands in the way
    eventlet_removed, settings_pinned,
)  # fmt: skip


def lint(facts: Facts) -> tuple[Finding, ...]:
    """All findings; none for servers other than gunicorn, whose settings these rules do not know."""
    if facts.kind != "gunicorn":
        return ()
    return tuple(finding for rule in RULES if (finding := rule(facts)) is not None)
