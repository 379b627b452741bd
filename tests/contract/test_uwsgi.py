"""uWSGI's settings as we read them, held against what a real uWSGI 2.0.31 makes of the same words."""

import json
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tests.servers.server import eventually
from tests.servers.uwsgi import Uwsgi
from wsgi_contract.servers.uwsgi import (
    SettingsError,
    cheaper_of,
    effective_settings,
    has_master,
    merge_environment,
    stats_addresses,
    stats_speak_http,
)
from wsgi_contract.servers.uwsgi_files import FileName, file_name, read_file
from wsgi_contract.servers.uwsgi_options import Sources, files_named, options_given
from wsgi_contract.settings import SETTING_NAMES, Setting, Wanted


@dataclass(frozen=True)
class Case:
    """Words for uWSGI, and the workers and cores that it made of them."""

    name: str
    workers: int
    cores: int = 1
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def sources(self) -> Sources:
        return Sources(command_line=self.arguments, environment=tuple(self.environment.items()), files=dict(self.files))


FOUR = {"f.ini": "[uwsgi]\nprocesses = 4\n"}
CASES = (
    Case("nothing said", 1),
    Case("variable", 3, environment={"UWSGI_PROCESSES": "3"}),
    Case("the other name", 3, environment={"UWSGI_WORKERS": "3"}),
    Case("the later of two variables", 3, environment={"UWSGI_WORKERS": "5", "UWSGI_PROCESSES": "3"}),
    Case("the later of two variables, turned", 5, environment={"UWSGI_PROCESSES": "3", "UWSGI_WORKERS": "5"}),
    Case("short", 2, arguments=("-p", "2")),
    Case("short, joined", 3, arguments=("-p3",)),
    Case("short, bundled", 3, arguments=("-Mp3",)),
    Case("long", 3, arguments=("--processes", "3")),
    Case("long, with equals", 3, arguments=("--workers=3",)),
    Case("the later argument", 3, arguments=("-p", "2", "--workers", "3")),
    Case("digits count", 2, arguments=("-p", "2x")),
    Case("set", 3, arguments=("--set", "processes=3")),
    Case("command line over variable", 2, arguments=("-p", "2"), environment={"UWSGI_PROCESSES": "3"}),
    Case("file on the command line over variable", 4, 1, ("--ini", "f.ini"), {"UWSGI_PROCESSES": "3"}, FOUR),
    Case("file behind argument", 4, 1, ("-p", "2", "--ini", "f.ini"), {}, FOUR),
    Case("argument behind file", 2, 1, ("--ini", "f.ini", "-p", "2"), {}, FOUR),
    Case("bare file comes last wherever it stands", 4, 1, ("f.ini", "-p", "2"), {}, FOUR),
    Case("bare file behind a switch", 4, 1, ("--vacuum", "f.ini"), {}, FOUR),
    Case("a file that is only watched", 1, 1, ("--touch-reload", "f.ini"), {}, FOUR),
    Case("file in a variable", 4, 1, (), {"UWSGI_INI": "f.ini"}, FOUR),
    Case("variable behind the file's", 3, 1, (), {"UWSGI_INI": "f.ini", "UWSGI_PROCESSES": "3"}, FOUR),
    Case("variable before the file's", 4, 1, (), {"UWSGI_PROCESSES": "3", "UWSGI_INI": "f.ini"}, FOUR),
    Case("argument over file in a variable", 2, 1, ("-p", "2"), {"UWSGI_INI": "f.ini"}, FOUR),
    Case("two files", 4, 1, ("--ini", "g.ini", "--ini", "f.ini"), {}, {**FOUR, "g.ini": "[uwsgi]\nprocesses = 2\n"}),
    Case("section", 3, 1, ("--ini", "f.ini:web"), {}, {"f.ini": "[uwsgi]\nprocesses=2\n[web]\nprocesses=3\n"}),
    Case("no section of ours", 1, 1, ("--ini", "f.ini"), {}, {"f.ini": "[web]\nprocesses=3\n"}),
    Case("comments", 3, 1, ("f.ini",), {}, {"f.ini": "[uwsgi]\nprocesses = 3 ; c\n#processes = 4\n;processes = 5\n"}),
    Case("colons are no equals", 1, 1, ("f.ini",), {}, {"f.ini": "[uwsgi]\nprocesses: 3\n"}),
    Case("own option", 3, 1, ("f.ini",), {}, {"f.ini": "[uwsgi]\nn = 3\nprocesses = %(n)\n"}),
    Case("own option, put together", 1, 12, ("f.ini",), {}, {"f.ini": "[uwsgi]\nn = 2\nthreads = 1%(n)\n"}),
    Case("variable put in", 3, 1, ("f.ini",), {"N": "3"}, {"f.ini": "[uwsgi]\nprocesses = $(N)\n"}),
    Case("our variable put in", 3, 1, ("f.ini",), {"UWSGI_FOO": "3"}, {"f.ini": "[uwsgi]\nprocesses = %(foo)\n"}),
    Case("file in a file", 3, 1, ("f.ini",), {}, {**FOUR, "f.ini": "[uwsgi]\nprocesses=2\nini = g.ini\n",
                                                  "g.ini": "[uwsgi]\nprocesses = 3\n"}),
    Case("option behind the inner file", 2, 1, ("f.ini",), {}, {"f.ini": "[uwsgi]\nini = g.ini\nprocesses=2\n",
                                                                "g.ini": "[uwsgi]\nprocesses = 3\n"}),
    Case("what is inherited comes last", 3, 1, ("f.ini",), {}, {"f.ini": "[uwsgi]\ninherit = g.ini\nprocesses=2\n",
                                                                "g.ini": "[uwsgi]\nprocesses = 3\n"}),
    Case("included", 3, 1, ("f.ini",), {}, {"f.ini": "[uwsgi]\nprocesses=2\ninclude = g.ini\n",
                                            "g.ini": "[uwsgi]\nprocesses = 3\n"}),
    Case("yaml", 3, 1, ("--yaml", "f.yaml"), {}, {"f.yaml": "# c\nother:\n  processes: 5\n"
                                                  "uwsgi:\n  processes: 3 # x\n"}),
    Case("bare yaml", 3, 2, ("f.yaml",), {}, {"f.yaml": "uwsgi:\n    processes: 3\n    threads: 2\n"}),
    Case("xml", 2, 1, ("--xml", "f.xml"), {}, {"f.xml": "<uwsgi><!-- <processes>3</processes> --><master/>\n"
                                               "<processes>2</processes></uwsgi>"}),
    Case("threads", 2, 3, ("-p", "2"), {"UWSGI_THREADS": "3"}),
    Case("one thread", 1, 1, ("--threads", "1")),
    Case("cheaper", 4, 1, ("-p", "4"), {"UWSGI_CHEAPER": "2"}),
    Case("unknown variable", 1, 1, (), {"UWSGI_NONSENSE": "3"}),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_workers_and_threads_are_what_uwsgi_would_make_of_them(case: Case) -> None:
    found = by_name(case.sources())
    assert (found["workers"].value, found["threads"].value) == (case.workers, case.cores)
    assert files_named(case.sources()) == ()


@pytest.mark.servers
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_uwsgi_itself_agrees(case: Case) -> None:
    with Uwsgi(*case.arguments, environment=case.environment, files=case.files) as server:
        workers = json.loads(stats_of(server))["workers"]
        assert (len(workers), len(workers[0]["cores"])) == (case.workers, case.cores)


def stats_of(server: Uwsgi) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        eventually("the stats socket answers", lambda: client.connect_ex(str(server.stats_path)) == 0)
        return b"".join(iter(lambda: client.recv(65_536), b"")).decode()


def by_name(sources: Sources) -> dict[str, Setting]:
    settings = effective_settings(sources)
    assert tuple(setting.name for setting in settings) == SETTING_NAMES
    return {setting.name: setting for setting in settings}


def said(*arguments: str, **environment: str) -> Sources:
    return Sources(command_line=arguments, environment=tuple(environment.items()))


def test_all_settings_have_their_uwsgi_name() -> None:
    found = by_name(
        said(
            "--harakiri", "45", "--listen=256", "--http-keepalive", "5", "--lazy-apps",
            UWSGI_MAX_REQUESTS="1000", UWSGI_MAX_REQUESTS_DELTA="50", UWSGI_WORKER_RELOAD_MERCY="20",
        )
    )  # fmt: skip
    assert {name: (setting.value, setting.source) for name, setting in found.items()} == {
        "workers": (1, "default"),
        "threads": (1, "default"),
        "timeout_s": (45, "command-line"),
        "graceful_timeout_s": (20, "environment"),
        "keepalive_s": (5, "command-line"),
        "worker_connections": (None, "unknown"),
        "worker_class": ("sync", "default"),
        "max_requests": (1000, "environment"),
        "max_requests_jitter": (50, "environment"),
        "backlog": (256, "command-line"),
        "preload_app": (False, "command-line"),
    }


@pytest.mark.parametrize(
    ("arguments", "kind", "connections"),
    [
        (("--threads", "4"), "threads", None),
        (("--gevent", "100"), "gevent", 100),
        (("--async", "20", "--ugreen"), "async", 20),
        (("--threads", "%k"), None, None),
    ],
)
def test_the_kind_of_worker_follows_from_what_is_switched_on(
    arguments: tuple[str, ...], kind: str | None, connections: int | None
) -> None:
    found = by_name(said(*arguments))
    assert (found["worker_class"].value, found["worker_connections"].value) == (kind, connections)


def test_what_a_file_on_the_command_line_says_is_pinned_and_in_a_variable_it_is_not() -> None:
    on_command_line = by_name(Sources(command_line=("--ini", "f.ini"), environment=(), files=FOUR))["workers"]
    in_variable = by_name(Sources(command_line=(), environment=(("UWSGI_INI", "f.ini"),), files=FOUR))["workers"]
    assert (on_command_line.pinned, on_command_line.said_by) == (True, "f.ini: processes = 4")
    assert (in_variable.pinned, in_variable.source) == (False, "config-file")


@pytest.mark.parametrize(
    "sources",
    [
        Sources(command_line=None, environment=(("UWSGI_PROCESSES", "3"),)),
        Sources(command_line=("--ini", "f.ini"), environment=(("UWSGI_PROCESSES", "3"),)),
        Sources(command_line=("--ini", "f.ini"), environment=(), files={"f.ini": None}),
        Sources(command_line=("f.ini", "-p", "3"), environment=()),
        Sources(command_line=("--ini", "http://config/f.ini"), environment=()),
        Sources(command_line=("--ini", "f.ini"), environment=(), files={"f.ini": "[uwsgi]\nprocesses = %k\n"}),
        Sources(command_line=("--ini", "f.ini"), environment=(), files={"f.ini": "[uwsgi]\nprocesses = @(n)\n"}),
        Sources(command_line=("--ini", "f.ini"), environment=(), files={"f.ini": "[uwsgi]\nprocesses = $(NONE)\n"}),
        Sources(
            command_line=("f.ini",), environment=(), files={"f.ini": "[uwsgi]\nif-env = X\nprocesses = 2\nendif =\n"}
        ),
        Sources(
            command_line=("f.ini",), environment=(), files={"f.ini": "[uwsgi]\nif-env = X\nini = g.ini\nendif =\n"}
        ),
        Sources(command_line=(), environment=(("UWSGI_PROCESSES", "many"),)),
        Sources(command_line=("--emperor", "/etc/vassals", "-p", "3"), environment=()),
        Sources(command_line=None, environment=None),
    ],
)
def test_what_cannot_be_read_or_depends_on_more_is_unknown_and_never_a_default(sources: Sources) -> None:
    workers = by_name(sources)["workers"]
    assert (workers.value, workers.source) == (None, "unknown")
    assert workers.said_by


def test_what_is_said_behind_an_unreadable_file_is_known_again() -> None:
    sources = Sources(command_line=("--ini", "f.ini", "-p", "3"), environment=None)
    assert by_name(sources)["workers"].value == 3
    assert by_name(sources)["threads"].value is None


def test_files_are_asked_for_until_all_are_read() -> None:
    sources = Sources(command_line=("--ini", "f.ini"), environment=(("UWSGI_YAML", "e.yaml"),))
    assert files_named(sources) == ("e.yaml", "f.ini")
    read = {"e.yaml": "uwsgi:\n  threads: 2\n", "f.ini": "[uwsgi]\nini = g.ini\n"}
    assert files_named(Sources(command_line=("--ini", "f.ini"), environment=(), files=read)) == ("g.ini",)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("ini", "prod.conf", FileName(path="prod.conf", section="uwsgi", format="ini")),
        ("ini", "/a/prod.ini:web", FileName(path="/a/prod.ini", section="web", format="ini")),
        ("include", "prod.yml", FileName(path="prod.yml", section="uwsgi", format="yaml")),
        (None, "prod.xml", FileName(path="prod.xml", section="uwsgi", format="xml")),
        (None, "prod.py", None),
        (None, "127.0.0.1:8000", None),
    ],
)
def test_a_file_is_named_with_its_section(option: str | None, value: str, expected: FileName | None) -> None:
    assert file_name(option, value) == expected


