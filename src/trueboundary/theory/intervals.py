"""Confidence intervals for error rates, means and medians."""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from trueboundary import _checks

__all__ = [
    "Interval",
    "censored_median",
    "clopper_pearson",
    "median_interval",
    "prediction_factor",
    "prediction_interval",
    "t_interval",
]


class Interval(NamedTuple):
    """A confidence interval [low, high]."""

    low: float
    high: float


def clopper_pearson(
    n_events: int,
    n: int,
    confidence: float = 0.95,
    *,
    side: Literal["two-sided", "upper"] = "two-sided",
) -> Interval:
    """Return the exact (Clopper-Pearson) confidence interval of a probability.

    The limits are quantiles of beta distributions: low = Beta^{-1}(tail; k, n - k + 1) and
    high = Beta^{-1}(1 - tail; k + 1, n - k), with tail = (1 - confidence)/2, or 1 - confidence for
    the one-sided upper limit.

    Parameters
    ----------
    n_events : int
        Number of events k, such as errors, from 0 to `n`.
    n : int
        Number of independent trials, at least 1.
    confidence : float
        Coverage the interval has at least, strictly between 0 and 1.
    side : {"two-sided", "upper"}
        ``"upper"`` puts the whole tail above the interval and gives low = 0.

    Returns
    -------
    Interval
        Limits of the probability.

    Examples
    --------
    >>> clopper_pearson(0, 10_000_000, side="upper").high  # doctest: +ELLIPSIS
    2.9957...e-07
    """
    n = _checks.check_integer("n", n, minimum=1)
    n_events = _checks.check_integer("n_events", n_events, minimum=0)
    if n_events > n:
        raise ValueError(f"n_events must be at most n = {n}, got {n_events}.")
    confidence = _checks.open_fraction("confidence", confidence)
    _checks.choice("side", side, ("two-sided", "upper"))
    tail = 1 - confidence if side == "upper" else 0.5 * (1 - confidence)
    low = 0.0
    if side == "two-sided" and n_events > 0:
        low = float(special.betaincinv(n_events, n - n_events + 1, tail))
    return Interval(low, _upper_limit(n_events, n, tail))


def t_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Student's t interval for the mean of independent, roughly normal values.

    Parameters
    ----------
    values : array_like of shape (n,)
        At least two finite values.
    confidence : float
        Nominal coverage, strictly between 0 and 1.

    Returns
    -------
    Interval
        mean -/+ t * sd / sqrt(n), with n - 1 degrees of freedom.

    Examples
    --------
    >>> interval = t_interval([0.9, 1.1, 1.0, 1.2])
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.845, 1.255)
    """
    array = _several(values)
    confidence = _checks.open_fraction("confidence", confidence)
    quantile = float(special.stdtrit(array.size - 1, 0.5 * (1 + confidence)))
    return _around_the_mean(array, quantile / math.sqrt(array.size))


def prediction_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Student's t interval for the next of independent, roughly normal values.

    The mean's interval says where the mean of infinitely many values lies; this one says where a
    single further value lies, to which a value that somebody else measured once is to be compared.

    Parameters
    ----------
    values : array_like of shape (n,)
        At least two finite values.
    confidence : float
        Nominal coverage, strictly between 0 and 1.

    Returns
    -------
    Interval
        mean -/+ t * sd * sqrt(1 + 1/n), with n - 1 degrees of freedom.

    References
    ----------
    .. [1] W. Q. Meeker, G. J. Hahn and L. A. Escobar, "Statistical Intervals", 2nd edition, Wiley
       2017, Section 4.2.

    Examples
    --------
    >>> interval = prediction_interval([250, 330, 440])
    >>> round(interval.low), round(interval.high)
    (-134, 814)
    """
    array = _several(values)
    return _around_the_mean(array, prediction_factor(array.size, confidence))


