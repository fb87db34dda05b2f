"""Figure 5 of Gilmer et al. (2018) with true values, far beyond where sampling had to stop.

Quadratic networks have exact error rates and exact distances; ReLU networks have error rates from
splitting and distances between a certificate and an attack. How close do they come to the best
distance that their error rate allows? Ellipsoids without any training show what to expect.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary import theory
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.networks import ellipsoids
from trueboundary.experiments.networks.network_brackets import BracketedDistances, bracket_ratios
from trueboundary.experiments.networks.spectra import MEAN_ALPHA, shape, std_for_error
from trueboundary.experiments.networks.splitting_rates import SplittingRate, splitting_budget
from trueboundary.experiments.networks.trained_networks import (
    RADII,
    SPHERES,
    Sphere,
    TrainedNetwork,
    small_relu_network,
    snapshot_steps,
)
from trueboundary.experiments.summaries import mean_of_points
from trueboundary.experiments.work_rates import RATES
from trueboundary.figure_parts import LIMIT, draw_best_possible, draw_rate_and_bracket
from trueboundary.figures import COLOURS, CYCLE, interval_bars, new_figure, plot_rows, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Shapes of the alphas: the first two have no few alphas that matter more than the rest.
SHOWN = ("two-point", "uniform", "gamma(3)", "10 spikes", "1 spike")
BULK = SHOWN[:2]
#: Rarest error that the paper's sample of 100,000 points per network can show, log10.
PAPER_REACH = -5.0
#: Largest error rate at which networks are compared with the optimum, log10.
_LARGEST = -1.0


@dataclass(frozen=True)
class ShapeDistances(RunConfig):
    """How ellipsoids of several shapes stand to the optimum at given exact inner error rates.

    The summary's ``rows`` hold ``shape``, ``log10_error``, the mean ``distance`` on the inner
    sphere, the ``optimum``, and their ``ratio`` with its 95 % interval over points.

    Parameters
    ----------
    log10_errors : tuple of float
        Error rates, below log10(1/10).
    """

    dim: int
    log10_errors: tuple[float, ...]
    n_points: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(11, "dim")
        self.check_at_least(2, "n_points")

    def cost(self) -> float:
        """Return the cost of projecting every point for every shape and rate."""
        n_points = len(SHOWN) * len(self.log10_errors) * self.n_points
        return RATES.run + n_points * self.dim * RATES.projection

    def compute(self, context: Context) -> RunResult:
        """Find the spread that has each error rate, then the exact distances."""
        from trueboundary.certificates import nearest_ellipsoid_error

        points = ellipsoids.unit_points(self.n_points, self.dim, self.seed)
        rows = []
        for name in SHOWN:
            unit = shape(name, self.dim)
            for log10_error in self.log10_errors:
                alphas = MEAN_ALPHA + std_for_error(unit, log10_error) * unit
                distances = nearest_ellipsoid_error(points, alphas)
                optimum = ellipsoids.cap_distance(self.dim, log10_error)
                low, high = theory.intervals.t_interval(distances / optimum)
                mean = float(distances.mean())
                row: Row = {"shape": name, "dim": self.dim, "log10_error": log10_error}
                row |= {"distance": mean, "optimum": optimum, "ratio": mean / optimum}
                rows.append(row | {"low": low, "high": high})
            context.progress((SHOWN.index(name) + 1) / len(SHOWN))
        return RunResult({"rows": rows})


def relu_networks(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, TrainedNetwork]:
    """Return the ReLU networks: a narrow one with snapshots, and the paper's when trained."""
    n_steps = settings["narrow_n_steps"]
    steps = snapshot_steps(n_steps, settings["n_narrow_snapshots"], first=n_steps // 20 + 1)
    fields = {name: settings[f"narrow_{name}"] for name in ("width", "n_steps", "learning_rate")}
    narrow = small_relu_network(settings, seed, device, snapshots=steps[:-1], **fields)
    small = small_relu_network({**settings, "n_steps": settings["relu_n_steps"]}, seed, device)
    return {"narrow": narrow, "small": small}


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return exact runs of quadratic networks and shapes, and estimates of ReLU networks."""
    n_exact = settings["n_exact_points"]
    runs: dict[str, RunConfig] = {
        f"shapes/{dim}": ShapeDistances(dim, settings["log10_errors"], n_exact, seed)
        for dim in settings["dims"]
    }
    for n_train in settings["train_sizes"]:
        network = ellipsoids.quadratic_network(settings, seed, device, n_train=n_train)
        runs[f"errors/{n_train}"] = ellipsoids.EllipsoidErrors(network)
        runs[f"quadratic/{n_train}"] = ellipsoids.EllipsoidDistances(network, n_exact, seed)
    budget = splitting_budget(settings)
    distances = settings["n_points"], settings["n_attack_steps"]
    for name, network, step, sphere in relu_runs(settings, seed, device):
        which: Any = {"model": network.stored_models()[step], "seed": seed}
        runs[f"{name}/rate"] = SplittingRate(network, sphere, **budget, **which)
        runs[f"{name}/distance"] = BracketedDistances(network, sphere, *distances, **which)
    return runs


def relu_runs(
    settings: Mapping[str, Any], seed: int = 0, device: str = "cpu"
) -> Iterator[tuple[str, TrainedNetwork, int, Sphere]]:
    """Yield the name of the two runs of each ReLU network, stored step and sphere, and what it is.

    The names depend on neither seed nor device.
    """
    last = {"narrow": settings["n_narrow_snapshots"], "small": settings["n_small_snapshots"]}
    for kind, network in relu_networks(settings, seed, device).items():
        for step in list(network.stored_models())[-last[kind] :]:
            for sphere in SPHERES:
                yield f"relu/{kind}/{step}/{sphere}", network, step, sphere


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Compare every error rate and distance with the best possible."""
    shapes = [row for d in settings["dims"] for row in runs[f"shapes/{d}"].summary["rows"]]
    quadratic = quadratic_rows(runs, settings)
    relu = relu_rows(runs, settings)
    measurements = {"T1": _shape_measurement(shapes, quadratic)}
    panels = [_fig5(quadratic, relu, settings["dim"]), _ratios(shapes)]
    return Analysis(panels, measurements, _remarks(shapes, quadratic, relu))


def quadratic_rows(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Rows:
    """Return one row per quadratic network, stored step and sphere that has errors."""
    rows = []
    for n_train in settings["train_sizes"]:
        errors, distances = runs[f"errors/{n_train}"].arrays, runs[f"quadratic/{n_train}"].arrays
        for index, step in enumerate(errors["step"]):
            for sphere in SPHERES:
                log10 = float(errors[f"exact-{sphere}"][index])
                mean, low, high = mean_of_points(distances[sphere][index])
                if not (math.isfinite(log10) and log10 < 0) or low is None or high is None:
                    continue  # no error, or signs turned
                optimum = ellipsoids.cap_distance(settings["dim"], log10, sphere)
                ends = {"": mean, "_low": low, "_high": high}
                rows.append(
                    {
                        "network": f"quadratic, {ellipsoids.training_words(n_train)}",
                        "step": int(step),
                        "sphere": sphere,
                        "log10_error": log10,
                        **{f"distance{end}": value for end, value in ends.items()},
                        "optimum": optimum,
                        **{f"ratio{end}": value / optimum for end, value in ends.items()},
                    }
                )
    return rows


def relu_rows(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Rows:
    """Return one row per ReLU network, stored step and sphere where it errs, but not often."""
    rows = []
    for name, network, step, sphere in relu_runs(settings):
        run, arrays = runs[f"{name}/rate"], runs[f"{name}/distance"].arrays
        rate = run.summary["rate"]
        if not run.summary["reached"] or rate > 10**_LARGEST:
            continue
        found = bracket_ratios(arrays, settings["dim"], math.log(rate), RADII[sphere])
        rows.append(
            {
                "network": f"ReLU, {network.width:,} units",
                "step": step,
                "sphere": sphere,
                "log10_error": math.log10(rate),
                "rate": rate,
                "rate_low": run.summary["low"],
                "rate_high": run.summary["high"],
                **found,
                "ratio_certified": found["certified"] / found["optimum"],
                "ratio_attacked": found["attacked"] / found["optimum"],
                "n_warnings": len(run.summary["warnings"]),
            }
        )
    return rows


def _shape_measurement(rows: Rows, quadratic: Rows) -> Measurement:
    """Return the largest ratio of untrained spectra; the note has that of trained networks."""
    bulk = [row for row in rows if row["shape"] in BULK]
    top = max(bulk, key=lambda row: float(row["ratio"]))
    return Measurement(
        top["ratio"],
        top["low"],
        top["high"],
        n=len(bulk),
        exact=LIMIT,
        cells=bulk,
        note=f"The largest of {len(bulk)} ratios ({' and '.join(BULK)} alphas); the smallest is "
        f"{min(row['ratio'] for row in bulk):.3f}. The exact column is 1/sqrt(2), the limit of "
        f"large dimensions. {_trained_sentence(quadratic)}",
    )


def _trained_sentence(rows: Rows) -> str:
    compared = [row for row in rows if row["log10_error"] <= _LARGEST]
    if not compared:
        return "No trained quadratic network errs seldom enough to be compared."
    ratios = [row["ratio"] for row in compared]
    return (
        f"Trained quadratic networks reach {min(ratios):.3f} to {max(ratios):.3f} (median "
        f"{float(np.median(ratios)):.3f}; {plural(len(compared), 'pair')} of snapshot and sphere "
        f"with an error rate of at most {10**_LARGEST:g}, good to {_half_width(compared):.3f})."
    )


def _half_width(rows: Rows) -> float:
    return max(float(row["ratio_high"] - row["ratio_low"]) / 2 for row in rows)


def _remarks(shapes: Rows, quadratic: Rows, relu: Rows) -> list[str]:
    parts = []
    for name in SHOWN:
        ratios = [row["ratio"] for row in shapes if row["shape"] == name]
        parts.append(f"{name} {min(ratios):.3f} to {max(ratios):.3f}")
    remarks = [
        "Mean distance to the nearest error over the best possible at the same error rate, without "
        f"any training: {'; '.join(parts)}. A spectrum in which no few alphas stand out tends to "
        "1/sqrt(2) = 0.707: near its boundary the sum of alpha x^2 changes along the sphere by "
        "twice the alphas' standard deviation, and varies over the sphere by sqrt(2/d) times it, "
        "while for a cap both come from one coordinate."
    ]
    deep = [row for row in quadratic if row["log10_error"] < PAPER_REACH]
    if deep:
        least = min(row["log10_error"] for row in deep)
        remarks.append(
            f"{len(deep)} of {plural(len(quadratic), 'exact point')} lie at error rates below "
            f"10^{PAPER_REACH:g}, where a sample of 100,000 sees nothing; the rarest is "
            f"10^{least:.1f}."
        )
    return remarks + [
        f"{row['network']}, after {row['step']:,} steps, {row['sphere']} sphere: error rate "
        f"{row['rate']:.2g} [{row['rate_low']:.2g}, {row['rate_high']:.2g}], mean distance "
        f"between {row['ratio_certified']:.2f} (proven) and {row['ratio_attacked']:.2f} "
        "(attack) of the best possible."
        for row in relu
    ]


def _fig5(quadratic: Rows, relu: Rows, dim: int) -> Panel:
    return Panel(
        "fig5-exact",
        "Error rate and distance to the nearest error, with true values (Fig. 5)",
        "Squares: quadratic networks in training, exact error rate and exact mean distance. Bars: "
        "ReLU networks, error rate by splitting (95 % intervals) and mean distance between "
        "certificate (open) and attack (filled). The upper line is the best that any error set of "
        "that size can do, the lower one 1/sqrt(2) of it. Only right of the dotted line does a "
        "sample of 100,000 points, the paper's, show errors at all.",
        lambda: _draw_fig5(quadratic, relu, dim),
        [*quadratic, *relu],
    )


def _draw_fig5(quadratic: Rows, relu: Rows, dim: int) -> Figure:
    figure, panels = new_figure(2, width=11.0, height=5.0)
    least = min([-8.0, *(row["log10_error"] for row in [*quadratic, *relu])])
    floor = max(-40.0, least - 1)
    grid = np.linspace(floor, math.log10(0.5), 200)
    trained = dict.fromkeys(row["network"] for row in quadratic)
    for axes, sphere in zip(panels, SPHERES, strict=True):
        best = np.array([ellipsoids.cap_distance(dim, log10_error, sphere) for log10_error in grid])
        draw_best_possible(axes, grid, best)
        axes.axvline(PAPER_REACH, color=COLOURS["paper"], linestyle=":", label="the paper's reach")
        for network, colour in zip(trained, ("inner", "green"), strict=False):
            own = [r for r in quadratic if r["network"] == network and r["sphere"] == sphere]
            style: Any = {"color": COLOURS[colour], "markersize": 4.5, "label": network}
            plot_rows(axes, own, "log10_error", "distance", "s", **style)
        names = dict.fromkeys(row["network"] for row in relu)
        for network, colour in zip(names, ("orange", "outer"), strict=False):
            own = [r for r in relu if r["network"] == network and r["sphere"] == sphere]
            _draw_brackets(axes, own, network, COLOURS[colour])
        axes.set(
            title=f"{sphere} sphere",
            xlabel=r"$\log_{10}$ of the error rate",
            ylabel="mean distance to the nearest error (L2)",
        )
        # What is farther to the left is not shown, and the height is that of what is.
        axes.set(xlim=(floor, 0), ylim=(0, 1.05 * best.max()))
    shared_legend(figure, n_columns=3, of=panels[0])
    return figure


def _draw_brackets(axes: Axes, rows: Rows, label: str, colour: str) -> None:
    for row in rows:
        low, high = (math.log10(max(row[name], 1e-300)) for name in ("rate_low", "rate_high"))
        ends = (row["certified"], row["attacked"])
        draw_rate_and_bracket(axes, row["log10_error"], (low, high), *ends, color=colour)
    axes.plot([], [], "v", color=colour, markersize=6, label=f"{label}: attack")
    proven: Any = {"color": colour, "markerfacecolor": "none", "markersize": 6}
    axes.plot([], [], "^", **proven, label=f"{label}: proof")


def _ratios(rows: Rows) -> Panel:
    return Panel(
        "ratio",
        "How near ellipsoids come to the best possible, by the shape of their alphas",
        "Mean exact distance over that of a cap of the same exact error rate, inner sphere, with "
        "95 % intervals over random points. Spectra without outstanding alphas are near 1/sqrt(2) "
        "at every error rate, and the nearer, the larger the dimension: what the paper calls "
        "closely tracking the optimum is a distance a third shorter. The more a few alphas stand "
        "out, the more the error set is like a pair of theory.caps.",
        lambda: _draw_ratios(rows),
        rows,
    )


def _draw_ratios(rows: Rows) -> Figure:
    dims = sorted({row["dim"] for row in rows})
    figure, panels = new_figure(len(dims), width=1.5 + 3.3 * len(dims), height=4.4)
    for axes, dim in zip(panels, dims, strict=True):
        for name, colour in zip(SHOWN, CYCLE, strict=False):
            own = [row for row in rows if row["dim"] == dim and row["shape"] == name]
            names = ("log10_error", "ratio", "low", "high")
            columns = ([row[name] for row in own] for name in names)
            words: Any = {"color": colour, "markersize": 4, "linewidth": 1.2, "label": name}
            interval_bars(axes, *columns, fmt="o-", **words)
        axes.axhline(1.0, color=COLOURS["truth"], label="best possible")
        axes.axhline(LIMIT, color=COLOURS["truth"], linestyle="--", label=r"$1/\sqrt{2}$")
        axes.set(title=f"d = {dim:,}", xlabel=r"$\log_{10}$ of the error rate")
        axes.set(ylim=(0.5, 1.05), ylabel="mean distance / best possible")
        axes.locator_params("x", integer=True)
    shared_legend(figure, n_columns=4, of=panels[0])
    return figure


EXPERIMENT = Experiment(
    id="truth-tradeoff",
    paper="truth",
    place="Gilmer et al. (2018), Fig. 5",
    title="Error rate against distance to the nearest error, with true values",
    question=(
        "How much of the best possible distance do networks reach, at error rates no sample shows?"
    ),
    plan=plan,
    analyse=analyse,
)
