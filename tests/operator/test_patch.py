"""What is applied to a Deployment: plain objects in, an apply configuration or an obstacle out."""

import json
from typing import Any

import pytest

from wsgi_contract import names
from wsgi_contract.policy import Policy, parse_policy
from wsgi_contract.settings import Wanted
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.record import Change, original_of, record_of
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Server, Sidecar
from wsgi_operator.core.sidecar import Identity
from wsgi_operator.testing import IMAGE, NOW, applied, container, deployment, env, server, sidecar_of

CMD = "GUNICORN_CMD_ARGS"


ROOT, NON_ROOT = {"runAsNonRoot": False}, {"runAsNonRoot": True}


def planned(server: Server, live: dict[str, Any], **more: Any) -> Plan:
    made = plan(server, live, **more)
    assert isinstance(made, Plan), made
    return made


def in_the_way(server: Server, live: dict[str, Any]) -> Obstacle:
    made = plan(server, live)
    assert isinstance(made, Obstacle), made
    return made


def cmd_args(config: Any) -> str | None:
    """What the configuration sets; None where it leaves the variable alone."""
    for one in config["spec"]["template"]["spec"].get("containers", ()):
        for entry in one.get("env", ()):
            if entry["name"] == CMD:
                return str(entry.get("value", ""))
    return None


