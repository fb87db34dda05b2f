"""Ellipsoids of many shapes, given by their alphas alone: no training, everything exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueboundary.experiments.networks.ellipsoids import RADIUS

Floats = NDArray[np.float64]

#: The mean alpha at which inner and outer errors are equally rare under the central limit theorem.
MEAN_ALPHA = (1 + 1 / RADIUS**2) / 2
#: Shapes in which all alphas count about alike, mildest first, and shapes with a heavy upper tail.
BULK = ("two-point", "arcsine", "uniform", "normal")
SKEWED = ("gamma(3)", "exponential", "log-normal", "10 spikes", "1 spike")
SHAPES = BULK + SKEWED


def shape(name: str, dim: int) -> Floats:
    """Return the alphas of a shape, shifted to mean 0 and scaled to standard deviation 1.

    Distributions are represented by their quantiles at ``(i - 1/2) / dim``; spikes are that many
    equal large alphas among equal small ones.

    Examples
    --------
    >>> shape("two-point", 4)
    array([-1., -1.,  1.,  1.])
    """
    from scipy import special, stats

    u = (np.arange(dim) + 0.5) / dim
    quantiles: dict[str, Any] = {
        "two-point": lambda: np.where(u < 0.5, -1.0, 1.0),
        "arcsine": lambda: -np.cos(math.pi * u),
        "uniform": lambda: u,
        "normal": lambda: special.ndtri(u),
        "gamma(3)": lambda: stats.gamma(3).ppf(u),
        "exponential": lambda: -np.log1p(-u),
        "log-normal": lambda: np.exp(special.ndtri(u)),
        "10 spikes": lambda: (np.arange(dim) >= dim - 10).astype(np.float64),
        "1 spike": lambda: (np.arange(dim) >= dim - 1).astype(np.float64),
    }
    if name not in quantiles:
        raise ValueError(f"there is no shape {name!r}; there are {', '.join(SHAPES)}")
    values: Floats = quantiles[name]()
    if values.std() == 0:
        raise ValueError(f"{name!r} needs more than {dim} alphas")
    standardised: Floats = (values - values.mean()) / values.std()
    return standardised


def std_for_clt(log10_error: float, dim: int) -> float | None:
    """Return the standard deviation of alphas at which the CLT estimates an error rate.

    With mean `MEAN_ALPHA`, a distance D below 1, and standard deviation s, the sum of
    (alpha - 1) u^2 has mean -d D and variance 2 d (s^2 + D^2), whatever the shape. None where even
    equal alphas have a larger estimate.

    Examples
    --------
    >>> round(std_for_clt(-11, 500), 4)
    0.4359
    """
    from scipy import special

    z = -float(special.ndtri_exp(log10_error * math.log(10)))
    gap = 1 - MEAN_ALPHA
    variance = gap**2 * (dim / (2 * z**2) - 1)
    return math.sqrt(variance) if variance > 0 else None


def std_for_error(unit: Floats, log10_error: float) -> float:
    """Return the standard deviation of alphas at which the exact inner error rate is as given.

    `unit` are alphas of mean 0 and standard deviation 1, as `shape` gives them.
    """
    from scipy.optimize import brentq

    from trueboundary.experiments.networks.ellipsoids import log10_error as exact

    def excess(log_std: float) -> float:
        return exact(MEAN_ALPHA + math.exp(log_std) * unit, "inner") - log10_error

    # From just above the spread at which the first alpha passes 1.
    low = math.log((1 - MEAN_ALPHA) / float(unit.max())) + 1e-9
    high = low
    while excess(high) < 0:
        high += 1.0
        if high > low + 20:
            raise ValueError(f"alphas of this shape never err at a rate of 10^{log10_error:g}")
    return math.exp(float(brentq(excess, max(low, high - 1.0), high, xtol=1e-10)))
