"""Means, shares and their 95 % intervals, as the claims' measurements state them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trueboundary import theory
from trueboundary.experiments.base import Measurement, Row
from trueboundary.plurals import plural

Values = NDArray[np.floating]
#: A value with its 95 % interval, if it has one.
Estimate = tuple[float, float | None, float | None]


def mean_of_points(values: Values) -> Estimate:
    """Return the mean of the finite values and its 95 % t interval.

    There is one value per point, infinite where there is none (a failed attack). The mean is NaN
    where no value is finite, and there are no limits for fewer than two.

    Examples
    --------
    >>> import numpy as np
    >>> mean_of_points(np.array([0.1, np.inf]))
    (0.1, None, None)
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        return math.nan, None, None
    if finite.size == 1:
        return float(finite[0]), None, None
    low, high = theory.intervals.t_interval(finite)
    return float(finite.mean()), low, high


def median_of_points(values: Values) -> tuple[float, float, float]:
    """Return the median and its 95 % interval, failures (infinities) ranked like any other."""
    low, high = theory.intervals.median_interval(values)
    return theory.intervals.censored_median(values), low, high


def mean_measurement(networks: Sequence[Values], note: str = "") -> Measurement:
    """Return the mean over points, infinite where the attack failed, as a measurement.

    Of one network it is the mean with the t interval over points; of several the mean of their
    means with the t interval over networks; NaN where a network has no value at all.
    """
    n_points = sum(len(values) for values in networks)
    n_failed = sum(int((~np.isfinite(values)).sum()) for values in networks)
    notes = [note, _failures(networks, n_failed, n_points)]
    if len(networks) == 1:
        value, low, high = mean_of_points(networks[0])
        notes.append("One network: the interval is over points.")
        return Measurement(value, low, high, n=n_points, note=_join(notes))
    means = np.array([mean_of_points(values)[0] for values in networks])
    return over_networks(means, _join(notes))


def over_networks(values: Values, note: str = "") -> Measurement:
    """Return the mean of one value per trained network with the t interval over networks."""
    value = float(values.mean())
    low, high = (
        theory.intervals.t_interval(values)
        if len(values) > 1 and np.isfinite(values).all()
        else (None, None)
    )
    if len(values) == 1:
        note = _join([note, "One network, so there is no interval."])
    return Measurement(value, low, high, n=len(values), note=note)


def share_measurement(n_events: int, n: int, note: str = "") -> Measurement:
    """Return a share of independent points with its Clopper-Pearson interval."""
    row = share_row(n_events, n)
    return Measurement(row["rate"], row["low"], row["high"], n=n, note=note)


def share_row(n_errors: int, n_points: int) -> Row:
    """Return a count among independent points as part of a row: the rate and its 95 % limits."""
    low, high = theory.intervals.clopper_pearson(n_errors, n_points)
    return {
        "n_errors": n_errors,
        "n_points": n_points,
        "rate": n_errors / n_points,
        "low": low,
        "high": high,
    }


def upper_limit(n_errors: int, n_points: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper limit that a count leaves for the rate."""
    return theory.intervals.clopper_pearson(n_errors, n_points, confidence, side="upper").high


def ratio_of_means(numerator: Values, denominator: Values) -> Estimate:
    """Return the ratio of two means over the same points, with its 95 % interval.

    The ratio is linearised: r + (a - r b) / mean(b) has the mean r and, for many points, its
    sampling error (Taylor series). Points where a or b is infinite are left out; the ratio is NaN
    where none are left, or the denominator is 0.

    Examples
    --------
    >>> import numpy as np
    >>> ratio_of_means(np.array([2.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, 2.0, 2.0)
    """
    both = np.isfinite(numerator) & np.isfinite(denominator)
    a, b = numerator[both].astype(np.float64), denominator[both].astype(np.float64)
    if a.size == 0 or b.mean() == 0:
        return math.nan, None, None
    ratio = a.mean() / b.mean()
    return mean_of_points(ratio + (a - ratio * b) / b.mean())


def largest_deviation(
    found: Mapping[str, Estimate], paper: Sequence[float], *, n: int, relative: bool = True
) -> Measurement:
    """Return how far the farthest of several values lies from the paper's, which has their order.

    `n` points are behind each value. It is the largest deviation, as a share of the paper's value
    if `relative`, with the interval of that value; NaN where a value is none.

    Examples
    --------
    >>> found = {"a": (1.1, 1.0, 1.2), "b": (3.0, 2.5, 3.5)}
    >>> print(largest_deviation(found, (1.0, 4.0), n=10).value)
    0.25
    """
    pairs = list(zip(found.values(), paper, strict=True))
    note = ", ".join(
        f"{name} {value:.3g} against {printed:g}"
        for (name, (value, *_)), printed in zip(found.items(), paper, strict=True)
    )
    if any(math.isnan(value) for (value, *_), _ in pairs):
        return Measurement(math.nan, n=n, note=f"{note}.")
    deviations = [_deviation(estimate, printed, relative) for estimate, printed in pairs]
    largest, low, high = max(deviations, key=lambda deviation: deviation[0])
    return Measurement(largest, low, high, n=n, note=f"{note}.")


def _deviation(estimate: Estimate, paper: float, relative: bool) -> Estimate:
    """Return the size of value - paper, or its share of the paper's, with its interval."""
    unit = paper if relative else 1.0
    value, low, high = estimate
    size = abs(value - paper) / unit
    if low is None or high is None:
        return size, None, None
    ends = [abs(low - paper) / unit, abs(high - paper) / unit]
    return size, 0.0 if low < paper < high else min(ends), max(ends)


def _failures(networks: Sequence[Values], n_failed: int, n_points: int) -> str:
    points = plural(n_points, "point")
    if n_points == n_failed:
        return f"No error was found from any of {points}."
    if n_failed == 0:
        return f"An error was found from each of {points}."
    text = f"No error was found from {n_failed} of {points}; the mean leaves them out."
    if len(networks) == 1:
        median, low, high = median_of_points(networks[0])
        text += f" The median, which counts them as infinitely far, is {median:.4g}"
        text += f" [{low:.4g}, {high:.4g}]." if math.isfinite(low) else "."
    return text


def _join(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)
