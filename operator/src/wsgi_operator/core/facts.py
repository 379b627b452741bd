"""What one round found, for the status to be told from.

In: nothing. Out: `Facts`. Rule: what a round did not come to know is None.
"""

from dataclasses import dataclass

from wsgi_operator.core.evidence import Evidence
from wsgi_operator.core.hazards import Hazard
from wsgi_operator.core.record import Change
from wsgi_operator.core.roll import Roll, Undone
from wsgi_operator.core.rollout import Rollout
from wsgi_operator.core.server import Obstacle, Runs
from wsgi_operator.core.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one round found.

    Attributes:
        generation: of the spec.
        obstacle: why nothing could be applied; None if all is applied.
        pending: whether the settings wait for what the pods report of the server's environment.
        rollout: how far the Deployment's roll is; None where there is an obstacle.
        evidence: what the pods say; None where there is an obstacle.
        image: the sidecar that the template carries; None where there is an obstacle.
        waiting: why it is not the one that it should be; None: it is.
        runs: the server that the settings are written for; None where there is an obstacle.
        stuck: what else is in the way, although the workload carries what it should.
        told: what was wanted and cannot be had, although nothing is in the way.
        changes: when the last apply was (Unix seconds) and what it changed; None: there was none.
        held: why a change does not begin yet; None: nothing waits.
        roll: the last roll that we began; None: none is known.
        undone: what is asked for, was tried and taken back; None: nothing is.
        trouble: what is wrong with the spec although all else goes on; None: nothing is.
        hazards: why a roll of this workload loses requests; None: nobody looked.
        unsure: why nobody can say that it loses none; None: it can be said.
        standing: of the last change in place; None: there was none.
        changing: what a change in place waits for; empty: none is under way.
    """

    generation: int
    obstacle: Obstacle | None = None
    pending: bool = False
    rollout: Rollout | None = None
    evidence: Evidence | None = None
    image: str | None = None
    waiting: str | None = None
    runs: Runs | None = None
    stuck: Obstacle | None = None
    told: tuple[Obstacle, ...] = ()
    changes: tuple[float, tuple[Change, ...]] | None = None
    held: str | None = None
    roll: Roll | None = None
    undone: Undone | None = None
    trouble: Obstacle | None = None
    hazards: tuple[Hazard, ...] | None = None
    unsure: str | None = None
    standing: Standing | None = None
    changing: str = ""
