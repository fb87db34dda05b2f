"""Beyond Gilmer et al. (2018): how the gap between the spheres changes what is learned.

The paper keeps R = 1.3. Here quadratic networks are trained at several radii; their error rates and
the mean distance from a random point to the nearest error are exact, and the latter stands beside
the largest that any error set of that measure can have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from trueboundary import theory
from trueboundary.experiments.base import Analysis, Experiment, Panel, Row, Rows, seeds
from trueboundary.experiments.networks import ellipsoids
from trueboundary.experiments.networks.trained_networks import SPHERES
from trueboundary.experiments.summaries import mean_of_points
from trueboundary.figures import COLOURS, new_figure, plot_rows, shared_legend
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return error rates and distances of one network per radius and seed."""
    runs: dict[str, RunConfig] = {}
    for index, own in seeds(settings, seed):
        for radius in settings["radii"]:
            network = ellipsoids.quadratic_network(settings, own, device, radius=radius)
            errors, distances = run_names(radius, index)
            runs[errors] = ellipsoids.EllipsoidErrors(network)
            runs[distances] = ellipsoids.EllipsoidDistances(network, settings["n_points"], own)
    return runs


def run_names(radius: float, index: int) -> tuple[str, str]:
    """Return the names of the error rates and distances of one network."""
    return f"errors-{radius}-seed{index}", f"distances-{radius}-seed{index}"


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Tabulate error rates, distances and the optimum against the radius."""
    networks = product(range(settings["n_seeds"]), settings["radii"], SPHERES)
    rows = [_row(runs, *network, settings["dim"]) for network in networks]
    return Analysis(panels=(_panel(rows, settings),), remarks=[_remark(rows, settings)])


def _row(runs: Mapping[str, Run], index: int, radius: float, sphere: str, dim: int) -> Row:
    errors, distances = (runs[name] for name in run_names(radius, index))
    log10_rate = ellipsoids.last(errors, f"exact-{sphere}")
    mean, low, high = mean_of_points(distances.arrays[sphere][-1])
    optimum = math.inf
    if math.isfinite(log10_rate):
        own, log_rate = 1.0 if sphere == "inner" else radius, log10_rate * math.log(10)
        optimum = theory.caps.mean_distance(dim, log_measure=log_rate, radius=own)
    return {
        "radius": radius,
        "seed": index,
        "sphere": sphere,
        "log10_error": log10_rate,
        "log10_error_clt": ellipsoids.last(errors, f"clt-{sphere}"),
        "n_wrong": int(ellipsoids.last(errors, "n_wrong")),
        "mean_distance": mean,
        "low": low,
        "high": high,
        "largest_possible": optimum,
    }


def _remark(rows: Rows, settings: Mapping[str, Any]) -> str:
    reached = [r["mean_distance"] / r["largest_possible"] for r in rows if r["log10_error"] < -1]
    ratios = [ratio for ratio in reached if math.isfinite(ratio)]
    perfect = sorted({row["radius"] for row in rows if row["n_wrong"] == 0})
    parts = [
        f"At d = {settings['dim']} after {settings['n_steps']:,} steps the network is perfect at "
        f"R = {', '.join(f'{radius:g}' for radius in perfect)}."
        if perfect
        else f"At d = {settings['dim']} no radius gives a perfect network within "
        f"{settings['n_steps']:,} steps."
    ]
    if ratios:
        parts.append(
            f"Where errors are rarer than one in ten, they are {min(ratios):.2f} to "
            f"{max(ratios):.2f} of the largest possible mean distance away; 1/sqrt(2) = 0.71 is "
            "the limit for many comparable alphas."
        )
    return " ".join(parts)


def _panel(rows: Rows, settings: Mapping[str, Any]) -> Panel:
    def draw() -> Figure:
        figure, (left, right) = new_figure(2, width=10.0, height=4.8)
        for sphere in SPHERES:
            shown = [r for r in rows if r["sphere"] == sphere and math.isfinite(r["log10_error"])]
            style: Any = {"color": COLOURS[sphere], "label": f"{sphere} sphere"}
            plot_rows(left, shown, "radius", "log10_error", "o", **style)
            plot_rows(right, shown, "radius", "mean_distance", "o", **style)
            style["label"] = f"largest possible, {sphere} sphere"
            plot_rows(right, shown, "radius", "largest_possible", "_", markersize=12, **style)
            # Without errors the rate is 0 and the distance infinite: outside of both axes.
            perfect = [r["radius"] for r in rows if r["sphere"] == sphere and r not in shown]
            style = {"ms": 9 if sphere == "outer" else 5, "color": COLOURS[sphere], "mfc": "none"}
            style |= {"clip_on": False, "ls": "", "label": f"no error, {sphere} sphere"}
            for ax, marker, height in ((left, "v", 0.02), (right, "^", 0.98)):
                style["transform"] = ax.get_xaxis_transform()  # heights are shares of the axes
                ax.plot(perfect, [height] * len(perfect), marker, **style)
        for ax in (left, right):
            known: Any = {"color": COLOURS["paper"], "linewidth": 1.0, "zorder": 1}
            ax.axvline(1.3, **known, label="the paper's R")
            ax.set(xlabel="radius R of the outer sphere", xlim=_limits(settings["radii"]))
            ax.margins(y=0.1)
        shared_legend(figure, n_columns=4, of=right)
        left.set_ylabel(r"$\log_{10}$ of the exact error rate")
        right.set_ylabel("mean distance to the nearest error (L2)")
        return figure

    return Panel(
        "radius",
        "Error rate and distance against the radius of the outer sphere",
        "Left: exact error rates of quadratic networks trained online. Right: exact mean distance "
        "(chord) from a random point to the nearest error on its sphere; bars are the largest that "
        "any error set of that measure can have. Triangles: a sphere without any error, whose "
        "rate is 0 and whose nearest error is infinitely far.",
        draw,
        rows,
    )


def _limits(radii: tuple[float, ...]) -> tuple[float, float]:
    """Return the same limits for both plots, whatever is drawn in them."""
    edge = 0.05 * (max(*radii, 1.3) - min(radii)) + 0.01
    return min(*radii, 1.3) - edge, max(*radii, 1.3) + edge


EXPERIMENT = Experiment(
    id="spheres-radius",
    paper="spheres",
    place="beyond the paper",
    title="Wider and narrower gaps between the spheres",
    question="How do the error rate and the distance to the nearest error depend on the radius R?",
    plan=plan,
    analyse=analyse,
)
