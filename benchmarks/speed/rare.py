"""Probabilities that no sample sees: by splitting, and as exact tails of quadratic forms.

For splitting, the work is one estimate of a cap's measure in 100 dimensions with the default
settings; the note says evaluations times relative variance, which does not depend on how many
particles or replicates one pays for. Particles that mixed perfectly after five moves, half of them
kept, would need 3.8e3 at 1e-8. For tails there is no rival: the note compares with the same work at
another size, or with the approximations.
"""

import math
import time
import warnings

import numpy as np
import torch
from harness import Row, Setup, alternate

from trueboundary.densities import UniformSphere
from trueboundary.rare_events import RareEventWarning, Splitting, SplittingStages
from trueboundary.theory import caps, quadratic_forms

TITLE = "Rare events and exact tails"
DIM = 100


def rows(setup: Setup) -> list[Row]:
    """Return the rows of splitting and those of the exact tails."""
    rates = (1e-2,) if setup.tiny else (1e-8, 1e-12)
    targets = {1e-8: "4.9e3", 1e-12: "6.1e3"}
    return [*(_cap(setup, rate, targets.get(rate, "")) for rate in rates), *_tails(setup)]


def _cap(setup: Setup, rate: float, target: str) -> Row:
    threshold = caps.threshold(DIM, rate)
    splitting = Splitting(n_particles=setup.size(1000, 50))
    stages = SplittingStages(
        lambda x: x[:, 0] - threshold, UniformSphere(DIM), 0, splitting=splitting
    )
    n_pilots, n_each = setup.size(5, 1), setup.size(40, 4)
    values, n_evaluations = [], 0.0
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RareEventWarning)
        for seed in range(n_pilots):
            pilot = stages.run_pilot(generator=torch.Generator().manual_seed(2 * seed))
            found = stages.run_replicates(
                pilot, n_each, generator=torch.Generator().manual_seed(2 * seed + 1)
            )
            values.extend(found.values / rate)
            # One pilot serves the ten replicates of an estimate.
            share = n_each / splitting.n_replicates
            n_evaluations += found.n_evaluations + share * pilot.n_evaluations
    seconds = time.process_time() - start
    n = len(values)
    product = n_evaluations / n * float(np.var(values, ddof=1))
    error = product * math.sqrt(2 / (n - 1))
    return Row(
        f"splitting, a cap of measure {rate:g} in {DIM} dimensions",
        "",
        seconds * splitting.n_replicates / n,
        target=target,
        note=f"evaluations times variance {product:.3g} +- {error:.1g}; mean of the estimates "
        f"over the truth {np.mean(values):.3f}, {n} replicates",
    )


def _tails(setup: Setup) -> list[Row]:
    """Return rows of exact tails by size, and of one tiny weight beside many others."""
    spread = {d: np.linspace(0.05, 1.5, d) - 1 for d in _sizes(setup, 50, 500, 5_000, 50_000)}
    tiny = {d: _one_tiny(d) for d in _sizes(setup, 20_000, 100_000)}
    base = list(spread)[min(1, len(spread) - 1)]
    approximations = ("clt_log_tail", "lugannani_rice_log_tail", "chernoff_log_bound")
    seconds = alternate(
        {f"spread {d}": lambda w=w: quadratic_forms.log_tail(w) for d, w in spread.items()}
        | {f"tiny {d}": lambda w=w: quadratic_forms.log_tail(w) for d, w in tiny.items()}
        | {
            name: lambda name=name: getattr(quadratic_forms, name)(spread[base])
            for name in approximations
        },
        setup,
    )
    found = [
        Row(
            f"exact tail of {d:,} spread weights",
            "",
            seconds[f"spread {d}"],
            note=f"{seconds[f'spread {d}'] / d * 1e6:.2g} us a weight",
        )
        for d in spread
    ]
    found += [
        Row(
            f"exact tail of {d:,} weights of which one is positive and tiny",
            "",
            seconds[f"tiny {d}"],
            target="linear",
            note=f"{seconds[f'tiny {d}'] / d * 1e6:.2g} us a weight",
        )
        for d in tiny
    ]
    found += [
        Row(
            f"exact tail of {base} weights",
            name.replace("_", " "),
            seconds[f"spread {base}"],
            seconds[name],
            note="the rival is an approximation",
        )
        for name in approximations
    ]
    return found


def _one_tiny(d: int) -> np.ndarray:
    weights = -np.random.default_rng(0).uniform(0.1, 1.0, d)
    weights[0] = 1e-6
    return weights


def _sizes(setup: Setup, *sizes: int) -> list[int]:
    """Return sizes, in miniature those that take no time."""
    return [d for d in sizes if d <= 500] or [500] if setup.tiny else list(sizes)
