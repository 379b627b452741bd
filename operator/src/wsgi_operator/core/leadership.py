"""Who of several operators works, by one Lease.

In: the Lease as it stands, since when it stands so by our own clock. Out: whether we may take it, and the Lease to
write. Rule: nobody's clock but our own is believed: a Lease has run out when we ourselves saw it unchanged for as long
as it lasts. A leader that cannot renew gives up before that, so there are never two.

15 s, 10 s, 2 s are Kubernetes' own numbers: after kill -9 a standby works within 17 s and the time that it takes to
read what is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LASTS_S: Final = 15
"""How long the Lease stands without being renewed."""

GIVE_UP_S: Final = 10.0
"""How long a leader tries in vain to renew before it ends; less than `LASTS_S`, and the rest is for ending."""

EVERY_S: Final = 2.0
"""Between two tries, to renew or to take."""

REFUSED_S: Final = 60.0
"""How long a standby bears to be refused the Lease. An API server that has just come back has read the roles within
seconds; after a minute a role is missing, and whoever has to give it sees a pod that ends sooner than a log line."""

Lease = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A Lease as it was seen.

    Attributes:
        lease: as the API server gave it.
        since_s: when it was first seen in this version, by our own clock.
    """

    lease: Lease
    since_s: float


def sighted(lease: Lease, before: Sighting | None, now_s: float) -> Sighting:
    """The sighting after another look."""
    if before is not None and _version(before.lease) == _version(lease):
        return before
    return Sighting(lease=lease, since_s=now_s)


def may_take(seen: Sighting | None, me: str, now_s: float) -> bool:
    """Whether the Lease is ours for the taking: there is none, nobody holds it, we do, or it ran out."""
    if seen is None:
        return True
    spec = seen.lease.get("spec") or {}
    if spec.get("holderIdentity") in (None, "", me):
        return True
    return now_s - seen.since_s > float(spec.get("leaseDurationSeconds") or LASTS_S)


def held(namespace: str, name: str, me: str, now: str, before: Lease | None) -> Lease:
    """The Lease as we hold it from now on.

    Args:
        namespace: of the Lease.
        name: of the Lease.
        me: our identity; empty to give the Lease up.
        now: RFC 3339 with microseconds, for people and other programs.
        before: as it stands; None: there is none. Its version guards the write.
    """
    old = (before or {}).get("spec") or {}
    same = old.get("holderIdentity") == me
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": namespace, "name": name} | ({"resourceVersion": _version(before)} if before else {}),
        "spec": {
            "holderIdentity": me,
            "leaseDurationSeconds": LASTS_S,
            "acquireTime": old.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if same or not before else 1),
        },
    }


def _version(lease: Lease) -> str:
    return str(lease["metadata"].get("resourceVersion"))