def adopted(server: Server, live: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The Deployment after the plan was applied."""
    return applied(live, planned(server, live, **more).config)


def test_a_plan_holds_only_what_we_add():
    config = planned(server(), deployment()).config
    assert config["metadata"].keys() == {"name", "namespace", "annotations"}
    assert config["spec"].keys() == {"template"}
    assert config["spec"]["template"]["spec"].keys() == {
        "initContainers",
        "containers",
        "volumes",
        "shareProcessNamespace",
    }
    assert config["spec"]["template"]["spec"]["containers"] == [
        {"name": "web", "env": [{"name": CMD, "value": "--workers=3"}]}
    ]
    assert config["spec"]["template"]["metadata"]["labels"] == {names.LABEL_SERVER: "shop"}


def test_the_sidecar_may_do_nothing_but_look():
    sidecar = sidecar_of(planned(server(), deployment()).config)
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    assert "readinessProbe" not in sidecar
    assert "startupProbe" not in sidecar


def test_the_policy_reaches_the_sidecar_as_a_file():
    config = planned(server(policy=Policy(mode="DryRun", kills_per_minute=2)), deployment()).config
    annotation = config["spec"]["template"]["metadata"]["annotations"][names.ANNOTATION_POLICY]
    assert parse_policy(annotation) == Policy(mode="DryRun", kills_per_minute=2)
    volume = config["spec"]["template"]["spec"]["volumes"][0]
    assert (
        volume["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"]
        == f"metadata.annotations['{names.ANNOTATION_POLICY}']"
    )
    variables = {entry["name"]: entry.get("value") for entry in sidecar_of(config)["env"]}
    assert variables[names.ENV_POLICY_FILE] == "/etc/wsgi-sidecar/policy.json"


@pytest.mark.parametrize(
    ("pod", "own", "spec", "expected"),
    [
        ({}, {}, {}, (None, None)),
        ({"runAsUser": 1, "runAsGroup": 2}, {}, {}, (1, 2)),
        ({"runAsUser": 1, "runAsGroup": 2}, {"runAsUser": 3}, {}, (3, 2)),
        ({"runAsUser": 1}, {"runAsUser": 3, "runAsGroup": 4}, {"run_as_user": 5, "run_as_group": 6}, (5, 6)),
        ({"runAsUser": 0}, {}, {}, (0, None)),
    ],
    ids=["nobody says", "the pod", "the container before the pod", "the resource before both", "root is a user too"],
)
def test_the_sidecar_runs_as_the_server_does(pod, own, spec, expected):
    live = deployment(container(securityContext=own), pod={"securityContext": pod})
    security = sidecar_of(planned(server(sidecar=Sidecar(image=IMAGE, **spec)), live).config)["securityContext"]
    assert (security.get("runAsUser"), security.get("runAsGroup")) == expected
    assert security["runAsNonRoot"] is (expected[0] != 0)


def test_beside_a_root_server_the_sidecar_has_its_capabilities_and_no_more():
    default = deployment(container(securityContext={"runAsUser": 0}))
    bare = deployment(container(securityContext={"runAsUser": 0, "capabilities": {"drop": ["ALL"]}}))
    assert "capabilities" not in sidecar_of(planned(server(), default).config)["securityContext"]
    assert sidecar_of(planned(server(), bare).config)["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_an_identity_that_only_the_pods_know_is_learnt_once():
    live = adopted(server(), deployment())
    again = planned(server(), live, seen=Seen(identity=Identity(uid=33, gid=34)), now=NOW)
    assert again.record.changes == (Change(name="identity", before=None, after="uid 33, gid 34"),)
    after = applied(live, again.config)
    assert sidecar_of(after)["securityContext"]["runAsUser"] == 33
    assert not planned(server(), after, seen=Seen()).needed
    assert not planned(server(), after).needed


@pytest.mark.parametrize(
    ("pod_says", "container_says", "uid"),
    [({}, {}, 0), (NON_ROOT, {}, None), ({}, NON_ROOT, None), (NON_ROOT, ROOT, 0), (ROOT, NON_ROOT, None)],
)
def test_root_is_not_learnt_from_a_report_where_the_manifest_forbids_it(pod_says, container_says, uid):
    web = container(env=env(GUNICORN_CMD_ARGS=""), securityContext=container_says)
    live = deployment(web, pod={"securityContext": pod_says})
    made = planned(server(), live, seen=Seen(identity=Identity(uid=0, gid=0)))
    assert made.record.learnt == Identity(uid=uid, gid=uid)
    assert sidecar_of(made.config)["securityContext"].get("runAsUser") == uid


def test_a_declared_identity_is_not_overruled_by_what_was_seen():
    live = adopted(server(), deployment(container(env=env(GUNICORN_CMD_ARGS=""), securityContext={"runAsUser": 1})))
    again = planned(server(), live, seen=Seen(identity=Identity(uid=33, gid=34)))
    security = sidecar_of(again.config)["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (1, 34)


def test_the_owners_arguments_stay_to_the_letter():
    live = deployment(container(env=env(A="1", GUNICORN_CMD_ARGS="-w 2  --log-level=$(LEVEL)", B="2")))
    after = adopted(server(), live)
    assert [entry["name"] for entry in after["spec"]["template"]["spec"]["containers"][0]["env"]] == ["A", CMD, "B"]
    assert cmd_args(after) == "-w 2  --log-level=$(LEVEL) --workers=3"
    original = original_of(after)
    assert original is not None
    assert original.variables[CMD].value == "-w 2  --log-level=$(LEVEL)"


def test_who_owned_a_value_is_remembered():
    path = {"f:value": {}}
    fields: dict[str, Any] = {
        "f:spec": {
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:env": {f'k:{{"name":"{CMD}"}}': path}}}}}
        }
    }
    entry = {"manager": "helm", "operation": "Apply", "fieldsV1": fields}
    live = deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2")), managedFields=[entry])
    original = original_of(adopted(server(), live))
    assert original is not None
    assert [(owner.manager, owner.operation) for owner in original.variables[CMD].owners] == [("helm", "Apply")]


def test_without_a_variable_in_the_template_the_image_is_looked_at_first():
    live = deployment(container())
    first = planned(server(), live)
    assert first.pending
    assert cmd_args(first.config) is None
    assert first.record.changes == (Change(name="sidecar", before=None, after=IMAGE),)
    then = planned(server(), applied(live, first.config), seen=Seen(cmd_args="--bind=0.0.0.0:8000"), now=NOW)
    assert not then.pending
    assert cmd_args(then.config) == "--bind=0.0.0.0:8000 --workers=3"
    assert then.record.changes == (Change(name="workers", before=None, after="3"),)


def test_what_the_image_sets_is_not_forgotten():
    live = deployment(container())
    for seen, wanted in ((None, 3), (Seen(cmd_args="-b :80"), 3), (None, 4), (Seen(cmd_args="-b :80 --workers=4"), 5)):
        live = applied(live, planned(server(wanted=Wanted(workers=wanted), generation=wanted), live, seen=seen).config)
    assert cmd_args(live) == "-b :80 --workers=5"


def test_a_server_whose_environment_cannot_be_read_keeps_its_settings():
    live = adopted(server(), deployment(container()))
    again = planned(server(), live, seen=Seen(cmd_args=None))
    assert again.pending
    assert not again.needed


def test_no_settings_leave_the_variable_alone():
    for variables in ([], env(GUNICORN_CMD_ARGS="-w 2"), [{"name": CMD, "valueFrom": {}}]):
        made = planned(server(wanted=Wanted()), deployment(container(env=variables)))
        assert cmd_args(made.config) is None
        assert not made.pending


def test_settings_that_are_taken_back_give_the_owner_his_value_again():
    live = adopted(server(), deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))))
    back = planned(server(wanted=Wanted()), live)
    assert cmd_args(back.config) == "-w 2"
    assert back.record.changes == (Change(name="workers", before="3", after=None),)
    assert not planned(server(wanted=Wanted()), applied(live, back.config)).needed


def test_what_the_owner_writes_meanwhile_is_merged_anew():
    live = adopted(server(), deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))))
    live["spec"]["template"]["spec"]["containers"][0]["env"] = env(GUNICORN_CMD_ARGS="-w 2 --preload")
    again = planned(server(), live)
    assert again.needed
    assert cmd_args(again.config) == "-w 2 --preload --workers=3"
    original = original_of(applied(live, again.config))
    assert original is not None
    assert original.variables[CMD].value == "-w 2 --preload"


@pytest.mark.parametrize(
    "live",
    [
        deployment(),
        deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))),
        deployment(container()),
        deployment(container(), container("proxy"), pod={"shareProcessNamespace": False}),
        deployment(pod={"shareProcessNamespace": True, "initContainers": [container("prepare")]}),
    ],
    ids=["empty variable", "variable", "no variable", "namespace refused", "namespace shared"],
)
def test_a_second_plan_changes_nothing(live):
    ours = server(container="web")
    after = adopted(ours, live)
    assert not planned(ours, after, now=NOW + 60).needed


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"wanted": Wanted(workers=4)}, "workers"),
        ({"wanted": Wanted(workers=3, timeout_s=60)}, "timeoutSeconds"),
        ({"policy": Policy(mode="DryRun")}, "watchdog"),
        ({"sidecar": Sidecar(image="registry.example/wsgi-sidecar:2")}, "image"),
    ],
)
def test_a_change_of_the_resource_is_told_with_before_and_after(change, name):
    again = planned(server(**change), adopted(server(), deployment()), now=NOW + 60)
    assert again.needed
    assert [one.name for one in again.record.changes] == [name]
    assert again.record.at == NOW + 60


def test_a_change_that_is_only_undone_is_not_told_as_ours():
    live = adopted(server(), deployment(), now=NOW)
    del live["spec"]["template"]["spec"]["shareProcessNamespace"]
    again = planned(server(), live, now=NOW + 60)
    assert again.needed
    assert again.record.at == NOW


def test_an_owners_refusal_to_share_processes_is_kept():
    after = adopted(server(), deployment(pod={"shareProcessNamespace": False}))
    original = original_of(after)
    assert after["spec"]["template"]["spec"]["shareProcessNamespace"] is True
    assert original is not None
    assert original.share is not None
    assert original.share.value is False


def test_what_the_owner_shares_already_is_not_ours():
    made = planned(server(), deployment(pod={"shareProcessNamespace": True}))
    assert "shareProcessNamespace" not in made.config["spec"]["template"]["spec"]


def test_a_spoilt_record_is_written_anew():
    live = adopted(server(), deployment())
    for spoilt in ("", "no json", "[]", '{"server": 1}', json.dumps({"learnt": None, "changes": None})):
        live["metadata"]["annotations"]["wsgi.dev/applied"] = spoilt
        assert record_of(live) is None


@pytest.mark.parametrize(
    ("ours", "live", "reason", "words"),
    [
        (server(), deployment(container("a"), container("b")), "ContainerAmbiguous", "several containers (a, b)"),
        (server(container="c"), deployment(container("a")), "ContainerNotFound", "it has a"),
        (server(), deployment(pod={"hostPID": True}), "HostPID", "remove hostPID"),
        (server(), deployment(pod={"volumes": [{"name": "wsgi-policy"}]}), "VolumePresent", "rename it"),
        (
            server(),
            deployment(pod={"initContainers": [container(names.SIDECAR_CONTAINER)]}),
            "SidecarPresent",
            "the operator adds its own",
        ),
        (server(), deployment(container(ports=[{"containerPort": 9177}])), "PortTaken", "spec.sidecar.port"),
        (
            server(),
            deployment(container(env=[{"name": CMD, "valueFrom": {"configMapKeyRef": {}}}])),
            "CmdArgsFromReference",
            "write it as a plain value",
        ),
        (server(), deployment(container(env=env(GUNICORN_CMD_ARGS="-w 'two"))), "CmdArgsUnreadable", "mend it"),
    ],
)
def test_what_is_in_the_way_is_told_with_what_to_do(ours, live, reason, words):
    obstacle = in_the_way(ours, live)
    assert obstacle.reason == reason
    assert words in obstacle.message
