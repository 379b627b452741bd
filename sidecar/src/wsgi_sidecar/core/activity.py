"""What a worker's main thread and its other threads did between two close looks.

In: two `Closeup`s of one process. Out: seconds of CPU, seconds in which a CPU was wanted, context switches. Rule: what
a thread wants is what it used plus what it waited for a CPU: a limit or a busy machine changes the one, not the sum. A
thread that was born in between counts from nothing; one that went counts no more.
"""

from collections.abc import Iterator

from wsgi_sidecar.core.snapshot import Closeup, Thread


def main_cpu_s(earlier: Closeup, later: Closeup) -> float:
    """Seconds of CPU that the main thread used."""
    return later.threads[0].cpu_s - earlier.threads[0].cpu_s


def main_wanted_s(earlier: Closeup, later: Closeup) -> float:
    """Seconds in which the main thread ran or waited for a CPU.

    A wait is counted when it ends, which a cgroup's limit may put off beyond the later look: a thread that is runnable
    at both looks and never slept in between wanted all of the time.
    """
    then, now = earlier.threads[0], later.threads[0]
    if then.sleeps is not None and then.sleeps == now.sleeps and then.state == now.state == "R":
        return later.monotonic - earlier.monotonic
    return _wanted_s(now) - _wanted_s(then)


def others_cpu_s(earlier: Closeup, later: Closeup) -> float:
    """Seconds of CPU that all other threads used together."""
    return sum(now.cpu_s - (then.cpu_s if then else 0.0) for then, now in _others(earlier, later))


def others_wanted_s(earlier: Closeup, later: Closeup) -> float:
    """Seconds in which the other threads ran or waited for a CPU, summed over them."""
    return sum(_wanted_s(now) - (_wanted_s(then) if then else 0.0) for then, now in _others(earlier, later))


def others_switches(earlier: Closeup, later: Closeup) -> int | None:
    """Context switches of all other threads together; None where they could not be read."""
    total = 0
    for then, now in _others(earlier, later):
        before = then.switches if then else 0
        if now.switches is None or before is None:
            return None
        total += now.switches - before
    return total


def _others(earlier: Closeup, later: Closeup) -> Iterator[tuple[Thread | None, Thread]]:
    before = {thread.tid: thread for thread in earlier.threads}
    return ((before.get(thread.tid), thread) for thread in later.threads[1:])


def _wanted_s(thread: Thread) -> float:
    return thread.cpu_s + (thread.waited_s or 0.0)
