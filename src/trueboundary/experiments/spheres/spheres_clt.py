"""Sections 4 and 4.1 of Gilmer et al. (2018): when a quadratic network is wrong, and how often.

Error rates of quadratic networks during training, exactly and by every approximation: the paper's
central limit theorem, the same on the sphere, the saddle-point formula of Lugannani and Rice,
Chernoff's bound (the concentration inequality of the paper's first footnote), and counting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows
from trueboundary.experiments.networks import ellipsoids
from trueboundary.experiments.networks.ellipsoids import Floats
from trueboundary.experiments.networks.trained_networks import SPHERES, Sphere
from trueboundary.experiments.summaries import share_row
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, interval_bars, new_figure, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.runs.config import Arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Error rates from which on 10 million random points show enough errors to measure them by.
MEASURABLE = -6.0
#: Inequalities that a reader would try before Chernoff's bound, as claims and tables call them.
BOUNDS = ("laurent-massart", "bernstein", "hanson-wright")
#: A figure that reaches below this power of ten is drawn on an axis that is logarithmic far down.
_FAR = -200.0


@dataclass(frozen=True)
class EllipsoidCounts(ellipsoids.OfEllipsoids):
    """Errors of every stored model of a quadratic network among random points.

    The arrays have one row per stored model, in the order of `EllipsoidErrors`:
    ``inner`` and ``outer``, numbers of errors. The points are drawn in the axes of each ellipsoid,
    which changes nothing for uniform points; those of the outer sphere are the inner ones, scaled.
    """

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

    def cost(self) -> float:
        """Drawing the points is nearly all of it."""
        # In float64 and squared: five times as long to draw and twice as long to multiply.
        per_model = 2 * self.network.dim * RATES.product
        n_models = 1 + len(self.network.snapshots)
        drawing = 5 * self.network.dim * RATES.random_number
        return RATES.run + self.n_points * (drawing + n_models * per_model)

    def compute(self, context: Context) -> RunResult:
        """Count, block by block."""
        import torch

        arrays = context.inputs["errors"].arrays
        alphas, sign = arrays["alphas"], np.sign(arrays["scale"])
        counts: Arrays = {sphere: np.zeros(len(alphas), dtype=np.int64) for sphere in SPHERES}
        done = 0
        blocks = self.network.problem().blocks(
            self.n_points, seed=self.seed, label=0, dtype=torch.float64, purpose="ellipsoids"
        )
        for x, _ in blocks:
            sums = x.square().numpy() @ alphas.T
            counts["inner"] += (sign * (sums - 1) >= 0).sum(axis=0)
            counts["outer"] += (sign * (self.network.radius**2 * sums - 1) <= 0).sum(axis=0)
            done += len(x)
            context.progress(done / self.n_points)
        return RunResult({"n_points": self.n_points}, counts)


@dataclass(frozen=True)
class RandomEllipsoids(RunConfig):
    """Whether exact error rates vanish just when the paper says so, over random ellipsoids.

    Each case draws a dimension from 2 to 6, a centre and a spread of the alphas, some of them
    exactly on 1 or 1/R^2, and in one case of four turns the network's signs. Counting errors among
    `n_points` random points per sphere checks the exact rates by a way of its own.
    """

    version: ClassVar[int] = 2  # 1 did not ask what holds whatever the signs

    n_cases: int = 400
    n_points: int = 2000
    radius: float = ellipsoids.RADIUS
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_cases", "n_points")

    def cost(self) -> float:
        """Two exact tails and some points in four dimensions each."""
        drawing = 4 * self.n_points * RATES.random_number
        return RATES.run + self.n_cases * (2 * RATES.tail + drawing)

    def compute(self, context: Context) -> RunResult:
        """Draw and compare."""
        generator = np.random.default_rng(self.seed)
        rows: list[dict[str, bool]] = []
        while len(rows) < self.n_cases:
            rows.append(self._case(generator))
            context.progress(len(rows) / self.n_cases)
        counted = {name: sum(row[name] for row in rows) for name in rows[0]}
        return RunResult(counted | {"n_cases": self.n_cases})

    def _case(self, generator: np.random.Generator) -> dict[str, bool]:
        alphas, inverted = self._draw(generator)
        which: Any = {"radius": self.radius, "inverted": inverted}
        rates = {sphere: ellipsoids.log10_error(alphas, sphere, **which) for sphere in SPHERES}
        right = ellipsoids.count_wrong(alphas, self.radius) == 0
        perfect = right and not inverted
        none = all(math.isinf(rate) for rate in rates.values())
        above, below = bool((alphas > 1).any()), bool((alphas < 1 / self.radius**2).any())
        return {
            "n_perfect": perfect,
            "n_inverted": inverted,
            "n_right_and_inverted": right and inverted,
            "n_equivalence_holds": perfect == none,
            "n_holds_as_printed": right == none,
            "n_inner_holds": inverted or above == math.isfinite(rates["inner"]),
            "n_outer_holds": inverted or below == math.isfinite(rates["outer"]),
            "n_counts_agree": self._counts_agree(generator, alphas, inverted, rates),
        }

    def _draw(self, generator: np.random.Generator) -> tuple[ellipsoids.Floats, bool]:
        dim = int(generator.integers(2, 7))
        spread = float(generator.choice([0.05, 0.2, 0.6]))
        alphas = np.abs(generator.normal(generator.uniform(0.5, 1.1), spread, dim))
        limits = generator.choice([1.0, 1 / self.radius**2], dim)
        on_limit = generator.random(dim) < 0.2
        return np.where(on_limit, limits, alphas), bool(generator.random() < 0.25)

    def _counts_agree(
        self,
        generator: np.random.Generator,
        alphas: ellipsoids.Floats,
        inverted: bool,
        rates: Mapping[Any, float],
    ) -> bool:
        """Say whether counts are within five standard deviations, and 0 where the rate is 0."""
        x = generator.standard_normal((self.n_points, len(alphas)))
        sums = (x**2 @ alphas) / (x**2).sum(axis=1)
        sign = -1 if inverted else 1
        # On a boundary that is a sphere of the data, rounding would decide.
        wrong = {
            "inner": sign * (sums - 1) > 1e-12,
            "outer": sign * (1 - self.radius**2 * sums) > 1e-12,
        }
        for sphere, rate in rates.items():
            p, count = 10.0**rate, int(wrong[sphere].sum())
            deviation = 5 * math.sqrt(self.n_points * p * (1 - min(p, 1.0))) + (0 < p < 1)
            if abs(count - self.n_points * p) > deviation:
                return False
        return True


@dataclass(frozen=True)
class BestMean(RunConfig):
    """The mean alpha that makes the larger of the two exact error rates smallest.

    The alphas are evenly spread around their mean, with the standard deviation `std`. One rate
    rises with the mean and the other falls, so the best mean is where they meet.
    """

    dim: int = 500
    std: float = 0.3
    radius: float = ellipsoids.RADIUS

    def cost(self) -> float:
        """Two exact tails for each of about eight steps."""
        return RATES.run + 8 * 2 * (RATES.tail + self.dim * RATES.tail_weight)

    def compute(self, context: Context) -> RunResult:
        """Solve for the crossing."""
        from scipy.optimize import brentq

        log10_error = partial(ellipsoids.log10_error, radius=self.radius)
        shape = math.sqrt(3) * self.std * ((2 * np.arange(self.dim) + 1) / self.dim - 1)

        def imbalance(mean: float) -> float:
            return log10_error(mean + shape, "inner") - log10_error(mean + shape, "outer")

        best = float(brentq(imbalance, 1 / self.radius**2, 1.0, xtol=1e-12))
        return RunResult({"mean_alpha": best, "log10_error": log10_error(best + shape, "inner")})


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return the exact rates and the counts of each network, and the two checks."""
    runs: dict[str, RunConfig] = {
        "random-ellipsoids": RandomEllipsoids(seed=seed),
        "best-mean": BestMean(),
    }
    for n_train in settings["train_sizes"]:
        network = ellipsoids.quadratic_network(settings, seed, device, n_train=n_train)
        runs[f"errors-{n_train}"] = ellipsoids.EllipsoidErrors(network)
        runs[f"counts-{n_train}"] = EllipsoidCounts(network, settings["n_points"], seed)
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Compare every way to an error rate, on both spheres and all along the training."""
    table, best = error_table(runs, settings), runs["best-mean"].summary
    measured = {
        **_equivalences(runs["random-ellipsoids"]),
        "A2.8": _worst_clt(table),
        "A2.8b": _printed_estimate(table),
        "A2.9": Measurement(
            best["mean_alpha"],
            note=f"Both error rates are then 10^{best['log10_error']:.2f}. By exact error rates.",
        ),
        "F1": _looseness(table, "chernoff"),
        **{f"F1-{bound}": _looseness(table, bound) for bound in BOUNDS},
    }
    return Analysis(
        panels=(_panel(table, settings),),
        measurements={claim: found for claim, found in measured.items() if found is not None},
        remarks=[_counting_remark(table)],
    )


def error_table(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Rows:
    """Return one row per network, stored step and sphere: log10 error rates by every method."""
    rows = []
    for n_train in settings["train_sizes"]:
        errors, counts = runs[f"errors-{n_train}"].arrays, runs[f"counts-{n_train}"]
        for index, step in enumerate(errors["step"]):
            for row in ellipsoids.method_rows(errors, index):
                weights = _signed_weights(
                    errors["alphas"][index], errors["scale"][index], row["sphere"]
                )
                row |= _bounds(weights) | {"printed": _as_printed(weights)}
                n_errors = int(counts.arrays[row["sphere"]][index])
                count = share_row(n_errors, counts.summary["n_points"])
                rows.append({"n_train": n_train, "step": int(step), **row, **count})
    return rows


def _equivalences(run: Run) -> dict[str, Measurement]:
    found, n = run.summary, run.summary["n_cases"]
    note = (
        f"{n} random ellipsoids in 2 to 6 dimensions, {found['n_perfect']} of them perfect and "
        f"{found['n_inverted']} with both signs turned; counted errors agree with the exact rates "
        f"in {found['n_counts_agree']}."
    )
    turned = (
        f"{note} With both signs turned, {found['n_right_and_inverted']} networks have all alphas "
        "in the interval, and they call every point of either sphere wrong."
    )
    counted = found["n_counts_agree"] == n
    one_sided = found["n_inner_holds"] == found["n_outer_holds"] == n
    return {
        "A2.1": Measurement(counted and found["n_equivalence_holds"] == n, n=n, note=note),
        "A2.1b": Measurement(counted and found["n_holds_as_printed"] == n, n=n, note=turned),
        "A2.2": Measurement(counted and one_sided, n=n, note=note),
    }


def _worst_clt(table: Rows) -> Measurement | None:
    cells = [
        {"n_train": row["n_train"], "step": row["step"], "sphere": row["sphere"]}
        | {"log10 exact": row["exact"], "log10 CLT": row["clt"]}
        for row in table
        if row["exact"] >= MEASURABLE
    ]
    if not cells:
        return None  # no snapshot has errors that sampling could see
    worst = max(cells, key=lambda row: abs(row["log10 CLT"] - row["log10 exact"]))
    deepest = max(
        (row for row in table if math.isfinite(row["exact"])),
        key=lambda row: abs(row["clt"] - row["exact"]),
    )
    return Measurement(
        abs(worst["log10 CLT"] - worst["log10 exact"]),
        n=len(cells),
        cells=cells,
        note=(
            f"Largest on the {worst['sphere']} sphere at step {worst['step']:,}. Where sampling "
            f"sees nothing it is off by up to {abs(deepest['clt'] - deepest['exact']):.1f} powers "
            f"of ten ({deepest['sphere']} sphere, exactly 10^{deepest['exact']:.1f})."
        ),
    )


def _printed_estimate(table: Rows) -> Measurement | None:
    """Return how far proposition 4.1 is off as it is printed, where errors can be counted."""
    cells = [
        {"n_train": row["n_train"], "step": row["step"], "log10 exact": row["exact"]}
        | {"log10 as printed": row["printed"], "log10 corrected": row["clt"]}
        for row in table
        if row["sphere"] == "inner" and row["exact"] >= MEASURABLE
    ]
    if not cells:
        return None  # no snapshot has errors that sampling could see
    off = [abs(cell["log10 as printed"] - cell["log10 exact"]) for cell in cells]
    corrected = [abs(cell["log10 corrected"] - cell["log10 exact"]) for cell in cells]
    worst = cells[off.index(max(off))]
    note = (
        f"At step {worst['step']:,} it says 10^{worst['log10 as printed']:.2f} where the rate is "
        f"10^{worst['log10 exact']:.2f}. With sign and square corrected it is off by "
        f"{max(corrected):.2f} at most."
    )
    return Measurement(max(off), n=len(cells), cells=cells, note=note)


def _signed_weights(alphas: Floats, scale: float, sphere: Sphere) -> Floats:
    """Return the weights whose quadratic form is positive where the network errs."""
    from trueboundary.theory import quadratic_forms

    which: Any = {"sphere": sphere, "radius": ellipsoids.RADIUS}
    weights: Floats = quadratic_forms.ellipsoid_weights(alphas, **which)
    return weights if scale > 0 else -weights


def _bounds(weights: Floats) -> dict[str, float]:
    """Return the log10 of each inequality's bound of an error rate."""
    from trueboundary.theory import concentration

    found = (
        concentration.laurent_massart_log_bound(weights),
        concentration.bernstein_log_bound(weights),
        concentration.hanson_wright_log_bound(weights),
    )
    return {name: bound / math.log(10) for name, bound in zip(BOUNDS, found, strict=True)}


