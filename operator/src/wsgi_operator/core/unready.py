"""Why a pod is not ready, in the words of those who know.

In: the status of a pod as the kubelet and the scheduler wrote it. Out: one sentence, and whether there is any hope.
Rule: hope ends only where waiting cannot help: a name that is no image, an image that may not be pulled, a container
that ended again and again. A registry that is down and a node that is full come back.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from wsgi_operator.core.clip import clip

_LAST_WORDS: Final = 300

HOPELESS_RESTARTS: Final = 5
"""Ends of one container in its backoff after which it is given up. The kubelet waits 10, 20, 40, 80 s between them, so
this is two and a half minutes: longer than a database takes to fail over, and than most migrations."""

_HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})


def trouble_of(status: Mapping[str, Any]) -> str | None:
    """What keeps it from being ready; None: it is ready, or nobody tells."""
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    if (conditions.get("Ready") or {}).get("status") == "True":
        return None
    told = next((words for c in _containers(status) if (words := _container(c)) is not None), None)
    return told or unscheduled(status) or _not_ready(status)


def is_hopeless(status: Mapping[str, Any]) -> bool:
    """Whether it will not become ready by itself."""
    return any(_hopeless(container) for container in _containers(status))


def unscheduled(status: Mapping[str, Any]) -> str | None:
    """Why no node has it; None: one has, or nobody tells."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"the pod is not scheduled: {condition.get('message') or condition.get('reason')}"
    return None


def _containers(status: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))


def _container(container: Mapping[str, Any]) -> str | None:
    if container.get("ready"):
        return None
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    reason = waiting.get("reason")
    last = ended or (container.get("lastState") or {}).get("terminated") or {}
    if reason in (None, "ContainerCreating", "PodInitializing") and not (ended and container.get("restartCount")):
        return None if not last.get("exitCode") else _ended(container, last)
    if reason == "CrashLoopBackOff" or ended:
        return _ended(container, last)
    said = f": {clip(waiting['message'], _LAST_WORDS)}" if waiting.get("message") else ""
    return f"container {container['name']}: {reason}{said}"


def _ended(container: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """A container that ended, with its last words: those that the kubelet kept."""
    how = f"{last.get('reason') or 'it ended'}, exit code {last.get('exitCode', 'unknown')}"
    words = f"; its last words: {_tail(last['message'])}" if last.get("message") else ""
    return f"container {container['name']} ended {container.get('restartCount', 0) + 1} times ({how}){words}"


def _tail(text: str) -> str:
    """The end of it: a log tells last why it ends."""
    text = text.strip()
    return clip(text if len(text) <= _LAST_WORDS else f"…{text[1 - _LAST_WORDS :]}", _LAST_WORDS)


def _not_ready(status: Mapping[str, Any]) -> str | None:
    names = [c["name"] for c in status.get("containerStatuses") or () if not c.get("ready")]
    running = [c["name"] for c in status.get("containerStatuses") or () if "running" in (c.get("state") or {})]
    waits = [name for name in names if name in running]
    return f"container {waits[0]} runs and is not ready: look at its readinessProbe" if waits else None


def _hopeless(container: Mapping[str, Any]) -> bool:
    waiting = (container.get("state") or {}).get("waiting") or {}
    loops = waiting.get("reason") == "CrashLoopBackOff" and container.get("restartCount", 0) >= HOPELESS_RESTARTS
    return loops or waiting.get("reason") in _HOPELESS
