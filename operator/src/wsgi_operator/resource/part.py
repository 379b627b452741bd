"""What all parts of the spec share.

In: nothing. Out: `Part`, `ruled`, `bounded`, `list_of`, patterns. Rule: camelCase outside, snake_case inside; frozen; a
field nobody knows is refused, never dropped.
"""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from wsgi_contract.policy import BOUNDS
from wsgi_operator.schema import Rule, rules

DAY_S: Final = 86_400
LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class Part(BaseModel):
    """One part of the resource."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


def ruled(*given: Rule) -> ConfigDict:
    """The configuration of a part that has CEL rules of its own."""
    return ConfigDict(json_schema_extra=rules(*given))


def bounded(name: str, *, default: Any, description: str) -> Any:
    """A whole number within the bounds that the sidecar itself holds this field of its policy to."""
    low, high = BOUNDS[name]
    return Field(default=int(default), ge=int(low), le=int(high), description=description)


def list_of(key: str | None = None, **more: Any) -> dict[str, Any]:
    """How server-side apply merges a list: by the value of this key, or as a whole."""
    if key is None:
        return {"x-kubernetes-list-type": "atomic"} | more
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]} | more
