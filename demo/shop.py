"""The demo's steps: a shop opens, freezes, is adopted, freezes again, is resized, is let go.

In: the ground and the visitors. Out: what happened, told as it happens. Rule: each step ends with a look at the cluster
that can fail; nothing is said because it was planned.
"""

import json
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from demo import evidence
from demo.differences import differences
from demo.ground import Ground
from demo.kube import Kube, KubeError, fill
from demo.show import WIDTH, StepError, Story
from demo.traffic import Visitors

APP: Final = Path(__file__).parent / "app"
PORT: Final = 8000
SILENT: Final = 2 * 40 + 8
"""Two workers with --worker-connections=40 each, and a few more."""

UNWATCHED_S: Final = 8
FULL_RATE: Final = 200.0
ROLL_S: Final = 120.0


def open_shop(story: Story, here: Ground) -> str:
    """Deploy the shop as its owner would; its Service's address."""
    story.step(
        "An ordinary shop opens",
        "A Flask app, gunicorn 23.0.0 with two gthread workers, a Deployment, a Service. Nothing of it knows of us.",
    )
    story.command("kubectl apply -f demo/app/shop.yaml")
    here.kube.apply(fill(_read("shop.yaml"), {"SHOP_IMAGE": here.shop.reference}))
    _rolled_out(here.kube)
    story.quote(evidence.pod_line(here.kube, _pod(here.kube)))
    story.quote(next(line.strip() for line in _read("shop.yaml").splitlines() if "--workers" in line))
    return here.kube.run("get", "service", "shop", "-o", "jsonpath={.spec.clusterIP}")


def show_rates(story: Story, visitors: Visitors, *, seconds: int) -> float:
    """Show the rate of that many seconds as they pass; the last one.

    Raises:
        StepError: the visitors told nothing.
    """
    rate = 0.0
    for _ in range(seconds):
        rate = _next_rate(visitors)
        story.rate(_named(rate), rate, FULL_RATE)
    return rate


def freeze_unwatched(story: Story, kube: Kube, visitors: Visitors) -> None:
    """Freeze the shop and show that nobody notices."""
    story.step(
        f"{SILENT} connections that say nothing, and nobody watching",
        "Slow phones, port scanners and idle pools look like this. gunicorn 21.2 to 23 has a fault (its issue 3146): a "
        "gthread worker that holds worker_connections of them spins for ever. It goes on beating, so gunicorn's own "
        "timeout never fires, and its port still accepts.",
    )
    pod = _pod(kube)
    with visitors.silent(SILENT, _address(kube, pod), PORT):
        story.say(f"{SILENT} silent connections are open")
        show_rates(story, visitors, seconds=UNWATCHED_S)
    story.say("now they are closed again; the workers stay frozen:")
    if show_rates(story, visitors, seconds=3) > 0:
        raise StepError("the shop still serves: it did not freeze, so there is nothing to heal")
    story.quote(evidence.pod_line(kube, pod))
    story.say("Running, Ready, no restart: half a minute until a readiness probe gives up, and that heals nothing.")


def adopt(story: Story, kube: Kube, visitors: Visitors) -> None:
    """Apply the WSGIServer and wait until the shop runs with its sidecar."""
    story.step(
        "The shop is adopted",
        "One object names the Deployment. The operator adds a sidecar and what it needs, by server-side apply under "
        "its own name; the Deployment rolls. No image is rebuilt, and nobody's manifest is edited.",
    )
    before = kube.template("shop")
    story.command("kubectl apply -f demo/app/wsgiserver.yaml")
    story.quote(_read("wsgiserver.yaml"))
    kube.apply(_read("wsgiserver.yaml"))
    story.until("the operator has written to the Deployment", lambda: kube.template("shop") != before, within_s=30)
    _rolled_out(kube)
    story.say("rolled out; what is new in its template:")
    story.quote("\n".join(differences(json.loads(before), json.loads(kube.template("shop")))))
    _ready(story, kube)
    story.until("requests are served again", lambda: (visitors.rate() or 0) > FULL_RATE / 4, within_s=30)
    story.quote(kube.run("get", "wsgi"))


