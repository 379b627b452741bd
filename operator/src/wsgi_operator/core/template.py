"""The plan for a template, where settings may change without one.

In: as `plan`. Out: likewise. Rule: a change of settings alone leaves the template as it is, where its pods can be
changed in place; what rolls it for another reason takes along what its pods were proved to run with.
"""

from wsgi_operator.core.boot import as_template, at_a_roll
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.workload import Object


def plan_template(
    server: Server, live: Object, *, seen: Seen | None = None, now: float = 0.0, admission: bool = False
) -> Plan | Obstacle:
    """Decide what to apply; see `plan`."""
    said = as_template(server, live)
    made = plan(said, live, seen=seen, now=now, admission=admission)
    if said is server or isinstance(made, Obstacle) or not made.rolls(live):
        return made
    return plan(at_a_roll(said, live), live, seen=seen, now=now, admission=admission)
