"""Numbers that do not fit the container, and numbers that nobody but the image can change.

In: `Facts`. Out: a `Finding`, or None. Rule: the container's quota counts, not the machine's CPUs.
"""

import math
from dataclasses import fields

from wsgi_contract.report import Finding
from wsgi_contract.settings import Wanted
from wsgi_sidecar.core.lints.facts import Facts


def most_workers(cpu_cores: float) -> int:
    """Workers beyond which more only take turns: the larger of gunicorn's two rules, 2 n + 1 and 4 n.

    0.1 and 0.5 cores: 3; 1: 4; 2: 8; 4: 16.
    """
    return max(2 * math.ceil(cpu_cores) + 1, math.floor(4 * cpu_cores))


def workers_beyond_quota(facts: Facts) -> Finding | None:
    """Mostly 2 n + 1 of the machine's CPUs in a container that may use half a core."""
    workers, cores = facts.number("workers"), facts.limits.cpu_cores if facts.limits else None
    if workers is None or cores is None or math.isinf(cores) or workers <= most_workers(cores):
        return None
    machine = facts.machine_cpus
    counted = machine is not None and workers in (machine, 2 * machine, 2 * machine + 1) and machine > cores
    guess = f" (as if counted from the machine's {machine} CPUs)" if counted else ""
    return Finding(
        id="workers-beyond-cpu-quota",
        what=f"{workers} workers{guess} share a CPU limit of {cores:g} cores",
        why="when several work at once the quota is used up within the first milliseconds of each 100 ms, and all of "
        "them stand still for the rest: latency in steps of 100 ms, late heartbeats; each also costs its memory",
        fix=f"workers = {2 * math.ceil(cores) + 1} (WEB_CONCURRENCY={2 * math.ceil(cores) + 1}), with threads if the "
        f"application waits for others; or a CPU limit of {math.ceil(workers / 4)}",
        link="https://docs.gunicorn.org/en/stable/design.html#how-many-workers",
    )


def settings_pinned(facts: Facts) -> Finding | None:
    """What the command line says, no environment variable can change."""
    tunable = {field.name for field in fields(Wanted)}
    pinned = [setting for setting in facts.settings if setting.pinned and setting.name in tunable]
    if not pinned:
        return None
    words = ", ".join(setting.said_by or setting.name for setting in pinned)
    return Finding(
        id="settings-pinned",
        what=f"the command line gives {words}",
        why="a flag there beats GUNICORN_CMD_ARGS and the config file: neither a WSGIServer nor an environment "
        "variable can change these settings",
        fix="move them to GUNICORN_CMD_ARGS or gunicorn.conf.py, or to the WSGIServer's spec.settings",
        link="https://docs.gunicorn.org/en/stable/configure.html",
    )
