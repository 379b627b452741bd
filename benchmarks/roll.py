"""Requests lost per change of settings, under constant open-loop load: by a roll and in running pods.

In: the test cluster (ours: this machine must reach Services). Out: tables, and JSON. Rule: every change is one that the
operator made, by a changed spec; requests are counted from the change until the last old pod is gone; what RollSafe
said beforehand stands beside what was lost. It ends with an error if a drained app lost one in a roll, was not told
apart, or got new pods for what was to change in place. What a reload of gunicorn's loses is gunicorn's: it is told.
"""

import argparse
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.roll_apps import CASES, Case
from benchmarks.tables import keep, progress, show
from demo.open_load import OpenLoad
from tests.cluster.kube import CACHE, ROOT, SCRIPTS, Cluster, eventually, run
from tests.operator.ground import Ground, ground

CRD = ROOT / "charts/wsgi-operator/crds/wsgiservers.yaml"


WAYS = {"RollingUpdate": CASES, "InPlace": tuple(case for case in CASES if case.expected is None)}
"""Who is changed how: what loses requests by a roll is of no matter where no pod goes."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """What was measured of one workload.

    Attributes:
        name: of the case.
        change: what it differs in from the drained one.
        roll_safe: status and reason of that condition before the first roll.
        sent: requests over all rolls.
        lost: those of them that failed, by roll.
        failures: what went wrong, and how often.
        slowest_s: the slowest that was served.
        roll_s: how long each roll took.
        late: requests that could not be sent in time.
        replaced: changes that replaced the pods; the others were made in place.
    """

    name: str
    change: str
    roll_safe: str
    sent: int = 0
    lost: list[int] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    slowest_s: float = 0.0
    roll_s: list[float] = field(default_factory=list)
    late: int = 0
    replaced: int = 0


def main() -> int:
    """Measure all cases; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rolls", type=int, default=5, help="changes per workload (5)")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second (50)")
    parser.add_argument("--quick", action="store_true", help="two changes, and the first three workloads")
    parser.add_argument("--only", help="that workload alone")
    parser.add_argument("--apply", choices=tuple(WAYS), help="spec.tuning.apply, one of them alone")
    asked = parser.parse_args()
    return max(one_way(asked, apply) for apply in ([asked.apply] if asked.apply else WAYS))


def one_way(asked: argparse.Namespace, apply: str) -> int:
    """Measure the workloads that are changed in this way; the exit code."""
    cases = [case for case in WAYS[apply] if asked.only in (None, case.name)][: 3 if asked.quick else None]
    with tempfile.TemporaryDirectory() as folder:
        rolls = 2 if asked.quick else asked.rolls
        figures = [measure(here, case, rolls, asked.rate, apply) for here, case in stages(folder, cases)]
    report(figures, asked.rate, apply)
    return judge(figures, cases, apply)


def stages(folder: str, cases: list[Case]) -> Any:
    """One namespace with its operator for all cases."""
    cluster = connect()
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    namespace = f"roll-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", namespace)
    try:
        with ground(cluster, namespace, Path(folder)) as here:
            here.image = cluster.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref
            here.start()
            for case in cases:
                yield here, case
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def connect() -> Cluster:
    """Our own cluster, brought up if need be."""
    run(SCRIPTS / "up", "--if-needed", timeout_s=900)
    path = run(SCRIPTS / "kubeconfig").strip()
    if not path.startswith(str(CACHE)):
        sys.exit("error: this benchmark needs a cluster whose Services this machine reaches: unset KUBECONFIG")
    return Cluster(kubeconfig=Path(path), ours=True)


