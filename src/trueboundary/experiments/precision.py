"""How many points or networks would decide what an interval leaves open."""

from __future__ import annotations

import math

from trueboundary import theory
from trueboundary.experiments.base import Measurement

#: More than this is no plan.
_MOST, _MOST_NETWORKS = 10**12, 10**4


def n_for(measurement: Measurement, shrink: float) -> int | None:
    """Return the n at which a measured interval would be `shrink` times as wide, or narrower.

    The interval of a mean narrows like 1/sqrt(n). That of the share of a count of none or of all,
    which ends at the value itself, narrows like 1/n. One for the next network narrows only until it
    holds what networks differ by. There is no such n, and None is returned, where that is too wide,
    where it cannot be told because there is one network alone, or where the interval is a bracket.

    Examples
    --------
    >>> n_for(Measurement(0.5, 0.4, 0.6, n=100), 0.5)
    400
    >>> n_for(Measurement(0.0, 0.0, 0.02, n=200), 0.5)
    403
    >>> n_for(Measurement(340.0, -134.0, 814.0, n=3, interval_of="networks"), 0.45)
    15
    >>> n_for(Measurement(340.0, -134.0, 814.0, n=3, interval_of="networks"), 0.1) is None
    True
    """
    n, low, high = measurement.n, measurement.low, measurement.high
    if n is None or low is None or high is None or not shrink > 0:
        return None
    if measurement.interval_of == "bracket" or not math.isfinite(high - low):
        return None
    if measurement.interval_of == "networks":
        widest = shrink * theory.intervals.prediction_factor(n)
        if widest <= theory.intervals.prediction_factor(_MOST_NETWORKS):
            return None
        return next(m for m in range(n, _MOST_NETWORKS) if _fits(m, widest))
    needed = n / shrink**2
    if measurement.value in (low, high):  # (1 - width)**n is what the confidence leaves
        width = min(high - low, 1 - 1e-12)
        needed = n * math.log1p(-width) / math.log1p(-width * shrink)
    return math.ceil(needed * (1 - 1e-12)) if needed <= _MOST else None


def _fits(n_networks: int, widest: float) -> bool:
    return theory.intervals.prediction_factor(n_networks) <= widest


def words_for(measurement: Measurement, n: int | None) -> str:
    """Say what would decide, `n` being what `n_for` returned.

    Examples
    --------
    >>> words_for(Measurement(0.5, 0.4, 0.6, n=100), 400)
    'n = 400 would decide it'
    """
    if n is not None:
        return f"n = {n:,} would decide it"
    if measurement.interval_of == "bracket":
        return "more points would not decide it, but a finer grid or a tighter bound"
    if measurement.interval_of == "networks":
        if measurement.n == 1:
            return "one network does not tell how much networks differ; two or more are needed"
        return "no number of networks would decide it: they differ by more than that"
    return "how many points would decide it cannot be told"
