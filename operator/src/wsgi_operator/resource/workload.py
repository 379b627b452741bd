"""`spec.workload`: a workload that exists, and is adopted.

In: nothing. Out: `WorkloadSpec`. Rule: it is named, never described: all about it stays its owner's.
"""

from typing import Literal

from pydantic import Field

from wsgi_operator.resource.part import LABEL_PATTERN, NAME_PATTERN, Part


class WorkloadSpec(Part):
    """The workload to adopt: it stays its owner's; the operator adds to its pod template and takes away again."""

    kind: Literal["Deployment", "StatefulSet"] = Field(default="Deployment", description="Kind of the workload.")
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=NAME_PATTERN,
        description="Name of the workload, in the namespace of this WSGIServer.",
    )
    container: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        pattern=LABEL_PATTERN,
        description="Container that the WSGI server runs in. May be left out when the pod has exactly one.",
    )
