"""An app that was taken over lies about itself in /proc: whom the sidecar may end stays within the app's own container.

Where a process stands (parent, cgroup, start time) the kernel says; what it is called, its arguments, its environment
and what it holds open its owner can choose. The sidecar beside it runs as the app's own user without a capability, so
the kernel lets it signal nobody whom the app could not signal itself; this holds that it does not even want to.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.sidecar.test_family import LISTENER, PAUSE, SIDECAR
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.gathering import gather_any
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.testing import POD_CGROUP, heartbeat, process, snapshot

ENVOY = "/kubepods/pod1/envoy"
HONEST = (
    PAUSE,
    SIDECAR,
    process(
        60, ppid=0, cgroup=ENVOY, name="envoy", command=("/bin/envoy", "-c", "envoy.yaml"), started=4000, session=60
    ),
    process(61, ppid=60, cgroup=ENVOY, name="envoy", command=("/bin/envoy",), started=6000, session=60),
    process(62, ppid=1, cgroup=ENVOY, name="logrotate", command=("logrotate",), started=9000, session=62),
    process(63, ppid=0, cgroup=ENVOY, name="sh", command=("sh",), started=9500, session=63),
)
"""What else is in the pod: another container with a child, a daemon of its own and a `kubectl exec`."""

CLAIMS = st.sampled_from(
    [
        ("/usr/bin/python3", "/usr/bin/gunicorn", "app:app"),
        ("gunicorn: master [app]",),
        ("gunicorn: worker [app]",),
        ("uwsgi", "--master", "--http", ":8000"),
        ("uWSGI master",),
        ("uWSGI worker 1",),
        ("uvicorn", "--workers", "2", "app:app"),
        ("/bin/envoy", "-c", "envoy.yaml"),
        ("wsgi-sidecar", "watch"),
        ("sh",),
        (),
    ]
)
TAKEN_OVER = range(100, 108)


@st.composite
def liars(draw: st.DrawFn) -> tuple[Process, ...]:
    """Up to eight processes of the app's container, each of which claims to be whatever helps."""
    made: list[Process] = []
    for number in TAKEN_OVER[: draw(st.integers(1, len(TAKEN_OVER)))]:
        parents = [1, *(each.id.pid for each in made)] if made else [0]
        claims: dict[str, Any] = {
            "ppid": draw(st.sampled_from(parents)),
            "command": draw(CLAIMS),
            "name": draw(st.sampled_from(["gunicorn", "uwsgi", "envoy", "wsgi-sidecar", "logrotate"])),
            "state": draw(st.sampled_from(["R", "S", "T", "Z"])),
            "session": draw(st.sampled_from([0, 60, 62, 100, number])),
            "says_gunicorn": draw(st.sampled_from([None, True, False])),
            "fd_count": 10,
            "heartbeats": tuple(heartbeat(inode) for inode in draw(st.sets(st.integers(1, 3)))),
            "listeners": frozenset(draw(st.sets(st.sampled_from([900, 901])))),
            "connections": frozenset(draw(st.sets(st.sampled_from([1000, 1001])))),
        }
        made.append(process(number, started=5000 + number + draw(st.integers(0, 5000)), cgroup=POD_CGROUP, **claims))
    return tuple(made)


def in_reach(family: Family) -> set[int]:
    """Everybody whom a decision about this family could end."""
    workers = [each for worker in family.workers for each in (worker.process, *worker.tree)]
    found = (family.master, *workers, *(orphan for orphan in family.orphans or ()))
    return {each.id.pid if isinstance(each, Process) else each.process.pid for each in found}


@given(looks=st.lists(liars(), min_size=1, max_size=3))
def test_nobody_outside_the_apps_own_container_is_ever_in_reach(looks: list[tuple[Process, ...]]) -> None:
    before = None
    for lie in looks:
        before = gather_any(snapshot(*HONEST, *lie, listeners=(LISTENER,), observer_pid=50), before)
        if before is not None:
            assert in_reach(before) <= set(TAKEN_OVER)
