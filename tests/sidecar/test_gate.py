"""Who is given the report, over a real port: the bearer of its token, and where that cannot be told, nobody."""

import http.client
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.sidecar.test_web import Answer, published
from wsgi_contract.report_token import token_of, verifier_of
from wsgi_sidecar.gate import Gate
from wsgi_sidecar.testing import family
from wsgi_sidecar.web import Pages, WebThread, listen

TOKEN = token_of(b"k" * 32, "uid-shop")
STRANGER = token_of(b"k" * 32, "uid-of-another-team")


class Door:
    """A sidecar's port with a file of verifiers behind it."""

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self.file = file

    def get(self, path: str = "/report", authorization: str | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
            return Answer(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    file = tmp_path / "report-verifiers"
    file.write_text(verifier_of(TOKEN))
    state = published(family())
    with listen("127.0.0.1", 0) as listener:
        pages = Pages(latest=lambda: state, stuck_s=lambda: None, registry=CollectorRegistry(), gate=Gate(file))
        web = WebThread(pages, listener)
        web.start()
        yield Door(listener.getsockname()[1], file)
        web.stop()


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_the_bearer_of_the_token_is_given_the_report(door: Door, scheme: str) -> None:
    answer = door.get(authorization=f"{scheme}{TOKEN}")
    assert answer.status == 200
    assert json.loads(answer.text)["server"]["release"] == "23.0.0"


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        (None, "ask with Authorization: Bearer TOKEN"),
        ("Bearer", "ask with Authorization: Bearer TOKEN"),
        (f"Basic {TOKEN}", "ask with Authorization: Bearer TOKEN"),
        (TOKEN, "ask with Authorization: Bearer TOKEN"),
        (f"Bearer {STRANGER}", "opens another report"),
        (f"Bearer {verifier_of(TOKEN)}", "opens another report"),
        (f"Bearer {TOKEN}x", "opens another report"),
        ("Bearer \xff\xfe", "opens another report"),
    ],
)
def test_nobody_else_is_and_the_answer_says_how_to_ask(door: Door, authorization: str | None, words: str) -> None:
    answer = door.get(authorization=authorization)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert words in answer.text
    assert "release" not in answer.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/server/livez", "/metrics"])
def test_the_kubelet_and_prometheus_need_no_token(door: Door, path: str) -> None:
    assert door.get(path).status == 200


def test_a_change_of_keys_goes_through_two_verifiers_and_ends_the_old_one(door: Door) -> None:
    new = token_of(b"n" * 32, "uid-shop")
    door.file.write_text(f"{verifier_of(new)}\n{verifier_of(TOKEN)}")
    assert [door.get(authorization=f"Bearer {token}").status for token in (TOKEN, new)] == [200, 200]
    door.file.write_text(verifier_of(new))
    assert [door.get(authorization=f"Bearer {token}").status for token in (TOKEN, new)] == [401, 200]


@pytest.mark.parametrize("content", [None, b"", b"sha256:abc", b"\xff", b"x" * 100_000])
def test_without_usable_verifiers_nobody_is_given_the_report_and_all_else_goes_on(
    door: Door, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wsgi_sidecar")
    door.file.unlink()
    if content is not None:
        door.file.write_bytes(content)
    for _ in range(2):
        answer = door.get(authorization=f"Bearer {TOKEN}")
        assert answer.status == 503
        assert "restart the pod from a template that has it" in answer.text
    assert door.get("/livez").status == 200
    assert [record.levelname for record in caplog.records if record.name == "wsgi_sidecar"] == ["ERROR"]
    door.file.write_text(verifier_of(TOKEN))
    assert door.get(authorization=f"Bearer {TOKEN}").status == 200


def test_a_file_that_is_missing_at_the_start_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Gate(tmp_path / "nowhere")
    assert "wsgi.dev/report-verifiers" in caplog.text
    assert Gate().refusal(None) is None
