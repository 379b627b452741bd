"""Names that two parts must agree on: the API group, labels, annotations, environment variables, ports.

Rule: a string that is written in one house and read in the other stands here, and nowhere else.
"""

from typing import Final

GROUP: Final = "wsgi.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "WSGIServer"
PLURAL: Final = "wsgiservers"
SINGULAR: Final = "wsgiserver"
SHORT_NAME: Final = "wsgi"
API_VERSION: Final = f"{GROUP}/{VERSION}"

FIELD_MANAGER: Final = "wsgi-operator"
FINALIZER: Final = f"{GROUP}/restore-template"

SIDECAR_CONTAINER: Final = "wsgi-sidecar"
SIDECAR_PORT: Final = 9177
SIDECAR_PORT_NAME: Final = "wsgi-report"
STATSD_PORT: Final = 9178
"""UDP, on the loopback of the pod: where gunicorn tells its requests, if asked to."""

LABEL_SERVER: Final = f"{GROUP}/server"
"""On pods: the name of the WSGIServer that adopted their workload."""

LABEL_APP: Final = f"{GROUP}/app"
"""On pods that the operator had made: the name of the WSGIServer; what Deployment, Service and budget select by."""

ANNOTATION_ORIGINAL: Final = f"{GROUP}/original"
"""On the workload: JSON of the owner's values that we had to override, kept for the restore."""

ANNOTATION_POLICY: Final = f"{GROUP}/policy"
"""On the pod template: JSON of the `Policy` in force, read by the sidecar through the downward API."""

ANNOTATION_VERIFIERS: Final = f"{GROUP}/report-verifiers"
"""On the pod template: who may read the report; see `report_token`. The sidecar reads it through the downward API."""

ANNOTATION_ORDER: Final = f"{GROUP}/in-place"
"""On pods, never in a template: JSON of the `InPlaceOrder` in force, read by the sidecar through the downward API."""

ENV_PORT: Final = "WSGI_SIDECAR_PORT"
ENV_SCAN_INTERVAL: Final = "WSGI_SIDECAR_SCAN_INTERVAL"
ENV_LOG_FORMAT: Final = "WSGI_SIDECAR_LOG_FORMAT"
ENV_POLICY_FILE: Final = "WSGI_SIDECAR_POLICY_FILE"
ENV_VERIFIERS_FILE: Final = "WSGI_SIDECAR_REPORT_VERIFIERS"
ENV_ORDER_FILE: Final = "WSGI_SIDECAR_ORDER_FILE"
ENV_IN_PLACE: Final = "WSGI_SIDECAR_IN_PLACE"
ENV_STATSD_PORT: Final = "WSGI_SIDECAR_STATSD_PORT"
ENV_STATSD_SOCKET: Final = "WSGI_SIDECAR_STATSD_SOCKET"
ENV_STATSD_FORWARD: Final = "WSGI_SIDECAR_STATSD_FORWARD"
ENV_SERVER_CONTAINER: Final = "WSGI_SIDECAR_SERVER_CONTAINER"
"""Of the adopted container: the sidecar watches no other one's server."""
ENV_TERMINATION_GRACE: Final = "WSGI_SIDECAR_TERMINATION_GRACE"
ENV_POD_NAMESPACE: Final = "POD_NAMESPACE"
ENV_POD_NAME: Final = "POD_NAME"
ENV_POD_UID: Final = "POD_UID"
