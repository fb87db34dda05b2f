"""What a run of splitting is set to, what it found, and what it gives reason to doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from trueboundary._checks import check_integer, check_real
from trueboundary.plurals import plural
from trueboundary.presentable import PresentableFields
from trueboundary.rare_events.replicates import Pilot, Replicates
from trueboundary.theory.intervals import Interval, clopper_pearson, t_interval

__all__ = ["ClassRate", "RareEventWarning", "Splitting", "SplittingResult", "log_normal_interval"]

_LOG_NORMAL_FROM = 0.3  # relative spread of the replicates
_HARDLY_MOVING = 0.02  # acceptance
_SPREAD_FACTOR = 3.0  # how much wider than ideal is worth a warning


class ClassRate(NamedTuple):
    """The probability that a point is given to one class, with an interval."""

    label: int
    value: float
    low: float
    high: float


class RareEventWarning(UserWarning):
    """An error rate estimated by splitting may be wrong by more than its interval says."""


@dataclass(frozen=True)
class Splitting:
    """Settings of multilevel splitting.

    A pilot run chooses levels between ordinary points and errors, and step sizes. Replicates then
    repeat the climb with both frozen, which makes the product of the shares of particles that pass
    each level an unbiased estimate of the error rate, whatever the number of particles and however
    badly they move (Cerou, Del Moral, Furon and Guyader, 2012).

    Parameters
    ----------
    n_particles : int
        Particles of each replicate, at least 10.
    keep : float
        Share of the pilot's particles that pass a level, strictly between 0 and 1.
    n_sweeps : int
        Moves of every particle between two levels.
    n_replicates : int
        Independent replicates, at least 2; the interval has one degree of freedom less.
    batch_size : int
        Particles that are moved and classified at a time.
    min_probability : float
        The pilot gives up at a level rarer than this. At least 1e-300. A classifier without errors
        can cost that many levels.
    confidence : float
        Of the intervals, strictly between 0 and 1.

    Notes
    -----
    A run costs about ``(n_replicates + 1) * n_particles * (1 + n_sweeps * n_levels)`` evaluations
    with ``n_levels = log(p) / log(keep)``. The ideal relative standard deviation of one replicate
    is ``sqrt(n_levels * (1 - keep) / (keep * n_particles))``.

    Examples
    --------
    >>> from trueboundary.rare_events import Splitting
    >>> Splitting(n_particles=500).ideal_spread(1e-15)
    0.3156...
    """

    n_particles: int = 1000
    keep: float = 0.5
    n_sweeps: int = 5
    n_replicates: int = 10
    batch_size: int = 8192
    min_probability: float = 1e-100
    confidence: float = 0.95

    def __post_init__(self) -> None:
        least = {"n_particles": 10, "n_sweeps": 1, "n_replicates": 2, "batch_size": 1}
        for name, minimum in least.items():
            check_integer(name, getattr(self, name), minimum=minimum)
        for name, low in (("keep", 0.0), ("confidence", 0.0), ("min_probability", 1e-300)):
            if not low <= check_real(name, getattr(self, name), above=0.0) < 1:
                raise ValueError(
                    f"{name} must lie between {low:g} and 1, got {getattr(self, name)!r}."
                )

    @property
    def n_keep(self) -> int:
        """Particles of the pilot that pass a level."""
        return min(max(1, round(self.keep * self.n_particles)), self.n_particles - 1)

    def ideal_spread(self, probability: float) -> float:
        """Return the relative standard deviation of one replicate if its particles mixed well."""
        n_levels = math.log(probability) / math.log(self.keep)
        return math.sqrt(n_levels * (1 - self.keep) / (self.keep * self.n_particles))


@dataclass(frozen=True, repr=False)
class SplittingResult(PresentableFields):
    """An error rate estimated by splitting, or the news that no error was reached.

    Attributes
    ----------
    value : float
        The error rate, the mean of the replicates; NaN where no error was reached, never 0.
    log10 : float
        Its base-10 logarithm.
    low, high : float
        Student's t interval over the replicates, cut off at 0. Where no level between ordinary
        points and errors was needed, or no error was reached, the Clopper-Pearson interval of the
        independent draws.
    log_normal : Interval or None
        Interval of the mean of a log-normal distribution, where the replicates spread by more than
        0.3 of their mean; it allows for their skewness, which the t interval does not.
    reached : bool
        Whether errors were reached.
    replicates : tuple of float
        Unbiased, independent estimates; empty where no error was reached.
    levels : tuple of float
        Scores that had to be passed one after the other; the last is 0 where errors were reached.
    steps, acceptance : tuple of float
        Step and share of accepted moves after each level but the last.
    deepest_level, deepest_probability : float
        The last level and its estimated probability: `value` where errors were reached, the
        pilot's estimate elsewhere.
    n_independent, n_independent_errors : int
        Independent draws (the replicates' first particles), and errors among them.
    n_ancestors : tuple of int
        For each replicate, first particles that have descendants among the errors.
    n_evaluations : int
        Points classified, the pilot and every check included.
    label : int
        The class whose error rate this is.
    score : str
        The score that guided the particles.
    warnings : tuple of str
        Reasons to doubt the result, in words.
    into : tuple of ClassRate
        For three classes and more, the rates of errors into each class that gets some, with
        intervals like that of the whole; empty where no error was reached.
    """

    value: float
    log10: float
    low: float
    high: float
    log_normal: Interval | None
    reached: bool
    replicates: tuple[float, ...]
    levels: tuple[float, ...]
    steps: tuple[float, ...]
    acceptance: tuple[float, ...]
    deepest_level: float
    deepest_probability: float
    n_independent: int
    n_independent_errors: int
    n_ancestors: tuple[int, ...]
    n_evaluations: int
    label: int
    score: str
    warnings: tuple[str, ...] = ()
    into: tuple[ClassRate, ...] = ()

    @property
    def interval(self) -> Interval:
        """The interval to quote: `log_normal` where there is one, else ``(low, high)``.

        Where replicates spread widely, the t interval is too often too low: the mean of a skewed
        distribution is carried by its rare large values.
        """
        return self.log_normal or Interval(self.low, self.high)

    @property
    def relative_spread(self) -> float:
        """Standard deviation of the replicates over their mean; NaN where there are none."""
        if not self.replicates:
            return math.nan
        values = np.array(self.replicates)
        return float(values.std(ddof=1) / values.mean())

    def __str__(self) -> str:
        """Say the error rate, or how far the run came, in one sentence."""
        if not self.reached:
            return (
                f"class {self.label}: no error was reached; the deepest level, score "
                f"{self.deepest_level:.4g}, has probability {self.deepest_probability:.3g}, and "
                f"{self.n_independent:,} independent draws with "
                f"{plural(self.n_independent_errors, 'error')} bound the error rate by "
                f"{self.high:.3g}"
            )
        low, high = self.interval
        return (
            f"class {self.label}: {self.value:.3g} [{low:.3g}, {high:.3g}] "
            f"(splitting, {plural(len(self.replicates), 'replicate')}, "
            f"{plural(self.n_evaluations, 'evaluation')})"
        )


def estimate(
    splitting: Splitting,
    pilot: Pilot,
    replicates: Replicates,
    *,
    n_evaluations: int,
    label: int,
    score: str,
    warnings: tuple[str, ...],
) -> SplittingResult:
    """Return what a pilot and its replicates say about the error rate."""
    values, confidence = replicates.values, splitting.confidence
    n_independent = splitting.n_particles * len(values)
    mean = float(values.mean())
    # A pilot that reached errors does not oblige the replicates to.
    reached = pilot.reached and mean > 0
    is_plain_sampling = not reached or len(pilot.levels) == 1
    log_normal = None
    if is_plain_sampling:
        interval = clopper_pearson(replicates.n_first_errors, n_independent, confidence)
        mean = replicates.n_first_errors / n_independent or math.nan
    else:
        interval = t_interval(values, confidence)
        log_normal = _log_normal(values, confidence)
    return SplittingResult(
        value=mean,
        log10=math.log10(mean),
        low=max(interval.low, 0.0),
        high=interval.high,
        log_normal=log_normal,
        reached=reached,
        replicates=tuple(values.tolist()) if reached else (),
        levels=pilot.levels,
        steps=pilot.steps,
        acceptance=replicates.acceptance,
        deepest_level=pilot.levels[-1],
        deepest_probability=mean if reached else math.exp(pilot.log_probability),
        n_independent=n_independent,
        n_independent_errors=replicates.n_first_errors,
        n_ancestors=replicates.n_ancestors,
        n_evaluations=n_evaluations,
        label=label,
        score=score,
        warnings=warnings,
        into=_into(replicates, n_independent, confidence, is_plain_sampling) if reached else (),
    )


def _into(
    replicates: Replicates, n_independent: int, confidence: float, is_plain_sampling: bool
) -> tuple[ClassRate, ...]:
    """Return the rates of errors into each class that gets some of them."""
    if not replicates.into:
        return ()
    parts = replicates.values[:, None] * np.array(replicates.into)  # (n_replicates, K)
    rates = []
    for label, values in enumerate(parts.T):
        if not values.any():
            continue
        mean = float(values.mean())
        if is_plain_sampling:
            interval = clopper_pearson(round(mean * n_independent), n_independent, confidence)
        else:
            interval = _log_normal(values, confidence) or t_interval(values, confidence)
        rates.append(ClassRate(label, mean, max(interval.low, 0.0), interval.high))
    return tuple(rates)


def _log_normal(values: np.typing.NDArray[np.float64], confidence: float) -> Interval | None:
    """Return the interval of estimates that spread too widely for Student's t, None for others."""
    if values.std(ddof=1) > _LOG_NORMAL_FROM * values.mean() and (values > 0).all():
        return log_normal_interval(values, confidence)
    return None


def log_normal_interval(values: np.typing.ArrayLike, confidence: float = 0.95) -> Interval:
    r"""Return Cox's interval for the mean of log-normal values, with quantiles of Student's t.

    With mean m and variance s^2 of the n logarithms, the limits are the exponentials of
    :math:`m + s^2/2 \mp t \sqrt{s^2/n + s^4/(2(n - 1))}`.

    Parameters
    ----------
    values : array_like of shape (n,)
        At least two positive values.
    confidence : float
        Nominal coverage, strictly between 0 and 1.

    Examples
    --------
    >>> interval = log_normal_interval([0.5, 1.0, 2.0, 1.0])
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.435, 3.165)
    """
    logs = np.log(np.asarray(values, dtype=np.float64))
    n, variance = len(logs), float(logs.var(ddof=1))
    centre = float(logs.mean()) + variance / 2
    quantile = float(special.stdtrit(n - 1, 0.5 * (1 + confidence)))
    half_width = quantile * math.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    return Interval(math.exp(centre - half_width), math.exp(centre + half_width))


def doubts_of(splitting: Splitting, pilot: Pilot, replicates: Replicates) -> list[str]:
    """Return what the run itself gives reason to doubt."""
    values = replicates.values
    if not pilot.reached:
        if replicates.n_first_errors == 0:
            return []
        return [
            f"the climb gave up although {replicates.n_first_errors} of the independent draws are "
            "errors: the score does not lead to them; the interval is that of these draws alone."
        ]
    doubts = []
    n_dead = int((values == 0).sum())
    if n_dead:
        doubts.append(
            f"{n_dead} of {plural(len(values), 'replicate')} lost all particles on the way and "
            "count as 0; use more particles."
        )
    slowest = min(replicates.acceptance, default=1.0)
    if slowest < _HARDLY_MOVING:
        doubts.append(
            f"particles hardly move: at one level only {slowest:.2g} of the moves were accepted, "
            "so that replicates differ more than they should; use more sweeps or another score."
        )
    mean = float(values.mean())
    if len(pilot.levels) > 1 and mean > 0:
        spread = float(values.std(ddof=1)) / mean
        ideal = splitting.ideal_spread(mean)
        if spread > _SPREAD_FACTOR * ideal:
            doubts.append(
                f"replicates spread by {spread:.2g} of their mean, where well-mixed particles "
                f"would by {ideal:.2g}; the interval may be too narrow, use more sweeps or "
                "particles."
            )
    return doubts
