"""How near errors are to random points, on and off the spheres (Gilmer et al. 2018, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueboundary import theory
from trueboundary.experiments import summaries
from trueboundary.experiments.base import (
    Analysis,
    Experiment,
    Measurement,
    Panel,
    Rows,
    rows_of,
    seeds,
)
from trueboundary.experiments.formats import counted
from trueboundary.experiments.networks.attacked_points import AttackedPoints, Surface
from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.trained_networks import (
    RADII,
    SPHERES,
    TrainedNetwork,
    small_relu_network,
)
from trueboundary.figures import COLOURS, CYCLE, add_legend, interval_bars, mark_paper, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Values = NDArray[np.floating[Any]]

#: What is searched: on the sphere as published, the same refined, and between the spheres.
SEARCHES: Mapping[str, tuple[Surface, bool]] = {
    "sphere": ("sphere", False),
    "sphere-refined": ("sphere", True),
    "shell": ("shell", True),
}
_SEARCH_WORDS = {
    "sphere": "on the sphere",
    "sphere-refined": "on the sphere, refined",
    "shell": "between the spheres",
}
PAPER_DISTANCES = {"sphere": 0.18, "shell": 0.0796}
PAPER_NORM = 1.07
#: Distance of either sphere from the maximum-margin sphere halfway between them.
MARGIN = (RADII["outer"] - RADII["inner"]) / 2


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Attack and count for every seed."""
    runs: dict[str, RunConfig] = {}
    for index, own in seeds(settings, seed):
        network = small_relu_network(settings, own, device)
        runs |= _network_runs(f"seed-{index}", network, settings, own)
    return runs


