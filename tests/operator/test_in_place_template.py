"""Templates whose pods can be changed in place: what the API server makes of them; no pod has to run for that."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment

pytestmark = pytest.mark.cluster

IN_PLACE, ROLLED = {"apply": "InPlace"}, {"apply": "RollingUpdate"}
CONFIG = "wsgi.dev/gunicorn-config"
ORDERED = {"wsgi.dev/container": "web", "wsgi.dev/flags": "--config=/etc/wsgi-sidecar/gunicorn.conf.py", CONFIG: "#"}


@pytest.mark.parametrize("admission", [True, False], ids=["with the policy", "without it"])
def test_a_template_is_rolled_once_then_keeps_still_and_is_given_back_to_the_byte(here: Ground, admission: bool):
    name = f"shop-{str(admission).lower()}"
    tmp = {"name": "tmp", "mountPath": "/tmp"}
    env = [{"name": "GUNICORN_CMD_ARGS", "value": "-c own.py"}]
    here.apply(deployment(name, env=env, volumeMounts=[tmp], pod={"volumes": [{"name": "tmp", "emptyDir": {}}]}))
    owners = here.template(name)
    if admission:
        here.give_policy()
    here.start(WSGI_OPERATOR_ADMISSION=str(admission).lower())
    here.adopt(name, settings={"workers": 2}, tuning=IN_PLACE)
    here.until(name, "Ready", "True")
    template, sets = here.template(name), here.replica_sets(name)
    assert ("--config=/etc/wsgi-sidecar" in json.dumps(json.loads(template)["spec"])) is not admission
    here.adopt(name, settings={"workers": 3}, tuning=IN_PLACE)
    here.until(name, "Ready", "True")
    time.sleep(3)
    assert (here.template(name), here.replica_sets(name)) == (template, sets)
    assert '"workers":3' in here.deployment(name)["metadata"]["annotations"]["wsgi.dev/changed-in-place"]
    here.adopt(name, settings={"workers": 3}, tuning=ROLLED)
    eventually(lambda: CONFIG not in here.template(name))
    eventually(lambda: "wsgi.dev/changed-in-place" not in here.deployment(name)["metadata"]["annotations"])
    here.adopt(name, settings={"workers": 3}, tuning=IN_PLACE)
    eventually(lambda: CONFIG in here.template(name))
    here.release(name)
    assert here.template(name) == owners
    assert not [key for key in here.deployment(name)["metadata"]["annotations"] if key.startswith("wsgi.dev/")]
    assert here.stop() == 0


def test_a_change_in_running_pods_waits_for_its_window(here: Ground):
    here.apply(deployment("patient"))
    here.start()
    here.adopt("patient", settings={"workers": 2}, tuning=IN_PLACE)
    here.until("patient", "Ready", "True")
    hour = time.gmtime(time.time() + 12 * 3600).tm_hour
    never_now = {"start": f"{hour:02}:00", "end": f"{hour:02}:30"}
    here.adopt("patient", settings={"workers": 3}, tuning=IN_PLACE | {"windows": [never_now]})
    assert "waits for the window that opens" in here.until("patient", "Reconciling", "True", "Waiting")
    time.sleep(2)
    assert "wsgi.dev/changed-in-place" not in here.deployment("patient")["metadata"]["annotations"]
    here.adopt("patient", settings={"workers": 3}, tuning=IN_PLACE)
    here.until("patient", "Ready", "True")
    assert '"workers":3' in here.deployment("patient")["metadata"]["annotations"]["wsgi.dev/changed-in-place"]
    assert here.stop() == 0


def test_the_policy_gives_the_servers_container_what_it_has_to_read(here: Ground):
    here.give_policy()
    volumes = [{"name": name, "emptyDir": {}} for name in ("wsgi-policy", "wsgi-in-place", "tmp")]
    ours = [
        {"name": "wsgi-policy", "mountPath": "/etc/wsgi-sidecar", "readOnly": True},
        {"name": "wsgi-in-place", "mountPath": "/run/wsgi-sidecar", "readOnly": True},
    ]
    tmp = {"name": "tmp", "mountPath": "/tmp"}
    for own in ([], [tmp], [tmp, *ours]):
        pod = here.admitted(ORDERED, pod={"volumes": volumes, "automountServiceAccountToken": False}, volumeMounts=own)
        web = pod["spec"]["containers"][0]
        assert web["volumeMounts"] == [*own, *(mount for mount in ours if mount not in own)]
        assert web["env"] == [{"name": "GUNICORN_CMD_ARGS", "value": ORDERED["wsgi.dev/flags"]}]
