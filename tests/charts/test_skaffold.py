"""skaffold.yaml, without a skaffold: each name in it is one of the Dockerfile's or of the chart's."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.charts.rendered import container, render
from tests.cluster.kube import ROOT

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text("utf-8"))
IMAGES = {artifact["image"]: artifact["docker"] for artifact in CONFIG["build"]["artifacts"]}
(RELEASE,) = CONFIG["deploy"]["helm"]["releases"]


def nested(flat: dict[str, str]) -> dict[str, Any]:
    """Values as `--set` understands them."""
    values: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split(".")
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return values


def test_each_image_is_a_target_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    assert {docker["target"] for docker in IMAGES.values()} == {"operator", "sidecar"} <= targets
    assert all((ROOT / docker["dockerfile"]).is_file() for docker in IMAGES.values())


def test_each_value_that_skaffold_sets_is_the_chart_s_and_names_an_image_that_it_builds() -> None:
    given = RELEASE["setValueTemplates"]
    named = [re.fullmatch(r"\{\{\.IMAGE_(REPO|TAG)_(\w+)\}\}", value) for value in given.values()]
    # skaffold writes an image's name with underscores in the names of its variables
    assert {found[2] for found in named if found} == {image.replace("-", "_") for image in IMAGES}
    built = {path: "1" if path.endswith("tag") else "r.example/x" for path in given}
    things = render(nested(built), release=RELEASE["name"], namespace=RELEASE["namespace"])
    environment = {entry["name"]: entry.get("value") for entry in container(things)["env"]}
    assert container(things)["image"] == environment["WSGI_OPERATOR_SIDECAR_IMAGE"] == "r.example/x:1"


def test_the_chart_is_where_skaffold_looks_for_it() -> None:
    assert (ROOT / RELEASE["chartPath"] / "Chart.yaml").is_file()
    assert CONFIG["apiVersion"] == "skaffold/v4beta10"
