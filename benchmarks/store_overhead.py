"""Time a sweep of tiny runs through the store against computing them in one process without it.

    python benchmarks/store_overhead.py [--runs 1000] [--workers 2] [--out FILE.json]

Each run takes the root of 20 symmetric matrices of 100 x 100, about 20 ms; the times per run are
those of a clock, in one thread each, so that the ratio depends on how busy the machine is. A second
sweep over the same store, which computes nothing, tells what looking at it costs.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy starts its threads

from concurrent.futures import Executor, Future  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from trueboundary.runs import RunConfig, RunResult, Store, execute, worker_pool  # noqa: E402


@dataclass(frozen=True)
class Roots(RunConfig):
    seed: int

    def compute(self, context):
        matrices = np.random.default_rng(self.seed).normal(size=(20, 100, 100))
        return RunResult({"seed": self.seed}, {"roots": np.linalg.eigvalsh(matrices)})


class Inline(Executor):
    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def timed(call):
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def measure(n_runs, n_workers, folder):
    goals = [Roots(seed) for seed in range(n_runs)]
    _, plain = timed(lambda: [goal.compute(None) for goal in goals])
    store = Store(Path(folder) / "inline")
    failures, stored = timed(lambda: execute(goals, store, Inline()))
    _, again = timed(lambda: execute(goals, store, Inline()))
    with worker_pool(n_workers) as pool:
        list(pool.map(abs, range(n_workers)))  # the workers have started
        elsewhere = Store(Path(folder) / "pool")
        more, pooled = timed(lambda: execute(goals, elsewhere, pool, n_workers=n_workers))
    if failures or more:
        sys.exit(f"runs failed: {(failures + more)[0].traceback}")
    return {
        "runs": n_runs,
        "milliseconds per run, computing alone": 1e3 * plain / n_runs,
        "through the store in one process": 1e3 * stored / n_runs,
        f"through the store on {n_workers} workers": 1e3 * pooled / n_runs,
        "finding a stored run": 1e3 * again / n_runs,
        "ratio, one process": stored / plain,
        f"ratio, {n_workers} workers": pooled / plain,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(options.runs, options.workers, folder)
    text = json.dumps({k: float(f"{v:.3g}") for k, v in report.items()}, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
