"""JSON schemas for kubeconform: Kubernetes' own, our CRD's, and those of the Prometheus operator.

In: Go modules, fetched by Go's own client: Kubernetes at the release that `cluster/` is built from, and the Prometheus
operator. Out: folders with one schema for each kind, made once and kept in the cache. Rule: strict: a field that no
schema knows is a fault; nothing is asked of the network that the module proxy does not have.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    places = [word for folder in schemas() for word in ("-schema-location", f"{folder}/{_PLACE}")]
    command = [str(found), "-strict", "-summary", *places, *map(str, files)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@cache
def schemas() -> tuple[Path, ...]:
    """The folders: what others made, and our own CRD; each named by what it is made of, so that trees do not mix."""
    kubernetes = module("k8s.io/kubernetes", ROOT / "cluster" / "kubeall")
    monitoring = module(PROMETHEUS_OPERATOR)
    text = CRD.read_text(encoding="utf-8")
    own = hashlib.sha256(text.encode()).hexdigest()[:12]
    return (
        _made(f"{kubernetes.name}-{monitoring.name}", lambda: _of_others(kubernetes)),
        _made(f"crd-{own}", lambda: _custom(yaml.safe_load(text))),
    )


def _made(name: str, make: Callable[[], Iterable[tuple[str, dict[str, Any]]]]) -> Path:
    """A folder with these schemas, put in place in one stroke."""
    folder = CACHE / "schemas" / name
    if not folder.exists():
        part = folder.with_name(f"{name}.{os.getpid()}.part")
        part.mkdir(parents=True)
        for file, schema in make():
            (part / file).write_text(json.dumps(schema), encoding="utf-8")
        try:
            part.rename(folder)
        except OSError:  # another test run was faster
            shutil.rmtree(part)
    return folder


def _of_others(kubernetes: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in (kubernetes / "api" / "openapi-spec" / "v3").glob("*_openapi.json"):
        yield from _kinds(json.loads(path.read_text(encoding="utf-8"))["components"].get("schemas", {}))
    for name in MONITORING:
        yield from _custom(crd_of(name))


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


if __name__ == "__main__":  # a part of `make ground`: what has to be fetched is fetched before the tests begin
    try:
        schemas()
    except (pytest.skip.Exception, pytest.fail.Exception) as trouble:
        sys.stderr.write(f"  manifests will not be held against schemas: {trouble}\n")
