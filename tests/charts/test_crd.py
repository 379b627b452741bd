"""The CRD that Helm installs is the one that the operator's models make."""

from __future__ import annotations

import subprocess
import sys

import yaml

from tests.charts.rendered import CRD


def test_the_crd_in_the_chart_is_the_one_that_the_models_make() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "wsgi_operator.crd"], capture_output=True, text=True, check=True
    ).stdout
    remedy = (
        f"{CRD.name} is not what the models make: python -m wsgi_operator.crd > charts/wsgi-operator/crds/{CRD.name}"
    )
    assert CRD.read_text(encoding="utf-8") == made, remedy


def test_every_field_of_the_crd_says_what_it_is() -> None:
    (version,) = yaml.safe_load(CRD.read_text(encoding="utf-8"))["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]["properties"]
    silent = [path for part in ("spec", "status") for path in undescribed(root[part], part)]
    assert silent == []


def undescribed(schema: dict[str, object], path: str) -> list[str]:
    """Paths below which `kubectl explain` would have nothing to say."""
    own = [] if "description" in schema else [path]
    below = schema.get("properties")
    fields = below.items() if isinstance(below, dict) else []
    return own + [missing for name, part in fields for missing in undescribed(part, f"{path}.{name}")]
