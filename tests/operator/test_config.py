"""The operator's environment."""

from pathlib import Path

import pytest

from wsgi_operator.config import Config, ConfigError, read_config
from wsgi_operator.core.server import Sidecar

IMAGE = {"WSGI_OPERATOR_SIDECAR_IMAGE": "registry:5000/wsgi-sidecar:1"}


def test_only_the_image_is_needed():
    assert read_config(IMAGE) == Config(
        sidecar=Sidecar(image="registry:5000/wsgi-sidecar:1"), repositories=("registry:5000/wsgi-sidecar",)
    )


def test_further_repositories_come_behind_the_installed_one():
    told = read_config(IMAGE | {"WSGI_OPERATOR_SIDECAR_REPOSITORIES": "a/*, b,registry:5000/wsgi-sidecar"})
    assert told.repositories == ("registry:5000/wsgi-sidecar", "a/*", "b")


def test_empty_variables_are_as_good_as_none():
    assert read_config(IMAGE | {"WSGI_OPERATOR_NAMESPACES": "", "WSGI_OPERATOR_LOG_FORMAT": ""}) == read_config(IMAGE)


def test_the_folder_of_the_keys_for_reports_is_kept_also_while_new_pods_need_none():
    keys = {"WSGI_OPERATOR_REPORT_KEYS": "/keys"}
    assert (read_config(IMAGE | keys).report_auth, read_config(IMAGE | keys).report_keys) == (False, Path("/keys"))
    assert read_config(IMAGE | keys | {"WSGI_OPERATOR_REPORT_AUTH": "token"}).report_auth


def test_namespaces_are_separated_by_commas():
    assert read_config(IMAGE | {"WSGI_OPERATOR_NAMESPACES": " a, b,,a"}).namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIDECAR_IMAGE", ""),
        ("SIDECAR_IMAGE", "wsgi-sidecar"),
        ("SIDECAR_IMAGE", "wsgi-sidecar:latest"),
        ("SIDECAR_IMAGE", "registry:5000/wsgi-sidecar"),
        ("SIDECAR_PULL_POLICY", "never"),
        ("NAMESPACES", "Shop"),
        ("REPORT_INTERVAL_SECONDS", "0"),
        ("REPORT_INTERVAL_SECONDS", "soon"),
        ("REPORT_TIMEOUT_SECONDS", "nan"),
        ("PORT", "70000"),
        ("ROLLS_AT_ONCE", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("ADMISSION", "perhaps"),
        ("LEASE", "op"),
        ("REPORT_AUTH", "mtls"),
        ("REPORT_AUTH", "token"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"WSGI_OPERATOR_{name} "):
        read_config(IMAGE | {f"WSGI_OPERATOR_{name}": value})
