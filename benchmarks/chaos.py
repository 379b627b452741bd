"""The operator under fire: `make chaos`.

Out: after at least 200 kills (-9) of the operator at random moments of injecting, changing, rolling, going back and
giving back, with pods deleted, specs changed and the API server and the (simulated) kubelet killed meanwhile: whether
the end was right each time. Right is: what was wanted last is in force and said to be; each step changed a template as
often as one undisturbed operator would, never to and fro, and never before the change before it had rolled out; what is
given back is its owner's to the byte.
Rule: real etcd, API server and controller manager, the real program; a story is made by its number and the seed alone,
so `--seed S --only N` tells it again (to the millisecond of the order, not of the machine).
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import kopf

from benchmarks import plane
from benchmarks.fleet import server_path, until
from benchmarks.plane import Plane, Program, here
from benchmarks.simulated_kubelet import Admin, node_of
from benchmarks.tables import keep, progress, show, spread
from wsgi_contract import names
from wsgi_operator.connection import load_configuration
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.workload import is_ours
from wsgi_operator.watches import Followed, follow

KILLS: Final = 200
SPACE: Final = "chaos"
REPLICAS: Final = 2
OWNER_ROLLED: Final = "owner/rolled"
RIGHT_S: Final = 180.0
"""How long the end may take to become right: most of it is rolls and a busy machine."""

STEPS: Final = ("inject", "change", "roll", "go back", "give back")
DISTURBANCES: Final = (
    "nothing else",
    "pods deleted",
    "spec changed",
    "owner rolls",
    "API server killed",
    "kubelet killed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One step of a story.

    Attributes:
        step: what is asked of the operator.
        workers: wanted from then on.
        kills_s: seconds from the step to the first kill, and from each start to the next one.
        asleep_s: seconds until a killed operator is started again.
        besides: what else happens, and how long after the step.
    """

    step: str
    workers: int
    kills_s: tuple[float, ...]
    asleep_s: float
    besides: tuple[str, float]