def freeze_watched(story: Story, kube: Kube, visitors: Visitors) -> None:
    """Freeze it again; show how it is seen, killed with a reason, and healed."""
    story.step(
        "The same again, watched",
        "The sidecar looks once a second, from outside: heartbeat, CPU of each thread, connections. It must be sure "
        "for five seconds, then looks again, then kills that worker's whole tree; gunicorn starts a new one.",
    )
    pod = _pod(kube)
    show_rates(story, visitors, seconds=2)
    with visitors.silent(SILENT, _address(kube, pod), PORT):
        began = story.elapsed_s
        story.say(f"{SILENT} silent connections are open")
        _watch_healing(story, visitors)
        healed = story.elapsed_s
    story.say(f"healed {healed - began:.1f} s after the last silent connection was opened")
    show_rates(story, visitors, seconds=2)
    _never_restarted(story, kube, pod)
    _tell_kill(story, kube, pod)


def resize(story: Story, kube: Kube, visitors: Visitors) -> None:
    """Change workers and timeout by kubectl apply; count the failed requests of the roll."""
    story.step(
        "Its size is changed",
        "Workers and timeout stand in the WSGIServer. The operator puts them behind the owner's GUNICORN_CMD_ARGS, and "
        "the Deployment's own rolling update replaces the pods under load.",
    )
    old, was = _pod(kube), evidence.in_force(kube, _pod(kube))
    mark = visitors.mark()
    story.command("kubectl apply -f demo/app/wsgiserver-resized.yaml")
    kube.apply(_read("wsgiserver-resized.yaml"))
    _watch_roll(story, kube, visitors, old)
    seconds = visitors.since(mark)
    served, failed = sum(s.served for s in seconds), sum(s.failed for s in seconds)
    story.say(f"requests during the roll: {served} served, {failed} failed")
    _compare_settings(story, was, evidence.in_force(kube, _pod(kube)))
    if failed:
        raise StepError(f"{failed} requests failed during the roll of a correctly drained app; none should have")
    _ready(story, kube)


def let_go(story: Story, kube: Kube, visitors: Visitors, before: str) -> None:
    """Delete the WSGIServer; show that the template is what its owner wrote."""
    story.step(
        "The shop is let go",
        "Deleting the WSGIServer gives up our fields; what remains is the owner's, to the letter.",
    )
    mark, old = visitors.mark(), _pod(kube)
    story.command("kubectl delete wsgi shop")
    kube.run("delete", "wsgi", "shop", "--timeout=60s")
    after = kube.template("shop")
    if after != before:
        changed = "; ".join(differences(json.loads(before), json.loads(after)))
        raise StepError(f"the template is not what its owner wrote: {changed or 'other order'}")
    story.say(f"pod template before and after: {len(before)} and {len(after)} bytes, equal byte for byte")
    _watch_roll(story, kube, visitors, old)
    story.say(f"failed requests meanwhile: {sum(second.failed for second in visitors.since(mark))}")
    story.quote(evidence.pod_line(kube, _pod(kube)))


def _watch_healing(story: Story, visitors: Visitors) -> None:
    """Show each second until the shop froze and serves again."""
    frozen = 0
    for _ in range(90):
        rate = _next_rate(visitors)
        story.rate(_named(rate), rate, FULL_RATE)
        frozen += rate == 0
        if frozen and rate > FULL_RATE / 4:
            return
    raise StepError(
        "the shop was not healed within 90 s; see kubectl -n wsgi-demo logs deploy/shop -c wsgi-sidecar"
        if frozen
        else "the shop did not freeze within 90 s, so there was nothing to heal"
    )


def _watch_roll(story: Story, kube: Kube, visitors: Visitors, old: str) -> None:
    """Show each second until a new pod serves and the old one has left."""
    deadline = time.monotonic() + ROLL_S
    while old in {*evidence.running_pods(kube), *evidence.leaving_pods(kube)}:
        if time.monotonic() > deadline:
            raise StepError(
                f"{old} was not replaced within {ROLL_S:g} s; see kubectl -n wsgi-demo describe deploy shop"
            )
        show_rates(story, visitors, seconds=1)
    _rolled_out(kube)
    story.say("the new pod serves, the old one has left; a request that hangs counts as failed after 3 s more:")
    show_rates(story, visitors, seconds=4)