def _as_printed(weights: Floats) -> float:
    """Return the log10 of what proposition 4.1 says literally."""
    from trueboundary.theory import quadratic_forms

    probability = quadratic_forms.printed_clt_tail(weights)
    return math.log10(probability) if probability > 0 else -math.inf


def _looseness(table: Rows, bound: str) -> Measurement | None:
    """Return by how many powers of ten a bound exceeds the exact rate at its worst."""
    known = [row for row in table if math.isfinite(row["exact"])]
    if not known:
        return None  # no snapshot makes any error
    gaps = [row[bound] - row["exact"] for row in known]
    worst = known[gaps.index(max(gaps))]
    note = (
        f"Where the rate is 10^{worst['exact']:.1f} ({worst['sphere']} sphere, step "
        f"{worst['step']:,}) the bound is 10^{worst[bound]:.1f}. The smallest is {min(gaps):.2f}."
    )
    return Measurement(max(gaps), n=len(gaps), note=note)


def _counting_remark(table: Rows) -> str:
    inside = sum(row["low"] <= 10 ** row["exact"] <= row["high"] for row in table)
    seen = [row for row in table if row["n_errors"] > 0]
    return (
        f"Counting {plural(table[0]['n_points'], 'point')} per sphere sees errors of {len(seen)} "
        f"of {plural(len(table), 'pair')} of snapshot and sphere; the exact rate lies in the 95 % "
        f"interval of the count for {inside} of the {len(table)}."
    )


