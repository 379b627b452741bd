"""How settings reach gunicorn and uWSGI: plain objects in, what is written or ordered out."""

from typing import Any

import pytest

from wsgi_contract import names
from wsgi_contract.settings import Wanted
from wsgi_operator.core.admission import ANNOTATION_FLAGS, ANNOTATION_VARIABLES, unheeded
from wsgi_operator.core.app import Monitoring, Requests
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.record import Change, record_of
from wsgi_operator.core.restore import cut_out, taken_out
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle
from wsgi_operator.testing import applied, container, deployment, env, server, sidecar_of

WANTED = Wanted(workers=4, timeout_s=60)
COUNTED = Monitoring(requests=Requests())
STATSD = f"--statsd-host=127.0.0.1:{names.STATSD_PORT}"
FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


def planned(of: Any, live: Any, **more: Any) -> Plan:
    made = plan(of, live, **more)
    assert isinstance(made, Plan), made
    return made


def uwsgi(**fields: Any) -> Any:
    return server(**({"runs": "uwsgi", "wanted": WANTED} | fields))


def written(made: Plan) -> dict[str, str]:
    """Variables that the configuration sets in the template."""
    containers = made.config["spec"]["template"]["spec"].get("containers", ())
    return {entry["name"]: entry.get("value", "") for one in containers for entry in one["env"]}


def ordered(made: Plan, annotation: str) -> str | None:
    return made.config["spec"]["template"]["metadata"]["annotations"].get(annotation)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ([], {"UWSGI_PROCESSES": "4", "UWSGI_HARAKIRI": "60"}),
        (env(UWSGI_WORKERS="2", A="1"), {"UWSGI_WORKERS": "4", "UWSGI_HARAKIRI": "60"}),
        (env(UWSGI_HARAKIRI="30", GUNICORN_CMD_ARGS="-w 9"), {"UWSGI_PROCESSES": "4", "UWSGI_HARAKIRI": "60"}),
    ],
    ids=["nothing there", "the owner's other word for it", "a variable of the owner's"],
)
def test_uwsgis_settings_are_variables_at_once(variables: list[Any], expected: dict[str, str]):
    live = deployment(container(env=variables))
    made = planned(uwsgi(), live)
    assert (written(made), made.pending) == (expected, False)
    live = applied(live, made.config)
    assert not planned(uwsgi(), live).needed
    ordering = planned(uwsgi(), deployment(container(env=variables)), admission=True)
    assert ordered(ordering, ANNOTATION_VARIABLES) == " ".join(f"{k}={v}" for k, v in expected.items())
    assert written(ordering) == {}


def test_what_a_uwsgis_owner_had_comes_back_and_the_rest_goes():
    owners = container(env=env(UWSGI_HARAKIRI="30", B="1"))
    live = applied(deployment(owners), planned(uwsgi(), deployment(owners)).config)
    config, patch = taken_out(live), cut_out(live)
    assert config is not None
    assert patch is not None
    assert config["spec"]["template"]["spec"]["containers"] == [{"name": "web", "env": env(UWSGI_HARAKIRI="30")}]
    assert patch["spec"]["template"]["spec"]["containers"] == [owners]


def test_a_setting_that_is_wanted_no_more_is_the_owners_again():
    live = deployment(container(env=env(UWSGI_HARAKIRI="30")))
    live = applied(live, planned(uwsgi(), live).config)
    back = planned(uwsgi(wanted=Wanted(workers=4), generation=2), live)
    assert written(back) == {"UWSGI_HARAKIRI": "30", "UWSGI_PROCESSES": "4"}
    assert not planned(uwsgi(wanted=Wanted(workers=4), generation=2), applied(live, back.config)).needed


def test_a_server_that_turns_out_to_be_uwsgi_gets_its_settings_its_own_way_and_that_is_remembered():
    ours, live = server(wanted=WANTED), deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2")))
    live = applied(live, planned(ours, live).config)
    turned = planned(ours, live, seen=Seen(runs="uwsgi"))
    assert written(turned) == {"GUNICORN_CMD_ARGS": "-w 2", "UWSGI_PROCESSES": "4", "UWSGI_HARAKIRI": "60"}
    assert turned.record.changes == (Change(name="server", before="gunicorn", after="uwsgi"),)
    assert turned.record.drifts == 0  # it was nobody who meddled
    live = applied(live, turned.config)
    assert not planned(ours, live).needed
    assert not planned(ours, live, seen=Seen(runs="uwsgi")).needed


def test_a_pending_look_ends_when_the_server_is_uwsgi():
    ours, live = server(wanted=WANTED), deployment(container())
    first = planned(ours, live)
    assert first.pending
    second = planned(ours, applied(live, first.config), seen=Seen(runs="uwsgi"))
    assert (second.pending, written(second)["UWSGI_PROCESSES"]) == (False, "4")