def _tell_kill(story: Story, kube: Kube, pod: str) -> None:
    """The kill and its reason, in the three places where a person would look."""
    look = f"see kubectl -n {kube.namespace} logs {pod} -c {evidence.SIDECAR}"
    kills = story.until("its log tells", lambda: evidence.log_messages(kube, pod, "kill"), within_s=10, otherwise=look)
    story.command(f"kubectl logs {pod} -c {evidence.SIDECAR} | jq -r '.time + \" \" + .message'")
    _quote_all(story, [evidence.log_messages(kube, pod, "incident")[0], *kills])
    samples = story.until("its metrics count", lambda: evidence.kill_metrics(kube, pod), within_s=10, otherwise=look)
    story.command(f"curl {pod}:{evidence.SIDECAR_PORT}/metrics")
    story.quote("\n".join(samples))
    events = story.until(
        "Kubernetes has the Events", lambda: evidence.kill_events(kube, [pod]), within_s=40, otherwise=look
    )
    story.command(f"kubectl get events    # the first of {len(events)}: on the pod, and on the WSGIServer")
    _quote_all(story, events[:1])


def _never_restarted(story: Story, kube: Kube, pod: str) -> None:
    if restarts := evidence.restarts(kube, pod):
        raise StepError(f"containers of {pod} were restarted {restarts} times: it was not the sidecar that healed it")
    story.quote(evidence.pod_line(kube, pod))


def _compare_settings(story: Story, was: dict[str, object], now: dict[str, object]) -> None:
    rows = [(name, was.get(name), now.get(name)) for name in ("workers", "threads", "timeout_s", "worker_connections")]
    story.table(("in force, seen from outside", "before", "after"), rows)
    if (now.get("workers"), now.get("timeout_s")) != (3, 45):
        raise StepError("the server in the pod does not run with the settings of the WSGIServer")


def _ready(story: Story, kube: Kube) -> None:
    """Wait until the operator has seen the newest WSGIServer at work."""
    story.until(
        "the WSGIServer is Ready", lambda: _is_ready(kube), within_s=90, otherwise="see kubectl describe wsgi shop"
    )


def _is_ready(kube: Kube) -> bool:
    server = kube.json("wsgi", "shop")
    status = server.get("status", {})
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    return status.get("observedGeneration") == server["metadata"]["generation"] and conditions.get("Ready") == "True"


def _named(rate: float) -> str:
    return "serving" if rate > FULL_RATE / 2 else "faltering" if rate else "frozen"


def _next_rate(visitors: Visitors) -> float:
    """The rate of the next whole second that the visitors tell."""
    mark, deadline = visitors.mark(), time.monotonic() + 30
    while visitors.mark() == mark:
        if time.monotonic() > deadline:
            raise StepError("the visitors fell silent; see kubectl -n wsgi-demo logs visitors")
        time.sleep(0.05)
    return visitors.rate() or 0.0


def _pod(kube: Kube) -> str:
    pods = evidence.running_pods(kube)
    if len(pods) != 1:
        raise StepError(f"the shop should have one pod, and has {pods}")
    return pods[0]


def _address(kube: Kube, pod: str) -> str:
    return kube.run("get", "pod", pod, "-o", "jsonpath={.status.podIP}")


def _rolled_out(kube: Kube) -> None:
    try:
        kube.run("rollout", "status", "deployment/shop", f"--timeout={ROLL_S:.0f}s")
    except KubeError as error:
        raise StepError(f"the shop's Deployment did not roll out: {error}") from None


def _quote_all(story: Story, lines: Iterable[str]) -> None:
    for line in lines:
        story.quote(textwrap.fill(line, WIDTH - 13, subsequent_indent="    "))


def _read(name: str) -> str:
    return (APP / name).read_text(encoding="utf-8")
