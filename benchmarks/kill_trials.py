"""Whether a kill ever hits the wrong process, or leaves one alive: `make kill-trials`.

Out: 10,000 kills while pids are given away under the killer's hands, and how many bystanders got a signal; 100 forking
trees and who survived; what happens to the sidecar's own ancestor with its self-protection, and with that taken out.
Without the identity checks the same trial must find wrong signals, or it proves nothing. Rule: all of it in a PID
namespace of its own with 100 pids to give away, so that a mistake can hurt nobody else.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import wsgi_sidecar.kill
from benchmarks import room
from benchmarks.nursery import Nursery
from benchmarks.tables import keep, progress, show, spread
from tests.sidecar.test_kill import FORKING, UNHURRIED_S
from wsgi_contract.report import Kill, ProcessId
from wsgi_sidecar.core.remedy import Order
from wsgi_sidecar.kill import strike
from wsgi_sidecar.strays import process_table, read_process

KILLS, TREES = 10_000, 100
FEW_PIDS, MANY_PIDS = 400, 32_768
"""The kernel keeps 1 to 299 for the start of a namespace: 100 are left to go round."""
FATES: Final = ("stays", "dies meanwhile", "dies at the second look", "was dead before")
WEIGHTS: Final = (5, 8, 4, 3)
PROTECTION: Final = (("*ancestors(os.getpid(), table), ", ""),)
IDENTITY: Final = (
    ("if seen is None or seen.id != process:", "if seen is None:"),
    ("if not lives(self._root, table) or ", "if self._root.pid not in table or "),
)
BLIND_KILLS: Final = 100


def order(process: ProcessId, **fields: Any) -> Order:
    given: dict[str, Any] = {"target": "worker", "slot": 1, "reason": "frozen-worker", "bystanders": frozenset()}
    given |= {"id": "kill", "process": process, "message": ""} | fields
    return Order(**given)


class Trials:
    """The killer's side of the trials under pid reuse."""

    def __init__(self, killer: ModuleType, seed: int) -> None:
        self._killer = killer
        self._random = random.Random(seed)
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            Nursery(theirs, seed).serve()
        theirs.close()
        self._channel, self._nursery = ours, child
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.reused: Counter[str] = Counter()
        self.alive = 0
        self.took_s: list[float] = []

    def ask(self, ask: str, **fields: Any) -> dict[str, Any]:
        self._channel.sendall(json.dumps({"ask": ask} | fields).encode())
        answer: dict[str, Any] = json.loads(self._channel.recv(4096))
        return answer

    def once(self) -> None:
        fate = self._random.choices(FATES, WEIGHTS)[0]
        victim = self.ask("victim")
        if fate == "was dead before":
            self.ask("swap")
        elif fate == "dies meanwhile":
            self.ask("swap-soon", after_s=self._random.uniform(0.0, 0.012))
        kill = self._killer.strike(self._order(victim), lambda: self._second_look(fate))
        over = self.ask("over") if kill.outcome in ("killed", "survived") or fate != "stays" else {"dead": False}
        self.outcomes[fate, kill.outcome] += 1
        self.reused[fate] += bool(over.get("reused"))
        self.alive += not over["dead"]
        if kill.outcome == "killed":
            self.took_s.append(kill.duration_s)

    def _order(self, victim: dict[str, Any]) -> Order:
        """A worker's kill spares its master and the master's others by name; a server's has nothing but identity."""
        process = ProcessId(pid=victim["pid"], started=victim["started"])
        master = read_process(self._nursery)
        if master is None or self._random.random() < 0.5:
            return order(process, target="server", slot=None)
        return order(process, bystanders=frozenset({master.id}))

    def _second_look(self, fate: str) -> None:
        if fate == "dies at the second look":
            self.ask("swap")

    def end(self) -> dict[str, Any]:
        time.sleep(0.2)
        ledger = self.ask("ledger")
        self._channel.close()
        os.waitpid(self._nursery, 0)
        return ledger


def under_reuse(kills: int, seed: int, killer: ModuleType = wsgi_sidecar.kill) -> tuple[Trials, dict[str, Any]]:
    """So many kills while their pids are given away."""
    trials, began = Trials(killer, seed), time.monotonic()
    for number in range(kills):
        trials.once()
        if number % 1000 == 999:
            progress(f"{number + 1} kills in {time.monotonic() - began:.0f} s; {trials.ask('ledger')}")
    return trials, trials.end()


def tell_reuse(trials: Trials, ledger: dict[str, Any], kills: int) -> None:
    rows = [
        [fate, outcome, str(count), str(trials.reused[fate]) if outcome == first else ""]
        for (fate, outcome), count in sorted(trials.outcomes.items())
        for first in [min(o for f, o in trials.outcomes if f == fate)]
    ]
    show(f"{kills} kills under pid reuse", ["the victim", "outcome", "kills", "its pid was another's within"], rows)
    show(
        "what they hit",
        ["", ""],
        [
            ["bystanders and victims born", str(ledger["born"])],
            ["bystanders that got a signal", str(ledger["wrong"])],
            ["victims alive after their kill", str(trials.alive)],
            ["a kill took", spread([s * 1000 for s in trials.took_s], "ms", 1)],
        ],
    )


