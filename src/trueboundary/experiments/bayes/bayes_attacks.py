"""Whether two kinds of attack find the same distances (Richardson and Weiss 2021, C.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import distance_row
from trueboundary.experiments.images.attacked_images import AttackName, Floats, distances
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import draw_groups, place_of
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    image_task,
    planned_classifiers,
    under,
    words_of,
)
from trueboundary.experiments.summaries import mean_of_points, median_of_points
from trueboundary.figures import COLOURS, CYCLE, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ATTACKS: Mapping[AttackName, str] = {
    "gradient": "gradient, computed steps",
    "gradient-fixed": "gradient, fixed steps",
    "cw-paper": "Carlini-Wagner, the paper's settings",
    "cw": "Carlini-Wagner, constants by distance",
}
#: What is attacked; the first two are not trained.
OPTIMAL, OPTIMAL_ASYMMETRIC = "optimal, symmetric", "optimal, asymmetric"
ATTACKED = (OPTIMAL, OPTIMAL_ASYMMETRIC, "linear SVM")


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Attack the optimal classifiers and the linear SVM in every way."""
    name = settings["dataset"][0]
    symmetric = image_task(name, settings, seed)
    classifiers = planned_classifiers(symmetric, settings, seed, device)
    runs: dict[str, RunConfig] = {}
    for words in ATTACKED:
        asymmetric = words == OPTIMAL_ASYMMETRIC
        task = image_task(name, settings, seed, variant="asymmetric") if asymmetric else symmetric
        found = attacks_on(task, classifiers.get(words), settings, seed, attacks=attacks_of(words))
        runs |= under(words, found)
    return runs


