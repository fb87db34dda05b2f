"""What attacks on a classifier found, as rows of tables and in words.

A row has a value with the ends of its 95 % interval, for instance ``mean_l2``, ``mean_l2_low`` and
``mean_l2_high``; the ends are None where there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trueboundary import theory
from trueboundary.experiments.base import Measurement, Row, Rows
from trueboundary.experiments.images.attacked_images import (
    AttackName,
    Floats,
    accuracy_under_attack,
    distances,
)
from trueboundary.experiments.images.image_plans import words_of
from trueboundary.experiments.summaries import (
    Estimate,
    largest_deviation,
    mean_of_points,
    median_of_points,
)
from trueboundary.plurals import plural
from trueboundary.runs import Run

#: The attacks that may stand under a prefix, the first of them always.
ATTACKS: tuple[AttackName, ...] = ("gradient", "gradient-fixed", "nearest")


def nearest_distances(runs: Mapping[str, Run], prefix: str) -> Floats:
    """Return each point's shortest distance over the attacks under `prefix`."""
    names = (f"{prefix}/{attack}" for attack in ATTACKS)
    found = [distances(runs[name]) for name in names if name in runs]
    shortest: Floats = np.minimum.reduce(found)
    return shortest


def distance_row(distance: Floats, **labels: Any) -> Row:
    """Return one row of a table: distances, infinite where an attack failed, in a few numbers.

    Means are over the points whose decision changed; ``median_l2`` counts the others as infinitely
    far.
    """
    return (
        labels
        | with_interval("mean_l2", mean_of_points(distance))
        | {
            "median_l2": median_of_points(distance)[0],
            "n_points": len(distance),
            "n_failed": int((~np.isfinite(distance)).sum()),
        }
    )


def attack_rows(
    runs: Mapping[str, Run], names: Iterable[str], of: str, **label: Sequence[Any]
) -> Rows:
    """Return one row for each data set and value of a label, written as `of` says in the prefix."""
    ((column, values),) = label.items()
    return [
        attack_row(runs, f"{name}/{of.format(value)}", dataset=name, **{column: value})
        for name in names
        for value in values
    ]


def attack_row(runs: Mapping[str, Run], prefix: str, **labels: Any) -> Row:
    """Return one row of a table: what the attacks and the test under `prefix` measured.

    Distances are those of `distance_row`; accuracies are shares of the test points, and under
    attack of the attacked points.
    """
    distance = nearest_distances(runs, prefix)
    test = runs[f"{prefix}/test"].summary
    attacked = accuracy_under_attack(runs[f"{prefix}/gradient"].arrays["correct"], distance)
    return (
        distance_row(distance, **labels)
        | share("accuracy", test["n_correct"], test["n_points"])
        | {"n_test": test["n_points"]}
        | share("accuracy_under_attack", round(attacked * len(distance)), len(distance))
    )


def with_interval(value: str, estimate: Estimate) -> Row:
    """Return an estimate as the three entries of a row."""
    return dict(zip((value, f"{value}_low", f"{value}_high"), estimate, strict=True))


def share(value: str, n_events: int, n: int) -> Row:
    """Return a share of independent points with its Clopper-Pearson interval."""
    low, high = theory.intervals.clopper_pearson(n_events, n)
    return with_interval(value, (n_events / n, low, high))


def estimate(row: Row, value: str) -> Estimate:
    """Return a row's value with its interval."""
    return row[value], row[f"{value}_low"], row[f"{value}_high"]


def chosen(rows: Sequence[Row], **labels: Any) -> Rows:
    """Return the rows that have all these labels."""
    return [row for row in rows if all(row[name] == label for name, label in labels.items())]


def names_of(rows: Sequence[Row], label: str = "dataset") -> list[Any]:
    """Return what stands under a label, each once, in the order of the rows."""
    return list(dict.fromkeys(row[label] for row in rows))


def with_paper(
    rows: Sequence[Row], paper: Mapping[str, Sequence[float]], order: Sequence[str], label: str
) -> Rows:
    """Return the rows with the paper's numbers as ``paper``, None where it has none.

    `paper` has them by data set, in the `order` of what stands under `label`.

    Examples
    --------
    >>> paper = {"mnist/0-6": (2.98, 1.84)}
    >>> with_paper([{"dataset": "mnist/0-6", "of": "CNN"}], paper, ("optimal", "CNN"), "of")
    [{'dataset': 'mnist/0-6', 'of': 'CNN', 'paper': 1.84}]
    """
    printed = {
        (name, of): number
        for name, numbers in paper.items()
        for of, number in zip(order, numbers, strict=True)
    }
    return [row | {"paper": printed.get((row["dataset"], row[label]))} for row in rows]


def deviation_from(paper: Sequence[float], rows: Sequence[Row], value: str) -> Measurement:
    """Return the largest deviation of the rows of classifiers from the paper's, in its order.

    Accuracies are compared by their differences, mean attacks relative to the paper's.
    """
    return largest_deviation(
        {row["classifier"]: estimate(row, value) for row in rows},
        paper,
        n=min(row["n_test" if value == "accuracy" else "n_points"] for row in rows),
        relative=value == "mean_l2",
    )


def mean_cell(row: Row) -> str:
    """Return a row's mean attack with its interval as a cell of a table.

    Examples
    --------
    >>> mean_cell({"mean_l2": 1.0, "mean_l2_low": 0.91, "mean_l2_high": 1.1})
    '1.00 [0.91, 1.10]'
    """
    mean, low, high = estimate(row, "mean_l2")
    if math.isnan(mean):
        return "none found"
    return f"{mean:.2f}" if low is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def describe_row(row: Row, what: str) -> str:
    """Return a row's numbers as a sentence on `what`, with their intervals and counts."""
    text = f"{words_of(row['dataset'])}, {what}: "
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
