"""Figure 9: whether wider, deeper and longer trained networks come nearer to the optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import (
    attack_row,
    chosen,
    describe_row,
    nearest_distances,
)
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import draw_line, mark_known
from trueboundary.experiments.images.image_fits import ImageTask
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    fresh_cnn,
    image_task,
    under,
    words_of,
)
from trueboundary.experiments.images.trained_classifiers import TrainedCNN
from trueboundary.experiments.networks.trained_networks import FINAL, snapshot_name
from trueboundary.experiments.summaries import extreme, ratio_of_means
from trueboundary.figures import COLOURS, CYCLE, new_figure, shared_legend
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What is varied, with the words for it, and the claim about its ends.
VARIED: Mapping[str, tuple[str, str]] = {
    "width": ("channels of the first layer", "B1.10a"),
    "depth": ("convolution layers", "B1.10c"),
    "samples": ("training samples", "B1.10b"),
}

#: Mean attacks in Figure 9, read from its vector graphics, by what is varied and its value.
SWEEPS: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "celeba/Male": {
        "width": {4: 0.79, 8: 0.87, 16: 0.78, 32: 0.71},
        "depth": {8: 0.81, 12: 0.74, 16: 0.70, 20: 0.72, 24: 0.67},
        "samples": {50_000: 0.69, 1_000_000: 0.85},
    },
    "celeba/Smiling": {
        "width": {4: 0.75, 8: 0.69, 16: 0.72, 32: 0.73},
        "depth": {8: 0.84, 12: 0.80, 16: 0.82, 20: 0.75, 24: 0.82},
        "samples": {50_000: 0.81, 1_000_000: 0.70},
    },
}


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Train one network per width and per depth, keep one at each number of samples, attack all."""
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        task = image_task(name, settings, seed)
        runs |= under(f"{name}/optimal", attacks_on(task, None, settings, seed))
        for label, (network, model) in _networks(task, settings, seed, device).items():
            found = attacks_on(task, network, settings, seed, model=model)
            runs |= under(f"{name}/{label}", found)
    return runs