@unless_images_are_missing("bayes-attacks")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Compare the attacks point by point."""
    rows = attack_rows(runs)
    dataset = settings["dataset"][0]
    return Analysis(
        panels=[_scatter(runs, dataset), _means(rows, dataset)],
        measurements=measure(runs),
        remarks=_remarks(rows, runs),
    )


def attacks_of(words: str) -> list[AttackName]:
    """Return the attacks on one classifier; the asymmetric problem is spared the slowest."""
    return [a for a in ATTACKS if (words, a) != (OPTIMAL_ASYMMETRIC, "cw-paper")]


def attack_rows(runs: Mapping[str, Run]) -> Rows:
    """Return one row per classifier and attack: its distances in a few numbers."""
    rows: Rows = []
    for words in ATTACKED:
        for attack in attacks_of(words):
            run = runs[f"{words}/{attack}"]
            row = distance_row(distances(run), attacked=words, attack=ATTACKS[attack])
            rows.append(row | {"mean_gradients": float(run.arrays["n_backward"].mean())})
    return rows


def ratios(runs: Mapping[str, Run], name: str, other: AttackName) -> Floats:
    """Return the gradient attack's distance over another attack's, where both succeeded."""
    one, two = distances(runs[f"{name}/gradient"]), distances(runs[f"{name}/{other}"])
    # A point on the boundary itself has distance 0 for either attack.
    both = np.isfinite(one) & np.isfinite(two) & (two > 0)
    quotient: Floats = one[both] / two[both]
    return quotient


def measure(runs: Mapping[str, Run]) -> dict[str, Measurement]:
    """Return the measurements of the claims; of the ratio only if both attacks ever succeeded."""
    measured = {"B1.19": _steps(runs)}
    found = ratios(runs, OPTIMAL, "cw-paper")
    value, low, high = mean_of_points(found)
    if math.isnan(value):
        return measured
    n = len(distances(runs[f"{OPTIMAL}/gradient"]))
    note = (
        f"Computed steps over Carlini-Wagner with the paper's settings, both found at {len(found)} "
        f"of {plural(n, 'point')} of the symmetric problem; ratios from {found.min():.2f} to "
        f"{found.max():.2f}."
    )
    return measured | {"B1.16": Measurement(value, low, high, n=len(found), note=note)}


def _steps(runs: Mapping[str, Run]) -> Measurement:
    """Return how many steps the attack takes at the median point of the symmetric problem."""
    counts = {name: runs[f"{name}/gradient"].arrays["n_backward"] for name in ATTACKED}
    words = "; ".join(
        f"{name} {np.median(own):g}, from {own.min()} to {own.max()}"
        for name, own in counts.items()
    )
    own = counts[OPTIMAL]
    value, low, high = median_of_points(own.astype(np.float64))
    return Measurement(value, low, high, n=len(own), note=f"Medians and ranges: {words}.")


def _remarks(rows: Rows, runs: Mapping[str, Run]) -> list[str]:
    remarks = []
    for name in ATTACKED:
        found = ratios(runs, name, "cw")
        if len(found):
            remarks.append(
                f"{name}: computed gradient steps end {found.mean():.3f} times as far as "
                "Carlini-Wagner with constants in units of distance, in the mean over "
                f"{plural(len(found), 'point')}."
            )
    return remarks + [
        f"{r['attacked']}: {r['attack']} failed at {r['n_failed']} of {r['n_points']} points."
        for r in rows
        if r["n_failed"]
    ]


def _scatter(runs: Mapping[str, Run], dataset: str) -> Panel:
    found = {
        name: np.stack([distances(runs[f"{name}/{attack}"]) for attack in ("cw", "gradient")])
        for name in ATTACKED
    }
    found = {name: values[:, np.isfinite(values).all(axis=0)] for name, values in found.items()}
    n = counted((values.shape[1] for values in found.values()), "point")

    def draw() -> Figure:
        figure, axes = new_figure(len(found), width=2.7 * len(found), height=3.2)
        for block, (name, values) in zip(axes, found.items(), strict=True):
            end = 1.05 * max(values.max(initial=0.0), 0.1)
            block.plot([0, end], [0, end], color=COLOURS["truth"], linewidth=0.9)
            block.plot(*values, "o", ms=3, alpha=0.6, color=COLOURS["inner"])
            block.set(xlim=(0, end), ylim=(0, end), aspect="equal", title=name)
            block.set_xlabel("Carlini-Wagner (L2)")
        axes[0].set_ylabel("gradient attack (L2)")
        return figure

    return Panel(
        name="attacks-scatter",
        title=f"The gradient attack and Carlini-Wagner, point by point, on {words_of(dataset)}",
        caption="Distance found by computed gradient steps against that found by Carlini-Wagner "
        "with constants in units of distance. On the line both agree; above it Carlini-Wagner came "
        f"nearer. {n} each; those where either failed are left out.",
        draw=draw,
        data=[
            {"attacked": name, "carlini_wagner": float(cw), "gradient": float(gradient)}
            for name, values in found.items()
            for cw, gradient in values.T
        ],
    )


def _means(rows: Rows, dataset: str) -> Panel:
    shown = {(row["attacked"], row["attack"]) for row in rows}
    n_points = counted((row["n_points"] for row in rows), "point")
    not_run = [
        (name, attack)
        for name in ATTACKED
        for attack in ATTACKS.values()
        if (name, attack) not in shown
    ]

    def draw() -> Figure:
        figure, (axes,) = new_figure(width=7.6, height=4.4)
        colours = dict(zip(ATTACKS.values(), CYCLE, strict=False))
        places = draw_groups(axes, rows, colours, group="attacked", series="attack")
        for place, row in zip(places, rows, strict=True):
            if row["n_failed"]:
                ends = [row["mean_l2_high"], row["mean_l2"]]
                top = next((end for end in ends if end is not None and math.isfinite(end)), 0.0)
                words = f"{row['n_failed']} of {row['n_points']} failed"
                _write_up(axes, place, 0.12 + top, words, colours[row["attack"]])
        for name, attack in not_run:
            place = place_of(rows, colours, group="attacked", at=(name, attack))
            _write_up(axes, place, 0.12, "not run", colours[attack])
        axes.set_ylabel("mean L2 of the attack")
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
        axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center")
        return figure

    return Panel(
        name="attacks-means",
        title=f"Four attacks on {words_of(dataset)}",
        caption=f"Mean L2 over successful attacks on {n_points}, with 95 % intervals, and where an "
        "attack failed, at how many points. The paper's settings of Carlini-Wagner try constants "
        "up to 1 on raw logits, too small for margins as flat as those of a linear SVM; they are "
        "the slowest, and were not run on the asymmetric problem.",
        draw=draw,
        data=rows,
    )


def _write_up(axes: Axes, place: float, bottom: float, words: str, colour: str) -> None:
    look: dict[str, Any] = {"fontsize": 9, "color": colour, "ha": "center", "va": "bottom"}
    axes.text(place, bottom, words, rotation=90, **look)


EXPERIMENT = Experiment(
    id="bayes-attacks",
    paper="bayes",
    place="Appendix C.2",
    title="The gradient attack against Carlini-Wagner",
    question="Do a simple gradient attack and Carlini-Wagner find the same distances?",
    plan=plan,
    analyse=analyse,
)