@pytest.mark.parametrize(
    ("wanted", "variables", "reason", "words"),
    [
        (Wanted(worker_connections=10), [], "SettingsRefused", "uWSGI has no worker_connections"),
        (Wanted(workers=2), env(UWSGI_CHEAPER="2"), "SettingsRefused", "UWSGI_CHEAPER=2 must be lower"),
        (WANTED, [{"name": "UWSGI_PROCESSES"} | FROM_SECRET], "VariableFromReference", "write a plain value"),
    ],
)
def test_what_uwsgi_cannot_have_is_told(wanted: Wanted, variables: list[Any], reason: str, words: str):
    made = plan(uwsgi(wanted=wanted), deployment(container(env=variables)))
    assert isinstance(made, Obstacle)
    assert made.reason == reason
    assert words in made.message


def test_a_variable_from_a_secret_is_no_trouble_where_pods_get_theirs_at_creation():
    made = planned(uwsgi(), deployment(container(env=[{"name": "UWSGI_PROCESSES"} | FROM_SECRET])), admission=True)
    assert ordered(made, ANNOTATION_VARIABLES) == "UWSGI_PROCESSES=4 UWSGI_HARAKIRI=60"


@pytest.mark.parametrize(("value", "expected"), [("4", False), ("2", True), (None, True)])
def test_a_pod_tells_whether_it_got_its_variables(value: str | None, expected: bool):
    annotations = {"wsgi.dev/container": "web", ANNOTATION_VARIABLES: "UWSGI_PROCESSES=4 UWSGI_HARAKIRI=60"}
    variables = env(UWSGI_PROCESSES="1", UWSGI_HARAKIRI="60") + (env(UWSGI_PROCESSES=value) if value else [])
    pod = {
        "metadata": {"name": "web-1", "annotations": annotations},
        "spec": {"shareProcessNamespace": True, "containers": [container(env=variables)]},
    }
    assert unheeded(pod) is expected


def sidecars(made: Plan) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in sidecar_of(made.config)["env"]}


def test_a_server_that_shall_count_its_requests_is_pointed_at_the_sidecar():
    ours = server(monitoring=Monitoring(requests=Requests(forward="statsd.tools:8125")))
    made = planned(ours, deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))))
    assert written(made) == {"GUNICORN_CMD_ARGS": f"-w 2 --workers=3 {STATSD}"}
    assert sidecars(made)[names.ENV_STATSD_PORT] == str(names.STATSD_PORT)
    assert sidecars(made)[names.ENV_STATSD_FORWARD] == "statsd.tools:8125"
    assert "livenessProbe" not in sidecar_of(made.config)
    assert Change(name="requests", before=None, after="statsd.tools:8125") not in made.record.changes
    ordering = planned(ours, deployment(), admission=True)
    assert ordered(ordering, ANNOTATION_FLAGS) == f"--workers=3 {STATSD}"


def test_counting_needs_no_other_setting():
    made = planned(server(wanted=Wanted(), monitoring=COUNTED), deployment())
    assert written(made) == {"GUNICORN_CMD_ARGS": STATSD}
    live = applied(deployment(), made.config)
    stopped = planned(server(wanted=Wanted(), generation=2), live)
    assert written(stopped) == {"GUNICORN_CMD_ARGS": ""}
    assert stopped.record.changes == (Change(name="requests", before="counted", after=None),)
    assert names.ENV_STATSD_PORT not in sidecars(stopped)


@pytest.mark.parametrize(
    "web",
    [
        container(env=env(GUNICORN_CMD_ARGS="--statsd-host=statsd.tools:8125")),
        container(env=env(GUNICORN_CMD_ARGS=""), command=["gunicorn"], args=["--statsd-host", "statsd.tools:8125"]),
    ],
    ids=["by variable", "by command line"],
)
def test_an_owner_who_has_a_statsd_keeps_it_and_is_told_the_way(web: dict[str, Any]):
    made = planned(server(monitoring=COUNTED), deployment(web))
    assert STATSD not in written(made)["GUNICORN_CMD_ARGS"]
    assert names.ENV_STATSD_PORT not in sidecars(made)
    (told,) = made.told
    assert told.reason == "StatsdTaken"
    assert "spec.monitoring.requests.forward: statsd.tools:8125" in told.message


def test_uwsgi_counts_otherwise_and_that_is_told():
    (told,) = planned(uwsgi(monitoring=COUNTED), deployment(container())).told
    assert "UWSGI_STATS=127.0.0.1:1717" in told.message


def test_flags_that_would_not_count_are_not_written():
    for wanted in (Wanted(), Wanted(workers=3)):
        made = plan(server(wanted=wanted, monitoring=COUNTED), deployment(container(env=env(GUNICORN_CMD_ARGS="--"))))
        assert isinstance(made, Obstacle)
        assert made.reason == "CmdArgsUnreadable"


def test_a_port_that_statsd_needs_is_in_the_way():
    ports = [{"containerPort": names.STATSD_PORT, "protocol": "UDP"}]
    made = plan(server(monitoring=COUNTED), deployment(container(env=env(GUNICORN_CMD_ARGS=""), ports=ports)))
    assert isinstance(made, Obstacle)
    assert made.reason == "PortTaken"


def test_a_record_tells_all_of_it_after_a_restart():
    live = deployment(container(env=env(UWSGI_HARAKIRI="30")))
    record = record_of(applied(live, planned(uwsgi(), live).config))
    assert record is not None
    assert (record.runs, record.variables) == ("uwsgi", {"UWSGI_PROCESSES": "4", "UWSGI_HARAKIRI": "60"})
