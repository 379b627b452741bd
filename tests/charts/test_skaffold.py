"""skaffold.yaml: its names are the Dockerfile's or the chart's; skaffold itself is asked where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.rendered import container, render
from tests.cluster.kube import CACHE, ROOT, run

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


@pytest.mark.skipif(not shutil.which("skaffold"), reason="there is no skaffold in PATH: its own word is not heard")
def test_skaffold_itself_reads_it_and_renders_the_chart_with_the_images_that_it_built(tmp_path: Path) -> None:
    path = f"{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}"
    quiet = {"SKAFFOLD_UPDATE_CHECK": "false", "SKAFFOLD_INTERACTIVE": "false"}
    env = {"PATH": path, "HOME": str(tmp_path)} | quiet
    run("skaffold", "config", "set", "--global", "collect-metrics", "false", env=env)
    config = ("--filename", ROOT / "skaffold.yaml")
    read = yaml.safe_load(run("skaffold", "diagnose", "--yaml-only", *config, env=env))
    assert [artifact["image"] for artifact in read["build"]["artifacts"]] == list(IMAGES)
    built = tmp_path / "built.json"
    builds = [{"imageName": image, "tag": f"r.example/{image}:v7"} for image in IMAGES]
    built.write_text(json.dumps({"builds": builds}))
    asked = ("--offline=true", "--digest-source=none", f"--build-artifacts={built}")
    rendered = tmp_path / "rendered.yaml"
    run("skaffold", "render", *asked, *config, f"--output={rendered}", env=env)
    things = [thing for thing in yaml.safe_load_all(rendered.read_text("utf-8")) if thing]
    environment = {entry["name"]: entry.get("value") for entry in container(things)["env"]}
    assert container(things)["image"] == "r.example/wsgi-operator:v7"
    assert environment["WSGI_OPERATOR_SIDECAR_IMAGE"] == "r.example/wsgi-sidecar:v7"
