"""Means, shares and their 95 % intervals, as the claims' measurements state them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueboundary import theory
from trueboundary.experiments.base import Measurement, Row
from trueboundary.plurals import plural

Values = NDArray[np.floating]
#: A value with its 95 % interval, if it has one.
Estimate = tuple[float, float | None, float | None]


#: Said with a verdict on one network, whose interval tells nothing of how much networks differ.
ONE_NETWORK = "of the one network trained here, over its points; others may differ by more"


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
    means with the interval of `over_networks`; NaN where a network has no value at all.
    """
    n_points = sum(len(values) for values in networks)
    n_failed = sum(int((~np.isfinite(values)).sum()) for values in networks)
    notes = [note, _failures(networks, n_failed, n_points)]
    if len(networks) == 1:
        found = mean_of_points(networks[0])
        return Measurement(*found, n=n_points, note=_join(notes), holds_for=ONE_NETWORK)
    means = np.array([mean_of_points(values)[0] for values in networks])
    return over_networks(means, _join(notes))


def over_networks(values: Values, note: str = "") -> Measurement:
    """Return the mean of one value per trained network, and where the next network's would lie.

    The papers have one network each, so that what ours are held against is their prediction
    interval (see `trueboundary.theory.intervals.prediction_interval`) and not the interval of their
    mean. Of one network alone nothing is known of how much they differ: its interval is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> found = over_networks(np.array([250.0, 330.0, 440.0]))
    >>> round(found.value), round(found.low), round(found.high)
    (340, -134, 814)
    """
    value = float(values.mean())
    if math.isnan(value):
        return Measurement(math.nan, n=len(values), note=note, interval_of="networks")
    if len(values) == 1:
        low, high = -math.inf, math.inf
        note = _join([note, "One network, so that nothing is known of how much networks differ."])
    elif np.isfinite(values).all():
        low, high = theory.intervals.prediction_interval(values)
        note = _join(
            [note, f"The interval is where a further network would lie, from {len(values)}."]
        )
    else:
        low, high = float(values.min()), float(values.max())
    return Measurement(value, low, high, n=len(values), note=note, interval_of="networks")


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
    if `relative`; its interval reaches from the largest lower end to the largest upper end of all,
    as any of them may be the largest. NaN where a value is none.

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
    return Measurement(*extreme(deviations, max), n=n, note=f"{note}.")


def extreme(estimates: Iterable[Estimate], choose: Callable[..., Any]) -> Estimate:
    """Return the smallest or largest of several estimates, as `choose` is `min` or `max`.

    Any of them may be the extreme one, so that its interval reaches from the extreme lower end to
    the extreme upper end. Estimates without an interval count as exact.

    Examples
    --------
    >>> extreme([(0.1, 0.0, 0.5), (0.3, 0.2, 0.4)], max)
    (0.3, 0.2, 0.5)
    >>> extreme([(0.1, None, None)], max)
    (0.1, None, None)
    """
    known = list(estimates)
    value: float = choose(estimate[0] for estimate in known)
    if all(low is None for _, low, _ in known):
        return value, None, None
    lows = [value if low is None else low for value, low, _ in known]
    highs = [value if high is None else high for value, _, high in known]
    return value, choose(lows), choose(highs)


def all_of(outcomes: Iterable[bool | None]) -> bool | None:
    """Return whether all of several comparisons hold; None where that is left open.

    Examples
    --------
    >>> all_of([True, True]), all_of([True, None]), all_of([None, False])
    (True, None, False)
    """
    each = list(outcomes)
    if False in each:
        return False
    return None if None in each else True


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates; half widths add like standard deviations.

    Without an interval of each it has none.

    Examples
    --------
    >>> mean_estimate([(1.0, 0.7, 1.3), (2.0, 1.6, 2.4)])
    (1.5, 1.25, 1.75)
    """
    n = len(estimates)
    value = math.fsum(estimate[0] for estimate in estimates) / n
    if any(low is None or high is None for _, low, high in estimates):
        return value, None, None
    below, above = (
        math.hypot(*(estimate[0] - (estimate[end] or 0.0) for estimate in estimates)) / n
        for end in (1, 2)
    )
    return value, value - below, value + above


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
