r"""Error rates of a classifier that sees only the first k coordinates of a point on a sphere.

The rule sum_{i <= k} x_i^2 > b separates the unit sphere from the sphere of radius R (Gilmer et
al., 2018, Section 4.1). On the unit sphere the sum has the distribution Beta(k/2, (d - k)/2), on
the outer one R^2 times that, so both error rates are incomplete beta functions:
I_{1-b}((d - k)/2, k/2) inside and I_{b/R^2}(k/2, (d - k)/2) outside.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, special

from trueboundary import _checks
from trueboundary.theory._beta import log_betainc

__all__ = [
    "LogErrors",
    "average_log_error",
    "log_errors",
    "midpoint_threshold",
    "optimal_threshold",
    "required_dimensions",
]

Method = Literal["exact", "clt"]
Threshold = Literal["optimal", "midpoint"]


class LogErrors(NamedTuple):
    """Natural logarithms of the error rates on the two spheres."""

    inner: float
    outer: float

    @property
    def average(self) -> float:
        """Logarithm of the mean of the two error rates."""
        return float(np.logaddexp(self.inner, self.outer)) - math.log(2)


def log_errors(
    dim: int, k: int, threshold: float, *, radius: float = 1.3, method: Method = "exact"
) -> LogErrors:
    """Return the log error rates of the rule sum_{i <= k} x_i^2 > threshold.

    Parameters
    ----------
    dim : int
        Dimension d of the spheres, at least 2.
    k : int
        Number of coordinates seen, from 1 to d.
    threshold : float
        The rule's threshold b, on the scale of squared norms.
    radius : float
        Radius R of the outer sphere, above 1.
    method : {"exact", "clt"}
        The beta distribution, or the central limit theorem as Gilmer et al. (2018) use it (with
        their Proposition 4.1 put right), for comparison.

    Returns
    -------
    LogErrors
        Natural logarithms (inner, outer), with their `average`; -inf for an error rate of 0.

    Examples
    --------
    >>> errors = log_errors(500, 250, optimal_threshold(500, 250))
    >>> round(math.exp(errors.average) * 1e5, 6)
    1.822466
    """
    dim, k, radius = _setting(dim, k, radius)
    _checks.choice("method", method, ("exact", "clt"))
    threshold = _checks.finite("threshold", threshold)
    share = threshold / radius**2  # the threshold as the outer sphere, scaled to 1, sees it
    if method == "clt":
        return LogErrors(_clt(dim, k, threshold, 1), _clt(dim, k, share, -1))
    if k == dim:  # the sum is the squared norm itself
        return LogErrors(0.0 if threshold < 1 else -math.inf, 0.0 if share >= 1 else -math.inf)
    if threshold <= 0:
        return LogErrors(0.0, -math.inf)
    a, b = 0.5 * k, 0.5 * (dim - k)
    # 1 - share would lose its digits for radii near 1, and a share may be below all floats.
    rest = ((1 - threshold) + (radius - 1) * (radius + 1)) / radius**2
    log_share = math.log(threshold) - 2 * math.log(radius)
    return LogErrors(
        log_betainc(b, a, 1 - threshold, threshold), log_betainc(a, b, share, rest, log_share)
    )


def average_log_error(
    dim: int,
    k: int,
    *,
    radius: float = 1.3,
    threshold: Threshold = "optimal",
    method: Method = "exact",
) -> float:
    """Return the log of the error rate averaged over the two spheres, at a standard threshold.

    Parameters
    ----------
    dim, k, radius, method
        As for `log_errors`.
    threshold : {"optimal", "midpoint"}
        The threshold with the smallest average error (under the chosen method), or the mean of the
        two expected sums.

    Returns
    -------
    float
        Natural logarithm of the average error rate.

    Examples
    --------
    >>> round(average_log_error(3000, 1500) / math.log(10), 3)
    -23.583
    """
    _checks.choice("threshold", threshold, ("optimal", "midpoint"))
    if threshold == "midpoint":
        b = midpoint_threshold(dim, k, radius=radius)
    else:
        b = optimal_threshold(dim, k, radius=radius, method=method)
    return log_errors(dim, k, b, radius=radius, method=method).average


def optimal_threshold(dim: int, k: int, *, radius: float = 1.3, method: Method = "exact") -> float:
    """Return the threshold with the smallest error rate averaged over the two spheres.

    Exactly, it is where the two densities of the sum cross: with rho = R^(-2k / (d - k - 2)),
    b = (1 - rho) / (1 - rho / R^2). For k > d - 3 the inner density is the larger one up to the end
    of its support, and the threshold is that end, 1. Under the central limit theorem it is found by
    minimisation.

    Parameters
    ----------
    dim, k, radius, method
        As for `log_errors`.

    Returns
    -------
    float
        The threshold b.

    Examples
    --------
    >>> round(optimal_threshold(500, 250), 12)
    0.63066284476
    """
    dim, k, radius = _setting(dim, k, radius)
    _checks.choice("method", method, ("exact", "clt"))
    if method == "clt":
        return _clt_threshold(dim, k, radius)
    if k > dim - 3:
        return midpoint_threshold(dim, k, radius=radius) if k == dim else 1.0
    log_rho = -2 * k / (dim - k - 2) * math.log(radius)
    return math.expm1(log_rho) / math.expm1(log_rho - 2 * math.log(radius))


def midpoint_threshold(dim: int, k: int, *, radius: float = 1.3) -> float:
    """Return the mean of the two expected sums, b = (k / d) (1 + R^2) / 2.

    Parameters
    ----------
    dim, k, radius
        As for `log_errors`.

    Returns
    -------
    float
        The threshold b.

    Examples
    --------
    >>> round(midpoint_threshold(3000, 1500), 6)
    0.6725
    """
    dim, k, radius = _setting(dim, k, radius)
    return k / dim * (1 + radius**2) / 2


def required_dimensions(
    dim: int,
    error: float,
    *,
    radius: float = 1.3,
    threshold: Threshold = "optimal",
    method: Method = "exact",
) -> int | None:
    """Return the smallest number of coordinates whose average error rate is at most `error`.

    Parameters
    ----------
    dim : int
        Dimension d of the spheres, at least 2.
    error : float
        Target for the error rate averaged over the two spheres, strictly between 0 and 1.
    radius : float
        Radius R of the outer sphere, above 1.
    threshold : {"optimal", "midpoint"}
        Threshold of the rule, see `average_log_error`.
    method : {"exact", "clt"}
        Exact, or by the central limit theorem.

    Returns
    -------
    int or None
        The smallest k of 1, ..., d - 3 that reaches the target, None if none of them does.

    Notes
    -----
    Found by bisection: seeing more coordinates never hurts the optimal rule.

    Examples
    --------
    >>> required_dimensions(3000, 1e-14), required_dimensions(3000, 1e-14, method="clt")
    (1091, 1145)
    >>> required_dimensions(20, 1e-3) is None
    True
    """
    dim = _checks.dimension(dim)
    radius = _checks.outer_radius(radius)
    target = math.log(_checks.open_fraction("error", error))

    def reaches(k: int) -> bool:
        value = average_log_error(dim, k, radius=radius, threshold=threshold, method=method)
        return value <= target

    low, high = 0, dim - 3  # `low` misses the target, `high` reaches it
    if high < 1 or not reaches(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _setting(dim: int, k: int, radius: float) -> tuple[int, int, float]:
    """Return the checked setting of a truncated rule."""
    dim = _checks.dimension(dim)
    k = _checks.check_integer("k", k, minimum=1)
    if k > dim:
        raise ValueError(f"k must be at most dim = {dim}, got {k}.")
    return dim, k, _checks.outer_radius(radius)


def _clt(dim: int, k: int, share: float, sign: int) -> float:
    """Return the CLT log tail of sign * sum_i w_i u_i^2 > 0, w = 1 - share (k times) or -share."""
    unit = max(1.0, abs(share))
    share, rest = share / unit, (1 - share) / unit
    mean = k / unit - share * dim
    std = math.sqrt(2) * math.hypot(math.sqrt(k) * rest, math.sqrt(dim - k) * share)
    if std == 0:  # all coordinates are seen, and their sum is the threshold: the rule says inner
        return -math.inf if sign > 0 else 0.0
    return float(special.log_ndtr(sign * mean / std))


def _clt_threshold(dim: int, k: int, radius: float) -> float:
    """Return the threshold with the smallest average error under the CLT."""

    def average(b: float) -> float:
        return LogErrors(_clt(dim, k, b, 1), _clt(dim, k, b / radius**2, -1)).average

    # The optimum lies between the two expected sums, where each error rate in turn is one half.
    bounds = (k / dim, radius**2 * k / dim)
    result = optimize.minimize_scalar(
        average, bounds=bounds, method="bounded", options={"xatol": 1e-10 * bounds[0]}
    )
    return float(result.x)
