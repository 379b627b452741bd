"""Incident E end to end: one database connection, opened before the fork, and two workers that use it.

The database is real, and so are the wrong answers. Stories are told at the same time, each on a server of its own.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from tests.servers.databases import DATABASES
from tests.servers.packages import program
from tests.servers.rooms import room_of
from tests.servers.server import eventually
from tests.servers.stories import telling
from tests.servers.watched import Event, Watched
from wsgi_contract.report import Report

pytestmark = pytest.mark.servers

POSTGRESQL = """
import os, psycopg2

connection = psycopg2.connect(host="127.0.0.1", port=os.environ["DATABASE_PORT"], user="postgres", dbname="postgres")
connection.autocommit = True

def ask(number):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s, pg_sleep(0.002)", (number,))
        return cursor.fetchone()[0]
"""
REDIS = """
import os, redis

client = redis.Redis(port=int(os.environ["DATABASE_PORT"]), single_connection_client=True)
client.ping()

def ask(number):
    return int(client.eval("local n = 0 for i = 1, 300000 do n = n + i end return ARGV[1]", 0, number))
"""
SERVING = """
def app(environ, start_response):
    number = int(environ["QUERY_STRING"])
    try:
        body = f"{number} {ask(number)}"
    except Exception as error:
        body = f"error {type(error).__name__}"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body.encode()]
"""
SOURCES = {"PostgreSQL": POSTGRESQL + SERVING, "Redis": REDIS + SERVING}
PROGRAMS = {"PostgreSQL": "postgres", "Redis": "redis-server"}
STORIES = (("PostgreSQL", "27.0.1", True), ("Redis", "23.0.0", True), ("PostgreSQL", "23.0.0", False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was seen of one server and its database."""

    port: int
    before: Report
    after: Report
    wrong: int
    right: int
    gauge: float | None
    events: list[Event]


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[Mapping[tuple[str, str, bool], Future[Story]]]:
    for release in {release for _, release, _ in STORIES}:
        room_of(release, "+databases")
    with telling(request, {story: partial(tell, *story) for story in STORIES}, at_once=len(STORIES)) as stories:
        yield stories


def told(stories: Mapping[tuple[str, str, bool], Future[Story]], *which: object) -> Story:
    if program(PROGRAMS[str(which[0])]) is None:
        pytest.skip(f"no {which[0]} here: `make ground` installs it as root on Debian")
    return stories[which].result()  # type: ignore[index]


@pytest.mark.parametrize(("database", "release"), [(name, release) for name, release, preload in STORIES if preload])
def test_a_connection_opened_before_the_fork_is_told_as_a_risk_and_then_as_an_incident(
    stories: Mapping[tuple[str, str, bool], Future[Story]], database: str, release: str
) -> None:
    story = told(stories, database, release, True)
    peer = f"127.0.0.1:{story.port}"
    assert story.wrong > 0, "no wrong answer: nothing was shared"

    (risk,) = story.before.shared_sockets or ()
    assert (risk.peer, len(risk.holders), risk.users) == (peer, 3, ())
    assert story.before.incidents == ()
    finding = next(finding for finding in story.before.findings if finding.id == "shared-sockets")
    assert peer in finding.what
    assert "post_fork" in finding.fix

    incidents = [each for each in story.after.incidents if each.kind == "shared-socket"]
    assert [peer in each.summary for each in incidents] == [True]
    assert "post_fork" in incidents[0].action
    assert story.after.kills == ()
    assert story.gauge == 1
    assert [e["id"] for e in story.events if e["event"] == "finding"].count("shared-sockets") == 1
    kinds = [e["kind"] for e in story.events if e["event"] == "incident"]
    assert kinds.count("shared-socket") == 1
    # whose answer the other worker has read waits until its timeout: several of them are a storm, and told as one
    assert set(kinds) <= {"shared-socket", "worker-timeout"}


def test_without_preload_nothing_is_shared_and_nothing_is_said(
    stories: Mapping[tuple[str, str, bool], Future[Story]],
) -> None:
    story = told(stories, "PostgreSQL", "23.0.0", False)
    assert (story.wrong, story.gauge) == (0, None)
    assert story.right > 100
    assert story.after.shared_sockets == ()
    assert [finding.id for finding in story.after.findings if finding.id == "shared-sockets"] == []
    assert story.after.incidents == ()


def tell(database: str, release: str, preload: bool) -> Story:
    with DATABASES[database]() as port:
        arguments = ("-w", "2", "--timeout", "3", *(("--preload",) if preload else ()))
        given = {"environment": {"DATABASE_PORT": str(port)}, "files": {"shared.py": SOURCES[database]}}
        with Watched(release, *arguments, application="shared:app", suffix="+databases", **given) as watched:
            before = eventually("the lint has spoken", lambda: _calm(watched))
            answers: list[str] = []
            eventually("enough was asked", lambda: _asked_enough(watched, answers, preload=preload))
            numbers = [answer.split() for answer in answers if answer and not answer.startswith("error")]
            return Story(
                port=port,
                before=before,
                after=watched.report(),
                wrong=sum(asked != got for asked, got in numbers),
                right=sum(asked == got for asked, got in numbers),
                gauge=watched.sample("wsgi_shared_sockets", peer=f"127.0.0.1:{port}"),
                events=watched.events(),
            )


def _calm(watched: Watched) -> Report | None:
    report = watched.report()
    return report if report.findings and len(report.workers or ()) == 2 else None


def _asked_enough(watched: Watched, answers: list[str], *, preload: bool) -> bool:
    """Ask on, 80 at a time; with preload until a wrong answer and the incident were seen."""
    with ThreadPoolExecutor(8) as clients:
        answers += clients.map(lambda number: _ask(watched, number), range(len(answers), len(answers) + 80))
    if not preload:
        return len(answers) >= 400
    pairs = [answer.split() for answer in answers if answer and not answer.startswith("error")]
    return any(asked != got for asked, got in pairs) and "shared-socket" in {
        event["kind"] for event in watched.events("incident")
    }


def _ask(watched: Watched, number: int) -> str:
    try:
        answer = watched.get(f"/?{number}", 5.0)
        return answer.body if answer.status == 200 else ""  # a worker that timed out says that it did
    except OSError:
        return ""  # the other worker read the answer, and this one waits until its timeout
