"""Plans that change nothing, remembered: at rest the same question comes again and again.

In: what a plan is made from. Out: the plan that was made from the same. Rule: a plan that changes nothing depends on
nothing but what it was made from; one that changes something also depends on what time it is, and is never remembered.
"""

from dataclasses import dataclass, field, replace

from wsgi_operator.core.patch import Plan
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Server
from wsgi_operator.core.workload import Object


@dataclass(slots=True)
class Settled:
    """For one version of a workload and of what is wanted: one plan before the pods were heard, one after."""

    _of: tuple[str, Server] | None = None
    _plans: dict[Seen | None, Plan] = field(default_factory=dict)

    def plan(self, server: Server, deployment: Object, seen: Seen | None) -> Plan | None:
        """The plan that was made from the same; None if none was."""
        return self._plans.get(seen) if self._of == (_version(deployment), server) else None

    def remember(self, server: Server, deployment: Object, seen: Seen | None, made: Plan) -> None:
        """Keep it, if it changes nothing, without the configuration that nobody will apply."""
        if made.needed:
            return
        if self._of != (_version(deployment), server):
            self._of, self._plans = (_version(deployment), server), {}
        self._plans = dict(list(self._plans.items())[-1:]) | {seen: replace(made, config={})}


def _version(deployment: Object) -> str:
    return f"{deployment['metadata'].get('uid')}/{deployment['metadata']['resourceVersion']}"
