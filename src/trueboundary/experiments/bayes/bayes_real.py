"""Figure 12 and Table 2: what holds on generated images, asked of real ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from trueboundary import theory
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel
from trueboundary.experiments.images.attack_tables import (
    Row,
    Rows,
    Settings,
    attack_row,
    attacks_on,
    describe_row,
    error_bars,
    image_task,
    limit,
    under,
    words_of,
)
from trueboundary.experiments.images.image_plans import planned_classifiers
from trueboundary.experiments.images.trained_classifiers import Accuracy
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSIFIERS = ("CNN", "linear SVM", "RBF SVM")
TRAINED_ON = ("real", "generated")
#: Accuracy on real test images by what the network was trained on (Table 2).
PAPER_ACCURACY: Mapping[str, tuple[float, float]] = {
    "celeba/Male": (0.923, 0.880),
    "celeba/Smiling": (0.895, 0.856),
    "celeba/Bangs": (0.943, 0.904),
    "celeba/Heavy_Makeup": (0.863, 0.799),
    "celeba/Eyeglasses": (0.984, 0.917),
}
#: Mean attacks on real faces in the journal version's Figure 11, as `CLASSIFIERS`.
PAPER_MEANS: Mapping[str, tuple[float, float, float]] = {
    "celeba/Male": (0.28, 0.17, 2.38),
    "celeba/Smiling": (0.13, 0.12, 2.29),
    "celeba/Bangs": (0.18, 0.11, 4.00),
    "celeba/Heavy_Makeup": (0.12, 0.11, 2.38),
    "celeba/Eyeglasses": (0.20, 0.32, 4.71),
    # Its Figure 12.
    "cifar10/airplane-automobile": (0.57, 0.08, 1.89),
    "cifar10/automobile-bird": (0.70, 0.06, 2.47),
    "cifar10/bird-cat": (0.24, 0.08, 1.18),
    "cifar10/cat-deer": (0.29, 0.06, 1.47),
    "cifar10/deer-dog": (0.30, 0.07, 1.97),
    "cifar10/dog-frog": (0.36, 0.12, 1.41),
    "cifar10/frog-horse": (0.47, 0.06, 1.61),
    "cifar10/horse-ship": (0.51, 0.06, 2.39),
    "cifar10/ship-truck": (0.38, 0.07, 1.72),
    "cifar10/truck-airplane": (0.43, 0.07, 2.38),
}
#: The RBF SVM counts as robust where its mean attack is this many times the others'.
ROBUST = 2.0


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Train on real and on generated images, test and attack on real ones."""
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        generated = image_task(name, settings, seed)
        real = image_task(name, settings, seed, variant="real")
        on_real = planned_classifiers(settings, real, seed, device)
        for classifier in CLASSIFIERS:
            found = attacks_on(real, on_real[classifier], settings, seed)
            runs |= under(f"{name}/{classifier}", found)
        cnn = planned_classifiers(settings, generated, seed, device)["CNN"]
        runs[f"{name}/transfer/generated"] = Accuracy(real, cnn, settings["n_test"], seed=seed)
        runs[f"{name}/transfer/real"] = Accuracy(
            real, on_real["CNN"], settings["n_test"], seed=seed
        )
    return runs


