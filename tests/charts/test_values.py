"""The chart's values: each documented, each checked, each with an effect."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.charts.rendered import CHART, RefusedError, Values, container, one, render

TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
VALUES: dict[str, Any] = yaml.safe_load(TEXT)
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
FREE = {"resources", "annotations", "labels", "podLabels", "podAnnotations", "nodeSelector", "tolerations", "affinity"}
"""Values whose inside is Kubernetes' own."""


def test_every_value_has_a_comment_in_front_of_it() -> None:
    lines = TEXT.splitlines()
    for path, _ in leaves(VALUES):
        key = path[-1]
        places = [i for i, line in enumerate(lines) if re.match(rf" *{key}:", line)]
        assert places, path
        assert all(_commented(lines, place) for place in places), path


def test_schema_and_values_hold_the_same_names() -> None:
    known = {path for path in schema_leaves(SCHEMA) if path != ("global",)}
    assert known == {path for path, _ in leaves(VALUES)}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"healthport": 8080}, ["healthport", "not allowed"]),
        ({"image": {"tga": "1"}}, ["tga", "not allowed"]),
        ({"image": {"repository": "x:1.2"}}, ["/image/repository", "'x:1.2'", "pattern"]),
        ({"image": {"repository": ""}}, ["/image/repository"]),
        ({"image": {"tag": 1.5}}, ["/image/tag", "string"]),
        ({"image": {"digest": "sha256:abc"}}, ["/image/digest", "sha256:[a-f0-9]{64}"]),
        ({"image": {"pullPolicy": "Sometimes"}}, ["/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"]),
        ({"sidecar": {"image": "wsgi-sidecar:1"}}, ["/sidecar/image", "object"]),
        ({"sidecar": {"allowedRepositories": ["x:1.2"]}}, ["/sidecar/allowedRepositories/0", "'x:1.2'", "pattern"]),
        ({"healthPort": 80}, ["/healthPort", "minimum", "1,024"]),
        ({"healthPort": "8080"}, ["/healthPort", "integer"]),
        ({"watch": {"namespaces": "shop"}}, ["/watch/namespaces", "array"]),
        ({"watch": {"namespaces": ["a", "a"]}}, ["/watch/namespaces", "equal"]),
        ({"watch": {"namespaces": ["Shop"]}}, ["/watch/namespaces/0", "'Shop'"]),
        ({"watch": {"namespaces": ["*"]}}, ["/watch/namespaces/0", "'*'"]),
        ({"log": {"level": "loud"}}, ["/log/level", "'debug', 'info', 'warning', 'error'"]),
        ({"log": {"format": "xml"}}, ["/log/format", "'json', 'text'"]),
        ({"reports": {"intervalSeconds": 0}}, ["/reports/intervalSeconds", "minimum"]),
        ({"reports": {"timeoutSeconds": 0}}, ["/reports/timeoutSeconds", "exclusiveMinimum"]),
        ({"reports": {"auth": "mtls"}}, ["/reports/auth", "'none', 'token'"]),
        ({"serviceAccount": {"create": False}}, ["/serviceAccount/name"]),
        ({"resources": {"limits": {"memory": "lots"}}}, ["/resources/limits/memory", "'lots'"]),
        ({"resources": {"limit": {}}}, ["/resources", "limit"]),
        ({"podLabels": {"app.kubernetes.io/name": "x"}}, ["/podLabels/app.kubernetes.io~1name"]),
        ({"podAnnotations": {"note": 1}}, ["/podAnnotations/note", "string"]),
        ({"imagePullSecrets": ["pull"]}, ["/imagePullSecrets/0", "object"]),
        ({"terminationGracePeriodSeconds": 0}, ["/terminationGracePeriodSeconds", "minimum"]),
        ({"replicaCount": 2}, ["replicaCount", "not allowed"]),
        ({"podMonitor": {"interval": "30"}}, ["/podMonitor/interval"]),
        ({"podMonitor": {"labels": {"helm.sh/chart": "x"}}}, ["/podMonitor/labels/helm.sh~1chart"]),
        ({"alerts": {"runbookPrefix": "https://git.example.com"}}, ["/alerts/runbookPrefix"]),
        ({"dashboards": {"labels": {"grafana_dashboard": 1}}}, ["/dashboards/labels/grafana_dashboard", "string"]),
        ({"networkPolicy": {"from": ["monitoring"]}}, ["/networkPolicy/from/0", "object"]),
        ({"networkPolicy": {"from": [{}]}}, ["/networkPolicy/from/0", "minProperties"]),
        ({"networkPolicy": {"apiServerPorts": []}}, ["/networkPolicy/apiServerPorts", "minItems"]),
        ({"networkPolicy": {"apiServerAddresses": ["10.0.0.1"]}}, ["/networkPolicy/apiServerAddresses/0"]),
        ({"networkPolicy": {"reportPorts": [0]}}, ["/networkPolicy/reportPorts/0", "minimum"]),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_it_may_be(values: Values, words: list[str]) -> None:
    with pytest.raises(RefusedError) as refusal:
        render(values)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "wsgi-operator:0.1.0"),
        ({"tag": "dev"}, "wsgi-operator:dev"),
        ({"repository": "r.example:5000/x"}, "r.example:5000/x:0.1.0"),
        ({"digest": "sha256:" + "0" * 64}, "wsgi-operator@sha256:" + "0" * 64),
        ({"digest": "sha256:" + "0" * 64, "tag": "dev"}, "wsgi-operator@sha256:" + "0" * 64),
    ],
)
def test_a_digest_wins_over_a_tag_and_a_tag_over_the_version(image: Values, reference: str) -> None:
    things = render({"image": image, "sidecar": {"image": image}})
    assert container(things)["image"] == reference
    sidecar = environment(things)["WSGI_OPERATOR_SIDECAR_IMAGE"]
    assert sidecar == (reference if "repository" in image else reference.replace("wsgi-operator", "wsgi-sidecar"))


