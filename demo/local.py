"""The healing half of the demo, on this machine, with Python alone: `make demo-local`.

In: options for the sidecar, if any. Out: the story of a shop that freezes for good, and of the same shop healed; exit
code 0 only if every step happened. Rule: no root, no cluster, only loopback; whatever it starts is gone at its end.
Every figure and log line that is printed was read from the real processes at that moment.
"""

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from demo.load import Load, SilentClients
from demo.show import StepError, Story, tell
from tests.servers.rooms import RoomError, room_of
from tests.servers.server import Server, get

HERE: Final = Path(__file__).parent
RELEASE: Final = "23.0.0"
CONNECTIONS: Final = 40
SILENT: Final = CONNECTIONS + 1
GUNICORN: Final = ("-k", "gthread", "--workers", "1", "--threads", "8", "--worker-connections", str(CONNECTIONS))
FULL_RATE: Final = 250.0
VISITORS: Final = 8
HEALED_WITHIN_S: Final = 60.0
ABOUT: Final = (
    f"An ordinary Flask shop on gunicorn {RELEASE} freezes, and nobody notices: not gunicorn, not a port check. Then "
    "the same shop, without a line changed in it, is started under wsgi-sidecar: the next freeze is seen from outside, "
    "explained and healed in seconds. On a cluster the operator puts the sidecar into the pod (make demo)."
)


def demo(options: tuple[str, ...] = ()) -> None:
    """All of it, as one straight line.

    Args:
        options: for the sidecar; with `--dry-run` the demo shows that nothing heals, and fails.
    """
    story = Story("wsgi-sidecar: a frozen worker healed, on this machine", ABOUT)
    make_room(story)
    with failures_told():
        with Server(RELEASE, *GUNICORN, "--chdir", str(HERE / "app"), application="app:app", suffix="+flask") as shop:
            freeze_unwatched(story, shop)
        with watched(options) as shop:
            port = sidecar_port(story, shop, options)
            outage_s = freeze_watched(story, shop)
            show_what_was_told(story, shop, port, outage_s)
    story.end(
        f"Every step happened, in {story.elapsed_s:.0f} s; nothing is left running. Now with your own app:",
        "    wsgi-sidecar run --port 9177 -- gunicorn -k gthread your.module:app",
        "    curl localhost:9177/metrics          # for Prometheus",
        "    curl localhost:9177/report           # everything it knows, as JSON",
        "    wsgi-sidecar watch --pid MASTER      # or beside a gunicorn that runs already",
        f"The command is {Path(sys.executable).with_name('wsgi-sidecar')}",
        "With --dry-run it only tells, and kills nothing.",
    )


def make_room(story: Story) -> None:
    """A virtualenv with the release that freezes, from the cache or anew."""
    story.step(f"gunicorn {RELEASE} and Flask in a virtualenv of their own", "Made once, then taken from the cache.")
    try:
        story.say(f"ready: {room_of(RELEASE, '+flask')}")
    except RoomError as error:
        raise StepError(str(error)) from None


def freeze_unwatched(story: Story, shop: Server) -> None:
    """Serve, freeze, stay frozen."""
    story.step(
        "An ordinary shop opens",
        f"One gthread worker, {VISITORS} visitors who ask again and again, each time on a new connection.",
    )
    story.command(f"gunicorn {' '.join(GUNICORN)} app:app")
    with visitors(shop) as load:
        show_rates(story, load, seconds=4)
        story.step(
            f"{SILENT} connections that say nothing, and nobody watching",
            "Slow phones, port scanners and idle pools look like this. gunicorn 21.2 to 23 has a fault (its issue "
            "3146): a gthread worker that holds worker_connections of them spins for ever. It goes on beating, so "
            "gunicorn's own timeout never fires, and its port still accepts.",
        )
        with SilentClients("127.0.0.1", shop.port, SILENT):
            story.say(f"{SILENT} silent connections are open")
            show_rates(story, load, seconds=4)
        story.say("now they are closed again; the worker stays frozen:")
        if show_rates(story, load, seconds=3) > 0:
            raise StepError("the shop still serves: it did not freeze, so there is nothing to heal")
        socket.create_connection(("127.0.0.1", shop.port), timeout=5).close()
        story.say("a port check still succeeds, and gunicorn's log has nothing to say:")
        story.quote(shop.log.splitlines()[-1])