def story_of(seed: int, number: int) -> tuple[Act, ...]:
    """The story of that number."""
    dice = random.Random(f"{seed}/{number}")
    workers, acts = 2, []
    for step in STEPS:
        workers = workers if step == "give back" else 2 if step == "go back" else workers + dice.randint(1, 3)
        first = dice.uniform(0.3, 4.0) if step == "roll" else dice.uniform(0.0, 1.2)
        more = tuple(dice.uniform(0.5, 4.0) for _ in range(dice.choice((0, 0, 1, 1, 2))))
        besides = dice.choice(DISTURBANCES[:2] if step == "give back" else DISTURBANCES)
        acts.append(
            Act(
                step=step,
                workers=workers,
                kills_s=(first, *more),
                asleep_s=dice.choice((0.0, dice.uniform(0.0, 2.0))),
                besides=(besides, dice.uniform(0.0, 1.5)),
            )
        )
    return tuple(acts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A template of a workload.

    Attributes:
        text: canonical.
        early: whether it was written while the one before it rolled out.
        by: the owner; the operator, taking the workload in; or the operator.
    """

    text: str
    early: bool = False
    by: str = "owner"


@dataclass(slots=True)
class History:
    """A sink of workloads: what their templates were, one after the other.

    Attributes:
        templates: per workload the different templates in their order.
    """

    templates: dict[str, list[Version]] = field(default_factory=dict)
    _rolls: dict[str, bool] = field(default_factory=dict)

    def there(self, body: Mapping[str, Any]) -> None:
        """A workload, new or changed."""
        name, text = body["metadata"]["name"], canonical(body)
        told = self.templates.setdefault(name, [])
        if not told:
            told.append(Version(text=text))
        elif told[-1].text != text:
            told.append(Version(text=text, early=self._rolls[name], by=writer(told[-1].text, text)))
        self._rolls[name] = rollout(dict(body) | {"kind": kind_of(name)}).under_way

    def gone(self, body: Mapping[str, Any]) -> None:
        """Its story has ended."""

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Those that a full list named."""


def kind_of(name: str) -> str:
    """By the names that stories give."""
    return "StatefulSet" if name.startswith("stateful") else "Deployment"


def canonical(body: Mapping[str, Any]) -> str:
    """The template as text: equal texts are equal to the byte."""
    return json.dumps(body["spec"]["template"], sort_keys=True)


def writer(before: str, after: str) -> str:
    """Who made one template of the other, as in `Version.by`."""
    if unrolled(before) == unrolled(after):
        return "owner"
    return "operator" if names.SIDECAR_CONTAINER in before else "adoption"


def unrolled(text: str) -> str:
    """A template as if its owner had never rolled it."""
    template = json.loads(text)
    annotations = template["metadata"].get("annotations") or {}
    template["metadata"]["annotations"] = {key: value for key, value in annotations.items() if key != OWNER_ROLLED}
    return json.dumps(template, sort_keys=True)


def workload(name: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """A workload as its owner writes it, on a simulated node."""
    web = {
        "name": "web",
        "image": "registry.example/shop:1",
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
    }
    spec = {"nodeName": node_of(len(name)), "terminationGracePeriodSeconds": 1, "containers": [web]}
    labels = {"app": name}
    found: dict[str, Any] = {
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    if kind_of(name) == "StatefulSet":
        found["spec"]["serviceName"] = name
    return found


@dataclass(slots=True, kw_only=True)
class Stage:
    """Where stories are played.

    Attributes:
        where: the control plane.
        cluster: the administrator's way to it.
        operator: the program that is killed.
        kubelet: the simulated one.
        history: of all templates.
        kills: how often, by step.
        disturbed: how often, by what else happened.
        right_s: seconds from the last kill of a step until all was right, by step.
        early: templates that were written before the one before them had rolled out, by who wrote them and when.
    """

    where: Plane
    cluster: Admin
    operator: Program
    kubelet: Program
    history: History = field(default_factory=History)
    kills: Counter[str] = field(default_factory=Counter)
    disturbed: Counter[str] = field(default_factory=Counter)
    right_s: dict[str, list[float]] = field(default_factory=dict)
    early: Counter[str] = field(default_factory=Counter)

    async def play(self, number: int, acts: tuple[Act, ...]) -> None:
        """Tell one story to its end.

        Raises:
            AssertionError: the end of a step was not right; says which, and what was seen.
        """
        variables = {f"told-{number}": {"GUNICORN_CMD_ARGS": "-w 2"}, f"untold-{number}": {}}
        cast = variables | {f"stateful-{number}": {"GUNICORN_CMD_ARGS": ""}}
        for name, given in cast.items():
            await self.cluster.create(_path(name, collection=True), workload(name, given))
        for name in cast:
            await until(lambda name=name: self.rolled(name), within_s=RIGHT_S)  # type: ignore[misc]
            await until(lambda name=name: self.is_told(name), within_s=RIGHT_S)  # type: ignore[misc]
        owners = {name: canonical(await self.live(name)) for name in cast}
        for act in acts:
            before = {name: len(self.history.templates[name]) for name in cast}
            owners = await self.step(act, owners)
            await self.right(number, act, owners, before)
        for name in cast:
            await self.cluster.remove(_path(name))

    async def step(self, act: Act, owners: dict[str, str]) -> dict[str, str]:
        """Ask the operator for a step, disturb, and kill; the owners' templates from then on."""
        if self.operator.process is None:
            self.operator.start()
        aside = asyncio.create_task(self.besides(act, owners))
        for name in owners:
            await self.ask(name, act)
        for number, wait_s in enumerate(act.kills_s):
            await asyncio.sleep(wait_s)
            assert self.operator.pid
            self.operator.end(signal.SIGKILL)
            self.kills[act.step] += 1
            await asyncio.sleep(act.asleep_s if number == 0 else 0.0)
            self.operator.start()
        return await aside

    async def ask(self, name: str, act: Act) -> None:
        """What a person would do for this step."""
        path, settings = f"{server_path(SPACE)}/{name}", {"workers": act.workers, "timeoutSeconds": 60}
        if act.step == "inject":
            named = {"name": name, "kind": kind_of(name)}
            spec = {"workload": named, "settings": settings}
            metadata = {"name": name, "namespace": SPACE}
            body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
            await self.cluster.create(server_path(SPACE), body)
        elif act.step == "give back":
            await self.cluster.remove(path)
        else:
            await self.cluster.merge(path, {"spec": {"settings": settings}})

    async def besides(self, act: Act, owners: dict[str, str]) -> dict[str, str]:
        """What else happens in this step; the owners' templates from then on."""
        what, after_s = act.besides
        await asyncio.sleep(after_s)
        self.disturbed[what] += 1
        if what == "pods deleted":
            for name in owners:
                pods = await self.pods(name)
                await self.cluster.remove(f"/api/v1/namespaces/{SPACE}/pods/{min(pods)}") if pods else None
        elif what == "spec changed":
            for name in owners:
                patch = {"spec": {"settings": {"timeoutSeconds": 61 + act.workers}}}
                with suppress(kopf.PermanentError):  # it is not there yet
                    await self.cluster.merge(f"{server_path(SPACE)}/{name}", patch)
        elif what == "owner rolls":
            return {name: await self.owner_rolls(name, text) for name, text in owners.items()}
        elif what == "API server killed":
            await asyncio.to_thread(self.where.restart, "kube-apiserver", after_s)
        elif what == "kubelet killed":
            self.kubelet.end(signal.SIGKILL)
            await asyncio.sleep(after_s)
            self.kubelet.start()
        return owners

    async def owner_rolls(self, name: str, owners: str) -> str:
        """The owner changes his template; his template from then on."""
        template = json.loads(owners)
        template["metadata"].setdefault("annotations", {})[OWNER_ROLLED] = str(time.time())
        patch = {"spec": {"template": {"metadata": {"annotations": template["metadata"]["annotations"]}}}}
        await self.cluster.merge(_path(name), patch)
        return json.dumps(template, sort_keys=True)

    async def right(self, number: int, act: Act, owners: Mapping[str, str], before: Mapping[str, int]) -> None:
        """Wait until all is right, and hold the history of the step against what it may be."""
        began = time.monotonic()
        for name in owners:
            try:
                await until(lambda name=name: self.is_right(name, act, owners[name]), within_s=RIGHT_S)  # type: ignore[misc]
            except TimeoutError:
                raise AssertionError(f"story {number}, {act}: {name}: {await self.seen(name)}") from None
        self.right_s.setdefault(act.step, []).append(time.monotonic() - began)
        for name in owners:  # our own watches, too, come back late from an API server that was killed
            await until(lambda name=name: self.is_told(name), within_s=RIGHT_S)  # type: ignore[misc]
        for name in owners:
            told = self.history.templates[name]
            for version in told[before[name] :]:
                if version.early:
                    self.early[early_by(version, act)] += 1
                    assert may_be_early(version, act), f"story {number}, {act}: {name}: two changes in flight"
            step = [version.text for version in told[before[name] - 1 :]]
            assert len(step) - 1 <= allowed(name, act), f"story {number}, {act}: {name} rolled {len(step) - 1} times"
            assert len(set(step)) == len(step), f"story {number}, {act}: {name} went to a template and back"

    async def is_right(self, name: str, act: Act, owners: str) -> bool:
        """Whether this workload is as it should be now."""
        assert self.operator.pid
        with suppress(kopf.TemporaryError):
            server = await self.cluster.read(f"{server_path(SPACE)}/{name}")
            live = await self.live(name)
            if not rollout(live).done:
                return False
            if act.step == "give back":
                return server is None and is_owners(live, owners)
            return server is not None and is_told(server, act) and is_wanted(live, act)
        return False

    async def seen(self, name: str) -> str:
        """What there is, for whoever has to find out."""
        server, live = await self.cluster.read(f"{server_path(SPACE)}/{name}"), await self.live(name)
        conditions = ((server or {}).get("status") or {}).get("conditions") or ()
        told = {c["type"]: (c["status"], c["reason"], c["message"]) for c in conditions}
        page = await self.cluster.page(f"/api/v1/namespaces/{SPACE}/pods", {"labelSelector": f"app={name}"})
        pods = [
            (m["name"], m["labels"], m.get("deletionTimestamp"), pod["status"].get("phase"), pod["status"].get("podIP"))
            for pod in page["items"]
            if (m := pod["metadata"])
        ]
        parts = (told, rollout(live), live.get("status"), pods, live["metadata"].get("annotations"), canonical(live))
        return "\n  ".join(map(str, parts))

    async def live(self, name: str) -> dict[str, Any]:
        """The workload now."""
        body = await self.cluster.workload(kind_of(name), SPACE, name)
        assert body is not None, f"{name} is gone"
        return body

    async def rolled(self, name: str) -> bool:
        """Whether its roll is done."""
        return rollout(await self.live(name)).done

    async def is_told(self, name: str) -> bool:
        """Whether the history has come to the template that is there now."""
        told = self.history.templates.get(name)
        return told is not None and told[-1].text == canonical(await self.live(name))

    async def pods(self, name: str) -> list[str]:
        """Names of its pods."""
        page = await self.cluster.page(f"/api/v1/namespaces/{SPACE}/pods", {"labelSelector": f"app={name}"})
        return [pod["metadata"]["name"] for pod in page["items"]]


def allowed(name: str, act: Act) -> int:
    """Templates that an undisturbed operator, and the owner, would make in this step.

    A container without the variable gets the sidecar first and the settings in a second roll. A spec that is changed
    once more may be seen as one change or as two.
    """
    own = 2 if act.step == "inject" and name.startswith("untold") else 1
    return own + (act.besides[0] in ("spec changed", "owner rolls"))


def may_be_early(version: Version, act: Act) -> bool:
    """Whether a template may be written while another one rolls out.

    Owners do so as they like, a workload is taken in as soon as somebody asks, and given back at once. An API server
    that comes back lists what there is: whoever watches it may have missed that a roll had ended.
    """
    return version.by != "operator" or act.step == "give back" or act.besides[0] == "API server killed"


def early_by(version: Version, act: Act) -> str:
    """Who wrote it, and when, in words for the table."""
    words = {"owner": "by the owner", "adoption": "taken in"}
    return words.get(version.by) or ("given back" if act.step == "give back" else act.besides[0])


def is_told(server: Mapping[str, Any], act: Act) -> bool:
    """Whether the status says, of the newest spec, that what is wanted is in force."""
    status = server.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    effective = {line["name"]: line.get("value") for line in status.get("effective") or ()}
    newest = ready.get("observedGeneration") == server["metadata"]["generation"]
    return newest and ready.get("status") == "True" and effective.get("workers") == str(act.workers)


def is_wanted(live: Mapping[str, Any], act: Act) -> bool:
    """Whether the template orders what is wanted."""
    return f"--workers {act.workers}" in canonical(live) or f"--workers={act.workers}" in canonical(live)


def is_owners(live: Mapping[str, Any], owners: str) -> bool:
    """Whether nothing of ours is left."""
    metadata = live["metadata"]
    ours = [key for key in metadata.get("annotations") or () if key.startswith(f"{names.GROUP}/")]
    return canonical(live) == owners and not ours and not any(map(is_ours, metadata.get("managedFields") or ()))


def _path(name: str, *, collection: bool = False) -> str:
    folder = f"/apis/apps/v1/namespaces/{SPACE}/{kind_of(name).lower()}s"
    return folder if collection else f"{folder}/{name}"


async def run(where: Plane, given: argparse.Namespace, tell: Callable[[Stage, int], None]) -> int:
    """Play stories until there were enough kills; the exit code."""
    environ = {
        "KUBECONFIG": str(where.account()),
        "WSGI_OPERATOR_SIDECAR_IMAGE": "registry.example/wsgi-sidecar:1",
        "WSGI_OPERATOR_REPORT_INTERVAL_SECONDS": "1",
        "WSGI_OPERATOR_ADMISSION": "true" if given.admission else "false",
        "WSGI_OPERATOR_ROLLS_AT_ONCE": "10",
        "WSGI_OPERATOR_PORT": "0",
    }
    operator = Program("operator", "wsgi_operator", where.folder, **environ)
    kubelet = Program("kubelet", "benchmarks.simulated_kubelet", where.folder, "--starts-in", "0.4")
    with operator, kubelet:
        kubelet.start()
        async with Admin(await load_configuration(), watches=2) as cluster:
            await cluster.create("/api/v1/namespaces", {"metadata": {"name": SPACE}})
            stage = Stage(where=where, cluster=cluster, operator=operator, kubelet=kubelet)
            paths = ("deployments", "statefulsets")
            kinds = [Followed(path=f"/apis/apps/v1/{kind}", namespace=None, sink=stage.history) for kind in paths]
            watching = [asyncio.create_task(follow(cluster, kind)) for kind in kinds]
            number = given.only if given.only is not None else 0
            try:
                while stage.kills.total() < given.kills:
                    acts = story_of(given.seed, number)
                    await stage.play(number, acts)
                    progress(f"story {number}: right; {stage.kills.total()} kills so far")
                    number += 1
                    if given.only is not None:
                        break
            except AssertionError as error:
                print(f"WRONG: {error}\nagain: --seed {given.seed} --only {number}", file=sys.stderr)
                print("\n".join(operator.log.read_text().splitlines()[-60:]), file=sys.stderr)
                return 1
            finally:
                for task in watching:
                    task.cancel()
            tell(stage, number)
            return 0


def main() -> int:
    """Play, tell, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS, help="at least so many")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", type=int, help="one story alone, by its number")
    parser.add_argument("--admission", action=argparse.BooleanOptionalAction, default=True, help="or in the template")
    parser.add_argument("--quick", action="store_true", help="15 kills")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    given.kills = 15 if given.quick else given.kills
    load, began = os.getloadavg()[0], time.monotonic()

    def tell(stage: Stage, stories: int) -> None:
        rows = [[step, str(stage.kills[step]), spread(stage.right_s.get(step, ()), "s", 1)] for step in STEPS]
        title = f"{stage.kills.total()} kills of the operator in {stories} stories, seed {given.seed}: all ends right"
        show(title, ["while it was to", "kills", "from the last start until all was right"], rows)
        show("besides", ["", "times"], [[what, str(stage.disturbed[what])] for what in DISTURBANCES])
        early = "; ".join(f"{who}: {count}" for who, count in sorted(stage.early.items()))
        print(f"  templates written before the one before had rolled out: {early or 'none'}")
        lasted = time.monotonic() - began
        print(f"  {lasted:.0f} s; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")
        if not given.dry:
            figures = {"kills": dict(stage.kills), "besides": dict(stage.disturbed), "right_s": stage.right_s}
            figures |= {"early": dict(stage.early)}
            name = "chaos" if given.admission else "chaos-in-template"
            keep(name, figures | {"seed": given.seed, "stories": stories, "lasted_s": lasted, "load": load})

    return asyncio.run(run(here(), given, tell))


if __name__ == "__main__":
    sys.exit(plane.enter("benchmarks.chaos", main))
