"""Connections: who holds them, for how long, and who waits for them.

In: `Facts`. Out: a `Finding`, or None. Rule: two of these pull in opposite directions (a load balancer wants
connections held, a bounded worker wants them gone), so each says what the other costs.
"""

from typing import Final

from wsgi_contract.report import Finding
from wsgi_sidecar.core.lints.facts import GUNICORN_ISSUES, GUNICORN_SETTINGS, Facts

SHORTEST_BALANCER_IDLE_S: Final = 60
"""AWS ALB and nginx's upstream pool hold idle connections for 60 s, Google's load balancers for 600 s."""

HOARDING_FACTOR: Final = 4
"""Connections per thread from which on a worker hoards.

Measured on 3 workers with 4 threads at 170 requests/s of 50 ms: worker_connections of 5, 6 and 8 missed no deadline, 16
(four per thread) missed 23 %, 1000 (the default) 74 to 76 % at 120/s.
"""

DIRECT_CLIENTS: Final = 20
"""Different client addresses from which on it looks as if clients came directly: proxies and nodes are fewer."""


def keepalive_below_balancer(facts: Facts) -> Finding | None:
    """The server closes idle connections that the load balancer is about to use."""
    keepalive = facts.number("keepalive_s")
    if not facts.keeps_alive or keepalive is None or keepalive > SHORTEST_BALANCER_IDLE_S:
        return None
    return Finding(
        id="keepalive-below-load-balancer",
        what=f"idle connections are closed after {keepalive} s (keepalive)",
        why="a load balancer holds them longer (AWS ALB 60 s, nginx upstreams 60 s, Google Cloud 600 s) and now and "
        "then sends a request just as the server closes: 502 for the client, and no trace in the server's log",
        fix="keepalive above the balancer's idle timeout: 65 behind an ALB or nginx, 620 behind Google Cloud; idle "
        "connections count in worker_connections, so leave room for them",
        link=f"{GUNICORN_SETTINGS}#keepalive",
    )


def sync_without_proxy(facts: Facts) -> Finding | None:
    """A hint only: no sidecar can see whether a proxy buffers."""
    addresses = facts.client_addresses
    if not facts.is_sync or addresses is None or addresses < DIRECT_CLIENTS:
        return None
    return Finding(
        id="sync-without-proxy",
        what=f"sync workers, and clients from {addresses} addresses: it looks as if no proxy stood between (a hint: "
        "the sidecar cannot see one)",
        why="a sync worker reads the request and writes the response at the client's speed, one client at a time: as "
        "many slow clients as there are workers stop the server, and those that send nothing end in timeouts",
        fix="put a buffering proxy (nginx, an ingress with buffering) in front, or use worker_class = 'gthread'",
        link="https://docs.gunicorn.org/en/stable/deploy.html#nginx-configuration",
    )


def connections_hoarded(facts: Facts) -> Finding | None:
    """From 24 on a gthread worker takes what others could serve."""
    release, workers = facts.release_number, facts.number("workers")
    threads, limit = facts.number("threads"), facts.number("worker_connections")
    if not facts.is_gthread or release is None or release < (24,) or workers is None or workers < 2:
        return None
    if not threads or limit is None or limit < HOARDING_FACTOR * threads:
        return None
    return Finding(
        id="connections-hoarded",
        what=f"each of {workers} workers takes up to {limit} connections for {threads} threads",
        why="a gthread worker accepts until it has worker_connections, not until its threads are busy: requests queue "
        "inside one worker while others idle (three quarters of them too late at a load that the threads can bear)",
        fix=f"worker_connections = {2 * threads} (two per thread), plus the idle keep-alive connections that the load "
        "balancer holds to each worker; never as few as the threads, or silent clients stop the server",
        link=f"{GUNICORN_ISSUES}/908",
    )


def backlog_cut(facts: Facts) -> Finding | None:
    """The kernel silently takes the smaller of two numbers."""
    backlog, bound = facts.number("backlog"), facts.somaxconn
    if backlog is None or bound is None or backlog <= bound:
        return None
    return Finding(
        id="backlog-above-somaxconn",
        what=f"backlog is {backlog}, but net.core.somaxconn is {bound}",
        why=f"the kernel cuts the accept queue to {bound} without a word; connections beyond it are dropped",
        fix=f"net.core.somaxconn={backlog} in the pod's securityContext.sysctls (an unsafe sysctl: the node must allow "
        f"it), or backlog = {bound} to say what is true",
        link=f"{GUNICORN_SETTINGS}#backlog",
    )


def sockets_shared(facts: Facts) -> Finding | None:
    """A connection that was opened before the fork has several readers."""
    peers = facts.shared_peers
    if not peers:
        return None
    preload = facts.setting("preload_app")
    opened = "preload_app is on: the application" if preload and preload.value is True else "the master"
    shown = ", ".join(peers[:3]) + (f" and {len(peers) - 3} more" if len(peers) > 3 else "")
    return Finding(
        id="shared-sockets",
        what=f"master and workers hold the same connection to {shown}",
        why=f"{opened} connected before the workers were forked; as soon as two of them use the connection, one reads "
        "the other's answer: wrong data, without an error",
        fix="connect in each worker: in post_fork call engine.dispose(close=False) (SQLAlchemy), "
        "connections.close_all() (Django) or reconnect; or preload_app = False",
        link=f"{GUNICORN_ISSUES}/3206",
    )