def trees(count: int, seed: int) -> dict[str, Any]:
    """Kill forking trees at a random moment of their growth; whoever else is left in this namespace is a survivor."""
    chance = random.Random(seed)
    figures: dict[str, Any] = {"processes": [], "ms": [], "survivors": 0, "outcomes": Counter()}
    known = set(process_table())
    for number in range(count):
        kill = one_tree(chance.uniform(0.05, 0.8))
        left = {pid for pid, seen in process_table().items() if pid not in known and not seen.ended}
        figures["survivors"] += len(left)
        figures["processes"].append(kill.processes)
        figures["ms"].append(kill.duration_s * 1000)
        figures["outcomes"][kill.outcome] += 1
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if number % 20 == 19:
            progress(f"{number + 1} trees; {figures['survivors']} survivors")
    return figures


def one_tree(grows_s: float) -> Kill:
    with subprocess.Popen([sys.executable, "-c", FORKING, "5"]) as root:
        while (mark := heartbeat(root.pid)) is None:
            time.sleep(0.005)
        time.sleep(grows_s)
        seen = read_process(root.pid)
        assert seen is not None
        return strike(order(seen.id, mark=mark), deadline_s=UNHURRIED_S)


def heartbeat(pid: int) -> int | None:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "wgunicorn-" in os.readlink(entry) and "deleted" in os.readlink(entry):
                return entry.stat().st_ino
        except FileNotFoundError:
            continue
    return None


def tell_trees(figures: dict[str, Any], count: int) -> None:
    rows = [
        ["processes per tree", spread(figures["processes"], "", 0)],
        ["a kill took", spread(figures["ms"], "ms", 0)],
        ["outcomes", ", ".join(f"{name} {times}" for name, times in figures["outcomes"].items())],
        ["survivors", str(figures["survivors"])],
    ]
    show(f"{count} trees that fork, change session and fork twice while they are killed", ["", ""], rows)


def self_protection() -> dict[str, str]:
    """What an order against the killer's own parent does: with the protection, and with that line taken out."""
    return {"as it is": struck_parent(wsgi_sidecar.kill), "taken out": struck_parent(mutant(PROTECTION))}


def mutant(changes: tuple[tuple[str, str], ...]) -> ModuleType:
    """kill.py with some of its lines changed."""
    source = Path(wsgi_sidecar.kill.__file__).read_text()
    for before, after in changes:
        assert before in source, f"kill.py has no line {before!r} any more: mutate another"
        source = source.replace(before, after)
    module = ModuleType("mutant")
    exec(compile(source, "mutant", "exec"), vars(module))
    return module


def struck_parent(killer: ModuleType) -> str:
    """A parent whose child is told to kill it: how that ended."""
    before = set(process_table())
    parent = os.fork()
    if parent == 0:
        child = os.fork()
        if child == 0:
            seen = read_process(os.getppid())
            assert seen is not None
            os._exit(0 if killer.strike(order(seen.id)).outcome == "refused" else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    _, status = os.waitpid(parent, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return "refused" if os.waitstatus_to_exitcode(status) == 0 else "killed its own ancestor"
    # Unprotected it stops its ancestor, and then itself: nobody is left to go on.
    for pid in set(process_table()) - before:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(parent, 0)
    return "stopped its own ancestor"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--trees", type=int, default=TREES)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="300 kills and 5 trees")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    kills, count = (300, 5) if given.quick else (given.kills, given.trees)
    progress(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs; seed {given.seed}")
    wraps = room.limit_pids(FEW_PIDS)
    progress(f"pids wrap at {FEW_PIDS}" if wraps else "pids do not wrap here: only those of victims are given away")
    trials, ledger = under_reuse(kills, given.seed)
    tell_reuse(trials, ledger, kills)
    _, blind = under_reuse(BLIND_KILLS, given.seed, mutant(IDENTITY))
    title = f"{BLIND_KILLS} kills without the identity checks: is the trial sharp?"
    show(title, ["", ""], [["bystanders that got a signal", str(blind["wrong"])]])
    if wraps:
        room.limit_pids(MANY_PIDS)
    figures = trees(count, given.seed)
    tell_trees(figures, count)
    protection = self_protection()
    show("an order against an ancestor of the killer", ["self-protection", "outcome"], list(protection.items()))
    outcomes = [[*key, times] for key, times in trials.outcomes.items()]
    figures |= {"ledger": ledger, "blind": blind, "self_protection": protection, "of_kills": outcomes}
    if not given.dry:
        keep("kill-trials", figures | {"seed": given.seed})
    right = protection == {"as it is": "refused", "taken out": "stopped its own ancestor"} and blind["wrong"]
    return 0 if right and not ledger["wrong"] + trials.alive + figures["survivors"] else 1


if __name__ == "__main__":
    sys.exit(room.enter("benchmarks.kill_trials", main))