def _networks(
    task: ImageTask, settings: Settings, seed: int, device: str
) -> dict[str, tuple[TrainedCNN, str]]:
    """Return the networks and which of their stored models is meant, by sweep and value."""
    train = partial(fresh_cnn, task, settings, seed, device)
    n_samples, width, counts = (settings[n] for n in ("n_samples", "width", "sample_counts"))
    longest = train(n_samples=counts[-1], width=width, kept=counts[:-1])
    kept = {count: snapshot_name(max(1, count // settings["batch_size"])) for count in counts[:-1]}
    return {
        **{f"width-{w}": (train(n_samples=n_samples, width=w), FINAL) for w in settings["widths"]},
        **{
            f"depth-{depth}": (train(n_samples=n_samples, width=width, depth=depth), FINAL)
            for depth in settings["depths"]
        },
        **{f"samples-{count}": (longest, kept.get(count, FINAL)) for count in counts},
    }


@unless_images_are_missing("bayes-capacity")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Tabulate the mean attacks along each sweep, and hold the last against the first."""
    rows = sweep_rows(runs, settings)
    names = settings["dataset"]
    optima = [attack_row(runs, f"{name}/optimal", dataset=name) for name in names]
    remarks = [describe_row(row, "optimal") for row in optima]
    remarks += [describe_row(row, f"{VARIED[row['sweep']][0]} {row['value']:,}") for row in rows]
    return Analysis(
        panels=[_panel(rows, optima)], measurements=measure(runs, rows, names), remarks=remarks
    )


def sweep_rows(runs: Mapping[str, Run], settings: Settings) -> Rows:
    """Return one row per data set, sweep and value."""
    values = {
        "width": settings["widths"],
        "depth": settings["depths"],
        "samples": settings["sample_counts"],
    }
    return [
        attack_row(runs, f"{name}/{sweep}-{value}", dataset=name, sweep=sweep, value=value)
        for name in settings["dataset"]
        for sweep in VARIED
        for value in values[sweep]
    ]


def measure(runs: Mapping[str, Run], rows: Rows, names: Sequence[str]) -> dict[str, Measurement]:
    """Return the mean attack at the last value of each sweep over that at the first.

    Of several data sets the largest ratio counts; a sweep without one has no measurement.
    """
    measurements: dict[str, Measurement] = {}
    for sweep, (_, claim) in VARIED.items():
        ends = [_ends(runs, rows, sweep, name) for name in names]
        known = [found for found in ends if not math.isnan(found.number)]
        if known:
            largest = max(known, key=lambda found: found.number)
            value, low, high = extreme([(m.number, m.low, m.high) for m in known], max)
            measurements[claim] = replace(largest, value=value, low=low, high=high)
    return measurements


def _ends(runs: Mapping[str, Run], rows: Rows, sweep: str, name: str) -> Measurement:
    along = chosen(rows, dataset=name, sweep=sweep)
    first, last = (
        nearest_distances(runs, f"{name}/{sweep}-{along[end]['value']}") for end in (0, -1)
    )
    ratio, low, high = ratio_of_means(last, first)
    note = (
        f"{words_of(name)}: {along[-1]['value']:,} against {along[0]['value']:,} "
        f"{VARIED[sweep][0]}. One network each; the interval is over points."
    )
    cells = chosen(rows, sweep=sweep)
    return Measurement(ratio, low, high, n=len(first), cells=cells, note=note)


def _panel(rows: Rows, optima: Rows) -> Panel:
    n_points = counted((row["n_points"] for row in rows), "point")

    def draw() -> Figure:
        figure, panels = new_figure(3, width=10.5, height=3.8)
        colours = [colour for colour in CYCLE if colour != COLOURS["paper"]]
        top = max([*(row["mean_l2"] for row in [*rows, *optima] if row["mean_l2"] > 0), 0.1])
        for axes, (sweep, (words, _)) in zip(panels, VARIED.items(), strict=True):
            for index, optimum in enumerate(optima):
                colour, name = colours[index % len(colours)], optimum["dataset"]
                known = f"{words_of(name)}, optimal classifier"
                axes.axhline(optimum["mean_l2"], linestyle="--", color=colour, label=known)
                along = chosen(rows, dataset=name, sweep=sweep)
                draw_line(axes, along, "value", colour=colour, label=words_of(name))
                label = "the paper's" if index == 0 else None
                mark_known(axes, SWEEPS.get(name, {}).get(sweep, {}).items(), label=label)
            if sweep != "depth":
                axes.set_xscale("log")
            values = sorted({row["value"] for row in rows if row["sweep"] == sweep})
            axes.set_xticks(values, [_short(value) for value in values])
            axes.set_xticks([], minor=True)
            axes.set(xlabel=words, ylim=(0, 1.1 * top))
        panels[0].set_ylabel("mean L2 of the attack")
        shared_legend(figure, n_columns=4, of=panels[0])
        return figure

    return Panel(
        name="capacity",
        title="Mean attacks on wider, deeper and longer trained networks",
        caption="Mean L2 size of the smallest perturbation found that changes the decision, with "
        f"95 % intervals over {n_points}; every network is trained on fresh samples of the "
        "symmetric problem at each step. Dashed: the optimal classifier of the same problem. "
        "Crosses: the paper's networks, where the data set is one of the paper's.",
        draw=draw,
        data=[row | {"sweep": "optimal", "value": ""} for row in optima] + rows,
    )


def _short(value: int) -> str:
    """Return a number as an axis has room for: 20,000 as 20K."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}K" if value >= 1000 else str(value)


EXPERIMENT = Experiment(
    id="bayes-capacity",
    paper="bayes",
    place="Figure 9",
    title="Wider, deeper and longer trained networks",
    question="Do networks with more channels, more layers or more training samples come nearer to "
    "the robustness of the optimal classifier?",
    plan=plan,
    analyse=analyse,
)
