"""What in a workload leaves no room for the sidecar.

In: a `Server`, the live workload, what we applied last. Out: an `Obstacle`, or None. Rule: it is told before anything
is written, with what to do; what the API server would refuse is known here as far as a person would not understand it.
"""

from wsgi_contract import names
from wsgi_operator.core.record import Record
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.sidecar import POLICY_VOLUME
from wsgi_operator.core.workload import Object, all_containers, pod_spec


def in_the_way(server: Server, workload: Object, record: Record | None) -> Obstacle | None:
    """The first thing that is."""
    which, spec = f"{server.kind} {workload['metadata']['name']}", pod_spec(workload)
    if spec.get("hostPID"):
        return Obstacle(
            reason="HostPID",
            message=f"{which} has hostPID: true, which Kubernetes does not allow together with "
            "shareProcessNamespace, which the sidecar needs to see the server: remove hostPID",
        )
    if record is None and any(c["name"] == names.SIDECAR_CONTAINER for c in all_containers(workload)):
        return Obstacle(
            reason="SidecarPresent",
            message=f"{which} already has a container {names.SIDECAR_CONTAINER} that is not ours: remove it "
            "from the manifest, and the operator adds its own",
        )
    if record is None and any(volume["name"] == POLICY_VOLUME for volume in spec.get("volumes") or ()):
        return Obstacle(
            reason="VolumePresent",
            message=f"{which} already has a volume {POLICY_VOLUME}, a name the sidecar needs: rename it",
        )
    return _port_taken(server, workload)


def _port_taken(server: Server, workload: Object) -> Obstacle | None:
    wanted = {("TCP", server.sidecar.port): "give the sidecar another one in spec.sidecar.port"}
    if server.monitoring.requests is not None:
        wanted["UDP", names.STATSD_PORT] = "the sidecar hears statsd there: remove spec.monitoring.requests"
    for container in all_containers(workload):
        taken = {(port.get("protocol", "TCP"), port.get("containerPort")) for port in container.get("ports") or ()}
        found = next((port for port in wanted if port in taken), None)
        if found is not None and container["name"] != names.SIDECAR_CONTAINER:
            return Obstacle(
                reason="PortTaken",
                message=f"container {container['name']} already uses port {found[1]}: {wanted[found]}",
            )
    return None
