"""What the sidecar may do, as one value.

In: JSON text written by the operator or a user. Out: `Policy`. Rule: a policy that cannot be read raises
`PolicyError` with a sentence that says which field is wrong; the caller keeps the last good one.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Mode = Literal["Enforce", "DryRun"]


class PolicyError(ValueError):
    """The policy text is not a policy; the message names the field and what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the watchdog may do and how sure it must be.

    Attributes:
        mode: `Enforce` acts; `DryRun` says what it would do and touches nothing.
        frozen_window_s: seconds over which a worker must look frozen before it is killed. 5 s told the frozen worker
            from 19 busy, blocked, slow and saturated ones without a false positive.
        frozen_cpu: cores that the main thread of a frozen worker uses at least (a frozen one uses .8 to 1).
        stuck_window_s: seconds without one context switch after which a sleeping arbiter is stuck; a healthy one makes
            one a second.
        end_orphans: whether what a dead worker left behind is ended; False tells it only.
        orphan_grace_s: seconds that an orphan may live on before it is told and ended.
        orphan_exempt: names (`ps -o comm`) of processes that may outlive their worker; `*` and `?` are allowed.
        kills_per_minute: budget of kills; beyond it the sidecar waits and says so.
        cooldown_s: seconds between two kills for the same slot.
        only_if_queue: whether a worker that serves nobody is ended only while somebody waits in an accept queue; where
            the others can serve all that comes, a person may look at it first. Not for recycling (its worker is asked),
            orphans and stuck arbiters.
        memory_recycle_share: share of the container's memory limit from which on the worker that grew most is asked to
            end and be replaced, one at a time; 0 (the default) never.
        request_told_s: seconds after which a request that no timeout bounds is told as stuck; a long poll or a report
            of some minutes is healthy.
        request_limit_s: seconds after which the worker with such a request is ended; 0 never: how long a request may
            take is for its owner to say.
        boot_told_s: seconds after which a worker that idles in its boot is told.
        boot_limit_s: seconds after which a worker that still boots is ended; 0 never. An import of 20 s is healthy, one
            of two minutes on a throttled CPU, too.
        stacks: whether the Python stacks of a process are taken before it is ended: names of functions, files and
            threads, never values.
        probe_grace_s: seconds that the server must look dead or wedged before `/server/livez` says no: more than the
            sidecar's own cure takes.
        probe_queue_share: share of the accept queue that, filled for 5 s, makes `/server/readyz` say no; 0 never: where
            all pods are as full, taking them out of service helps nobody.
    """

    mode: Mode = "Enforce"
    frozen_window_s: float = 5.0
    frozen_cpu: float = 0.3
    kills_per_minute: int = 6
    cooldown_s: float = 10.0
    only_if_queue: bool = False
    stuck_window_s: float = 5.0
    end_orphans: bool = True
    orphan_grace_s: float = 1.5
    orphan_exempt: tuple[str, ...] = ()
    memory_recycle_share: float = 0.0
    request_told_s: float = 300.0
    request_limit_s: float = 0.0
    boot_told_s: float = 60.0
    boot_limit_s: float = 300.0
    stacks: bool = True
    probe_grace_s: float = 30.0
    probe_queue_share: float = 0.0


MOST_PATTERNS = 64

BOUNDS: dict[str, tuple[float, float]] = {
    "frozen_window_s": (1.0, 600.0),
    "frozen_cpu": (0.05, 1.0),
    "kills_per_minute": (0, 600),
    "cooldown_s": (0.0, 3600.0),
    "stuck_window_s": (3.0, 600.0),
    "orphan_grace_s": (0.0, 3600.0),
    "memory_recycle_share": (0.0, 0.99),
    "request_told_s": (1.0, 86400.0),
    "request_limit_s": (0.0, 86400.0),
    "boot_told_s": (1.0, 3600.0),
    "boot_limit_s": (0.0, 86400.0),
    "probe_grace_s": (0.0, 3600.0),
    "probe_queue_share": (0.0, 1.0),
}


def dump_policy(policy: Policy) -> str:
    """The policy as JSON with stable key order."""
    return json.dumps(asdict(policy), sort_keys=True)


def parse_policy(text: str) -> Policy:
    """Read a policy; absent fields take their defaults.

    Raises:
        PolicyError: not JSON, not an object, an unknown field, or a value out of its bounds.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(
            f"the policy is not JSON ({error}); write an object such as {dump_policy(Policy())}"
        ) from None
    if not isinstance(raw, dict):
        raise PolicyError(f"the policy is a {type(raw).__name__}; write an object such as {dump_policy(Policy())}")
    known = {f.name: f for f in fields(Policy)}
    for name in raw:
        if name not in known:
            raise PolicyError(f"the policy has no field {_short(name)}; it has {', '.join(known)}")
    return Policy(**{name: _checked(name, value) for name, value in raw.items()})


def _checked(name: str, value: Any) -> Any:
    if name == "mode":
        if value not in ("Enforce", "DryRun"):
            raise PolicyError(f"policy field mode is {_short(value)}; it may be Enforce or DryRun")
        return value
    default = getattr(Policy(), name)
    if isinstance(default, bool):
        return _yes_or_no(name, value)
    if isinstance(default, tuple):
        return _patterns(name, value)
    low, high = BOUNDS[name]
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise PolicyError(f"policy field {name} is {_short(value)}; it may be {kind} from {low:g} to {high:g}")
    return value if whole else float(value)


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(f"policy field {name} is {_short(value)}; it may be true or false")
    return value


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_PATTERNS or not all(isinstance(each, str) for each in value):
        raise PolicyError(f"policy field {name} is {_short(value)}; it may be a list of at most {MOST_PATTERNS} names")
    return tuple(value)


def _short(value: Any) -> str:
    """The value as a message may quote it: a stranger's text can be a megabyte long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
