"""Why a pod is not ready, in the kubelet's words."""

import pytest

from wsgi_operator.core.unready import HOPELESS_RESTARTS, is_hopeless, trouble_of


def status(*containers, ready=False, **more):
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"conditions": conditions, "containerStatuses": list(containers)} | more


def web(state, restarts=0, last=None, ready=False):
    return {"name": "web", "state": state, "restartCount": restarts, "lastState": last or {}, "ready": ready}


def waiting(reason, message=None):
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


ENDED = {"terminated": {"exitCode": 3, "reason": "Error", "message": "Boot failed: no such table\n"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (status(web({"running": {}}, ready=True), ready=True), None),
        (status(), None),
        (status(web(waiting("ContainerCreating"))), None),
        (status(web(waiting("ImagePullBackOff", "Back-off pulling image x:9"))),
         "container web: ImagePullBackOff: Back-off pulling image x:9"),
        (status(web(waiting("CrashLoopBackOff"), 2, ENDED)),
         "container web ended 3 times (Error, exit code 3); its last words: Boot failed: no such table"),
        (status(web(waiting("CrashLoopBackOff"), 1, KILLED)), "container web ended 2 times (OOMKilled, exit code 137)"),
        (status(web(ENDED, 1)), "container web ended 2 times (Error, exit code 3)"),
        (status(web({"running": {}}, 1, ENDED)), "container web ended 2 times"),
        (status(web({"running": {}})), "container web runs and is not ready: look at its readinessProbe"),
        (status(web(waiting("CreateContainerConfigError", 'configmap "x" not found'))),
         'container web: CreateContainerConfigError: configmap "x" not found'),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]},
         "the pod is not scheduled: 0/1 nodes are available"),
        (status(initContainerStatuses=[web(waiting("ErrImageNeverPull", "no"))]), "container web: ErrImageNeverPull"),
    ],
)  # fmt: skip
def test_the_first_that_knows_says_why(found, words):
    told = trouble_of(found)
    assert told is None if words is None else words in str(told)


@pytest.mark.parametrize(
    ("container", "hopeless"),
    [
        (web(waiting("InvalidImageName")), True),
        (web(waiting("ErrImageNeverPull")), True),
        (web(waiting("ImagePullBackOff")), False),  # a registry comes back
        (web(waiting("CrashLoopBackOff"), HOPELESS_RESTARTS - 1), False),
        (web(waiting("CrashLoopBackOff"), HOPELESS_RESTARTS), True),
        (web({"running": {}}, 50), False),
    ],
)
def test_hope_ends_only_where_waiting_cannot_help(container, hopeless):
    assert is_hopeless(status(container)) is hopeless


def test_last_words_cannot_move_a_readers_cursor_and_are_short():
    loud = {"terminated": {"exitCode": 1, "reason": "Error", "message": "\x1b[2J" + "x" * 5000}}
    told = str(trouble_of(status(web(waiting("CrashLoopBackOff"), 1, loud))))
    assert told.isprintable()
    assert len(told) < 500
