"""Builders of values for tests: an ordinary workload that reports well, with what matters to the test in the call.

In: the fields that matter. Out: Deployments as the API server gives them, `Server`, `Report`, answers. Rule: every
default is healthy and plausible, so that a test names only what makes its case.
"""

import copy
from collections.abc import Mapping
from typing import Any

from wsgi_contract import names
from wsgi_contract.policy import Policy
from wsgi_contract.report import SCHEMA, Counts, Incident, Kill, ProcessId, Report, ServerInfo, SidecarInfo
from wsgi_contract.settings import Setting, Wanted
from wsgi_operator.core.app import App
from wsgi_operator.core.evidence import Heard, Pod, Silence
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.server import Server, Sidecar
from wsgi_operator.core.workload import all_containers, is_ours

NOW = 1_790_000_000.0
IMAGE = "registry.example/wsgi-sidecar:1"


def server(**fields: Any) -> Server:
    """WSGIServer `shop` that wants 3 workers of Deployment `web`."""
    defaults: dict[str, Any] = {
        "namespace": "default",
        "name": "shop",
        "uid": "uid-shop",
        "generation": 1,
        "created": "2026-01-01T00:00:00Z",
        "workload": "web",
        "container": None,
        "wanted": Wanted(workers=3),
        "policy": Policy(),
        "sidecar": Sidecar(image=IMAGE),
    }
    return Server(**(defaults | fields))


def app_server(*, name: str = "shop", **fields: Any) -> Server:
    """WSGIServer `shop` whose app `shop:app` the operator makes."""
    app = {key: fields.pop(key) for key in tuple(fields) if key in App.__dataclass_fields__ and key != "container"}
    made = App(**({"image": "registry.example/shop:1", "module": "shop:app"} | app))
    return server(**({"name": name, "workload": name, "container": "app", "app": made} | fields))


def container(name: str = "web", **fields: Any) -> dict[str, Any]:
    """A container as a Deployment's template holds it."""
    return {"name": name, "image": f"registry.example/{name}:1"} | fields


def env(**variables: str) -> list[dict[str, Any]]:
    """Plain environment variables; an empty one has no value, as the API server gives it back."""
    return [{"name": name} | ({"value": value} if value else {}) for name, value in variables.items()]


def deployment(*containers: Mapping[str, Any], pod: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Deployment `web`, two of two pods up to date; `pod` adds to the pod spec, `fields` to the metadata."""
    spec = {"containers": [dict(c) for c in containers] or [container(env=env(GUNICORN_CMD_ARGS=""))]} | dict(pod or {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "generation": 1, "resourceVersion": "1"} | fields,
        "spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec}},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    }


def applied(live: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What a forced server-side apply by us makes of a live object that we never touched: good enough for plans.

    It merges maps by key and lists by name, and notes that we own something; it removes nothing. What the API server
    really does is tested on the real one.
    """
    merged = _merge(copy.deepcopy(dict(live)), config)
    entries = [e for e in merged["metadata"].get("managedFields", ()) if not is_ours(e)]
    ours = {"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    merged["metadata"]["managedFields"] = [*entries, ours]
    return merged


def planned(of: Server | None = None, live: Mapping[str, Any] | None = None, **more: Any) -> Plan:
    """What would be applied; there is no obstacle."""
    made = plan(of or server(), live or deployment(), **more)
    assert isinstance(made, Plan), made
    return made


def adopted(of: Server | None = None, live: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The Deployment after that was applied."""
    live = live or deployment()
    return applied(live, planned(of, live, **more).config)


def _merge(live: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            live[key] = _merge(live.get(key) or {}, value)
        elif isinstance(value, list) and all(isinstance(item, Mapping) and "name" in item for item in value):
            items = {item["name"]: item for item in live.get(key) or []}
            live[key] = list((items | {i["name"]: _merge(items.get(i["name"], {}), i) for i in value}).values())
        else:
            live[key] = copy.deepcopy(value)
    return live


def sidecar_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The injected container of a Deployment or apply configuration."""
    return next(
        c
        for c in all_containers({"spec": {"template": {"spec": {"containers": []} | body["spec"]["template"]["spec"]}}})
        if c["name"] == names.SIDECAR_CONTAINER
    )


def pod(name: str = "web-1", **fields: Any) -> Pod:
    """A pod whose sidecar should answer."""
    return Pod(**({"name": name, "uid": f"uid-{name}", "ip": "10.0.0.1"} | fields))


def report(*settings: Setting, **fields: Any) -> Report:
    """A Report of a gunicorn 23 that has 3 workers through GUNICORN_CMD_ARGS, seen by a sidecar of the same user."""
    defaults: dict[str, Any] = {
        "schema": SCHEMA,
        "taken_at": NOW,
        "sidecar": SidecarInfo(version="1", started_at=NOW - 600, uid=1000, gid=1000),
        "pod": None,
        "server": gunicorn(),
        "settings": settings or (setting("workers", 3),),
        "workers": (),
        "accept_queue": None,
        "connection_limit": None,
        "orphans": (),
        "incidents": (),
        "kills": (),
        "counts": Counts(),
        "unknowns": (),
        "policy": Policy(),
    }
    return Report(**(defaults | fields))


def gunicorn(**fields: Any) -> ServerInfo:
    """A master that runs as 1000:1000 and was started without GUNICORN_CMD_ARGS."""
    defaults: dict[str, Any] = {
        "kind": "gunicorn",
        "release": "23.0.0",
        "process": ProcessId(pid=7, started=5000),
        "uid": 1000,
        "gid": 1000,
        "started_at": NOW - 600,
        "cmd_args": "",
    }
    return ServerInfo(**(defaults | fields))


def uwsgi(**fields: Any) -> ServerInfo:
    """A uWSGI that runs as 1000:1000."""
    return gunicorn(**({"kind": "uwsgi", "release": "2.0.31", "cmd_args": None} | fields))


def setting(name: Any, value: Any, source: Any = "environment", said_by: str | None = None) -> Setting:
    """A setting in force."""
    return Setting(name=name, value=value, source=source, said_by=said_by or f"GUNICORN_CMD_ARGS: {name}")


def heard(name: str = "web-1", of: Report | None = None) -> Heard:
    """A pod that reported."""
    return Heard(pod=pod(name), report=of or report())


def silence(name: str = "web-1", reason: str = "no answer") -> Silence:
    """A pod that did not."""
    return Silence(pod=pod(name), reason=reason)


def incident(**fields: Any) -> Incident:
    """A frozen worker that lasts."""
    defaults: dict[str, Any] = {
        "id": "1",
        "kind": "frozen-worker",
        "since": NOW - 10,
        "slot": 1,
        "process": ProcessId(pid=12, started=5600),
        "summary": "worker in slot 1 is frozen",
        "evidence": (),
        "action": "end its whole tree",
    }
    return Incident(**(defaults | fields))


def kill(**fields: Any) -> Kill:
    """A frozen worker that was ended."""
    defaults: dict[str, Any] = {
        "id": "1",
        "at": NOW - 5,
        "target": "worker",
        "slot": 1,
        "process": ProcessId(pid=12, started=5600),
        "reason": "frozen-worker",
        "message": "its main thread used 0.9 cores for 5 s and served nothing",
        "outcome": "killed",
        "processes": 2,
        "survivors": (),
        "duration_s": 0.03,
    }
    return Kill(**(defaults | fields))