def _panel(table: Rows, settings: Mapping[str, Any]) -> Panel:
    sizes = settings["train_sizes"]

    def draw() -> Figure:
        figure, axes = new_figure(2, len(sizes), width=10.0, height=3.4 * len(sizes) + 0.9)
        cells = [(n_train, sphere) for n_train in sizes for sphere in SPHERES]
        for ax, (n_train, sphere) in zip(axes, cells, strict=True):
            rows = [r for r in table if r["n_train"] == n_train and r["sphere"] == sphere]
            _draw_rates(ax, rows)
            ax.set_title(f"{sphere} sphere, {ellipsoids.training_words(n_train)}")
        shared_legend(figure, n_columns=3, of=axes[0])
        return figure

    return Panel(
        "error-rates",
        "Error rates during training, by every method",
        "Error rate of quadratic networks at several steps of training. Counting needs rates above "
        "one in the number of points; the exact values do not. The central limit theorem, the "
        "paper's method, parts from them in the tail, in either direction; the saddle-point "
        "formula lies on them, and Chernoff's bound stays a factor above. Where no error is left "
        "the exact rate is 0 and has no mark; where an estimate then goes far down, the axis is "
        "logarithmic below -10.",
        draw,
        table,
    )


def _draw_rates(axes: Axes, rows: Rows) -> None:
    styles = {
        "exact": ("-", "truth"),
        "clt": ("x--", "paper"),
        "sphere-clt": ("+--", "orange"),
        "lugannani-rice": ("o", "green"),
        "chernoff": ("v:", "grey"),
    }
    steps = [row["step"] for row in rows]
    for method, (style, colour) in styles.items():
        values = [row[method] if math.isfinite(row[method]) else math.nan for row in rows]
        width = 2.2 if method == "exact" else 1.1
        words: Any = {"label": ellipsoids.METHODS[method], "color": COLOURS[colour]}
        axes.plot(steps, values, style, lw=width, ms=5, mfc="none", **words)
    seen = [row for row in rows if row["n_errors"] > 0]
    rates, low, high = (np.log10([r[name] for r in seen]) for name in ("rate", "low", "high"))
    counted: Any = {
        "fmt": "s",
        "color": COLOURS["sky"],
        "ms": 4,
        "label": "counted, with 95 % interval",
    }
    interval_bars(axes, [row["step"] for row in seen], rates, low, high, **counted)
    axes.set(xscale="log", xlabel="training steps", ylabel=r"$\log_{10}$ of the error rate")
    if axes.get_ylim()[0] < _FAR:  # an estimate of a rate of 0 must not flatten all others
        axes.set_yscale("symlog", linthresh=10.0)
        axes.set_ylim(top=1.0)


EXPERIMENT = Experiment(
    id="spheres-clt",
    paper="spheres",
    place="Sections 4 and 4.1, footnote 1",
    title="Exact and approximate error rates",
    question=(
        "When does a quadratic network make errors, and which estimates of their rate can be "
        "trusted where sampling sees none?"
    ),
    plan=plan,
    analyse=analyse,
)
