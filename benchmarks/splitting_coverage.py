"""How often the intervals of splitting hold the truth, where the truth is known.

Run with ``python benchmarks/splitting_coverage.py CHECKPOINT.json --results RESULTS.json``. Every
interval comes from a pilot and replicates of its own, seeded by its number, for a classifier on the
sphere whose error rate is known exactly: a cap and two quadratic forms, each at four error rates.
The checkpoint holds every interval and is rewritten after every round of one of each; a run that is
stopped continues where it was, and a longer run keeps the intervals of a shorter one. The results
hold what came of them.
"""

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from trueboundary.densities import UniformSphere
from trueboundary.rare_events import (
    RareEventWarning,
    Splitting,
    estimate_error_rate,
    log_normal_interval,
)
from trueboundary.theory import caps
from trueboundary.theory.intervals import clopper_pearson
from trueboundary.theory.quadratic_forms import log_tail

DIM = 20
ERROR_RATES = (1e-4, 1e-8, 1e-15, 1e-30)
SPLITTING = Splitting(n_particles=300, n_replicates=10)

Margin = Callable[[Tensor], Tensor]


def cap(error_rate: float) -> Margin:
    """Return the margin of a classifier that is wrong on a cap of the given measure."""
    threshold = caps.threshold(DIM, error_rate)
    return lambda x: x[:, 0] - threshold


def two_valued(error_rate: float) -> Margin:
    """Return a quadratic form of two weights, each in half of the dimensions."""
    return quadratic(np.repeat([-1.0, 0.0], DIM // 2), np.repeat([0.0, 1.0], DIM // 2), error_rate)


def evenly_spread(error_rate: float) -> Margin:
    """Return a quadratic form of evenly spread weights.

    Its rare errors lie along two opposite directions, in cones far wider one way than another, so
    that particles mix slowly: a hard case.
    """
    share = np.linspace(0.0, 1.0, DIM)
    return quadratic(share - 1.0, share, error_rate)


def quadratic(negative: np.ndarray, positive: np.ndarray, error_rate: float) -> Margin:
    """Return the form of weights ``negative + top * positive`` whose upper tail is given."""

    def excess(log_top: float) -> float:
        tail = float(log_tail(negative + math.exp(log_top) * positive))
        return tail - math.log(error_rate)

    top = math.exp(brentq(excess, -40.0, 1.0, xtol=1e-14))
    weights = torch.from_numpy(negative + top * positive)
    return lambda x: x.square() @ weights


CLASSIFIERS = {"cap": cap, "two-valued quadratic": two_valued, "spread quadratic": evenly_spread}


def one_interval(margin: Margin, seed: int) -> dict[str, float]:
    """Return one estimate with both of its intervals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RareEventWarning)
        result = estimate_error_rate(
            margin,
            UniformSphere(DIM),
            0,
            splitting=SPLITTING,
            generator=torch.Generator().manual_seed(seed),
        )
    log_normal = log_normal_interval(result.replicates)
    return {
        "value": result.value,
        "low": result.low,
        "high": result.high,
        "log_normal_low": log_normal.low,
        "log_normal_high": log_normal.high,
        "spread": result.relative_spread,
        "n_evaluations": result.n_evaluations,
        "n_warnings": len(result.warnings),
    }


def summary(truth: float, case: dict[str, Any]) -> dict[str, Any]:
    """Return coverage, with its own interval, bias, spread and cost."""
    found = case["found"]
    n = len(found)
    columns = {name: np.array([entry[name] for entry in found]) for name in found[0]}
    t = columns["low"], columns["high"]
    log_normal = columns["log_normal_low"], columns["log_normal_high"]
    wide = columns["spread"] > 0.3
    reported = tuple(np.where(wide, two, one) for one, two in zip(t, log_normal, strict=True))
    ratio = columns["value"] / truth
    return {
        "truth": truth,
        "n_intervals": n,
        "t": coverage(truth, *t),
        "log_normal": coverage(truth, *log_normal),
        "log_normal_where_spread_exceeds_0.3_else_t": coverage(truth, *reported),
        "mean_ratio": rounded(ratio.mean()),
        "mean_ratio_standard_error": rounded(ratio.std() / math.sqrt(n)),
        "replicate_spread": rounded(np.sqrt((columns["spread"] ** 2).mean())),
        "ideal_spread": rounded(SPLITTING.ideal_spread(truth)),
        "evaluations_per_interval": rounded(columns["n_evaluations"].mean()),
        "processor_seconds_per_interval": rounded(case["seconds"] / n),
        "with_warnings": int((columns["n_warnings"] > 0).sum()),
    }


def coverage(truth: float, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """Return how many intervals hold the truth and on which side the others lie."""
    n = len(low)
    below, above = int((high < truth).sum()), int((low > truth).sum())
    held = n - below - above
    return {
        "coverage": rounded(held / n),
        "coverage_interval": [rounded(limit) for limit in clopper_pearson(held, n)],
        "too_low": below,
        "too_high": above,
        "median_relative_half_width": rounded(np.median(high - low) / (2 * truth)),
    }


def rounded(value: float) -> float:
    """Return four significant digits."""
    return float(f"{value:.4g}")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the results, never leaving half a file behind."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(state, indent=1) + "\n")
    os.replace(temporary, path)


def settings() -> dict[str, Any]:
    """Return what the intervals depend on."""
    return {
        "dim": DIM,
        "n_particles": SPLITTING.n_particles,
        "keep": SPLITTING.keep,
        "n_sweeps": SPLITTING.n_sweeps,
        "n_replicates": SPLITTING.n_replicates,
        "confidence": SPLITTING.confidence,
        "score": "margin",
        "dtype": "float64",
    }


def main() -> None:
    """Add intervals, one of each kind in turn, until there are as many as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--intervals", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    state: dict[str, Any] = {"settings": settings(), "cases": {}}
    if arguments.checkpoint.exists():
        state = json.loads(arguments.checkpoint.read_text())
        if state["settings"] != settings():
            raise SystemExit(f"{arguments.checkpoint} holds intervals of other settings.")
    cases = {
        f"{name} {error_rate:g}": (make(error_rate), error_rate)
        for error_rate in ERROR_RATES
        for name, make in CLASSIFIERS.items()
    }
    for number in range(arguments.intervals):
        for name, (margin, error_rate) in cases.items():
            case = state["cases"].setdefault(
                name, {"truth": error_rate, "seconds": 0.0, "found": []}
            )
            if len(case["found"]) > number:
                continue
            start = time.process_time()
            case["found"].append(one_interval(margin, seed=number))
            case["seconds"] += time.process_time() - start
        save(arguments.checkpoint, state)
    if arguments.results:
        summaries = {name: summary(case["truth"], case) for name, case in state["cases"].items()}
        save(arguments.results, {"settings": state["settings"], "cases": summaries})


if __name__ == "__main__":
    main()