@contextmanager
def watched(options: tuple[str, ...]) -> Iterator[Server]:
    """The same shop as the sidecar's child."""
    inside = (sys.executable, "-m", "wsgi_sidecar", "run", "--port", "0", *options, "--")
    chdir = ("--chdir", str(HERE / "app"))
    with Server(RELEASE, *GUNICORN, *chdir, application="app:app", suffix="+flask", inside=inside) as shop:
        yield shop


def sidecar_port(story: Story, shop: Server, options: tuple[str, ...]) -> int:
    """Tell that the sidecar runs; its port."""
    story.step(
        "The same shop under wsgi-sidecar",
        "It starts the server as its child, passes signals on, ends with its exit code, and looks at it once a second "
        "from outside: /proc and the kernel's socket tables. Nothing is loaded into the app.",
    )
    run = " ".join(("wsgi-sidecar run --port 0", *options, "--"))
    story.command(f"{run} gunicorn {' '.join(GUNICORN)} app:app")
    found = story.until(
        "report and metrics are served", lambda: re.search(r"INFO listening: .*:(\d+)", shop.log), within_s=30
    )
    return int(found[1])


def freeze_watched(story: Story, shop: Server) -> float:
    """Serve, freeze, be healed; the seconds without an answer."""
    with visitors(shop) as load:
        before = show_rates(story, load, seconds=4)
        story.step(
            "Frozen again, and healed",
            "The sidecar waits until the worker has looked frozen for 5 s: spinning, serving nobody, the very same "
            "connections. Then it looks once more, kills the worker with all its children, and gunicorn's arbiter "
            "starts a new one.",
        )
        frozen_at = time.monotonic()
        with SilentClients("127.0.0.1", shop.port, SILENT):
            story.say(f"{SILENT} silent connections are open")
            show_until_killed(story, load, shop)
        outage_s = show_until_served(story, load, before, since=frozen_at)
        show_rates(story, load, seconds=3)
        show_tally(story, load)
    return outage_s


def show_until_killed(story: Story, load: Load, shop: Server) -> None:
    """The rates while it is frozen, and the sidecar's words as they come.

    Raises:
        StepError: nothing was killed in time.
    """
    deadline = time.monotonic() + HEALED_WITHIN_S
    while not said(shop.log, "kill"):
        if time.monotonic() > deadline:
            raise StepError(f"no kill within {HEALED_WITHIN_S:g} s; the sidecar said: {shop.log[-2000:]}")
        show_rates(story, load, seconds=1)
    story.say("the sidecar's log:")
    for line in said(shop.log, "incident", "kill"):
        story.quote("\n".join(folded(line)))
    if not any(" kill: killed: " in line for line in said(shop.log, "kill")):
        raise StepError("nothing was killed, so nothing will heal; the sidecar's log says why")


def show_until_served(story: Story, load: Load, before: float, *, since: float) -> float:
    """The rates until half of the old one is back; the seconds that it took from the freeze on.

    Raises:
        StepError: it did not come back.
    """
    deadline = time.monotonic() + HEALED_WITHIN_S
    while show_rates(story, load, seconds=1) < before / 2:
        if time.monotonic() > deadline:
            raise StepError(f"the shop did not come back to half of {before:.0f} requests/s")
    outage_s = time.monotonic() - since
    story.say(f"healed: half of the old rate is back {outage_s:.0f} s after the freeze began")
    return outage_s


