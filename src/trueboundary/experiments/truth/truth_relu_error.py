"""Beyond Gilmer et al. (2018), Section 3: the ReLU network's error rate, which no sample showed.

Splitting estimates it on either sphere, and certified radii of random points prove an upper limit.
The same certificates bound the distance to the nearest error from below, an attack from above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary.experiments.base import (
    Analysis,
    Experiment,
    Measurement,
    Panel,
    Row,
    Rows,
    rows_of,
)
from trueboundary.experiments.formats import number
from trueboundary.experiments.networks import network_brackets
from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.restated_norms import RestatedCount
from trueboundary.experiments.networks.splitting_rates import SplittingRate, splitting_budget
from trueboundary.experiments.networks.trained_networks import RADII, SPHERES, small_relu_network
from trueboundary.experiments.summaries import share_row, upper_limit
from trueboundary.figures import COLOURS, interval_bars, new_figure, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig
from trueboundary.runs.config import Arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Upper 95 % limit of the rate that the paper's count of 0 in 10 million points leaves.
PAPER_LIMIT = 3e-7
#: Confidence of the proven limits.
_CONFIDENCE = 0.99


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return the count, and per sphere the splitting, the bracketed distances and the proof."""
    network = small_relu_network(settings, seed, device)
    runs: dict[str, RunConfig] = {"count": ErrorCount(network, settings["n_points"], seed=seed)}
    restated = settings["n_restated_points"], settings["n_statistics"]
    runs["restated"] = RestatedCount(network, *restated, seed=seed)
    for sphere in SPHERES:
        budget = settings["n_pilot"], settings["n_attack_steps"]
        pilot = network_brackets.BracketedDistances(network, sphere, *budget, seed=seed)
        runs[f"distances/{sphere}"] = pilot
        runs[f"proof/{sphere}"] = network_brackets.CertifiedRate(pilot, settings["n_certified"])
        splitting = SplittingRate(network, sphere, **splitting_budget(settings), seed=seed)
        runs[f"splitting/{sphere}"] = splitting
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Put counts, estimates and proofs side by side."""
    rows = [sphere_row(runs, sphere, settings["dim"]) for sphere in SPHERES]
    worst = max(rows, key=lambda row: float(row["splitting_high"]))
    measurement = Measurement(
        worst["splitting"] if worst["splitting"] is not None else worst["splitting_high"],
        worst["splitting_low"],
        worst["splitting_high"],
        n=settings["n_replicates"],
        cells=rows,
        note=f"The {worst['sphere']} sphere, the worse of the two. "
        + " ".join(_rate_sentence(row) for row in rows),
    )
    remarks = [_proof_sentence(row) for row in rows]
    remarks += [_distance_sentence(row) for row in rows]
    remarks += [f"Splitting warns: {text}" for row in rows for text in row["warnings"]]
    measurements = {"T2": measurement, "T8": restated_measurement(runs)}
    return Analysis([_rates(rows), _distances(runs, rows)], measurements, remarks)


def restated_measurement(runs: Mapping[str, Run]) -> Measurement:
    """Return the larger error rate of both spheres once the statistics were taken again."""
    rows = []
    for sphere in SPHERES:
        found, left = (runs[name].summary for name in ("restated", "count"))
        again = share_row(found[f"n_errors_{sphere}"], found["n_points"])
        before = share_row(left[f"n_errors_{sphere}"], left["n_points"])
        rows.append(
            {"sphere": sphere, **again} | {f"as_trained_{name}": before[name] for name in before}
        )
    worst = max(rows, key=lambda row: float(row["rate"]))
    note = " ".join(
        f"{row['sphere'].capitalize()}: {row['n_errors']:,} errors among "
        f"{plural(row['n_points'], 'point')}; with the averages that training left, "
        f"{row['as_trained_n_errors']:,} among {row['as_trained_n_points']:,}."
        for row in rows
    )
    ends = worst["rate"], worst["low"], worst["high"]
    return Measurement(*ends, n=worst["n_points"], cells=rows, note=note)


def sphere_row(runs: Mapping[str, Run], sphere: str, dim: int) -> Row:
    """Return everything that is known about one sphere."""
    count, splitting = runs["count"].summary, runs[f"splitting/{sphere}"].summary
    proof = runs[f"proof/{sphere}"].summary
    counted = count[f"n_errors_{sphere}"], count["n_points"]
    share = share_row(*counted)
    brackets = runs[f"distances/{sphere}"].arrays
    rate = splitting["rate"] if splitting["reached"] else splitting["high"]
    log_rate = math.log(min(rate, 1 - 1e-12))
    told = ("spread", "n_levels", "n_evaluations", "n_attack_errors", "deepest_probability")
    return {
        "sphere": sphere,
        "n_points": share["n_points"],
        "n_errors": share["n_errors"],
        "count_low": share["low"],
        "count_high": share["high"],
        "splitting": splitting["rate"],
        **{f"splitting_{end}": splitting[end] for end in ("low", "high")},
        **{name: splitting[name] for name in (*told, "warnings")},
        "proven_log10_limit": proof["log10_limit"],
        "proven_limit": 10 ** proof["log10_limit"],
        "proof_angle": proof["angle"],
        "proof_points": proof["n_points"],
        "proof_exceptions": proof["n_exceptions"],
        # What follows from merely classifying points: the proof's own (at best), and all counted.
        "limit_same_points": upper_limit(0, proof["n_points"], _CONFIDENCE),
        "limit_counted": upper_limit(*counted, _CONFIDENCE),
        **network_brackets.bracket_ratios(brackets, dim, log_rate, RADII[sphere]),
    }


def _rate_sentence(row: Row) -> str:
    if row["splitting"] is None:
        return (
            f"{row['sphere'].capitalize()}: splitting reached no error; its deepest level has "
            f"probability {number(row['deepest_probability'], 2)}."
        )
    return (
        f"{row['sphere'].capitalize()}: {number(row['splitting'], 3)} "
        f"[{number(row['splitting_low'], 3)}, {number(row['splitting_high'], 3)}] by splitting "
        f"with {plural(row['n_evaluations'], 'evaluation')}; errors counted among "
        f"{row['n_points']:,} random points: {row['n_errors']:,}."
    )


def _proof_sentence(row: Row) -> str:
    cheaper = ": at so small an angle, counting more points limits the rate at less cost."
    return (
        f"Proven, {row['sphere']} sphere: with 99 % confidence the error rate is at most "
        f"{number(row['proven_limit'], 2)}, since {row['proof_points'] - row['proof_exceptions']:,}"
        f" of {plural(row['proof_points'], 'random point')} have no error within "
        f"{row['proof_angle']:.4f} radians (linear relaxation in float64, whose rounding is not "
        "tracked). Merely classified, and all correctly, as many points would leave "
        f"{number(row['limit_same_points'], 2)}; the {plural(row['n_points'], 'point')} counted "
        f"leave {number(row['limit_counted'], 2)}"
        + (cheaper if row["limit_counted"] < row["proven_limit"] else ".")
    )


def _distance_sentence(row: Row) -> str:
    missed = (
        f" (none was found from {plural(row['n_not_found'], 'point')}, which are left out)"
        if row["n_not_found"]
        else ""
    )
    low, high = (row[name] / row["optimum"] for name in ("certified", "attacked"))
    return (
        f"Mean distance to the nearest error, {row['sphere']} sphere: between "
        f"{row['certified']:.4f} (proven) and {row['attacked']:.4f} (found by attack{missed}), "
        f"which is {low:.2f} to {high:.2f} of the {row['optimum']:.4f} that a cap of this error "
        "rate has."
    )


def _rates(rows: Rows) -> Panel:
    return Panel(
        "relu-error-rate",
        "The ReLU network's error rate by three methods",
        "Dots: splitting, with 95 % intervals. Bars: what counting errors among random points "
        "leaves possible at 95 %; where none was seen, everything below. Triangles: proven upper "
        "limits, 99 % confidence, from certified radii of random points. The line is the limit "
        "that the paper's 0 errors in 10 million points leave for its own network. Splitting tells "
        "the rate where counting only limits it. Hold the certified limit, from far fewer points, "
        "against the right end of the bar.",
        lambda: _draw_rates(rows),
        rows,
    )


def _draw_rates(rows: Rows) -> Figure:
    figure, (axes,) = new_figure(width=8.0, height=3.6)
    positive = [row["splitting_low"] for row in rows if row["splitting_low"] > 0]
    floor = min([PAPER_LIMIT, *positive, *(row["count_high"] for row in rows)]) / 30
    labels = ("left possible by counting", "splitting", "proven upper limit")
    for place, row in enumerate(reversed(rows)):
        bar, dot, limit = labels if place == 0 else (None, None, None)
        counted: Any = [max(row["count_low"], floor), row["count_high"]]
        style: Any = {"color": COLOURS["sky"], "linewidth": 6, "solid_capstyle": "butt"}
        axes.plot(counted, [place - 0.2] * 2, **style, label=bar)
        if row["splitting"] is not None:
            ends = row["splitting_low"], row["splitting_high"]
            style = {"across": True, "color": COLOURS["inner"], "capsize": 4, "label": dot}
            interval_bars(axes, row["splitting"], place, *ends, **style)
        style = {"color": COLOURS["truth"], "markersize": 8, "label": limit}
        axes.plot(row["proven_limit"], place + 0.2, "<", **style)
    axes.axvline(PAPER_LIMIT, color=COLOURS["paper"], label="limit of the paper's 0 in 10 million")
    axes.set(xscale="log", xlabel="error rate (share of the sphere)")
    axes.set(xlim=(floor, 1), ylim=(-0.6, 1.6))
    axes.set_yticks([0, 1], [f"{row['sphere']} sphere" for row in reversed(rows)])
    shared_legend(figure, n_columns=2)
    return figure


def _distances(runs: Mapping[str, Run], rows: Rows) -> Panel:
    brackets = {sphere: runs[f"distances/{sphere}"].arrays for sphere in SPHERES}
    return Panel(
        "relu-distances",
        "Distances to the nearest error on the sphere, from both sides",
        "One vertical line per random point, sorted: the nearest error on the point's own sphere "
        "lies between the certified radius (below) and the error that the attack found (above); "
        "points without a line's upper end had none found. Dashed: the mean distance to a cap of "
        "the error rate that splitting gives, the most that any classifier could have.",
        lambda: _draw_distances(brackets, rows),
        [
            {"sphere": sphere} | row
            for sphere, arrays in brackets.items()
            for row in rows_of(certified=arrays["certified"], attacked=arrays["attacked"])
        ],
    )


def _draw_distances(brackets: Mapping[Any, Arrays], rows: Rows) -> Figure:
    figure, panels = new_figure(2, width=9.5, height=4.2)
    for axes, row in zip(panels, rows, strict=True):
        arrays = brackets[row["sphere"]]
        order = np.argsort(arrays["attacked"])
        low = np.minimum(arrays["certified"], 2 * RADII[row["sphere"]])[order]
        high, place = arrays["attacked"][order], np.arange(len(order))
        found = np.isfinite(high)
        axes.vlines(place[found], low[found], high[found], color=COLOURS["grey"], linewidth=0.9)
        found_at: Any = {"color": COLOURS["inner"], "ms": 4, "label": "found by attack"}
        axes.plot(place[found], high[found], "o", **found_at)
        axes.plot(place, low, "^", color=COLOURS["truth"], ms=4, label="certified")
        style: Any = {"color": COLOURS["truth"], "linestyle": "--"}
        axes.axhline(row["optimum"], **style, label="cap of the same rate")
        axes.set(title=f"{row['sphere']} sphere", xlabel="random point, by attacked distance")
        axes.set(ylim=(0, None), ylabel="distance to the nearest error (L2)")
    shared_legend(figure, n_columns=3, of=panels[1])
    return figure


EXPERIMENT = Experiment(
    id="truth-relu-error",
    paper="truth",
    place="Gilmer et al. (2018), Section 3",
    title="The ReLU network's error rate, estimated and bounded by proof",
    question=(
        "How often does the network err that makes hardly any error among a million points, and "
        "what can be proven about it?"
    ),
    plan=plan,
    analyse=analyse,
)
