"""Figure 10: whether fifty times more noise changes the robustness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import (
    attack_row,
    chosen,
    describe_row,
    names_of,
    nearest_distances,
)
from trueboundary.experiments.images.attacked_images import Floats
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import draw_line
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    image_task,
    planned_cnn,
    under,
    words_of,
)
from trueboundary.experiments.summaries import ratio_of_means
from trueboundary.figure_parts import show_pictures
from trueboundary.figures import COLOURS, add_legend, new_figure
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pictures = tuple[Floats, tuple[int, int, int]]

#: What is attacked, with the claim about its ratio.
CLASSIFIERS: Mapping[str, str] = {"optimal": "B1.11a", "CNN": "B1.11b"}
#: Pictures of each class in a row of the sheet.
_N_SHOWN = 4


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Train a network and attack both classifiers at each noise, with the same mixtures."""
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        for noise_std in settings["noise_stds"]:
            task = image_task(name, settings, seed, noise_std=noise_std)
            network = planned_cnn(task, settings, seed, device)
            place = f"{name}/{noise_std:g}"
            runs |= under(f"{place}/optimal", attacks_on(task, None, settings, seed))
            runs |= under(f"{place}/CNN", attacks_on(task, network, settings, seed))
    return runs


@unless_images_are_missing("bayes-noise")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Hold the mean attacks at the largest noise against those at the smallest."""
    rows = noise_rows(runs, settings)
    remarks = [
        describe_row(row, f"noise {row['noise_std']:g}, {row['classifier']}") for row in rows
    ]
    return Analysis(
        panels=[_sheet(runs, settings), _bars(rows)],
        measurements=measure(runs, settings, rows),
        remarks=remarks,
    )


def noise_rows(runs: Mapping[str, Run], settings: Settings) -> Rows:
    """Return one row per data set, noise and classifier."""
    rows = []
    for name in settings["dataset"]:
        for noise_std in settings["noise_stds"]:
            for classifier in CLASSIFIERS:
                labels = {"dataset": name, "noise_std": noise_std, "classifier": classifier}
                rows.append(attack_row(runs, f"{name}/{noise_std:g}/{classifier}", **labels))
    return rows


def measure(runs: Mapping[str, Run], settings: Settings, rows: Rows) -> dict[str, Measurement]:
    """Return the mean attack at the largest noise over that at the smallest, by claim.

    Of several data sets the ratio farthest from 1 counts; without any there is no measurement.
    """
    measurements: dict[str, Measurement] = {}
    for classifier, claim in CLASSIFIERS.items():
        cells = chosen(rows, classifier=classifier)
        ratios = [_ratio(runs, settings, name, classifier) for name in settings["dataset"]]
        known = [found for found in ratios if found.number > 0]
        if known:
            worst = max(known, key=lambda found: abs(math.log(found.number)))
            measurements[claim] = replace(worst, cells=cells)
    return measurements


def _ratio(runs: Mapping[str, Run], settings: Settings, name: str, classifier: str) -> Measurement:
    small, large = min(settings["noise_stds"]), max(settings["noise_stds"])
    above, below = (
        nearest_distances(runs, f"{name}/{noise:g}/{classifier}") for noise in (large, small)
    )
    ratio, low, high = ratio_of_means(above, below)
    note = (
        f"{words_of(name)}, noise {large:g} against {small:g}. The points differ in the size of "
        "their noise alone; the interval is over points."
    )
    return Measurement(ratio, low, high, n=len(above), note=note)


def _bars(rows: Rows) -> Panel:
    n_points = counted((row["n_points"] for row in rows), "point")

    def draw() -> Figure:
        names = names_of(rows)
        figure, panels = new_figure(len(names), width=max(5.6, 4.2 * len(names)), height=3.8)
        top = max([*(row["mean_l2"] for row in rows if row["mean_l2"] > 0), 0.1])
        for axes, name in zip(panels, names, strict=True):
            looks = (("optimal", "truth", "o--"), ("CNN", "inner", "o-"))
            for classifier, colour, style in looks:
                along = chosen(rows, dataset=name, classifier=classifier)
                look = {"colour": COLOURS[colour], "style": style, "label": classifier}
                draw_line(axes, along, "noise_std", **look)
            noises = sorted(names_of(rows, "noise_std"))
            axes.set(xscale="log", xlabel="standard deviation of the noise in each pixel")
            axes.set_xticks(noises, [f"{noise:g}" for noise in noises])
            axes.set_xticks([], minor=True)
            axes.set(xlim=(noises[0] / 2, noises[-1] * 2), ylim=(0, 1.35 * top))
            axes.set_title(words_of(name))
        panels[0].set_ylabel("mean L2 of the attack")
        add_legend(panels[0], location="upper right")
        return figure

    return Panel(
        name="noise",
        title="Mean attacks at little and at much noise",
        caption="Mean L2 size of the smallest perturbation found that changes the decision of the "
        "optimal classifier and of a network trained on the same problem, with 95 % intervals over "
        f"{n_points}, against the noise added to every pixel. The mixtures differ in nothing else.",
        draw=draw,
        data=rows,
    )


def _sheet(runs: Mapping[str, Run], settings: Settings) -> Panel:
    pictures = {
        (name, noise_std): _pictures(runs[f"{name}/{noise_std:g}/optimal/gradient"])
        for name in settings["dataset"]
        for noise_std in settings["noise_stds"]
    }

    def draw() -> Figure:
        figure, panels = new_figure(1, len(pictures), width=7.2, height=0.3 + 1.1 * len(pictures))
        for axes, (name, noise_std) in zip(panels, pictures, strict=True):
            pixels, shape = pictures[name, noise_std]
            show_pictures(axes, [pixels], shape)
            words = f"{words_of(name)}\nnoise {noise_std:g}"
            axes.set_ylabel(words, rotation=0, ha="right", va="center")
        return figure

    return Panel(
        name="noise-samples",
        title="Samples with little and with much noise",
        caption="The first samples of either class at each noise. Values beyond black and white, "
        "which the problems have, are drawn as black and white.",
        draw=draw,
        data=[
            {
                "dataset": name,
                "noise_std": noise_std,
                "share_below_0": float((values < 0).mean()),
                "share_above_1": float((values > 1).mean()),
            }
            for (name, noise_std), (values, _) in pictures.items()
        ],
    )


def _pictures(run: Run) -> Pictures:
    """Return the pixels of a few kept samples of either class, and the shape of an image."""
    channels, height, width = run.summary["image_shape"]
    return run.arrays["original"][: 2 * _N_SHOWN], (channels, height, width)


EXPERIMENT = Experiment(
    id="bayes-noise",
    paper="bayes",
    place="Figure 10",
    title="Fifty times more noise",
    question="Does the noise in every pixel decide how robust the optimal classifier and a network "
    "are?",
    plan=plan,
    analyse=analyse,
)
