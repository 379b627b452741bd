"""What the cluster says of a healed worker, in the three places where a person would look.

In: a pod. Out: its kill as a log line, as Events, as metrics; None while nothing is there. Rule: nothing is rephrased.
"""

import json
from typing import Any, Final

from demo.kube import Kube

SIDECAR: Final = "wsgi-sidecar"
SIDECAR_PORT: Final = 9177
KILLS: Final = "wsgi_kills_total"


def running_pods(kube: Kube) -> list[str]:
    """Names of the shop's pods that are not on their way out."""
    pods = kube.items("pods", "-l", "app=shop")
    return sorted(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"])


def leaving_pods(kube: Kube) -> list[str]:
    """Names of the shop's pods that are on their way out."""
    pods = kube.items("pods", "-l", "app=shop")
    return sorted(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"])


def pod_line(kube: Kube, pod: str) -> str:
    """The pod as `kubectl get pods` shows it."""
    return kube.run("get", "pod", pod).rstrip()


def restarts(kube: Kube, pod: str) -> int:
    """How often the kubelet has restarted a container of the pod."""
    status = kube.json("pod", pod)["status"]
    containers = status["containerStatuses"] + status.get("initContainerStatuses", [])
    return sum(container["restartCount"] for container in containers)


def log_messages(kube: Kube, pod: str, event: str) -> list[str]:
    """Time and message of the sidecar's log lines of one event (`incident`, `kill`), newest last."""
    told = (_parsed(line) for line in kube.run("logs", pod, "-c", SIDECAR).splitlines())
    return [f"{line['time']} {line['message']}" for line in told if line.get("event") == event]


def kill_events(kube: Kube, pods: list[str]) -> list[str]:
    """Kubernetes Events that tell of a frozen worker, as `type reason object message`."""
    events = [event for event in kube.items("events") if _concerns(event, pods) and "frozen" in event["message"]]
    return [_event_line(event) for event in events]


def kill_metrics(kube: Kube, pod: str) -> list[str]:
    """The samples of `wsgi_kills_total` that are not zero."""
    text = kube.from_pod(pod, SIDECAR_PORT, "/metrics")
    samples = [line for line in text.splitlines() if line.startswith(KILLS + "{")]
    return [line for line in samples if float(line.rpartition(" ")[2]) > 0]


def report(kube: Kube, pod: str) -> dict[str, Any]:
    """The sidecar's Report."""
    told: dict[str, Any] = json.loads(kube.from_pod(pod, SIDECAR_PORT, "/report"))
    return told


def in_force(kube: Kube, pod: str) -> dict[str, Any]:
    """The settings that the server in the pod really runs with, by name."""
    return {setting["name"]: setting["value"] for setting in report(kube, pod)["settings"]}


def _parsed(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _concerns(event: dict[str, Any], pods: list[str]) -> bool:
    about = event["involvedObject"]
    return (about["kind"] == "Pod" and about["name"] in pods) or (about["kind"], about["name"]) == (
        "WSGIServer",
        "shop",
    )


def _event_line(event: dict[str, Any]) -> str:
    about = event["involvedObject"]
    return f"{event['type']} {event['reason']} {about['kind'].lower()}/{about['name']}: {event['message']}"