def test_stats_master_and_cheaper_are_told() -> None:
    given = options_given(said("--stats", ":1717", "-M", UWSGI_STATS="/run/s", UWSGI_CHEAPER="2"))
    assert stats_addresses(given) == ("/run/s", ":1717")
    assert (stats_speak_http(given), stats_speak_http(options_given(said("--stats-http")))) == (False, True)
    assert has_master(given) is True
    assert cheaper_of(given).value == 2
    assert cheaper_of(options_given(said())).value == 0
    assert has_master(options_given(said())) is False
    assert has_master(options_given(said("--master=false"))) is False
    assert has_master(options_given(Sources(command_line=None, environment=()))) is None
    assert by_name(said("--lazy"))["preload_app"].value is False


def test_wanted_settings_become_variables() -> None:
    wanted = Wanted(
        workers=4, threads=2, timeout_s=60, graceful_timeout_s=20, keepalive_s=5, max_requests=9, max_requests_jitter=1
    )
    assert merge_environment({}, wanted) == {
        "UWSGI_PROCESSES": "4",
        "UWSGI_THREADS": "2",
        "UWSGI_HARAKIRI": "60",
        "UWSGI_WORKER_RELOAD_MERCY": "20",
        "UWSGI_HTTP_KEEPALIVE": "5",
        "UWSGI_MAX_REQUESTS": "9",
        "UWSGI_MAX_REQUESTS_DELTA": "1",
    }
    assert merge_environment({"UWSGI_HARAKIRI": "9"}, Wanted()) == {}