def show_what_was_told(story: Story, shop: Server, port: int, outage_s: float) -> None:
    """The same kill in metrics and Report.

    Raises:
        StepError: one of them does not tell it.
    """
    story.step(
        "What it told",
        "The same kill is a log line, a metric to alert on, and a part of the Report that operators read.",
    )
    story.command(f"curl -s localhost:{port}/metrics | grep -E '(kills|incidents|restarts)_total' | grep -v ' 0.0$'")
    counters = re.findall(
        r"^wsgi_(?:kills|incidents|worker_restarts)_total\{.*", get(port, "/metrics").body, re.MULTILINE
    )
    told = [line for line in counters if not line.endswith(" 0.0")]
    if not any(line.startswith("wsgi_kills_total") and '"killed"' in line for line in told):
        raise StepError(f"no kill in the metrics: {counters}")
    story.quote("\n".join(told))
    story.command(f"curl -s localhost:{port}/report | jq .kills")
    report = json.loads(get(port, "/report").body)
    story.table(("slot", "process", "reason", "outcome", "processes", "took"), [kill_row(k) for k in report["kills"]])
    if [kill["outcome"] for kill in report["kills"]] != ["killed"]:
        raise StepError(f"the Report tells another story: {report['kills']}")
    story.command(f"curl -s localhost:{port}/report | jq .workers")
    story.table(
        ("slot", "process", "state", "heartbeat age", "connections"), [worker_row(w) for w in report["workers"]]
    )
    story.say(f"without it: frozen until somebody restarts it. With it: {outage_s:.0f} s.")
    if shop.stop() != 0:
        raise StepError("the run did not end with the server's exit code 0")
    story.say("SIGTERM was passed on, gunicorn shut down gracefully, and the run ended with its exit code: 0")


def kill_row(kill: dict[str, Any]) -> tuple[object, ...]:
    """One kill as a row."""
    return (
        kill["slot"],
        f"pid {kill['process']['pid']}",
        kill["reason"],
        kill["outcome"],
        kill["processes"],
        f"{kill['duration_s']:.2f} s",
    )


def worker_row(worker: dict[str, Any]) -> tuple[object, ...]:
    """One worker as a row."""
    age = worker["heartbeat_age_s"]
    told = "unknown" if age is None else f"{age:.1f} s"
    return worker["slot"], f"pid {worker['process']['pid']}", worker["state"], told, worker["connections"]


def visitors(shop: Server) -> Load:
    """Real HTTP load, some 200 requests per second."""
    return Load("127.0.0.1", shop.port, clients=VISITORS, pause_s=0.01, timeout_s=2.0)


def show_rates(story: Story, load: Load, *, seconds: int) -> float:
    """Show the rate of that many whole seconds as they pass; the last one."""
    rate = 0.0
    for _ in range(seconds):
        time.sleep(1.0 - load.elapsed_s % 1.0 + 0.02)  # just behind the end of a second of the load's own
        rate = load.rate()
        story.rate("served" if rate else "FROZEN", rate, FULL_RATE)
    return rate


def show_tally(story: Story, load: Load) -> None:
    """All requests of this part of the story."""
    tally = load.tally()
    story.say(
        f"{tally.served} requests served, {tally.failed} failed "
        f"({', '.join(f'{count} {what}' for what, count in tally.failures) or 'none'}); "
        f"median {1000 * (tally.median_s or 0):.0f} ms"
    )


def said(log: str, *events: str) -> list[str]:
    """The sidecar's lines of these events."""
    pattern = re.compile(rf"^\S+Z (?:INFO|WARNING|ERROR) (?:{'|'.join(events)}): ")
    return [line for line in log.splitlines() if pattern.match(line)]


def folded(line: str, width: int = 84) -> list[str]:
    """A long log line in pieces that fit."""
    pieces = re.findall(rf".{{1,{width}}}(?:\s|$)", line)
    return [piece.rstrip() for piece in pieces]


@contextmanager
def failures_told() -> Iterator[None]:
    """What did not come true while a server started is a step that did not happen."""
    try:
        yield
    except AssertionError as error:
        raise StepError("\n".join((str(error), *getattr(error, "__notes__", ())))) from None


if __name__ == "__main__":
    sys.exit(tell(lambda: demo(tuple(sys.argv[1:]))))
