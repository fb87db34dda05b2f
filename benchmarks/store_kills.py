"""Kill a process that fills a store, at random moments, and look at what it leaves.

    python benchmarks/store_kills.py [--kills 20] [--seed 0] [--out FILE.json]

Each round a child process computes a set of runs in one store, resumable from checkpoints, and is
killed (SIGKILL) after a random time. Then every run in the store is read and compared with what it
must hold. When a set is complete, a new one is begun in a new store. The exit status is 1 if a run
was damaged, differed, or was computed again although it had been stored. A killed process is not a
power failure: what the kernel has taken is written in any case.
"""

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trueboundary.runs import DamagedRunError, RunConfig, RunResult, Store, execute

N_RUNS, N_STEPS, N_NUMBERS = 6, 3, 100_000


@dataclass(frozen=True)
class Steps(RunConfig):
    """Multiplies numbers in steps, each of which is checkpointed."""

    store: str
    seed: int

    def compute(self, context):
        with (Path(self.store) / "started").open("a") as log:
            log.write(f"{self.folder}\n")
        file = context.checkpoint / "steps.npy"
        steps = list(np.load(file)) if file.exists() else []
        while len(steps) < N_STEPS:
            steps.append(step(self.seed, len(steps)))
            temporary = file.with_name("steps.tmp.npy")
            np.save(temporary, np.array(steps))
            os.replace(temporary, file)
            context.progress(len(steps) / N_STEPS)
        arrays = {"product": np.prod(steps, axis=0)}
        return RunResult({"seed": self.seed}, arrays, {"net": ({"kind": "none"}, arrays)})


def step(seed, number):
    return np.random.default_rng([seed, number]).normal(size=N_NUMBERS)


def expected(seed):
    return np.prod([step(seed, number) for number in range(N_STEPS)], axis=0)


class Inline(Executor):
    """Computes in this process, which is the one that is killed."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def fill(root, goals):
    """Compute `goals` in a child process; returns its number."""
    child = os.fork()
    if child == 0:
        failures = execute(goals, Store(root), Inline())
        os._exit(1 if failures else 0)
    return child


def inspect(store, goals):
    """Return the folders that are whole and right, and those that are not."""
    good, bad = set(), set()
    for goal in goals:
        try:
            run = store.load(goal)
        except DamagedRunError:
            bad.add(goal.folder)
            continue
        if run is not None:
            right = all(
                np.array_equal(arrays["product"], expected(goal.seed))
                for arrays in (run.arrays, run.result.models["net"][1])
            )
            (good if right else bad).add(goal.folder)
    return good, bad


def started(root):
    log = Path(root) / "started"
    return log.read_text().splitlines() if log.exists() else []


def unfinished(store):
    return {path.name for path in store.root.glob("unfinished/*")}


def where(names):
    """Say what the killed process was doing, by what it has left behind."""
    if any(".staging-" in name for name in names):
        return "writing a run"
    if any(name.endswith(".lock") for name in names):
        return "computing"
    return "between runs"


def new_goals(folder, number):
    root = Path(folder) / f"store-{number:04d}"
    root.mkdir()
    goals = [Steps(str(root), 100 * number + seed) for seed in range(N_RUNS)]
    return Store(root), goals


def measure(folder):
    """Return the seconds that a set takes when nobody kills it."""
    store, goals = new_goals(folder, 0)
    start = time.monotonic()
    _, status = os.waitpid(fill(store.root, goals), 0)
    if status:
        sys.exit("the runs fail even if nobody kills them")
    return time.monotonic() - start


def kill_often(folder, n_kills, seed):
    draw = random.Random(seed)
    whole = measure(folder)
    report = {"kills": 0, "complete sets": 0, "damaged or different": 0, "computed again": 0,
              "killed while": {}}  # fmt: skip
    number = 1
    store, goals = new_goals(folder, number)
    while report["kills"] < n_kills:
        finished_before, log_before = inspect(store, goals)[0], len(started(store.root))
        # Locks of the killed are taken over, so that one which is there again has been taken.
        left_before = {name for name in unfinished(store) if ".staging-" in name}
        child = fill(store.root, goals)
        time.sleep(draw.uniform(0.0, 0.5 * whole))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        good, bad = inspect(store, goals)
        report["damaged or different"] += len(bad)
        report["computed again"] += len(finished_before & set(started(store.root)[log_before:]))
        if os.WIFSIGNALED(status):
            report["kills"] += 1
            moment = where(unfinished(store) - left_before)
            report["killed while"][moment] = report["killed while"].get(moment, 0) + 1
        elif os.waitstatus_to_exitcode(status) != 0:
            report["damaged or different"] += 1  # a run failed
        if len(good) == N_RUNS:
            report["complete sets"] += 1
            number += 1
            store, goals = new_goals(folder, number)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = kill_often(folder, options.kills, options.seed)
    about = {"seed": options.seed, "runs in a set": N_RUNS, "system": platform.system(),
             "python": platform.python_version(), "numpy": np.__version__}  # fmt: skip
    text = json.dumps(about | report, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")
    sys.exit(1 if report["damaged or different"] or report["computed again"] else 0)


if __name__ == "__main__":
    main()
