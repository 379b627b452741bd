"""kopf's way to the API server: a bounded number of connections, and credentials that are known again."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from pathlib import Path

import kopf
import pytest
import yaml

from wsgi_operator.__main__ import settings
from wsgi_operator.login import AT_ONCE, Login


def write(path: Path, token: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(config))


async def logins(path: Path, namespaces: tuple[str, ...], *tokens: str) -> list[kopf.AiohttpSession]:
    """What each of these tokens, written one after the other, leads to."""
    login, found = Login(namespaces), []
    for token in tokens:
        write(path, token)
        info = await login.found(logger=logging.getLogger("x"), settings=kopf.OperatorSettings())
        assert info is not None
        found.append(info)
    for info in found:
        await info.aiohttp_session.close()
    return found


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    return tmp_path / "kubeconfig"


def test_credentials_that_were_refused_are_known_again_and_new_ones_are_new(kubeconfig: Path):
    first, same, new = asyncio.run(logins(kubeconfig, (), "old", "old", "new"))
    assert first is same
    assert new != first
    assert new.aiohttp_session.headers["Authorization"] == "Bearer new"
    assert new.server == "http://127.0.0.1:1"


@pytest.mark.parametrize(("namespaces", "most"), [((), AT_ONCE + 2), (("a", "b", "c"), AT_ONCE + 6)])
def test_connections_are_bounded_with_room_for_each_watch(kubeconfig: Path, namespaces: tuple[str, ...], most: int):
    async def limit() -> int:
        write(kubeconfig, "token")
        info = await Login(namespaces).found(logger=logging.getLogger("x"), settings=kopf.OperatorSettings())
        assert info is not None
        assert info.aiohttp_session.connector is not None
        found = info.aiohttp_session.connector.limit
        await info.aiohttp_session.close()
        return found

    assert asyncio.run(limit()) == most


def test_kopf_never_gives_up_asking_and_never_waits_longer_than_half_a_minute():
    waits = list(islice(settings().networking.error_backoffs, 100))
    assert (waits[0], max(waits), waits[-1]) == (1.0, 30.0, 30.0)
