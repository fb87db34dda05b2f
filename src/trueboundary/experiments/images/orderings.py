"""Which of several measured values lies above which: claims that intervals decide.

A value without an interval decides nothing: two bare means lie apart whether one point was attacked
or a thousand. A comparison has three outcomes: the intervals lie apart in the order that is asked
for, in the other order, or they overlap, which leaves it open (None). Every interval is asked for,
so that what is decided does not hang on which comparison comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trueboundary.experiments.base import Measurement, Row
from trueboundary.experiments.images.attack_tables import estimate, names_of
from trueboundary.experiments.images.image_plans import words_of
from trueboundary.experiments.summaries import Estimate, all_of, extreme

#: A classifier of digits counts as accurate from here on.
ACCURATE = 0.98
#: Its mean attack over the optimal classifier's counts as brittle up to the first, and as almost as
#: robust from the second on.
BRITTLE, ROBUST = 0.75, 0.8

_WORDS = {True: "yes", False: "no", None: "open"}


class NoIntervalError(ValueError):
    """Values are to be compared by their intervals, and one of them has none."""


def interval(row: Row, value: str = "mean_l2") -> tuple[float, float]:
    """Return the ends of a value's interval.

    Raises
    ------
    NoIntervalError
        If it has none, as the mean of an attack that succeeded at fewer than two points.

    Examples
    --------
    >>> interval({"mean_l2": 1.0, "mean_l2_low": 0.0, "mean_l2_high": 2.0})
    (0.0, 2.0)
    """
    low, high = row[f"{value}_low"], row[f"{value}_high"]
    if low is None or high is None:
        labels = (str(row[name]) for name in ("dataset", "classifier") if name in row)
        raise NoIntervalError(f"{', '.join(labels) or 'a row'}: {value} has no interval")
    return low, high


def apart(below: Row, *above: Row, value: str = "mean_l2", factor: float = 1.0) -> bool | None:
    """Return whether `factor` times the first value lies under all others, intervals apart.

    It is false where it lies above one of them, intervals apart, and None where neither shows.

    Examples
    --------
    >>> one, two = ({"l2": m, "l2_low": m - 0.1, "l2_high": m + 0.1} for m in (1.0, 2.0))
    >>> [apart(one, two, value="l2", factor=factor) for factor in (1, 2, 3)]
    [True, None, False]
    """
    bottom, top = (factor * end for end in interval(below, value))
    ends = [interval(row, value) for row in above]
    return all_of(_sign(top < low, bottom > high) for low, high in ends)


def _sign(holds: bool, fails: bool) -> bool | None:
    return True if holds else (False if fails else None)


def decide(
    claims: Mapping[str, Callable[[], Measurement]],
) -> tuple[dict[str, Measurement], list[str]]:
    """Return the measurements of those claims that the runs can decide, and remarks on the others.

    A measurement that is no number, as a mean where an attack never succeeds, is left out.
    """
    measurements, remarks = {}, []
    for claim, measure in claims.items():
        try:
            found = measure()
        except NoIntervalError as lack:
            remarks.append(f"{claim} is not decided: {lack}.")
            continue
        if found.value is None or not math.isnan(found.value):
            measurements[claim] = found
    return measurements, remarks


def ordering(
    rows: Sequence[Row],
    holds: Callable[[Mapping[str, Row]], bool | None],
    note: str = "Intervals apart",
) -> Measurement:
    """Return whether an ordering of classifiers holds on every data set.

    `holds` decides it for the rows of one data set, by their classifiers, or leaves it open.
    """
    table: dict[str, dict[str, Row]] = {name: {} for name in names_of(rows)}
    for row in rows:
        table[row["dataset"]][row["classifier"]] = row
    held = {name: holds(own) for name, own in table.items()}
    words = ", ".join(f"{words_of(name)} {_WORDS[outcome]}" for name, outcome in held.items())
    shown = ("dataset", "classifier", "mean_l2", "mean_l2_low", "mean_l2_high")
    return Measurement(
        all_of(held.values()),
        n=min(row["n_points"] for row in rows),
        cells=[{name: row[name] for name in shown} for row in rows],
        note=f"{note}, by data set: {words}.",
    )


def accurate_and_brittle(
    rows: Sequence[Row], ratios: Sequence[Estimate], *, accurate: float, brittle: float
) -> Measurement:
    """Return whether classifiers are accurate and yet brittle, intervals included.

    There is one row for each data set, and for each row the ratio of its mean attack to the optimal
    classifier's. Accuracies are `accurate` at least, ratios `brittle` at most.
    """
    cells = [
        {name: row[name] for name in ("dataset", "accuracy", "accuracy_low")}
        | dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
        for row, ratio in zip(rows, ratios, strict=True)
    ]
    accuracies = [interval(row, "accuracy") for row in rows]
    ends = [interval(cell, "ratio") for cell in cells]
    holds = [_sign(low >= accurate, high < accurate) for low, high in accuracies]
    holds += [_sign(high <= brittle, low > brittle) for low, high in ends]
    words = "; ".join(f"{words_of(cell['dataset'])}: {cell['ratio']:.2f}" for cell in cells)
    return Measurement(
        all_of(holds),
        n=min(row["n_points"] for row in rows),
        cells=cells,
        note=f"Mean attack over the optimal classifier's, on the same points: {words}.",
    )


def smallest(ratios: Mapping[str, Estimate], n: int, note: str) -> Measurement:
    """Return the smallest of several ratios by data set, each over `n` points."""
    if any(math.isnan(ratio) for ratio, *_ in ratios.values()):
        return Measurement(math.nan)
    words = ", ".join(f"{words_of(name)} {ratio:.2f}" for name, (ratio, *_) in ratios.items())
    return Measurement(*extreme(ratios.values(), min), n=n, note=f"{note}: {words}.")


def extreme_share(rows: Sequence[Row], value: str, choose: Callable[..., Any]) -> Measurement:
    """Return the smallest or largest share among rows, as `choose` is `min` or `max`."""
    row: Row = choose(rows, key=lambda r: r[value])
    n = row["n_test" if value == "accuracy" else "n_points"]
    note = f"{row['classifier']}, {words_of(row['dataset'])}."
    return Measurement(*extreme([estimate(r, value) for r in rows], choose), n=n, note=note)
