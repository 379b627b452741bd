"""From pydantic's JSON schema to the structural schema that a CustomResourceDefinition demands.

In: a model. Out: one schema without references, unions with null, or titles. Rule: descriptions come from docstrings
and fields, so `kubectl explain` says what the code says; a pydantic construct that Kubernetes does not know fails here,
in the tests, and not in a cluster.
"""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

_KEPT: Final[tuple[str, ...]] = (
    "type", "description", "default", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "maxProperties", "required", "format", "x-kubernetes-validations",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One CEL rule.

    Attributes:
        rule: the expression; `self` is the object that carries it, `oldSelf` what it was before an update.
        message: the sentence of the refusal: what is wrong and what to write instead.
        field: path of the field at fault, below the object; empty: the object itself.
    """

    rule: str
    message: str
    field: str = ""


def rules(*given: Rule) -> dict[str, Any]:
    """CEL rules as the extra that pydantic adds to a model's schema."""
    return {
        "x-kubernetes-validations": [
            {"rule": rule.rule, "message": rule.message} | ({"fieldPath": rule.field} if rule.field else {})
            for rule in given
        ]
    }


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model.

    Raises:
        TypeError: the model holds something that has no structural form.
    """
    whole = model.model_json_schema(by_alias=True)
    return _flat(whole, whole.get("$defs", {}))


def _flat(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    flat: dict[str, Any] = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        flat |= {"type": "string", "enum": [node["const"]]}
    if "type" not in flat and not flat.get("x-kubernetes-int-or-string"):
        raise TypeError(f"no structural form for {node}")
    if isinstance(flat.get("description"), str):
        flat["description"] = " ".join(flat["description"].split())
    if isinstance(flat.get("default"), dict):
        flat["default"] = {}  # the API server fills an empty object from the defaults of its fields
    if "properties" in node:
        flat["properties"] = {name: _flat(part, definitions) for name, part in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), dict):
        flat["additionalProperties"] = _flat(node["additionalProperties"], definitions)
    if "items" in node:
        flat["items"] = _flat(node["items"], definitions)
    return flat


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference, and drop the null of an optional; the outer words win over the referenced ones."""
    outer = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].rpartition("/")[2]], definitions) | outer
    if "anyOf" in node:
        others = [option for option in node["anyOf"] if option.get("type") != "null"]
        if sorted(option.get("type", "") for option in others) == ["integer", "string"]:
            return {"x-kubernetes-int-or-string": True} | outer
        if len(others) != 1:
            raise TypeError(f"no structural form for the union {node}")
        if outer.get("default", ...) is None:
            del outer["default"]
        return _resolved(others[0], definitions) | outer
    return node
