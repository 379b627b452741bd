"""JSON schemas for kubeconform: Kubernetes' own, our CRD's, and those of the Prometheus operator.

In: Go modules, fetched by Go's own client: Kubernetes at the release that `cluster/` is built from, and the Prometheus
operator. Out: a folder with one schema for each kind, made once and kept in the cache. Rule: strict: a field that no
schema knows is a fault; nothing is asked of the network that the module proxy does not have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.charts.rendered import CRD
from tests.cluster.kube import CACHE, ROOT

PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
MONITORING: Final = ("podmonitors", "prometheusrules")
_PLACE: Final = "{{ .ResourceKind }}-{{ .Group }}-{{ .ResourceAPIVersion }}.json"


def kubeconform(*files: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Hold manifests against the schemas, strictly."""
    own = CACHE / "bin" / "kubeconform"
    found = str(own) if own.exists() else shutil.which("kubeconform")
    if found is None:
        _missing("kubeconform", "run `make cluster-up` once, which builds one")
    command = [str(found), "-strict", "-summary", "-schema-location", f"{schemas()}/{_PLACE}", *map(str, files)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@cache
def schemas() -> Path:
    """The folder; made anew where the CRD or a release changed."""
    kubernetes = module("k8s.io/kubernetes", ROOT / "cluster" / "kubeall")
    monitoring = module(PROMETHEUS_OPERATOR)
    folder = CACHE / "schemas" / f"{kubernetes.name}-{monitoring.name}"
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        part.mkdir(parents=True)
        for path in (kubernetes / "api" / "openapi-spec" / "v3").glob("*_openapi.json"):
            _write(part, _kinds(json.loads(path.read_text(encoding="utf-8"))["components"].get("schemas", {})))
        for name in MONITORING:
            _write(part, _custom(crd_of(name)))
        try:
            part.rename(folder)
        except OSError:  # another test run was faster
            shutil.rmtree(part)
    _write(folder, _custom(yaml.safe_load(CRD.read_text(encoding="utf-8"))))
    return folder


def crd_of(plural: str) -> dict[str, Any]:
    """A CRD of the Prometheus operator."""
    folder = module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    return dict(yaml.safe_load((folder / f"monitoring.coreos.com_{plural}.yaml").read_text(encoding="utf-8")))


@cache
def module(name: str, needed_by: Path | None = None) -> Path:
    """A Go module's folder, as Go's own client fetches it; `needed_by` says its release where the name does not."""
    go = os.environ.get("GO") or shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(go).exists():
        _missing("Go", "install it (https://go.dev/dl)")
    done = subprocess.run(
        [go, "mod", "download", "-json", name],
        cwd=needed_by or ROOT / "cluster",
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        _missing(name, f"it could not be fetched: {(done.stdout + done.stderr).strip()[-300:]}")
    return Path(json.loads(done.stdout)["Dir"])


def _missing(what: str, remedy: str) -> None:
    if os.environ.get("REQUIRE_CLUSTER") == "1":
        pytest.fail(f"REQUIRE_CLUSTER=1, and there is no {what}: {remedy}", pytrace=False)
    pytest.skip(f"no {what}: {remedy}")


def _write(folder: Path, found: Iterator[tuple[str, dict[str, Any]]]) -> None:
    for name, schema in found:
        (folder / name).write_text(json.dumps(schema), encoding="utf-8")


def _kinds(known: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for schema in known.values():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            if not kind["kind"].endswith(("List", "Options", "Review", "Event")):
                yield _name(kind["kind"], kind["group"], kind["version"]), _resolved(schema, known, ())


def _custom(crd: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for version in crd["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        yield (
            _name(crd["spec"]["names"]["kind"], crd["spec"]["group"], version["name"]),
            _resolved(schema, {}, ()),
        )


def _name(kind: str, group: str, version: str) -> str:
    return f"{kind.lower()}-{group or version}-{version}.json"  # as kubeconform calls a kind without a group


def _resolved(schema: Any, known: Mapping[str, Any], above: tuple[str, ...]) -> Any:
    """References put in place, nothing unknown allowed, and Kubernetes' own words for types in those of JSON schema."""
    if isinstance(schema, list):
        return [_resolved(each, known, above) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        target = schema["$ref"].rpartition("/")[2]
        if target in above:
            return {}
        return _resolved(known[target], known, (*above, target))
    return _strict({key: _resolved(value, known, above) for key, value in schema.items()})


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {key: value for key, value in schema.items() if key not in ("type", "format")}
    allof = schema.get("allOf")
    if isinstance(allof, list) and len(allof) == 1 and isinstance(allof[0], dict):  # a reference with a default
        return {**allof[0], **{key: value for key, value in schema.items() if key not in ("allOf", "default")}}
    properties = schema.get("properties")
    free = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(properties, dict) and not free:
        return {**schema, "additionalProperties": False}
    return schema
