"""Giving a workload back to its owner when its WSGIServer goes.

In: a WSGIServer that is being deleted. Out: its workload with the template that the owner wrote, and an Event that says
so. Rule: each step looks first and can be done again; what is another WSGIServer's is left alone, and not spoken of.
"""

import time
from contextlib import suppress

import kopf

from wsgi_operator.connection import Refused
from wsgi_operator.core.notices import event_of, restored_notice
from wsgi_operator.core.restore import cut_out, handed_back, is_anothers, taken_out
from wsgi_operator.desk import Body, Desk, workload_of


async def restore(desk: Desk, body: Body) -> None:
    """Give the workload back to its owner; done when nothing of ours is left in it.

    Raises:
        kopf.TemporaryError: not yet; kopf calls again, and the WSGIServer stays until then.
    """
    uid, ours = body["metadata"]["uid"], "app" in body.get("spec", {})
    async with desk.lock(uid):
        # what we made goes with its owner: the cluster's garbage collector takes it
        given_back = False if ours else await _give_back(desk, body)
    desk.locks.pop(uid, None)
    desk.meters.forget(uid)
    desk.ring(desk.turns.forget(uid))
    desk.meters.restores.inc(1 if given_back else 0)


async def _give_back(desk: Desk, body: Body) -> bool:
    """Until nothing of ours is left; whether the owner has it now: it may be gone, or another WSGIServer's."""
    (namespace, kind, workload), uid = workload_of(body), body["metadata"]["uid"]
    for _ in range(5):
        deployment = await desk.cluster.workload(kind, namespace, workload)
        if deployment is None or is_anothers(deployment, uid):
            return False
        if not await _restore_step(desk, deployment):
            break
    else:
        raise kopf.TemporaryError(f"{kind} {workload} still carries fields of ours", delay=2)
    with suppress(Refused):
        await desk.cluster.post_event(event_of(restored_notice(uid, f"{kind} {workload}", time.time()), body))
    return True


async def _restore_step(desk: Desk, deployment: Body) -> bool:
    """The next step of the restore; False where none is left."""
    metadata = deployment["metadata"]
    where = (deployment["kind"], metadata["namespace"], metadata["name"])
    try:
        if (config := taken_out(deployment)) is not None:
            deployment = await desk.cluster.apply(config, metadata["resourceVersion"])
        if (patch := cut_out(deployment) or handed_back(deployment)) is not None:
            await desk.cluster.merge_workload(*where, patch)
        return config is not None or patch is not None
    except Refused as error:
        raise kopf.TemporaryError(f"the API server refuses the restore: {error}", delay=15) from None
