"""How a classifier's errors lie beside the best that its error rate allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trueboundary._checks import check_integer
from trueboundary.attacks import Attack
from trueboundary.certificates import Certificate
from trueboundary.classifiers import Classifier
from trueboundary.measure.brackets import Distances, Progress, distances
from trueboundary.measure.rates import ErrorRate, Method, error_rate
from trueboundary.presentable import ByClass, Presentable, storable
from trueboundary.problems import ConcentricSpheres
from trueboundary.progress_bars import shown_progress
from trueboundary.rare_events import Splitting
from trueboundary.theory import caps
from trueboundary.theory.intervals import t_interval

__all__ = ["Optimality", "optimality"]

_CONFIDENCE = 0.95
#: Two intervals of this confidence hold together with 95 % at least.
_EACH_OF_TWO = 0.975
#: Log measure of a cap that is a point for all purposes: where the error rate's interval has no
#: lower end.
_A_POINT = -1e8


@dataclass(frozen=True, repr=False)
class Optimality(Presentable):
    """Mean distance to the nearest error, relative to the best at the same error rate.

    Attributes
    ----------
    label : int
        The class: 0 for the inner sphere, 1 for the outer.
    ratio : float
        Mean distance over `best`. At most 1 for exact quantities, whatever the classifier. NaN
        where there is nothing to compare: no error at all, none seen, no point classified right, or
        a point from which neither an exact distance nor an error was found.
    low, high : float
        Limits that hold the true ratio with 95 % confidence: for what the points sampled leave open
        of mean and error rate, and for the width of the brackets.
    mean_distance : float
        Mean chord to the nearest error over all points, errors counting as 0: exact distances where
        they are known, else those of the errors found. Infinite if one was not found.
    best : float
        Largest mean chord that any error set of that measure allows; a cap attains it.
    rate : ErrorRate
        The error rate.
    distances : Distances
        The brackets.
    method : str
        How both were found.
    warnings : tuple of str
        Reasons for doubt, each a sentence.
    """

    label: int
    ratio: float
    low: float
    high: float
    mean_distance: float
    best: float
    rate: ErrorRate
    distances: Distances
    method: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say the ratio in one line, and how it was found in another."""
        doubts = "".join(f"; warning: {sentence}" for sentence in self.warnings)
        if math.isnan(self.ratio):
            return f"class {self.label}: nothing to compare\n  {self.method}{doubts}"
        return (
            f"class {self.label}: {self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] of the "
            f"optimum, {self.mean_distance:.4g} of {self.best:.4g}\n  {self.method}{doubts}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the ratio and what it is made of as plain values; infinity and NaN are None."""
        values: dict[str, Any] = storable(
            {
                **{name: values[0] for name, values in self.columns().items()},
                "method": self.method,
                "warnings": self.warnings,
            }
        )
        return values | {"rate": self.rate.to_dict(), "distances": self.distances.to_dict()}

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return one row: the ratio with its limits, and both distances."""
        names = ("label", "ratio", "low", "high", "mean_distance", "best")
        return {name: [getattr(self, name)] for name in names}


def optimality(
    classifier: Classifier,
    problem: ConcentricSpheres,
    *,
    n_points: int = 100,
    method: Method | None = None,
    n_error_points: int = 100_000,
    splitting: Splitting | None = None,
    attack: Attack | None = None,
    certificate: Certificate | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool | Progress | None = None,
    batch_size: int | None = None,
) -> ByClass[Optimality]:
    r"""Compare a classifier's mean distance to its nearest error with the best possible one.

    Of all error sets of measure p on a sphere, a cap is the farthest from a random point on
    average: the isoperimetric inequality, see `trueboundary.theory.caps`. The ratio

    .. math:: \frac{E\, d(x, \text{errors})}{E\, d(x, \text{cap of measure } p)}

    therefore tells how much of its distance a classifier gives away at the error rate it has.

    Parameters
    ----------
    classifier : callable
        As for `error_rate`.
    problem : ConcentricSpheres
        The spheres; distances are chords along each class's own.
    n_points : int
        Random points per sphere for the mean distance, at least 2.
    method, n_error_points, splitting
        As for `error_rate`, whose `n_points` is `n_error_points`.
    attack, certificate
        As for `distances`.
    seed : int
        Seed of all points.
    device : str
        Where to draw the points; must be the classifier's.
    progress : bool or callable, optional
        True for a bar on standard error, or ``progress(fraction)``; error rates are the first half.
    batch_size : int, optional
        As for `error_rate` and `distances`.

    Returns
    -------
    tuple of Optimality
        For the inner and the outer sphere.

    References
    ----------
    Gilmer et al. (2018), *Adversarial Spheres*, Theorem 5.1 and Figure 5.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> problem = tb.ConcentricSpheres(dim=100)
    >>> network = tb.QuadraticNetwork(100, 200, generator=torch.Generator().manual_seed(0))
    >>> inner, outer = tb.optimality(network, problem)
    >>> 0.5 < inner.low < inner.ratio < inner.high < 1
    True
    """
    if not isinstance(problem, ConcentricSpheres):
        raise TypeError(
            "the best possible distance is known on ConcentricSpheres, got "
            f"{type(problem).__name__}; use error_rate and distances."
        )
    n_points = check_integer("n_points", n_points, minimum=2)
    with shown_progress(progress, lambda bar: bar.update) as say:
        rates = error_rate(
            classifier,
            problem,
            method=method,
            n_points=n_error_points,
            seed=seed,
            splitting=splitting,
            confidence=_EACH_OF_TWO,
            device=device,
            progress=lambda fraction: say(0.5 * fraction),
            batch_size=batch_size,
        )
        found = distances(
            classifier,
            problem,
            n_points=n_points,
            attack=attack,
            certificate=certificate,
            seed=seed,
            device=device,
            progress=lambda fraction: say(0.5 + 0.5 * fraction),
            batch_size=batch_size,
        )
    return ByClass(
        _compare(problem, rate, brackets) for rate, brackets in zip(rates, found, strict=True)
    )


def _compare(problem: ConcentricSpheres, rate: ErrorRate, brackets: Distances) -> Optimality:
    is_exact = rate.method == "exact"
    confidence = _CONFIDENCE if is_exact else _EACH_OF_TWO
    upper = brackets.distance
    mean = float(upper.mean())
    ln10 = math.log(10)
    best = _best(problem, rate.label, rate.log10 * ln10)
    # Fewer errors can be farther away: the low end of the error rate makes that of the ratio.
    ends = (rate.log10 * ln10,) * 2 if is_exact else (_log(rate.low), _log(rate.high))
    farthest, nearest = (_best(problem, rate.label, end) for end in ends)
    return Optimality(
        label=rate.label,
        ratio=_ratio(mean, best) if rate.log10 > -math.inf and mean < math.inf else math.nan,
        low=_ratio(_mean_limits(brackets.lower, confidence)[0], farthest),
        high=_ratio(_mean_limits(upper, confidence)[1], nearest),
        mean_distance=mean,
        best=best,
        rate=rate,
        distances=brackets,
        method=f"error rate: {rate.method}; distances: {brackets.method}",
        warnings=tuple(dict.fromkeys(rate.warnings + brackets.warnings)),
    )


def _best(problem: ConcentricSpheres, label: int, log_measure: float) -> float:
    """Return the mean chord to a cap, on the sphere of a class."""
    if math.isnan(log_measure):
        return math.nan
    radius = problem.radii[label]
    return caps.mean_distance(
        problem.dim, log_measure=min(max(log_measure, _A_POINT), 0.0), radius=radius
    )


def _mean_limits(values: Any, confidence: float) -> tuple[float, float]:
    """Return the t interval of a mean distance, which is at least 0 and may be infinite."""
    if not np.isfinite(values).all():
        return 0.0, math.inf
    low, high = t_interval(values, confidence)
    return max(low, 0.0), high


def _ratio(mean: float, best: float) -> float:
    return mean / best if best > 0 else math.nan


def _log(rate: float) -> float:
    return math.log(rate) if rate > 0 else -math.inf
