"""Adopting and giving back Deployments on the real API server: no pods are needed for that."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import RESTRICTED, Ground, deployment
from tests.operator.policies import policy
from wsgi_contract import names

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

THREE = {"workers": 3}


def args_of(here: Ground, name: str) -> str | None:
    containers = here.deployment(name)["spec"]["template"]["spec"]["containers"]
    return next((e.get("value", "") for e in containers[0].get("env", ()) if e["name"] == "GUNICORN_CMD_ARGS"), None)


def test_the_template_gets_what_we_add_and_keeps_the_rest(here: Ground):
    here.apply(deployment("plain", env=variables(A="1", GUNICORN_CMD_ARGS="-w 2")))
    before = json.loads(here.template("plain"))
    here.adopt("plain", settings=THREE)
    here.until("plain", "Ready", "True")
    after = json.loads(here.template("plain"))
    sidecar = after["spec"].pop("initContainers")[0]
    assert (sidecar["name"], sidecar["image"], sidecar["restartPolicy"]) == ("wsgi-sidecar", here.image, "Always")
    assert after["spec"].pop("shareProcessNamespace") is True
    assert [volume["name"] for volume in after["spec"].pop("volumes")] == ["wsgi-policy"]
    assert list(after["metadata"].pop("annotations")) == [names.ANNOTATION_POLICY]
    assert after["metadata"]["labels"].pop(names.LABEL_SERVER) == "plain"
    assert after["spec"]["containers"][0]["env"][1].pop("value") == "-w 2 --workers=3"
    assert before["spec"]["containers"][0]["env"][1].pop("value") == "-w 2"
    assert after == before
    assert ("Injected", "Deployment plain rolls: sidecar " + here.image + ", workers 3") in here.events(
        "WSGIServer", "plain"
    )


def variables(**values: str) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


OWNERS: dict[str, dict[str, Any]] = {
    "empty-variable": {},
    "arguments": {"env": variables(A="1", GUNICORN_CMD_ARGS="-w 2", B="$(A)")},
    "no-env": {"env": None},
    "rich": {
        "env": variables(GUNICORN_CMD_ARGS='--log-level=debug --name "a b"'),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "pod": {
            "shareProcessNamespace": False,
            "initContainers": [{"name": "prepare", "image": "localhost/nothing:1", "securityContext": RESTRICTED}],
            "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}],
        },
    },
    "shares": {"pod": {"shareProcessNamespace": True, "securityContext": {"runAsUser": 1000}}},
}
REFERENCE = [{"name": "GUNICORN_CMD_ARGS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]


@pytest.mark.parametrize("how", [(), ("--server-side", "--field-manager=gitops")], ids=["apply", "server-side"])
def test_every_template_comes_back_byte_for_byte_and_with_its_owners(here: Ground, how: tuple[str, ...]):
    manifests = {f"{owner}-{len(how)}": deployment(f"{owner}-{len(how)}", **OWNERS[owner]) for owner in OWNERS}
    here.apply(*manifests.values(), args=how)
    before = {name: (here.template(name), ownership(here, name)) for name in manifests}
    for name in manifests:
        here.adopt(name, settings={} if name.startswith("no-env") else THREE)
    for name in manifests:
        here.until(name, "Ready", "True")  # its controller has seen it, too: the second ReplicaSet is there
        assert here.template(name) != before[name][0]
    here.release(*manifests)
    for name in manifests:
        assert (here.template(name), ownership(here, name)) == before[name]
        ours = [key for key in here.deployment(name)["metadata"].get("annotations", {}) if key.startswith("wsgi.dev/")]
        assert not ours
    here.apply(*manifests.values(), args=how)
    for name in manifests:
        assert here.template(name) == before[name][0]
        assert here.replica_sets(name) == 2


def ownership(here: Ground, name: str) -> list[Any]:
    """Who owns which fields of the Deployment, times and the controllers' own status aside."""
    entries = here.deployment(name)["metadata"]["managedFields"]
    return [
        (entry["manager"], entry["operation"], entry["fieldsV1"]) for entry in entries if not entry.get("subresource")
    ]


def test_nothing_is_written_when_nothing_changed(here: Ground):
    here.apply(deployment("calm"))
    here.adopt("calm", settings=THREE)
    here.until("calm", "Ready", "True")
    before = versions(here, "calm")
    time.sleep(3)
    assert versions(here, "calm") == before
    assert here.replica_sets("calm") == 2


