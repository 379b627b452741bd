"""The Prometheus operator's CRDs in a cluster, without that operator.

In: a cluster. Out: PodMonitors and PrometheusRules can be made while the block lasts. Rule: CRDs that were there stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from tests.charts.schemas import MONITORING, crd_of
from tests.cluster.kube import Cluster


@contextmanager
def monitoring_crds(cluster: Cluster) -> Iterator[None]:
    """The Prometheus operator's CRDs; those that were not there before are gone afterwards."""
    there = {each["metadata"]["name"] for each in cluster.get("customresourcedefinitions")["items"]}
    wanted = [crd_of(name) for name in MONITORING]
    made = [f"crd/{crd['metadata']['name']}" for crd in wanted if crd["metadata"]["name"] not in there]
    try:
        for crd in wanted:
            cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(crd))
            cluster.established(crd["metadata"]["name"])
        yield
    finally:
        if made:
            cluster.kubectl("delete", *made, "--wait=true")