def test_all_names_that_the_owner_uses_for_an_option_are_set() -> None:
    existing = {"UWSGI_WORKERS": "2", "UWSGI_PROCESSES": "3"}
    assert merge_environment(existing, Wanted(workers=4)) == {"UWSGI_PROCESSES": "4", "UWSGI_WORKERS": "4"}
    assert merge_environment({"UWSGI_WORKERS": "2"}, Wanted(workers=4)) == {"UWSGI_WORKERS": "4"}


@pytest.mark.parametrize(
    ("existing", "wanted", "words"),
    [
        ({}, Wanted(worker_connections=5), "use threads"),
        ({"UWSGI_CHEAPER": "4"}, Wanted(workers=4), "UWSGI_CHEAPER=4 must be lower"),
    ],
)
def test_what_uwsgi_cannot_do_is_refused_with_the_way_out(existing: dict[str, str], wanted: Wanted, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        merge_environment(existing, wanted)


@pytest.mark.servers
def test_merged_variables_come_true_in_a_real_uwsgi() -> None:
    existing = {"UWSGI_WORKERS": "1", "UWSGI_HARAKIRI": "30"}
    environment = existing | merge_environment(existing, Wanted(workers=3, threads=2, timeout_s=1))
    with Uwsgi(environment=environment) as server:
        workers = json.loads(stats_of(server))["workers"]
        assert (len(workers), len(workers[0]["cores"])) == (3, 2)
        with pytest.raises(OSError):  # noqa: PT011  # harakiri closes the connection in one way or another
            server.get("/slow?s=30", timeout_s=60)
        eventually("harakiri is in the log", lambda: "HARAKIRI" in server.log)


def test_files_that_include_each_other_or_themselves_end() -> None:
    twice = "[uwsgi]\n" + "ini = f.ini\nprocesses = 2\n" * 50
    sources = Sources(command_line=("f.ini",), environment=(), files={"f.ini": twice})
    assert by_name(sources)["threads"].value is None
    doubling = (
        "[uwsgi]\na0 = xx\n" + "".join(f"a{n + 1} = %(a{n})%(a{n})\n" for n in range(60)) + "processes = %(a60)\n"
    )
    assert by_name(Sources(command_line=("f.ini",), environment=(), files={"f.ini": doubling}))["workers"].value is None


def test_no_text_can_make_the_readers_fail() -> None:
    chance = random.Random(20260102)
    seeds = ("[uwsgi]\nprocesses = %(n)\n", "uwsgi:\n  ini: f.ini\n", "<uwsgi id='a'><processes>3</processes></uwsgi>")
    pieces = (
        "%(",
        ")",
        "$(",
        "@(",
        "[",
        "]",
        "=",
        ":",
        "\n",
        "<",
        ">",
        "/",
        "ini = f\n",
        "if-env = X",
        "for = 1 2",
        "\0",
        "é",
    )
    for turn in range(3000):
        text = chance.choice(seeds)
        for _ in range(chance.randrange(8)):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(pieces) + text[place + chance.randrange(3) :]
        kind = ("ini", "yaml", "xml")[turn % 3]
        read_file(text, FileName(path="f", section="uwsgi", format=kind))  # type: ignore[arg-type]
        words = (*text.split(), f"--{kind}", "f")
        effective_settings(
            Sources(command_line=words, environment=(("UWSGI_INI", text),), files={"f": text, "f.ini": text})
        )