def prediction_factor(n: int, confidence: float = 0.95) -> float:
    """Return how many standard deviations of n values their prediction interval reaches.

    It is t * sqrt(1 + 1/n), with t of n - 1 degrees of freedom: infinite for one value, and never
    below the normal distribution's quantile, 1.96 at 0.95.

    Examples
    --------
    >>> round(prediction_factor(3), 2), round(prediction_factor(1000), 2), prediction_factor(1)
    (4.97, 1.96, inf)
    """
    n = _checks.check_integer("n", n, minimum=1)
    confidence = _checks.open_fraction("confidence", confidence)
    if n == 1:
        return math.inf
    return float(special.stdtrit(n - 1, 0.5 * (1 + confidence))) * math.sqrt(1 + 1 / n)


def _several(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = _checks.finite_array("values", values)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"values must be one axis of at least two numbers, got {array.shape}.")
    return array


def _around_the_mean(array: npt.NDArray[np.float64], n_deviations: float) -> Interval:
    """Return what lies within so many standard deviations of the mean."""
    # In units of the largest value, a power of two, neither sum nor squares leave the range.
    unit = 2.0 ** min(math.frexp(float(np.abs(array).max()))[1], 1023)
    scaled = array / unit
    half_width = n_deviations * unit * float(scaled.std(ddof=1))
    mean = unit * float(scaled.mean())
    return Interval(mean - half_width, mean + half_width)


def censored_median(values: npt.ArrayLike) -> float:
    """Return the median of values of which some are only known to be large, given as infinite.

    The median of distances to errors, where failed attacks are infinite. It is the mean of the two
    middle values (the middle one, for an odd number), hence infinite as soon as the upper of them
    is.

    Parameters
    ----------
    values : array_like of shape (n,)
        Values; infinities allowed.

    Returns
    -------
    float
        The median; NaN without values, or if one is NaN.

    Examples
    --------
    >>> censored_median([1, 2, 3, 10]), censored_median([1, 2, float("inf"), float("inf")])
    (2.5, inf)
    """
    ranked = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    if ranked.size == 0 or np.isnan(ranked[-1]):  # NaN sorts last
        return math.nan
    lower, upper = float(ranked[(ranked.size - 1) // 2]), float(ranked[ranked.size // 2])
    return lower / 2 + upper / 2


def median_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the exact interval for a median whose limits are order statistics.

    With r the largest number such that P(Binomial(n, 1/2) < r) <= (1 - confidence)/2, the r-th
    smallest and the r-th largest value enclose the median with at least the stated confidence,
    whatever the distribution. Infinite values (failed attacks) are ranked like any other.

    Parameters
    ----------
    values : array_like of shape (n,)
        At least one value; infinities allowed, NaN not.
    confidence : float
        Coverage the interval has at least, strictly between 0 and 1.

    Returns
    -------
    Interval
        Two of the values, or (-inf, inf) when there are too few for that confidence (below six
        at 0.95).

    Examples
    --------
    >>> median_interval(range(1, 21))
    Interval(low=6.0, high=15.0)
    """
    array = _checks.real_array("values", values)
    if array.ndim != 1 or array.size == 0 or np.isnan(array).any():
        raise ValueError(f"values must be one axis of numbers without NaN, got {array.shape}.")
    array = np.sort(array)
    tail = 0.5 * (1 - _checks.open_fraction("confidence", confidence))
    below = special.bdtr(np.arange(array.size), array.size, 0.5)  # P(Binomial <= j)
    rank = int(np.searchsorted(below, tail, side="right"))
    if rank == 0:
        return Interval(-math.inf, math.inf)
    return Interval(float(array[rank - 1]), float(array[-rank]))


def _upper_limit(n_events: int, n: int, tail: float) -> float:
    """Return the p at which `n_events` or fewer events in `n` trials have probability `tail`."""
    if n_events == n:
        return 1.0
    if n_events == 0:  # (1 - p)^n = tail
        return abs(math.expm1(math.log(tail) / n))
    return float(special.betainccinv(n_events + 1, n - n_events, tail))