def _network_runs(
    name: str, network: TrainedNetwork, settings: Mapping[str, Any], seed: int
) -> dict[str, RunConfig]:
    count = ErrorCount(network, settings["n_test_points"], seed=seed)
    runs: dict[str, RunConfig] = {f"{name}/count": count}
    for sphere in SPHERES:
        for search, (surface, refined) in SEARCHES.items():
            budget = settings["n_points"], settings["n_attack_steps"]
            how: Any = {"refine_steps": settings["n_refine_steps"] if refined else 0, "seed": seed}
            run = AttackedPoints(network, *budget, sphere, surface, **how)
            runs[f"{name}/{sphere}/{search}"] = run
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Summarise the distances by network, sphere and search."""
    names = [f"seed-{index}" for index in range(settings["n_seeds"])]
    rows: Rows = []
    for name in names:
        rows += distance_rows(runs, name, name.replace("-", " "), settings["dim"])
    return Analysis(
        panels=[_histograms(runs, names), _summary(rows)],
        measurements=measure(runs, names),
        remarks=_remarks(runs, rows),
    )


def measure(runs: Mapping[str, Run], names: list[str]) -> dict[str, Measurement]:
    """Return the measurement of each claim from the networks called `names`."""
    on_sphere = [_distances(runs, name, "inner", "sphere") for name in names]
    refined = [_distances(runs, name, "inner", "sphere-refined") for name in names]
    off_sphere = [_distances(runs, name, "inner", "shell") for name in names]
    norms = [
        np.where(np.isfinite(distances), runs[f"{name}/inner/shell"].arrays["norm"], math.inf)
        for name, distances in zip(names, off_sphere, strict=True)
    ]
    found = min(int(np.isfinite(distances).sum()) for distances in on_sphere)
    note = "The network with the fewest." if len(names) > 1 else "One network."
    mean = summaries.mean_measurement
    return {
        "A1.2": summaries.share_measurement(found, len(on_sphere[0]), note),
        "A1.3": mean(on_sphere, "The published attack, up to the first error met."),
        "A1.4a": mean(off_sphere, "Shortened along the boundary."),
        "A1.4b": mean(norms),
        "A1.4c": mean(
            [distances / MARGIN for distances in off_sphere],
            f"Of the {MARGIN:g} from a point of the inner sphere to the maximum-margin sphere.",
        ),
        "A1.5": _ratio(refined, off_sphere),
    }


def _ratio(on_sphere: list[Values], off_sphere: list[Values]) -> Measurement:
    ratios = list(map(summaries.ratio_of_means, on_sphere, off_sphere))
    if len(ratios) > 1:
        return summaries.over_networks(np.array([ratio for ratio, _, _ in ratios]))
    value, low, high = ratios[0]
    both = int((np.isfinite(on_sphere[0]) & np.isfinite(off_sphere[0])).sum())
    points = plural(both, "point")
    note = f"Over the {points} with both errors."
    return Measurement(value, low, high, n=both, note=note, holds_for=summaries.ONE_NETWORK)


def distance_rows(runs: Mapping[str, Run], name: str, words: str, dim: int) -> Rows:
    """Return one row per sphere and search with the mean distance and what bounds it.

    ``cap_at_limit`` is the largest mean distance that an error set of the measure of the one-sided
    95 % limit of the error rate can have on that sphere: the distance to a spherical cap.
    """
    rows: Rows = []
    summary = runs[f"{name}/count"].summary
    for sphere in SPHERES:
        n_errors, n = summary[f"n_errors_{sphere}"], summary["n_points"]
        limit = summaries.upper_limit(n_errors, n)
        cap = theory.caps.mean_distance(dim, limit, radius=RADII[sphere])
        for search in SEARCHES:
            distances = _distances(runs, name, sphere, search)
            mean, low, high = summaries.mean_of_points(distances)
            rows.append(
                {
                    "network": words,
                    "sphere": sphere,
                    "search": _SEARCH_WORDS[search],
                    "mean_distance": mean,
                    "low": low,
                    "high": high,
                    "n_points": len(distances),
                    "n_failed": int((~np.isfinite(distances)).sum()),
                    "mean_norm": _mean_norm(runs[f"{name}/{sphere}/{search}"]),
                    "n_errors": n_errors,
                    "n_test_points": n,
                    "error_rate_limit": limit,
                    "cap_at_limit": None if search == "shell" else cap,
                }
            )
    return rows


def _distances(runs: Mapping[str, Run], name: str, sphere: str, search: str) -> Values:
    return runs[f"{name}/{sphere}/{search}"].arrays["distance"]


def _mean_norm(run: Run) -> float:
    found = np.isfinite(run.arrays["distance"])
    return float(run.arrays["norm"][found].mean()) if found.any() else math.nan


def _histograms(runs: Mapping[str, Run], names: list[str]) -> Panel:
    def pooled(search: str, array: str) -> Values:
        parts = [runs[f"{name}/inner/{search}"].arrays for name in names]
        return np.concatenate([part[array][np.isfinite(part["distance"])] for part in parts])

    distances = {search: pooled(search, "distance") for search in PAPER_DISTANCES}
    norms = pooled("shell", "norm")
    return Panel(
        "distances-histogram",
        "Distances from random inner points to the nearest errors",
        "Left: L2 distance to the nearest error found on the inner sphere and to the nearest "
        "found anywhere between the spheres. Right: the norm of the latter; halfway between "
        "the spheres is 1.15. Dashed: the paper's means. Points from which no error was found "
        "are left out.",
        lambda: _draw_histograms(distances, norms),
        [
            {"search": _SEARCH_WORDS[search]} | row
            for search in PAPER_DISTANCES
            for row in rows_of(distance=distances[search], norm=pooled(search, "norm"))
        ],
    )


def _draw_histograms(distances: Mapping[str, Values], norms: Values) -> Figure:
    figure, (left, right) = new_figure(2, width=9.0, height=3.8)
    for (search, values), colour in zip(distances.items(), ("inner", "green"), strict=True):
        if len(values):
            label = f"{_SEARCH_WORDS[search]}, mean {values.mean():.4f}"
            left.hist(values, bins=12, color=COLOURS[colour], alpha=0.7, label=label)
    # The upper third of either plot is the legend's.
    paper: Any = {"color": COLOURS["paper"], "linestyle": "--", "ymax": 2 / 3}
    left.axvline(PAPER_DISTANCES["shell"], **paper, label="the paper's means, 0.0796 and 0.18")
    left.axvline(PAPER_DISTANCES["sphere"], **paper)
    left.set(xlim=(0, None), xlabel="L2 distance to the nearest error found")
    if len(norms):
        label = f"mean {norms.mean():.4f}"
        right.hist(norms, bins=12, color=COLOURS["green"], alpha=0.7, label=label)
    right.axvline(PAPER_NORM, **paper, label=f"the paper's mean, {PAPER_NORM}")
    right.axvline(1.15, color=COLOURS["truth"], linestyle=":", ymax=2 / 3, label="halfway, 1.15")
    right.set_xlabel("norm of the nearest error between the spheres")
    for axes in (left, right):
        axes.set(ylim=(0, 1.5 * max(1.0, axes.get_ylim()[1])), ylabel="number of points")
        add_legend(axes, location="upper left")
    return figure


def _summary(rows: Rows) -> Panel:
    n_points = counted((row["n_points"] for row in rows), "point")
    networks = plural(len({row["network"] for row in rows}), "network")
    return Panel(
        "distances-means",
        "Mean distances on and off the spheres",
        f"Mean L2 distance to the nearest error found, with 95 % intervals over {n_points}, of "
        f"{networks}. Black ticks: the largest mean distance that "
        "an error set on the sphere can have whose measure is the 95 % upper limit of the "
        "network's error rate (the distance to a spherical cap); a smaller set can be "
        "farther. Crosses: the paper's values. The refined search shortens each distance "
        "along the boundary.",
        lambda: _draw_means(rows),
        rows,
    )


def _draw_means(rows: Rows) -> Figure:
    figure, (axes,) = new_figure(width=8.0, height=4.6)
    places = [(sphere, _SEARCH_WORDS[search]) for sphere in SPHERES for search in SEARCHES]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    tick: Any = {"color": COLOURS["truth"], "ms": 11, "mew": 1.8}
    for index, network in enumerate(networks):
        colour = CYCLE[index % len(CYCLE)]
        label: str | None = network
        for row in (row for row in rows if row["network"] == network):
            y = len(places) - 1 - places.index((row["sphere"], row["search"]))
            height = y + 0.14 * ((len(networks) - 1) / 2 - index)
            if row["cap_at_limit"] is not None:
                axes.plot(row["cap_at_limit"], height, "|", **tick)
            if math.isnan(row["mean_distance"]):
                continue
            ends = row["low"], row["high"]
            words: Any = {"color": colour, "capsize": 3, "label": label}
            interval_bars(axes, row["mean_distance"], height, *ends, across=True, **words)
            label = None
    for search, paper in PAPER_DISTANCES.items():
        y = len(places) - 1 - places.index(("inner", _SEARCH_WORDS[search]))
        mark_paper(axes, paper, y, "the paper's" if search == "sphere" else None)
    axes.plot([], [], "|", **tick, label="cap at the rate's limit")
    axes.set_yticks(range(len(places)), [", ".join(place) for place in reversed(places)])
    left, right = axes.get_xlim()
    axes.set_xlim(0, right + 0.35 * (right - max(0.0, left)))
    axes.set(ylim=(-0.6, len(places) - 0.4), xlabel="mean L2 distance to the nearest error found")
    add_legend(axes, location="lower right")
    return figure


def _remarks(runs: Mapping[str, Run], rows: Rows) -> list[str]:
    remarks = [
        f"{row['sphere'].capitalize()} sphere, {row['network']}: errors in "
        f"{row['n_errors']:,} of {plural(row['n_test_points'], 'point')}, mean distance "
        f"{row['mean_distance']:.4f}. An error set that measures the rate's upper limit of "
        f"{row['error_rate_limit']:.2g} can be at most {row['cap_at_limit']:.4f} away in the mean."
        for row in rows
        if row["search"] == _SEARCH_WORDS["sphere"]
    ]
    refined, off = (
        _distances(runs, "seed-0", "inner", search) for search in ("sphere-refined", "shell")
    )
    ratio, low, high = summaries.ratio_of_means(refined, off)
    if low is not None and high is not None:
        remarks.append(
            "With the distances on the sphere shortened along the boundary too, errors on it are "
            f"{ratio:.2f} times as far as errors off it, 95 % interval [{low:.2f}, {high:.2f}]."
        )
    return remarks


EXPERIMENT = Experiment(
    id="spheres-distances",
    paper="spheres",
    place="Section 3",
    title="Distances to the nearest errors, on and off the spheres",
    question="How far from random points are the nearest errors, on the sphere and off it?",
    plan=plan,
    analyse=analyse,
)