def versions(here: Ground, name: str) -> tuple[str, str]:
    return here.deployment(name)["metadata"]["resourceVersion"], here.server(name)["metadata"]["resourceVersion"]


def test_a_change_of_the_resource_rolls_once_and_is_told(here: Ground):
    here.apply(deployment("resized"))
    here.adopt("resized", settings={"workers": 2, "threads": 4})
    here.until("resized", "Ready", "True")
    here.adopt("resized", settings={"workers": 5, "timeoutSeconds": 60})
    here.until("resized", "Ready", "True")
    assert args_of(here, "resized") == "--workers=5 --timeout=60"
    assert here.replica_sets("resized") == 3
    lines = here.server("resized")["status"]["lastChanges"]
    assert [(line["what"], line.get("before"), line.get("after")) for line in lines][:3] == [
        ("workers", "2", "5"), ("threads", "4", None), ("timeoutSeconds", None, "60"),
    ]  # fmt: skip
    told = [message for reason, message in here.events("WSGIServer", "resized") if reason == "SettingsChanged"]
    assert told == ["Deployment resized rolls: workers 2 -> 5, threads 4 -> as its owner has it, timeoutSeconds 60"]


def test_an_owner_who_applies_again_loses_nothing_and_takes_nothing(here: Ground):
    manifest = deployment("gitops", image="localhost/nothing:1")
    here.apply(manifest)
    here.adopt("gitops", settings=THREE)
    here.until("gitops", "Ready", "True")
    here.apply(manifest | deployment("gitops", image="localhost/nothing:2"))
    here.until("gitops", "Ready", "True")
    spec = here.deployment("gitops")["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "localhost/nothing:2"
    assert [container["name"] for container in spec["initContainers"]] == ["wsgi-sidecar"]
    assert eventually(lambda: args_of(here, "gitops")) == "--workers=3"
    here.release("gitops")
    assert json.loads(here.template("gitops"))["spec"]["containers"][0]["image"] == "localhost/nothing:2"


def test_what_somebody_takes_out_is_put_back(here: Ground):
    here.apply(deployment("meddled"))
    here.adopt("meddled", settings=THREE)
    here.until("meddled", "Ready", "True")
    good = here.template("meddled")
    remove = [{"op": "remove", "path": "/spec/template/spec/initContainers"}]
    here.kubectl("patch", "deployment", "meddled", "--type=json", "-p", json.dumps(remove))
    eventually(lambda: here.template("meddled") == good, within_s=20)


def test_two_controllers_that_undo_each_other_do_not_roll_for_ever(here: Ground):
    here.apply(deployment("contested"))
    here.adopt("contested", settings=THREE)
    here.until("contested", "Ready", "True")
    unset = ("set", "env", "deployment/contested", "GUNICORN_CMD_ARGS=", "--field-manager=argocd")
    here.kubectl(*unset)
    eventually(lambda: args_of(here, "contested") == "--workers=3", within_s=20)
    here.kubectl(*unset)
    message = here.until("contested", "Stalled", "True", "Contested", within_s=20)
    assert "argocd keeps changing" in message
    assert args_of(here, "contested") == ""
    here.until("contested", "Ready", "True", within_s=40)


ALWAYS_PULL = """Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
initContainers: [Object.spec.template.spec.initContainers{name: "wsgi-sidecar", imagePullPolicy: "Always"}]}}}}"""


@pytest.fixture
def rewriting(here: Ground) -> Iterator[None]:
    """A policy that changes what we apply, as those do that know one registry."""
    spec = {
        "matchConditions": [{"name": "ours", "expression": "has(object.spec.template.spec.initContainers)"}],
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": ALWAYS_PULL}}],
    }
    probe = deployment("probe")
    inner = probe["spec"]["template"]["spec"]
    inner["initContainers"] = [inner["containers"][0] | {"name": "wsgi-sidecar", "imagePullPolicy": "Never"}]
    dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    heeded = lambda: '"imagePullPolicy": "Always"' in here.kubectl(*dry, stdin=json.dumps(probe))  # noqa: E731
    with policy(here, "MutatingAdmissionPolicy", spec, heeded=heeded):
        yield


def test_what_an_admission_policy_makes_of_our_changes_is_told_as_that_and_the_pods_are_watched(
    here: Ground, rewriting: None
):
    here.apply(deployment("rewritten"))
    here.adopt("rewritten", settings=THREE)
    message = here.until("rewritten", "Stalled", "True", "Rewritten")
    assert "spec.template.spec.initContainers[wsgi-sidecar].imagePullPolicy is another" in message
    assert here.condition("rewritten", "Injected")[:2] == ("True", "Applied")
    assert here.condition("rewritten", "Degraded")[1] != "NotWatching"
    eventually(lambda: here.replica_sets("rewritten") == 2)  # the Deployment's controller comes after us
    time.sleep(4)  # some more looks
    assert here.condition("rewritten", "Stalled")[1:] == ("Rewritten", message)
    assert here.replica_sets("rewritten") == 2
    here.adopt("rewritten", settings=THREE, sidecar={"imagePullPolicy": "Always"})
    here.until("rewritten", "Ready", "True")


@pytest.mark.parametrize("last", ["the wipe", "a change of ours"])
def test_a_template_comes_back_even_if_somebody_wiped_who_owns_what(here: Ground, last: str):
    name = f"wiped-before-{last.rsplit(maxsplit=1)[-1]}"
    here.apply(deployment(name, env=variables(GUNICORN_CMD_ARGS="-w 2")))
    before = here.template(name)
    here.adopt(name, settings=THREE)
    here.until(name, "Ready", "True")
    wipe = ("patch", "deployment", name, "--type=merge", "-p", '{"metadata":{"managedFields":[{}]}}')
    here.kubectl(*wipe)
    here.kubectl("patch", "wsgi", name, "--type=merge", "-p", '{"spec":{"settings":{"workers":4}}}')
    here.until(name, "Ready", "True")
    if last == "the wipe":
        here.kubectl(*wipe)
    here.release(name)
    assert here.template(name) == before
    assert not [key for key in here.deployment(name)["metadata"]["annotations"] if key.startswith("wsgi.dev/")]


def test_an_hpa_keeps_its_replicas(here: Ground):
    here.apply(deployment("scaled"))
    here.adopt("scaled", settings=THREE)
    here.until("scaled", "Ready", "True")
    here.kubectl("scale", "deployment", "scaled", "--replicas=1")
    here.adopt("scaled", settings={"workers": 4})
    eventually(lambda: args_of(here, "scaled") == "--workers=4")
    assert here.deployment("scaled")["spec"]["replicas"] == 1


def test_a_missing_deployment_is_waited_for(here: Ground):
    here.adopt("late", settings=THREE)
    assert "there is no Deployment late" in here.until("late", "Stalled", "True", "WorkloadNotFound")
    here.apply(deployment("late"))
    here.until("late", "Ready", "True", within_s=20)
    here.kubectl("delete", "deployment", "late")
    here.until("late", "Stalled", "True", "WorkloadNotFound", within_s=20)
    here.release("late")


@pytest.mark.parametrize(
    ("name", "manifest", "spec", "reason"),
    [
        ("wrong", deployment("wrong"), {"workload": {"name": "wrong", "container": "app"}}, "ContainerNotFound"),
        (
            "reference",
            deployment("reference", env=REFERENCE),
            {"settings": THREE},
            "CmdArgsFromReference",
        ),
        ("taken", deployment("taken", ports=[{"containerPort": 9177}]), {}, "PortTaken"),
        ("foreign", deployment("foreign"), {"sidecar": {"image": "evil.example/miner:1"}}, "ImageNotAllowed"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_stalls_and_writes_nothing(here: Ground, name: str, manifest: Any, spec: Any, reason: str):
    here.apply(manifest)
    before = here.template(name)
    here.adopt(name, **spec)
    here.until(name, "Stalled", "True", reason)
    assert here.template(name) == before
    here.release(name)


def test_the_older_of_two_resources_has_the_workload_and_then_the_other(here: Ground):
    here.apply(deployment("shared"))
    here.adopt("shared", server="first", settings={"workers": 2})
    here.until("first", "Ready", "True")
    time.sleep(1.1)  # creation times have seconds; the second must be younger
    here.adopt("shared", server="second", settings={"workers": 7})
    assert "already belongs to WSGIServer first" in here.until("second", "Stalled", "True", "AlreadyClaimed")
    assert args_of(here, "shared") == "--workers=2"
    here.release("first")
    here.until("second", "Ready", "True", within_s=20)
    assert args_of(here, "shared") == "--workers=7"
    here.release("second")
    assert args_of(here, "shared") == ""
