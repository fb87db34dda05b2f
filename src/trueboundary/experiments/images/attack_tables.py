"""What the experiments on variations of the image problems share: tasks, accuracies, attack rows.

Modules that import torch are imported where they are used, so that listing experiments is quick.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueboundary import theory
from trueboundary.experiments.images.attacked_images import (
    AttackedImages,
    AttackName,
    Floats,
    accuracy_under_attack,
    distances,
)
from trueboundary.experiments.images.image_fits import FittedMixtures, ImageTask, ImageVariant
from trueboundary.experiments.images.trained_classifiers import Accuracy, TrainedClassifier
from trueboundary.experiments.networks.trained_networks import FINAL
from trueboundary.experiments.summaries import Estimate, mean_of_points, median_of_points
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

Row = dict[str, Any]
Rows = list[Row]
Settings = Mapping[str, Any]

#: The attacks that may stand under a prefix, the first of them always.
ATTACKS: tuple[AttackName, ...] = ("gradient", "gradient-fixed", "cw")


def words_of(name: str) -> str:
    """Return the name of a data set as figures call it.

    Examples
    --------
    >>> words_of("mnist/0-6"), words_of("celeba/Wearing_Lipstick"), words_of("synthetic")
    ('MNIST 0/6', 'Wearing Lipstick', 'bars')
    """
    from trueboundary.data import parse_pair

    source, pair = parse_pair(name)
    return source.words(pair)


def image_task(
    name: str,
    settings: Settings,
    seed: int,
    *,
    variant: ImageVariant = "symmetric",
    noise_std: float | None = None,
) -> ImageTask:
    """Return a task with mixtures of the sizes that are usual for the images.

    Parameters
    ----------
    name : str
        As `trueboundary.data.parse_pair` takes it.
    settings : mapping
        With ``max_iter``, perhaps ``face_size``, and ``noise_std`` unless it is given.
    seed : int
        Seed of the fit.
    variant : {"symmetric", "asymmetric", "as-fitted", "real"}
        Of the problem.
    noise_std : float, optional
        Another noise than that of the settings.
    """
    from trueboundary.data import parse_pair

    source, pair = parse_pair(name)
    in_sizes = source.size is not None and "face_size" in settings
    fit = FittedMixtures(
        source.name,
        pair,
        source.n_components,
        source.n_factors,
        max_iter=settings["max_iter"],
        seed=seed,
        face_size=settings["face_size"] if in_sizes else source.size or 64,
        content=source.content(),
    )
    return ImageTask(fit, variant, settings["noise_std"] if noise_std is None else noise_std)


def attacks_on(
    task: ImageTask,
    classifier: TrainedClassifier | None,
    settings: Settings,
    seed: int,
    *,
    model: str = FINAL,
) -> dict[str, RunConfig]:
    """Return the attacks on a classifier and its test, by what they are called.

    The optimal classifier is attacked along the gradient of the log densities, as in the paper;
    trained ones by Carlini-Wagner as well, and what counts is the nearer of the two.
    """
    n_points = settings["n_points"]
    runs: dict[str, RunConfig] = {
        "gradient": AttackedImages(task, classifier, "gradient", n_points, model=model, seed=seed),
        "test": Accuracy(task, classifier, settings["n_test"], model=model, seed=seed),
    }
    if classifier is not None:
        runs["cw"] = AttackedImages(
            task,
            classifier,
            "cw",
            n_points,
            settings["cw_steps"],
            settings["cw_searches"],
            settings["cw_rate"],
            model=model,
            seed=seed,
        )
    return runs


def under(prefix: str, runs: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    """Return the runs with their names under `prefix`."""
    return {f"{prefix}/{name}": config for name, config in runs.items()}


def nearest_distances(runs: Mapping[str, Run], prefix: str) -> Floats:
    """Return each point's shortest distance over the attacks under `prefix`."""
    names = (f"{prefix}/{attack}" for attack in ATTACKS)
    found = [distances(runs[name]) for name in names if name in runs]
    shortest: Floats = np.minimum.reduce(found)
    return shortest


def attack_row(runs: Mapping[str, Run], prefix: str, **labels: Any) -> Row:
    """Return one row of a table: what the attacks and the test under `prefix` measured.

    Means are over the points whose decision changed; ``median`` counts the others as infinitely
    far. Accuracies are shares of the test points.
    """
    distance = nearest_distances(runs, prefix)
    mean, low, high = mean_of_points(distance)
    test = runs[f"{prefix}/test"].summary
    n_correct, n_test = test["n_correct"], test["n_points"]
    accuracy = theory.intervals.clopper_pearson(n_correct, n_test)
    attacked: NDArray[np.bool_] = runs[f"{prefix}/gradient"].arrays["correct"]
    return labels | {
        "mean_l2": mean,
        "mean_l2_low": low,
        "mean_l2_high": high,
        "median_l2": median_of_points(distance)[0],
        "n_points": len(distance),
        "n_failed": int((~np.isfinite(distance)).sum()),
        "accuracy": n_correct / n_test,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "n_test": n_test,
        "accuracy_under_attack": accuracy_under_attack(attacked, distance),
    }


def estimate(row: Row, value: str) -> Estimate:
    """Return a row's value with its interval."""
    return row[value], row[f"{value}_low"], row[f"{value}_high"]


def describe_row(row: Row, name: str) -> str:
    """Return a row's numbers as a sentence, with their intervals and counts."""
    text = f"{name}: "
    if math.isnan(row["mean_l2"]):
        text += f"no decision changed at any of {plural(row['n_points'], 'point')}"
    else:
        text += f"mean attack {row['mean_l2']:.3f}"
        if row["mean_l2_low"] is not None:
            text += f" [{row['mean_l2_low']:.3f}, {row['mean_l2_high']:.3f}]"
        text += f" over {row['n_points'] - row['n_failed']} of {plural(row['n_points'], 'point')}"
    return (
        f"{text}, accuracy {row['accuracy']:.4f} [{row['accuracy_low']:.4f}, "
        f"{row['accuracy_high']:.4f}] on {row['n_test']:,}."
    )


def limit(row: Row, value: str, end: str) -> float:
    """Return the ``"low"`` or ``"high"`` end of a value's interval, or the value without one."""
    found = row[f"{value}_{end}"]
    return float(row[value] if found is None else found)


def error_bars(rows: Sequence[Row], value: str = "mean_l2") -> list[list[float]]:
    """Return the lengths of error bars below and above `value`, 0 where there is no interval."""
    bars = []
    for end, sign in (("low", 1.0), ("high", -1.0)):
        ends = [row[f"{value}_{end}"] for row in rows]
        bars.append(
            [
                0.0 if limit is None else sign * (row[value] - limit)
                for row, limit in zip(rows, ends, strict=True)
            ]
        )
    return bars
