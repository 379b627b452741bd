"""The WSGIServer resource as it is read, and the CustomResourceDefinition made from its models.

In: a WSGIServer object from the API server. Out: `Server`, or an `Obstacle` when this operator cannot read it; and the
CRD as YAML. Rule: what a user may write stands once, in `resource/`; schema, `kubectl explain`, defaults and sentences
of refusal are made from it. What one field cannot say alone is a CEL rule beside the model that it rules.

Run as a program it prints the CRD: `python -m wsgi_operator.crd > charts/wsgi-operator/crds/wsgiservers.yaml`.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic import ValidationError

from wsgi_contract import names
from wsgi_operator.core.server import DEFAULT_RESOURCES, Obstacle, Server, Sidecar
from wsgi_operator.resource.sidecar import SidecarSpec
from wsgi_operator.resource.spec import WSGIServer, WSGIServerSpec
from wsgi_operator.resource.workload import WorkloadSpec
from wsgi_operator.schema import structural

_QUANTITY: Final = r"^([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+|[KMGTPE]i|[numkMGTPE])?$"
_AMOUNT: Final = {"x-kubernetes-int-or-string": True, "pattern": _QUANTITY}


def parse_server(body: Mapping[str, Any], default: Sidecar) -> Server | Obstacle:
    """Read a WSGIServer object.

    Args:
        body: as the API server gives it.
        default: the sidecar that the operator was installed with; the object's own words win.

    Returns:
        The server, or an obstacle when the object is not as this operator's CRD demands (an older or newer CRD is
        installed than the operator knows).
    """
    try:
        spec = WSGIServerSpec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        return Obstacle(
            reason="InvalidSpec",
            message=f"this operator cannot read {where}: {first['msg']}. The installed CRD and the operator are of "
            "different versions: upgrade the chart's CRD (helm does not do it by itself)",
        )
    metadata = body["metadata"]
    named = spec.workload
    if spec.app is not None:
        named = WorkloadSpec(name=metadata["name"], container=spec.app.container_name)
    if named is None:
        return Obstacle(
            reason="InvalidSpec",
            message="neither spec.workload nor spec.app says which server is meant: name a workload, or describe an "
            "app",
        )
    return Server(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        created=metadata["creationTimestamp"],
        kind=named.kind,
        workload=named.name,
        container=named.container,
        wanted=spec.settings.wanted(),
        policy=spec.watchdog.policy(),
        sidecar=_sidecar(spec.sidecar, default),
        runs=None if spec.server == "auto" else spec.server,
        app=spec.app.app() if spec.app is not None else None,
        monitoring=spec.monitoring.monitoring(),
        tuner=spec.tuning.mode,
        terms=spec.tuning.terms(),
        apply=spec.tuning.apply,
    )


def _sidecar(spec: SidecarSpec, default: Sidecar) -> Sidecar:
    return Sidecar(
        image=spec.image or default.image,
        pull_policy=spec.image_pull_policy or default.pull_policy,
        resources=spec.resources.as_text() if spec.resources else DEFAULT_RESOURCES,
        run_as_user=spec.run_as_user,
        run_as_group=spec.run_as_group,
        port=spec.port,
        upgrade=spec.upgrade,
        named=spec.image is not None,
    )


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition, as a plain object."""
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(),
        "schema": {"openAPIV3Schema": _root_schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": ["all"],
            },
            "versions": [version],
        },
    }


def _root_schema() -> dict[str, Any]:
    schema = structural(WSGIServer)
    meta = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    schema["properties"] = meta | schema["properties"]
    for name in ("sidecar", "app"):
        resources = schema["properties"]["spec"]["properties"][name]["properties"]["resources"]["properties"]
        for kind in resources.values():
            kind |= {"maxProperties": 16, "additionalProperties": _AMOUNT}
    return schema


def _columns() -> list[dict[str, Any]]:
    def in_force(setting: str) -> str:
        return f'.status.effective[?(@.name=="{setting}")].value'

    def condition(name: str, part: str) -> str:
        return f'.status.conditions[?(@.type=="{name}")].{part}'

    columns: tuple[tuple[str, str, str, int], ...] = (
        ("Mode", "string", ".spec.tuning.mode", 0),
        ("Workers", "string", in_force("workers"), 0),
        ("Threads", "string", in_force("threads"), 0),
        ("Timeout", "string", in_force("timeoutSeconds"), 0),
        ("Ready", "string", condition("Ready", "status"), 0),
        ("Saturation", "string", ".status.saturation", 0),
        ("Incidents", "integer", ".status.incidents.open", 0),
        ("Age", "date", ".metadata.creationTimestamp", 0),
        ("Workload", "string", ".status.workload", 1),
        ("Pods", "string", ".status.pods.summary", 1),
        ("Kills", "integer", ".status.incidents.kills", 1),
        ("Watchdog", "string", ".spec.watchdog.mode", 1),
        ("Reason", "string", condition("Ready", "reason"), 1),
        ("Message", "string", condition("Ready", "message"), 1),
    )
    return [
        {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
        for name, kind, path, priority in columns
    ]


class _Whole(yaml.SafeDumper):
    """Writes what is shared in full each time: an anchor helps nobody who reads a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> None:
    """Print the CRD as YAML."""
    sys.stdout.write("# Made from the models: python -m wsgi_operator.crd\n")
    yaml.dump(definition(), sys.stdout, _Whole, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    main()
