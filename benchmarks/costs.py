"""Hold the estimated costs of runs against what stored runs took, and print the tables that tell.

    python benchmarks/costs.py                 the table of docs/long-runs.md
    python benchmarks/costs.py RESULTS         estimated and measured, by experiment and kind of run
    python benchmarks/costs.py RESULTS --fit   the rates of work that fit RESULTS best

RESULTS is a folder of `trueboundary reproduce`, on a machine that had nothing else to do. What is
measured are seconds of processor time.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np

from trueboundary.experiments import experiments
from trueboundary.experiments.work_rates import RATES, Rates
from trueboundary.runs import collect

SCALE = "quick"
GROUPS, SCALES, WORKERS = ("spheres", "bayes", "truth"), ("quick", "paper"), (16, 128)
# A rate may move this far from the one in use, so that one which hardly matters stays plausible.
LARGEST_CHANGE, N_ROUNDS = 3.0, 2000


def planned(scale=SCALE):
    """Return the runs of every experiment that needs no images of one's own, by digest."""
    return {
        experiment.id: collect(experiment.runs(scale).values())
        for experiment in experiments().values()
        if not experiment.on_request
    }


def measured(folder):
    """Return the processor time of every stored run, by digest."""
    records = (json.loads(file.read_text()) for file in folder.glob("runs/*/run.json"))
    return {record["digest"]: record["info"]["cpu_seconds"] for record in records}


def comparison(folder):
    """Return estimated against measured seconds of experiments and kinds as lines of Markdown."""
    times, plans = measured(folder), planned()
    everything = {digest: run for runs in plans.values() for digest, run in runs.items()}
    kinds = defaultdict(dict)
    for digest, run in everything.items():
        kinds[run.kind][digest] = run
    lines = []
    for what, groups in (("experiment", {**plans, "everything": everything}), ("kind", kinds)):
        lines.append(f"| {what} | runs | estimated | measured | ratio | not stored |")
        lines.append(f"|{6 * '---|'}")
        rows = [(name, *sums(runs, times)) for name, runs in groups.items()]
        for name, n, cost, seconds, n_absent in sorted(rows, key=lambda row: -row[3]):
            ratio = f"{cost / seconds:.2f}" if seconds else "-"
            cells = (name, n, f"{cost:.1f} s", f"{seconds:.1f} s", ratio, n_absent)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
    return lines


def sums(runs, times):
    """Return how many runs are stored, their cost, what they took, and how many are not."""
    stored = {digest: run for digest, run in runs.items() if digest in times}
    cost = sum(run.cost() for run in stored.values())
    return len(stored), cost, sum(times[digest] for digest in stored), len(runs) - len(stored)


def amounts(runs):
    """Return how much of each kind of work each run is: the derivative of its cost by the rate."""
    names = [*asdict(RATES)]
    at_rates = np.array([run.cost() for run in runs])
    columns = []
    for name in names:
        rate = getattr(RATES, name)
        setattr(RATES, name, 2.0 * rate)
        columns.append((np.array([run.cost() for run in runs]) - at_rates) / rate)
        setattr(RATES, name, rate)
    return names, np.stack(columns, axis=1)


def fitted(folder):
    """Return the rates under which the stored runs are likeliest, from those in use.

    With variances that grow with the cost, the multiplicative updates of Richardson and Lucy keep
    rates positive and their sum that of the measured times, and leave where they were those between
    which the runs cannot tell.
    """
    times = measured(folder)
    runs = {d: run for group in planned().values() for d, run in group.items() if d in times}
    seconds = np.array([times[digest] for digest in runs])
    names, work = amounts(list(runs.values()))
    start = np.array([getattr(RATES, name) for name in names])
    used = work.sum(axis=0) > 0
    rates = start.copy()
    for _ in range(N_ROUNDS):
        found = work @ rates
        better = rates[used] * (work.T @ (seconds / found))[used] / work.sum(axis=0)[used]
        rates[used] = np.clip(better, start[used] / LARGEST_CHANGE, start[used] * LARGEST_CHANGE)
    return Rates(**{n: float(f"{rate:.2g}") for n, rate in zip(names, rates, strict=True)})


def table():
    """Return the table of docs/long-runs.md as lines of Markdown."""
    limits = " | ".join(f"{n} workers, at best" for n in WORKERS)
    head = f"| group | scale | runs | hours on one core | longest single run | {limits} |"
    rows = [row(group, scale) for scale in SCALES for group in GROUPS]
    return [head, f"|{7 * '---|'}", *rows]


def row(group, scale):
    """Return one group's row: work, its longest run, and the larger of that and work per worker."""
    chosen = [e for e in experiments().values() if e.paper == group and not e.on_request]
    goals = [config for experiment in chosen for config in experiment.runs(scale).values()]
    costs = [config.cost() for config in collect(goals).values()]
    work, longest = sum(costs), max(costs)
    hours = f"{work / 3600:.2g}" if work < 36_000 else f"{work / 3600:.0f}"
    times = [longest, *(max(longest, work / n) for n in WORKERS)]
    return "| " + " | ".join([group, scale, str(len(costs)), hours, *map(words, times)]) + " |"


def words(seconds):
    """Return a time as the table has it."""
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{seconds / 3600:.0f} h"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path, help="folder of stored runs")
    parser.add_argument("--fit", action="store_true", help="fit the rates of work to them")
    options = parser.parse_args()
    if options.results is None:
        print("\n".join(table()))
    elif options.fit:
        for name, rate in asdict(fitted(options.results)).items():
            print(f"{name}: float = {rate:g}  # now {getattr(RATES, name):g}")
    else:
        print("\n".join(comparison(options.results)))


if __name__ == "__main__":
    main()
