"""A WSGIServer names its sidecar's image among those that the installation allows."""

from dataclasses import replace

import pytest

from wsgi_operator.core.image import forbidden, repository
from wsgi_operator.core.server import Sidecar
from wsgi_operator.testing import server

DIGEST = "@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("wsgi-sidecar:1", "wsgi-sidecar"),
        ("registry:5000/team/wsgi-sidecar", "registry:5000/team/wsgi-sidecar"),
        ("registry:5000/team/wsgi-sidecar:1", "registry:5000/team/wsgi-sidecar"),
        ("registry:5000/wsgi-sidecar:1" + DIGEST, "registry:5000/wsgi-sidecar"),
        ("wsgi-sidecar" + DIGEST, "wsgi-sidecar"),
    ],
)
def test_a_repository_is_an_image_without_tag_and_digest(image, name):
    assert repository(image) == name


def named(image):
    return server(sidecar=Sidecar(image=image, named=True))


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        ("registry.example/wsgi-sidecar:2", ("registry.example/wsgi-sidecar",)),
        ("registry.example/wsgi-sidecar" + DIGEST, ("other", "registry.example/wsgi-sidecar")),
        ("registry.example/team/a/b:2", ("registry.example/team/*",)),
        ("evil.example/x:1", ("*",)),
    ],
)
def test_what_the_installation_allows_may_be_named(image, allowed):
    assert forbidden(named(image), allowed) is None


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        ("evil.example/wsgi-sidecar:1", ("registry.example/wsgi-sidecar",)),
        ("registry.example/wsgi-sidecar-evil:1", ("registry.example/wsgi-sidecar",)),
        ("registry.example/wsgi-sidecar/evil:1", ("registry.example/wsgi-sidecar",)),
        ("registry.example/team-evil/x:1", ("registry.example/team/*",)),
        ("registry.example:5000/team/x:1", ("registry.example/team/*",)),
        ("wsgi-sidecar@evil.example/x", ("evil.example/x",)),
        ("x:1", ()),
    ],
)
def test_anything_else_is_in_the_way_and_says_who_can_change_that(image, allowed):
    found = forbidden(named(image), allowed)
    assert found is not None
    assert found.reason == "ImageNotAllowed"
    assert image in found.message
    assert "sidecar.allowedRepositories" in found.message


def test_the_installed_image_needs_no_leave():
    installed = replace(server(), sidecar=Sidecar(image="registry.example/wsgi-sidecar:1"))
    assert forbidden(installed, ()) is None
