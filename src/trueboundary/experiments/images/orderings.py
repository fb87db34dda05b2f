"""Which of several measured values lies above which: claims that intervals decide.

A value without an interval decides nothing: two bare means lie apart whether one point was attacked
or a thousand. Every interval is asked for (``&``, not ``and``), so that what is decided does not
hang on which comparison comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from trueboundary.experiments.base import Measurement, Row
from trueboundary.experiments.images.attack_tables import names_of
from trueboundary.experiments.images.image_plans import words_of
from trueboundary.experiments.summaries import Estimate, share_measurement


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


def apart(below: Row, *above: Row, value: str = "mean_l2", factor: float = 1.0) -> bool:
    """Return whether `factor` times the first value lies under all others, intervals apart.

    Examples
    --------
    >>> one, two = ({"l2": m, "l2_low": m - 0.1, "l2_high": m + 0.1} for m in (1.0, 2.0))
    >>> apart(one, two, value="l2"), apart(one, two, value="l2", factor=2)
    (True, False)
    """
    top = factor * interval(below, value)[1]
    return top < min(interval(row, value)[0] for row in above)


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
        if isinstance(found.value, bool) or not math.isnan(found.value):
            measurements[claim] = found
    return measurements, remarks


def ordering(
    rows: Sequence[Row], holds: Callable[[Mapping[str, Row]], bool], note: str = "Intervals apart"
) -> Measurement:
    """Return whether an ordering of classifiers holds on every data set.

    `holds` decides it for the rows of one data set, by their classifiers.
    """
    table: dict[str, dict[str, Row]] = {name: {} for name in names_of(rows)}
    for row in rows:
        table[row["dataset"]][row["classifier"]] = row
    held = {name: holds(own) for name, own in table.items()}
    words = ", ".join(f"{words_of(name)} {'yes' if yes else 'no'}" for name, yes in held.items())
    shown = ("dataset", "classifier", "mean_l2", "mean_l2_low", "mean_l2_high")
    return Measurement(
        all(held.values()),
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
    holds = [
        (interval(row, "accuracy")[0] >= accurate) & (interval(cell, "ratio")[1] <= brittle)
        for row, cell in zip(rows, cells, strict=True)
    ]
    words = "; ".join(f"{words_of(cell['dataset'])}: {cell['ratio']:.2f}" for cell in cells)
    return Measurement(
        all(holds),
        n=min(row["n_points"] for row in rows),
        cells=cells,
        note=f"Mean attack over the optimal classifier's, on the same points: {words}.",
    )


def smallest(ratios: Mapping[str, Estimate], n: int, note: str) -> Measurement:
    """Return the smallest of several ratios by data set, each over `n` points."""
    if any(math.isnan(ratio) for ratio, *_ in ratios.values()):
        return Measurement(math.nan)
    value, low, high = min(ratios.values(), key=lambda ratio: ratio[0])
    words = ", ".join(f"{words_of(name)} {ratio:.2f}" for name, (ratio, *_) in ratios.items())
    return Measurement(value, low, high, n=n, note=f"{note}: {words}.")


def extreme_share(rows: Sequence[Row], value: str, choose: Callable[..., Row]) -> Measurement:
    """Return the smallest or largest share among rows, as `choose` is `min` or `max`."""
    row = choose(rows, key=lambda r: r[value])
    n = row["n_test" if value == "accuracy" else "n_points"]
    note = f"{row['classifier']}, {words_of(row['dataset'])}."
    return share_measurement(round(row[value] * n), n, note)