def test_values_reach_the_operator_through_its_environment() -> None:
    values: Values = {
        "watch": {"namespaces": ["a", "b"]},
        "log": {"level": "debug", "format": "text"},
        "reports": {"intervalSeconds": 2.5, "timeoutSeconds": 1},
        "healthPort": 9000,
        "rolls": {"atOnce": 2},
        "admission": "always",
        "sidecar": {"image": {"pullPolicy": "Never"}, "allowedRepositories": ["registry.example/mine", "team/*"]},
    }
    told = environment(render(values))
    assert told == {
        "WSGI_OPERATOR_SIDECAR_IMAGE": "wsgi-sidecar:0.1.0",
        "WSGI_OPERATOR_SIDECAR_PULL_POLICY": "Never",
        "WSGI_OPERATOR_SIDECAR_REPOSITORIES": "registry.example/mine,team/*",
        "WSGI_OPERATOR_NAMESPACES": "a,b",
        "WSGI_OPERATOR_ROLLS_AT_ONCE": "2",
        "WSGI_OPERATOR_ADMISSION": "true",
        "WSGI_OPERATOR_REPORT_INTERVAL_SECONDS": "2.5",
        "WSGI_OPERATOR_REPORT_TIMEOUT_SECONDS": "1",
        "WSGI_OPERATOR_REPORT_AUTH": "none",
        "WSGI_OPERATOR_LOG_LEVEL": "debug",
        "WSGI_OPERATOR_LOG_FORMAT": "text",
        "WSGI_OPERATOR_PORT": "9000",
    }