def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Compare the two trainings on the same real images, and the attacks on three classifiers."""
    names = settings["dataset"]
    transfers = transfer_rows(runs, names)
    rows = attack_rows(runs, names)
    remarks = [
        f"{words_of(row['dataset'])}: accuracy {row['accuracy']:.4f} [{row['accuracy_low']:.4f}, "
        f"{row['accuracy_high']:.4f}] on {row['n_test']:,} real test images after training on "
        f"{row['trained_on']} ones."
        for row in transfers
    ]
    remarks += [
        describe_row(row, f"{words_of(row['dataset'])}, real images, {row['classifier']}")
        for row in rows
    ]
    return Analysis(
        panels=[_transfer_panel(transfers), _attack_panel(rows)],
        measurements={
            "B1.13a": transfer_loss(runs, names, transfers),
            "B1.13b": robust_on_real(rows),
        },
        remarks=remarks,
    )


def attack_rows(runs: Mapping[str, Run], names: Sequence[str]) -> Rows:
    """Return one row per data set and classifier of real images."""
    return [
        attack_row(runs, f"{name}/{classifier}", dataset=name, classifier=classifier)
        for name in names
        for classifier in CLASSIFIERS
    ]


def transfer_rows(runs: Mapping[str, Run], names: Sequence[str]) -> Rows:
    """Return one row per data set and kind of training images: accuracy on real test images."""
    rows: Rows = []
    for name in names:
        for trained_on in TRAINED_ON:
            correct = runs[f"{name}/transfer/{trained_on}"].arrays["correct"]
            low, high = theory.intervals.clopper_pearson(int(correct.sum()), len(correct))
            rows.append(
                {
                    "dataset": name,
                    "trained_on": trained_on,
                    "accuracy": float(correct.mean()),
                    "accuracy_low": low,
                    "accuracy_high": high,
                    "n_test": len(correct),
                }
            )
    return rows


def transfer_loss(runs: Mapping[str, Run], names: Sequence[str], rows: Rows) -> Measurement:
    """Return the mean over data sets of the loss of accuracy, paired by image."""
    prefixes = [[f"{name}/transfer/{on}" for on in TRAINED_ON] for name in names]
    return replace(accuracy_difference(runs, prefixes), cells=rows)


def accuracy_difference(runs: Mapping[str, Run], prefixes: Sequence[Sequence[str]]) -> Measurement:
    """Return by how much one accuracy exceeds another, on average over data sets.

    Parameters
    ----------
    runs : mapping of str to Run
        The runs.
    prefixes : sequence of pairs of str
        Names of two `Accuracy` runs on the same images, for each data set.
    """
    means, variances, n_images = [], [], 0
    for pair in prefixes:
        better, worse = (runs[name].arrays["correct"].astype(np.float64) for name in pair)
        difference = better - worse
        means.append(difference.mean())
        variances.append(difference.var(ddof=1) / len(difference))
        n_images += len(difference)
    value = float(np.mean(means))
    half = NormalDist().inv_cdf(0.975) * math.sqrt(sum(variances)) / len(means)
    note = (
        f"Data sets: {len(means)}, with one classifier of either kind each. The interval is over "
        "test images, which both classifiers share."
    )
    return Measurement(value, value - half, value + half, n=n_images, note=note)


def robust_on_real(rows: Rows) -> Measurement:
    """Return whether the RBF SVM is `ROBUST` on every data set, intervals included."""
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    found = {(row["dataset"], row["classifier"]): row for row in rows}
    holds = [_is_robust(found[name, "RBF SVM"], found[name, other])
             for name in names for other in ("CNN", "linear SVM")]  # fmt: skip
    note = "The lower end of one interval against twice the upper end of the other."
    return Measurement(all(holds), n=min(row["n_points"] for row in rows), cells=rows, note=note)


def _is_robust(rbf: Row, other: Row) -> bool:
    return limit(rbf, "mean_l2", "low") >= ROBUST * limit(other, "mean_l2", "high")


def _transfer_panel(rows: Rows) -> Panel:
    data = [
        row | {"paper": PAPER_ACCURACY[row["dataset"]][TRAINED_ON.index(row["trained_on"])]}
        if row["dataset"] in PAPER_ACCURACY
        else row | {"paper": ""}
        for row in rows
    ]
    return Panel(
        name="real-transfer",
        title="Trained on real and on generated images, tested on real ones",
        caption=(
            "Accuracy on real test images of networks trained on real images and on as many drawn "
            "from the mixtures fitted to them, with 95 % Clopper-Pearson intervals. Crosses: the "
            "paper's Table 2, where the data set is one of the paper's."
        ),
        draw=lambda: draw_transfer(rows),
        data=data,
    )


def draw_transfer(rows: Rows) -> Figure:
    """Draw the accuracies by data set and training."""
    from trueboundary.figures import COLOURS, add_legend, new_figure

    names = list(dict.fromkeys(row["dataset"] for row in rows))
    figure, (axes,) = new_figure(width=max(5.6, 1.5 * len(names) + 2), height=3.9)
    for index, (trained_on, colour) in enumerate(zip(TRAINED_ON, ("inner", "outer"), strict=True)):
        along = [row for row in rows if row["trained_on"] == trained_on]
        places = [names.index(row["dataset"]) + 0.16 * (2 * index - 1) for row in along]
        axes.errorbar(
            places,
            [row["accuracy"] for row in along],
            yerr=error_bars(along, "accuracy"),
            fmt="o",
            color=COLOURS[colour],
            capsize=3,
            label=f"trained on {trained_on} images",
        )
        paper = [
            (place, PAPER_ACCURACY[row["dataset"]][index])
            for place, row in zip(places, along, strict=True)
            if row["dataset"] in PAPER_ACCURACY
        ]
        _crosses(axes, paper, "the paper's" if index == 0 else None)
    lowest = min(row["accuracy_low"] for row in rows)
    axes.set_ylim(lowest - 0.35 * (1.005 - lowest), 1.005)
    axes.set_xticks(range(len(names)), [words_of(name) for name in names])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("accuracy on real test images")
    add_legend(axes, location="lower left")
    return figure


def _attack_panel(rows: Rows) -> Panel:
    return Panel(
        name="real-attacks",
        title="Attacks on classifiers of real images",
        caption=(
            "Mean L2 size of the smallest perturbation found that changes the decision at real "
            "test images, of classifiers trained on real images, with 95 % intervals over points. "
            "Crosses: the journal version's values, where the data set is one of the paper's."
        ),
        draw=lambda: draw_attacks(rows),
        data=[row | {"paper": _paper_mean(row)} for row in rows],
    )


def _paper_mean(row: Row) -> float | str:
    means = PAPER_MEANS.get(row["dataset"])
    return "" if means is None else means[CLASSIFIERS.index(row["classifier"])]


def draw_attacks(rows: Rows) -> Figure:
    """Draw the mean attacks by data set and classifier."""
    from trueboundary.figures import COLOURS, add_legend, new_figure

    names = list(dict.fromkeys(row["dataset"] for row in rows))
    figure, (axes,) = new_figure(width=max(5.6, 1.5 * len(names) + 2), height=3.9)
    colours = zip(CLASSIFIERS, ("inner", "orange", "green"), strict=True)
    for index, (classifier, colour) in enumerate(colours):
        along = [row for row in rows if row["classifier"] == classifier and row["mean_l2"] > 0]
        places = [names.index(row["dataset"]) + 0.2 * (index - 1) for row in along]
        axes.errorbar(
            places,
            [row["mean_l2"] for row in along],
            yerr=error_bars(along),
            fmt="o",
            color=COLOURS[colour],
            capsize=3,
            label=classifier,
        )
        paper = [
            (place, PAPER_MEANS[row["dataset"]][index])
            for place, row in zip(places, along, strict=True)
            if row["dataset"] in PAPER_MEANS
        ]
        _crosses(axes, paper, "the paper's" if index == 0 else None)
    axes.set_ylim(0, 1.4 * axes.get_ylim()[1])
    axes.set_xticks(range(len(names)), [words_of(name) for name in names])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("mean L2 of the attack")
    add_legend(axes, location="upper left")
    return figure


def _crosses(axes: Axes, points: list[tuple[float, float]], label: str | None) -> None:
    from trueboundary.figures import COLOURS

    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, "x", color=COLOURS["paper"], label=label)


EXPERIMENT = Experiment(
    id="bayes-real",
    paper="bayes",
    place="Figure 12, Table 2",
    title="Real images",
    question=(
        "How well does a network trained on generated images do on real ones, and which "
        "classifiers of real images are robust?"
    ),
    plan=plan,
    analyse=analyse,
)