def measure(here: Ground, case: Case, rolls: int, rate: float, apply: str) -> Figures:
    """Adopt the workload, then change its settings again and again under load."""
    image = here.cluster.load_image("bench-roll-app", "1", Path(__file__).parent / "roll_app").ref
    here.apply(case.manifest(image), case.service())
    here.kubectl("rollout", "status", f"deployment/{case.name}", "--timeout=120s")
    host = here.get("services", case.name)["spec"]["clusterIP"]
    tuning = {"apply": apply}
    here.adopt(case.name, settings={"workers": 1}, tuning=tuning)
    here.until(case.name, "Ready", "True", within_s=120)
    status, reason, _ = here.condition(case.name, "RollSafe")
    figures = Figures(name=case.name, change=case.change, roll_safe=f"{status} ({reason})")
    with OpenLoad(host, 80, case.path, per_second=rate) as load:
        time.sleep(2)
        for number in range(rolls):
            began, before = load.elapsed_s, pods_of(here, case.name)
            here.adopt(case.name, settings={"workers": 2 - number % 2}, tuning=tuning)
            eventually(lambda: settled(here, case.name), within_s=180)
            time.sleep(1)
            figures.replaced += not before & pods_of(here, case.name)
            figures.roll_s.append(round(load.elapsed_s - began, 1))
            figures.lost.append(len(load.lost(began)))
            progress(f"{case.name}: change {number + 1} of {rolls}, {figures.lost[-1]} lost")
    figures.sent, figures.failures = len(load.fates()), dict(load.failures())
    figures.slowest_s = max((fate.took_s for fate in load.fates() if fate.failure is None), default=0.0)
    figures.late = sum(fate.late for fate in load.fates())
    figures.lost[-1] = len(load.lost()) - sum(figures.lost[:-1])  # with those whose fate was not known before the end
    here.release(case.name)
    here.kubectl("delete", f"deployment/{case.name}", f"service/{case.name}", "--wait=true")
    return figures


def settled(here: Ground, name: str) -> bool:
    """Whether the newest spec is in force, and no old pod is left."""
    if here.condition(name, "Ready")[0] != "True":
        return False
    pods = here.get("pods", selector=f"app={name}")["items"]
    return not any("deletionTimestamp" in pod["metadata"] for pod in pods)


def pods_of(here: Ground, name: str) -> set[str]:
    """Uids of its pods."""
    pods = here.get("pods", selector=f"app={name}")["items"]
    return {pod["metadata"]["uid"] for pod in pods}


def report(figures: list[Figures], rate: float, apply: str) -> None:
    """The table, and the JSON."""
    rows = [
        [
            one.name,
            one.change,
            one.roll_safe,
            str(len(one.lost)),
            str(one.replaced),
            str(one.sent),
            str(sum(one.lost)),
            f"{sum(one.lost) / len(one.lost):.1f}",
            ", ".join(f"{count} {what}" for what, count in one.failures.items()) or "-",
        ]
        for one in figures
    ]
    header = ("workload", "differs in", "RollSafe", "changes", "by new pods", "requests", "lost", "per change", "how")
    show(f"Requests lost per change of settings ({apply}), open loop, {rate:g} requests a second", header, rows)
    keep(f"roll-{apply.lower()}", {"apply": apply, "rate_per_second": rate, "cases": [asdict(one) for one in figures]})


def judge(figures: list[Figures], cases: list[Case], apply: str) -> int:
    """0 if every promise held."""
    broken = []
    for one, case in zip(figures, cases, strict=True):
        expected = "True (Drained)" if case.expected is None else f"False ({case.expected})"
        if one.roll_safe != expected:
            broken.append(f"{one.name}: RollSafe was {one.roll_safe}, expected {expected}")
        if apply == "RollingUpdate" and case.expected is None and sum(one.lost):
            broken.append(f"{one.name}: {sum(one.lost)} requests lost of a drained app")
        if apply == "InPlace" and one.replaced:
            broken.append(f"{one.name}: {one.replaced} of {len(one.lost)} changes came by new pods")
        if one.late:
            broken.append(f"{one.name}: {one.late} requests were sent late, so the loop was not open: a lower --rate")
    for line in broken:
        print(f"  BROKEN: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
