"""Accuracy of the ReLU network at every norm (Gilmer et al. 2018, Fig. 2 left)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows, rows_of
from trueboundary.experiments.networks.attacked_norms import MIDDLE, NormAttack, NormScan
from trueboundary.experiments.networks.trained_networks import RADII, small_relu_network
from trueboundary.experiments.summaries import share_row
from trueboundary.figures import COLOURS, new_figure, plot_rows, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Norms that are attacked, and at which random points are drawn.
ATTACKED_NORMS = tuple(round(0.1 * tenth, 1) for tenth in range(3, 31))
#: Random points are drawn at some more, where the accuracy changes fast.
NORMS = tuple(sorted({*ATTACKED_NORMS, 1.05, 1.12, 1.14, 1.16, 1.18, 1.25}))
PAPER_NORMS = (0.6, 2.4)


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Scan and attack the network that the other experiments share."""
    network = small_relu_network(settings, seed, device)
    budget = settings["n_attack_points"], settings["n_attack_steps"], settings["n_restarts"]
    return {
        "random": NormScan(network, NORMS, settings["n_points"], seed=seed),
        "attack": NormAttack(network, ATTACKED_NORMS, *budget, seed=seed),
    }


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Turn counts into accuracies, and find the norms at which errors were found."""
    rows = accuracy_rows(runs["random"])
    attack = runs["attack"]
    n_points = attack.summary["n_points"]
    found = {name: attack.arrays[name] for name in ("norm", "n_found", "worst_margin")}
    attacked = [row | {"n_attacked": n_points} for row in rows_of(**found)]
    panel = Panel(
        "fig2-left",
        "Accuracy at every norm",
        f"Accuracy on {plural(settings['n_points'], 'random point')} of each norm, where "
        "points of norm above 1.15 count as outer, and what is left of it when each of "
        f"{plural(n_points, 'random point')} may move anywhere on the sphere of its norm to "
        "find an error. The paper finds errors by attack from norm 0.6 to 2.4 (dashed).",
        lambda: _draw(rows, attacked),
        [*rows, *attacked],
    )
    measurements = {
        "A1.7a": curve_measurement(rows),
        "A1.7b": _extreme(attacked, smallest=True),
        "A1.7c": _extreme(attacked, smallest=False),
    }
    return Analysis([panel], measurements)


def accuracy_rows(run: Run) -> Rows:
    """Return accuracy and its 95 % interval by norm."""
    rows: Rows = []
    n = run.summary["n_points"]
    for norm, n_errors in zip(run.arrays["norm"], run.arrays["n_errors"], strict=True):
        accuracy, right = 1 - int(n_errors) / n, share_row(n - int(n_errors), n)
        rows.append(
            {
                "norm": float(norm),
                "n_points": n,
                "n_errors": int(n_errors),
                "accuracy": accuracy,
                "low": min(right["low"], accuracy),
                "high": max(right["high"], accuracy),
            }
        )
    return rows


def curve_measurement(rows: Rows) -> Measurement:
    """Say whether accuracy never falls away from 1.15 and no error remains on or past the spheres.

    It falls between two neighbouring norms if the interval of the one farther from 1.15 lies
    wholly below that of the nearer one.
    """
    inwards = sorted((row for row in rows if row["norm"] < MIDDLE), key=lambda row: -row["norm"])
    outwards = sorted((row for row in rows if row["norm"] > MIDDLE), key=lambda row: row["norm"])
    falls = [
        f"{after['norm']:g}"
        for side in (inwards, outwards)
        for before, after in pairwise(side)
        if after["high"] < before["low"]
    ]
    wrong = [row for row in rows if row["n_errors"] and not 1 < row["norm"] < 1.3]
    note = "Accuracy falls at norm " + ", ".join(falls) + ". " if falls else ""
    if wrong:
        counts = ", ".join(f"{row['n_errors']} at {row['norm']:g}" for row in wrong)
        note += f"Errors on or beyond the spheres: {counts}."
    return Measurement(not falls and not wrong, n=rows[0]["n_points"], cells=rows, note=note)


def _extreme(attacked: Rows, *, smallest: bool) -> Measurement:
    """Return the smallest or largest norm at which the attack found an error."""
    found = [row["norm"] for row in attacked if row["n_found"]]
    n = attacked[0]["n_attacked"]
    if not found:
        beyond = math.inf if smallest else -math.inf
        return Measurement(beyond, n=n, cells=attacked, note="No error was found at any norm.")
    extreme = min if smallest else max
    norms = [row["norm"] for row in attacked]
    points = plural(n, "point")
    note = f"From {points} per norm, on a grid of 0.1 from {min(norms):g} to {max(norms):g}."
    if extreme(found) == extreme(norms):
        note += " This is the end of the grid; there may be errors beyond."
    return Measurement(extreme(found), n=n, cells=attacked, note=note)


def _draw(rows: Rows, attacked: Rows) -> Figure:
    figure, (axes,) = new_figure(width=7.6, height=4.4)
    inner = COLOURS["inner"]
    curve = {name: [row[name] for row in rows] for name in ("norm", "low", "high")}
    axes.fill_between("norm", "low", "high", data=curve, color=inner, alpha=0.2, linewidth=0)
    plot_rows(axes, rows, "norm", "accuracy", ".-", color=inner, label="accuracy on random points")
    left = [row | {"left": 1 - row["n_found"] / row["n_attacked"]} for row in attacked]
    style: Any = {"color": COLOURS["outer"], "markerfacecolor": "none"}
    plot_rows(axes, left, "norm", "left", "s", **style, label="accuracy under attack")
    for radius, label in zip(RADII.values(), ("the spheres", None), strict=True):
        axes.axvline(radius, color=COLOURS["truth"], linewidth=0.9, label=label)
    axes.axvline(MIDDLE, color=COLOURS["truth"], linestyle=":", label="norm 1.15")
    for norm, label in zip(PAPER_NORMS, ("the paper's extreme errors", None), strict=True):
        axes.axvline(norm, color=COLOURS["paper"], linestyle="--", label=label)
    axes.set(xlabel="norm of the points", ylabel="accuracy (share of points)", ylim=(-0.03, 1.03))
    shared_legend(figure, beside=True)
    return figure


EXPERIMENT = Experiment(
    id="spheres-norms",
    paper="spheres",
    place="Fig. 2 left",
    title="Accuracy of the ReLU network at every norm",
    question="At which norms do random points and attacks find errors?",
    plan=plan,
    analyse=analyse,
)
