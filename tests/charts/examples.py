"""The folder `examples/` as files.

In: the tree. Out: manifests for the API server, and the files that others read. Rule: every file of it is one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.kube import ROOT

EXAMPLES: Final = ROOT / "examples"
VALUES: Final = EXAMPLES / "gitops" / "values.yaml"
SCRAPING: Final = EXAMPLES / "prometheus" / "scrape.yaml"
ADAPTER: Final = EXAMPLES / "autoscaling" / "prometheus-adapter.yaml"
MANIFESTS: Final = tuple(sorted(set(EXAMPLES.rglob("*.yaml")) - {VALUES, SCRAPING, ADAPTER}))


def objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file."""
    return [thing for thing in yaml.safe_load_all(path.read_text(encoding="utf-8")) if thing]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pod spec in the examples, with the file that it is in."""
    for path in MANIFESTS:
        for thing in objects(path):
            template = thing.get("spec", {}).get("template")
            if template:
                yield str(path.relative_to(EXAMPLES)), template["spec"]