def test_several_operators_share_a_lease_of_their_own_namespace_and_one_needs_none() -> None:
    things = render({"replicas": 2})
    (role,) = (thing for thing in things if thing["kind"] == "Role")
    assert (role["metadata"]["name"], role["metadata"]["namespace"]) == ("wsgi-wsgi-operator-lease", "wsgi-system")
    named = [(rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]]
    assert named == [(None, ["create"]), (["wsgi-wsgi-operator"], ["get", "update"])]
    variables = {entry["name"]: entry for entry in container(things)["env"]}
    assert variables["WSGI_OPERATOR_LEASE"]["value"] == "wsgi-wsgi-operator"
    assert {"POD_NAME", "POD_NAMESPACE"} <= variables.keys()
    assert one(things, "Deployment")["spec"]["replicas"] == 2
    alone = {entry["name"] for entry in container(render({}))["env"]}
    assert alone.isdisjoint({"WSGI_OPERATOR_LEASE", "POD_NAME", "POD_NAMESPACE"})


def test_a_token_needs_a_key_that_the_chart_makes_or_somebody_names() -> None:
    assert not [thing for thing in render({}) if thing["kind"] == "Secret"]
    things = render({"reports": {"auth": "token"}})
    secret = one(things, "Secret")
    assert secret["metadata"]["name"] == "wsgi-wsgi-operator-report-keys"
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert len(base64.b64decode(secret["data"]["current"])) == 64
    assert secret["data"] != one(render({"reports": {"auth": "token"}}), "Secret")["data"]
    assert keys_of(things) == ("wsgi-wsgi-operator-report-keys", "token")
    named = render({"reports": {"auth": "token", "existingSecret": "mine"}})
    assert not [thing for thing in named if thing["kind"] == "Secret"]
    assert keys_of(named) == ("mine", "token")
    on_the_way_out = render({"reports": {"auth": "none", "existingSecret": "mine"}})
    assert keys_of(on_the_way_out) == ("mine", "none")


def keys_of(things: list[dict[str, Any]]) -> tuple[str, str]:
    """The Secret that is mounted where the operator looks for its keys, and whether it guards new pods."""
    pod, operator = one(things, "Deployment")["spec"]["template"]["spec"], container(things)
    ((volume,), (mount,)), told = (pod["volumes"], operator["volumeMounts"]), environment(things)
    assert (volume["name"], mount["readOnly"]) == (mount["name"], True)
    assert mount["mountPath"] == told["WSGI_OPERATOR_REPORT_KEYS"]
    return volume["secret"]["secretName"], told["WSGI_OPERATOR_REPORT_AUTH"]


def test_the_probes_ask_the_port_that_the_values_name() -> None:
    operator = container(render({"healthPort": 9000}))
    assert operator["ports"] == [{"name": "health", "containerPort": 9000}]
    paths = {probe: operator[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/livez", "port": "health"},
        "livenessProbe": {"path": "/livez", "port": "health"},
        "readinessProbe": {"path": "/readyz", "port": "health"},
    }


def environment(things: list[dict[str, Any]]) -> dict[str, str]:
    """The operator's environment."""
    return {entry["name"]: entry["value"] for entry in container(things)["env"]}


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no folder of other values."""
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in FREE:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def schema_leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every name that the schema knows and that holds no further names."""
    for key, part in schema["properties"].items():
        resolved = SCHEMA["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if "properties" in resolved and key not in FREE:
            yield from schema_leaves(resolved, (*path, key))
        else:
            yield (*path, key)


def _commented(lines: list[str], place: int) -> bool:
    """Whether the line, or the folder that it opens, has a comment above it."""
    return lines[place - 1].strip().startswith("# --")


def test_without_apps_nothing_may_be_made_of_them_and_nobody_is_asked_for_his_rights() -> None:
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    with_apps, without = (render({"apps": apps, "admission": "always"}) for apps in (True, False))
    assert [thing["kind"] for thing in with_apps if thing["kind"] in kinds] == list(kinds)
    assert not [thing for thing in without if thing["kind"] in kinds]
    rules = one(without, "ClusterRole")["rules"]
    verbs = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert ("deployments", "create") not in verbs
    assert "services" not in {resource for resource, _ in verbs}
    assert {verb for resource, verb in verbs if resource == "poddisruptionbudgets"} == {"list"}
