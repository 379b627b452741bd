"""Whether a live object already holds what we would apply, and where it does not.

In: an apply configuration and the live object. Out: yes or no; a path. Rule: this mirrors what the API server does with
an apply: fields that we do not name are none of our business, lists of named things are compared by name, and
quantities by amount (`0.5` comes back as `500m`).
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, DecimalException
from typing import Any, Final

_SUFFIXES: Final[Mapping[str, Decimal]] = {
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60, "n": Decimal("1e-9"), "u": Decimal("1e-6"),
    "m": Decimal("1e-3"), "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12, "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
}  # fmt: skip


def covers(live: Any, wanted: Any, *, amounts: bool = False) -> bool:
    """Whether applying `wanted` would leave `live` as it is.

    Args:
        live: the object (or part of one) as the API server gives it.
        wanted: what we would apply; a subset of the object.
        amounts: whether strings here are Kubernetes quantities.
    """
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and covers(live[key], value, amounts=amounts or key == "resources")
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and _covers_list(live, wanted)
    if amounts:
        return quantity(live) == quantity(wanted)
    return bool(live == wanted)


def stray(live: Any, wanted: Any, *, path: str = "", amounts: bool = False) -> str | None:
    """The first path, such as `spec.replicas`, at which `live` does not hold `wanted`; None: it holds all of it.

    Args:
        live: as for `covers`.
        wanted: likewise.
        path: of both, within the object.
        amounts: as for `covers`.
    """
    if covers(live, wanted, amounts=amounts):
        return None
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for key, value in wanted.items():
            within = amounts or key == "resources"
            found = stray(live.get(key), value, path=f"{path}.{key}".lstrip("."), amounts=within)
            if found is not None:
                return found
    if isinstance(wanted, list) and isinstance(live, list):
        by_name = {item["name"]: item for item in live if isinstance(item, Mapping) and "name" in item}
        for item in wanted:
            name = item.get("name") if isinstance(item, Mapping) else None
            found = stray(by_name.get(name), item, path=f"{path}[{name}]") if name in by_name else None
            if found is not None:
                return found
    return path


def _covers_list(live: Sequence[Any], wanted: Sequence[Any]) -> bool:
    if all(isinstance(item, Mapping) and "name" in item for item in wanted):
        by_name = {item["name"]: item for item in live if isinstance(item, Mapping) and "name" in item}
        return all(item["name"] in by_name and covers(by_name[item["name"]], item) for item in wanted)
    return len(live) == len(wanted) and all(covers(a, b) for a, b in zip(live, wanted, strict=True))


def quantity(value: Any) -> Decimal | None:
    """The amount that a Kubernetes quantity such as `500m`, `64Mi` or `1e3` stands for; None if it is none."""
    text = str(value)
    suffix = next((s for s in _SUFFIXES if text.endswith(s)), "")
    try:
        amount = Decimal(text.removesuffix(suffix)) * _SUFFIXES.get(suffix, Decimal(1))
    except DecimalException:
        return None
    return amount if amount.is_finite() else None
