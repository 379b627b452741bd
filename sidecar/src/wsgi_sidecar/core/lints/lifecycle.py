"""How workers and the server end: timeouts, replacement, signals.

In: `Facts`. Out: a `Finding`, or None. Rule: numbers against numbers; what Kubernetes adds (the grace period) only
where the pod's own value is known.
"""

from typing import Final

from wsgi_contract.report import Finding
from wsgi_contract.servers.gunicorn import SYNC_WITH_THREADS
from wsgi_sidecar.core.lints.facts import GUNICORN_SETTINGS, Facts

MARGIN_S: Final = 5
"""Between graceful_timeout and the kubelet's SIGKILL: the master ends its workers, then itself, and Python exits."""

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})


def heartbeat_on_disk(facts: Facts) -> Finding | None:
    """A stalled disk then looks like a hung worker."""
    filesystem = facts.heartbeat_filesystem
    if filesystem is None or filesystem in _IN_MEMORY:
        return None
    return Finding(
        id="heartbeat-on-disk",
        what=f"the workers' heartbeat files are on a disk ({filesystem})",
        why="every beat changes a file's metadata: when the disk stalls, healthy workers block in it and are killed "
        "for their silence",
        fix="worker_tmp_dir = '/dev/shm' (--worker-tmp-dir /dev/shm), or an emptyDir with medium: Memory",
        link="https://docs.gunicorn.org/en/stable/faq.html",
    )


def timeout_unbinding(facts: Facts) -> Finding | None:
    """Asked for sync, got gthread, and lost the request limit."""
    setting, timeout = facts.setting("worker_class"), facts.number("timeout_s")
    if setting is None or not (setting.said_by or "").startswith(SYNC_WITH_THREADS) or not timeout:
        return None
    return Finding(
        id="sync-with-threads",
        what=f"threads = {facts.number('threads')} turned the sync workers into gthread workers",
        why=f"timeout ({timeout} s) then no longer bounds a request: the worker's main thread beats on while a request "
        "hangs in a thread for ever",
        fix="threads = 1 to have timeout bound a request again; or say worker_class = 'gthread' and give database and "
        "HTTP clients timeouts of their own",
        link=f"{GUNICORN_SETTINGS}#threads",
    )


def no_jitter(facts: Facts) -> Finding | None:
    """Workers that started together and share the load end together."""
    limit, jitter, workers = (
        facts.number("max_requests"), facts.number("max_requests_jitter"), facts.number("workers"),
    )  # fmt: skip
    if not limit or jitter is None or jitter > 0 or workers is None or workers < 2:
        return None
    return Finding(
        id="max-requests-without-jitter",
        what=f"each of {workers} workers is replaced after exactly {limit} requests",
        why="they started together and share the load, so they end together: for as long as the application takes to "
        "load, nobody serves",
        fix=f"max_requests_jitter = {max(1, limit // 10)}",
        link=f"{GUNICORN_SETTINGS}#max-requests-jitter",
    )


def graceful_below_timeout(facts: Facts) -> Finding | None:
    """A request that is allowed to take so long is cut at every deployment."""
    timeout, graceful = facts.number("timeout_s"), facts.number("graceful_timeout_s")
    # Only for sync workers is timeout the length that a request may have.
    if not facts.is_sync or timeout is None or graceful is None or timeout <= graceful:
        return None
    return Finding(
        id="graceful-timeout-below-timeout",
        what=f"a request may take {timeout} s (timeout), but has {graceful} s when its worker is asked to end",
        why=f"requests between {graceful} and {timeout} s are legal, and are cut off by every reload and deployment",
        fix=f"graceful_timeout = {timeout}, and terminationGracePeriodSeconds: {timeout + 10}",
        link=f"{GUNICORN_SETTINGS}#graceful-timeout",
    )


def graceful_beyond_grace(facts: Facts) -> Finding | None:
    """The kubelet kills first."""
    graceful, grace = facts.number("graceful_timeout_s"), facts.termination_grace_s
    if graceful is None or grace is None or graceful + MARGIN_S <= grace:
        return None
    return Finding(
        id="graceful-timeout-beyond-grace-period",
        what=f"graceful_timeout is {graceful} s, the pod's terminationGracePeriodSeconds {grace:g}",
        why="the kubelet kills the whole pod before gunicorn has ended its workers in order; requests under way and "
        "clean-up in worker_exit are lost (a preStop hook takes its time from the same seconds)",
        fix=f"terminationGracePeriodSeconds: {graceful + 10}, or graceful_timeout = {max(1, int(grace) - 10)}",
        link="https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination",
    )


def shell_in_front(facts: Facts) -> Finding | None:
    """The container's first process swallows SIGTERM."""
    if not facts.shell:
        return None
    return Finding(
        id="shell-without-exec",
        what=f"gunicorn is a child of {facts.shell}, which is the process that the container's SIGTERM goes to",
        why="a shell does not pass signals on: gunicorn never hears of the end, finishes no request, and is killed",
        fix='exec gunicorn in the entrypoint script, command: ["sh", "-c", "exec gunicorn ..."], or the list form '
        'CMD ["gunicorn", ...]',
        link="https://docs.docker.com/reference/dockerfile/#shell-form-entrypoint-example",
    )
