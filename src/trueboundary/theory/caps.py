"""Spherical caps: the best trade-off between error rate and distance to the nearest error.

Among all sets of a given measure on a sphere, a cap leaves the points of the sphere closest to it
the farthest away (isoperimetry of Levy and Schmidt; Figiel, Lindenstrauss & Milman, 1977), so the
mean distance to a cap bounds the mean distance to any error set of the same measure. Gilmer et al.
(2018, Theorem 5.1) evaluate that bound by a Gaussian approximation; here it is exact for every
dimension.

Measures are fractions of the sphere, angles are radians measured from the cap's pole, `radius` is
the sphere's own radius. Every function also works for measures far below the smallest float through
its `log_measure` argument or its `log_` twin.
"""

import math
from typing import Literal

import numpy as np
from scipy import optimize, special

from trueboundary import _checks
from trueboundary.theory._beta import log_betainc, stirling_remainder
from trueboundary.theory.intervals import clopper_pearson

__all__ = [
    "amplified_error_bound",
    "angle",
    "gaussian_mean_distance",
    "log_amplified_error_bound",
    "log_measure",
    "log_measure_for_mean_distance",
    "mean_distance",
    "measure",
    "measure_for_mean_distance",
    "threshold",
]

Metric = Literal["chord", "geodesic"]
GaussianForm = Literal["corrected", "as-printed", "quantile"]

_LOG_2 = math.log(2)
_FARTHEST = {"chord": ", up to the sphere's diameter", "geodesic": ", up to half its circumference"}
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(160)
_WINDOW = 9.0  # the density of the polar angle is below exp(-40) of its peak this many sd away


def angle(dim: int, measure: float | None = None, *, log_measure: float | None = None) -> float:
    """Return the angular radius of the cap that covers a given fraction of the sphere.

    Solves I_{sin^2 phi}((dim - 1)/2, 1/2) / 2 = measure for phi (and phi > pi/2 by symmetry).

    Parameters
    ----------
    dim : int
        Dimension of the space the sphere lies in, at least 2.
    measure : float, optional
        Fraction of the sphere, in [0, 1].
    log_measure : float, optional
        Natural logarithm of that fraction, instead of `measure`.

    Returns
    -------
    float
        Angle in radians, in [0, pi], to full relative accuracy.

    Examples
    --------
    >>> round(angle(3, 0.25), 12)  # a quarter of the sphere in three dimensions: 60 degrees
    1.047197551197
    """
    return _solve_cap(dim, _log_measure_argument(measure, log_measure))[0]


def threshold(dim: int, measure: float | None = None, *, log_measure: float | None = None) -> float:
    """Return the cosine of `angle`: the cap is {x : x_1 >= threshold} on the unit sphere.

    Parameters
    ----------
    dim : int
        Dimension, at least 2.
    measure, log_measure : float, optional
        Fraction of the sphere or its natural logarithm; exactly one of them.

    Returns
    -------
    float
        Height of the cap's boundary, in [-1, 1].

    Examples
    --------
    >>> round(threshold(3, 0.01), 12)  # Archimedes: heights are uniform in three dimensions
    0.98
    """
    return _solve_cap(dim, _log_measure_argument(measure, log_measure))[1]


def log_measure(dim: int, angle: float) -> float:
    """Return the natural logarithm of the fraction of the sphere that a cap covers.

    Parameters
    ----------
    dim : int
        Dimension, at least 2.
    angle : float
        Angular radius of the cap in radians, in [0, pi].

    Returns
    -------
    float
        log of the measure; -inf for angle 0.

    Examples
    --------
    >>> round(log_measure(500, 0.5), 6)
    -370.74393
    """
    dim = _checks.dimension(dim)
    angle = _checks.between("angle", angle, 0.0, math.pi, " radians")
    if angle > math.pi / 2:
        return _log1mexp(log_measure(dim, math.pi - angle))
    if angle == 0:
        return -math.inf
    return _log_small_cap(dim, math.sin(angle), math.cos(angle), math.log(math.sin(angle)))


def measure(dim: int, angle: float) -> float:
    """Return the fraction of the sphere that a cap covers: exp of `log_measure`.

    Parameters
    ----------
    dim : int
        Dimension, at least 2.
    angle : float
        Angular radius of the cap in radians, in [0, pi].

    Returns
    -------
    float
        Measure in [0, 1]; 0.0 where it is below the smallest float.

    Examples
    --------
    >>> measure(2, 0.5 * math.pi)
    0.5
    """
    return math.exp(log_measure(dim, angle))


def mean_distance(
    dim: int,
    measure: float | None = None,
    *,
    log_measure: float | None = None,
    radius: float = 1.0,
    metric: Metric = "chord",
) -> float:
    """Return the mean distance from a uniform point of the sphere to a cap of given measure.

    No set of that measure on that sphere has a larger mean distance. With phi the cap's angle and
    psi the polar angle of the point, this is the integral over psi > phi of 2 sin((psi - phi)/2)
    (chord) or psi - phi (geodesic) against the density sin(psi)^(dim - 2) / B(1/2, (dim - 1)/2),
    by 160-point Gauss-Legendre quadrature on the window that carries the density.

    Parameters
    ----------
    dim : int
        Dimension, at least 2.
    measure, log_measure : float, optional
        Fraction of the sphere or its natural logarithm; exactly one of them.
    radius : float
        Radius of the sphere; distances are proportional to it.
    metric : {"chord", "geodesic"}
        Straight-line (L2) distance, or arc length along the sphere.

    Returns
    -------
    float
        Mean distance in the units of `radius`.

    Examples
    --------
    >>> round(mean_distance(500, 1e-7), 7)
    0.2312428
    """
    radius = _checks.positive("radius", radius)
    _checks.choice("metric", metric, ("chord", "geodesic"))
    phi, cosine = _solve_cap(dim, _log_measure_argument(measure, log_measure))
    return radius * _mean_distance_at(dim, phi, cosine, metric)


def measure_for_mean_distance(
    dim: int, distance: float, *, radius: float = 1.0, metric: Metric = "chord"
) -> float:
    """Return the largest error rate that a given mean distance to the nearest error allows.

    The inverse of `mean_distance`: any set whose mean distance is at least `distance` has at most
    this measure.

    Parameters
    ----------
    dim : int
        Dimension, at least 2.
    distance : float
        Mean distance in the units of `radius`, at most that of two antipodal points.
    radius : float
        Radius of the sphere.
    metric : {"chord", "geodesic"}
        The metric in which `distance` is measured.

    Returns
    -------
    float
        Measure in [0, 1]; 0.0 if even a single point is nearer than `distance` on average.

    Examples
    --------
    >>> round(math.log10(measure_for_mean_distance(500, 0.18)), 4)
    -4.5663
    """
    return math.exp(log_measure_for_mean_distance(dim, distance, radius=radius, metric=metric))


def log_measure_for_mean_distance(
    dim: int, distance: float, *, radius: float = 1.0, metric: Metric = "chord"
) -> float:
    """Return the natural logarithm of `measure_for_mean_distance`.

    Parameters
    ----------
    dim, distance, radius, metric
        As for `measure_for_mean_distance`.

    Returns
    -------
    float
        log of the measure, -inf if no set at all reaches that mean distance.

    Examples
    --------
    >>> log_measure_for_mean_distance(500, 1.5)
    -inf
    """
    dim = _checks.dimension(dim)
    radius = _checks.positive("radius", radius)
    _checks.choice("metric", metric, ("chord", "geodesic"))
    farthest = 2.0 if metric == "chord" else math.pi
    distance = _checks.between("distance", distance, 0.0, farthest * radius, _FARTHEST[metric])
    target = distance / radius

    def excess(phi: float) -> float:
        return _mean_distance_at(dim, phi, math.cos(phi), metric) - target

    if excess(0.0) <= 0:  # an isolated point is already nearer
        return -math.inf
    if target == 0:
        return 0.0
    phi = optimize.brentq(excess, 0.0, math.pi, xtol=1e-15, rtol=1e-15)
    return log_measure(dim, phi)


def gaussian_mean_distance(
    dim: int, measure: float, *, radius: float = 1.0, form: GaussianForm = "corrected"
) -> float:
    r"""Return a Gaussian approximation of `mean_distance`, for comparison with the exact value.

    With a = -Phi^{-1}(measure):

    * ``"corrected"``: [a Phi(a) + phi(a)] / sqrt(dim), the large-dimension limit of the exact
      value;
    * ``"as-printed"``: sqrt(2) times that, from the distance estimate sqrt(2) (a/sqrt(dim) - x_1)
      in the appendix of Gilmer et al. (2018), whose factor sqrt(2) is an error;
    * ``"quantile"``: a / sqrt(dim), the distance from the equator to the cap, as the later version
      of that paper draws it (negative above measure 1/2).

    Parameters
    ----------
    dim : int
        Dimension, at least 2.
    measure : float
        Fraction of the sphere, strictly between 0 and 1.
    radius : float
        Radius of the sphere.
    form : {"corrected", "as-printed", "quantile"}
        Which formula.

    Returns
    -------
    float
        Approximate mean distance in the units of `radius`.

    Examples
    --------
    >>> round(gaussian_mean_distance(500, 1e-3), 4), round(mean_distance(500, 1e-3), 4)
    (0.1382, 0.1381)
    """
    dim = _checks.dimension(dim)
    radius = _checks.positive("radius", radius)
    measure = _checks.open_fraction("measure", measure)
    _checks.choice("form", form, ("corrected", "as-printed", "quantile"))
    a = -float(special.ndtri(measure))
    scale = radius / math.sqrt(dim)
    if form == "quantile":
        return scale * a
    density = math.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    corrected = scale * (a * float(special.ndtr(a)) + density)
    return math.sqrt(2) * corrected if form == "as-printed" else corrected


def amplified_error_bound(
    dim: int,
    n_points: int,
    certified_angle: float,
    *,
    n_exceptions: int = 0,
    confidence: float = 0.99,
) -> float:
    """Return an upper confidence bound on an error rate from certified radii at random points.

    If `n_points` independent uniform points of the sphere were tested and all but `n_exceptions`
    were certified to have no error within `certified_angle` (fixed before the test), then with the
    stated confidence the errors' neighbourhood of that angle has a measure of at most eta, the
    Clopper-Pearson limit. A set of the measure of a cap of angle phi has a neighbourhood of at
    least the measure of the cap of angle min(phi + certified_angle, pi), so for eta < 1 the errors
    measure at most the cap of angle phi(eta) - certified_angle. At eta = 1, where all points are
    exceptions, nothing follows and the bound is 1. This holds for every classifier.

    Parameters
    ----------
    dim : int
        Dimension, at least 2.
    n_points : int
        Number of points tested.
    certified_angle : float
        Certified angular distance to the nearest error in radians, in [0, pi].
    n_exceptions : int
        Number of points that could not be certified at that angle (errors included).
    confidence : float
        Confidence of the bound.

    Returns
    -------
    float
        Upper bound on the error rate; 0.0 if the classifier has no errors at all, with the stated
        confidence.

    Examples
    --------
    >>> round(math.log10(amplified_error_bound(500, 10_000, 0.1)), 2)
    -7.89
    """
    return math.exp(
        log_amplified_error_bound(
            dim, n_points, certified_angle, n_exceptions=n_exceptions, confidence=confidence
        )
    )


def log_amplified_error_bound(
    dim: int,
    n_points: int,
    certified_angle: float,
    *,
    n_exceptions: int = 0,
    confidence: float = 0.99,
) -> float:
    """Return the natural logarithm of `amplified_error_bound`.

    Parameters
    ----------
    dim, n_points, certified_angle, n_exceptions, confidence
        As for `amplified_error_bound`.

    Returns
    -------
    float
        log of the bound, -inf if it is 0.

    Examples
    --------
    >>> log_amplified_error_bound(500, 10_000, 1.5)  # r exceeds phi(eta): no errors at all
    -inf
    """
    dim = _checks.dimension(dim)
    reach = _checks.between("certified_angle", certified_angle, 0.0, math.pi, " radians")
    eta = clopper_pearson(n_exceptions, n_points, confidence, side="upper").high
    if eta >= 1:  # the neighbourhood may be the whole sphere, which any set has at some angle
        return 0.0
    remaining = angle(dim, eta) - reach
    return log_measure(dim, remaining) if remaining > 0 else -math.inf


def _log_measure_argument(measure: float | None, log_measure: float | None) -> float:
    """Return the log measure from the one of the two arguments that was given."""
    if (measure is None) == (log_measure is None):
        raise ValueError("Give exactly one of measure and log_measure.")
    if measure is not None:
        measure = _checks.between("measure", measure, 0.0, 1.0)
        return math.log(measure) if measure > 0 else -math.inf
    assert log_measure is not None  # for the type checker: excluded above
    return _checks.between("log_measure", log_measure, -math.inf, 0.0)


def _log1mexp(value: float) -> float:
    """Return log(1 - exp(value)) for value <= 0."""
    if value == 0:
        return -math.inf
    return math.log(-math.expm1(value)) if value > -_LOG_2 else math.log1p(-math.exp(value))


def _log_small_cap(dim: int, sine: float, cosine: float, log_sine: float) -> float:
    """Return the log measure of a cap of at most half the sphere, given its angle's functions."""
    if dim == 2:
        share = math.atan2(sine, cosine) / math.pi
        # The ratio keeps its digits near one half, the difference where the ratio underflows.
        return math.log(share) if share > 1e-300 else log_sine - math.log(math.pi)
    a = 0.5 * (dim - 1)
    return log_betainc(a, 0.5, sine * sine, cosine * cosine, 2 * log_sine) - _LOG_2


def _solve_cap(dim: int, log_value: float) -> tuple[float, float]:
    """Return angle and cosine of the cap of log measure `log_value`."""
    dim = _checks.dimension(dim)
    if log_value > -_LOG_2:
        phi, cosine = _solve_cap(dim, _log1mexp(log_value))
        return math.pi - phi, -cosine
    if log_value == -math.inf:
        return 0.0, 1.0
    if dim == 2:
        phi = math.pi * math.exp(log_value)
        return phi, math.cos(phi)
    if dim == 3:  # heights are uniform: measure = (1 - cos phi) / 2
        return 2 * math.asin(math.exp(0.5 * log_value)), 1 - 2 * math.exp(log_value)
    return _newton_cap(dim, log_value)


def _newton_cap(dim: int, log_value: float) -> tuple[float, float]:
    """Solve for the cap by Newton's method in u = artanh(cos phi).

    The log measure is a concave decreasing function of u, parabolic near the equator and linear
    near the pole, so Newton's method converges from any start, from the right after one step.
    """
    if log_value < -740 * (dim - 1):  # the angle itself is below the smallest float
        return 0.0, 1.0
    z = -float(special.ndtri_exp(log_value))
    u = min(z / math.sqrt(dim), -log_value / (dim - 1) + 1)
    previous = math.inf
    for _ in range(100):
        sine, cosine, log_sine = _hyperbolic(u)
        value = _log_small_cap(dim, sine, cosine, log_sine)
        # d(log T)/du = -sin(phi)^(dim - 1) / (B T), with B = B(1/2, (dim - 1)/2)
        log_slope = (dim - 1) * log_sine - _log_beta_half(dim) - value
        step = (value - log_value) * math.exp(-log_slope)
        u = max(u + step, 0.0)
        if abs(step) <= 4e-16 * u or abs(step) >= previous:
            break
        previous = abs(step) if abs(step) < 1e-8 * u else math.inf
    sine, cosine, _ = _hyperbolic(u)
    return math.atan2(sine, cosine), cosine


def _hyperbolic(u: float) -> tuple[float, float, float]:
    """Return sine, cosine and log sine of the angle: sech(u), tanh(u), log sech(u), for u >= 0."""
    decay = math.exp(-2 * u)
    log_sech = _LOG_2 - u - math.log1p(decay)
    if u < 0.5:  # near the equator log sech is small, and its relative accuracy matters
        log_sech = -0.5 * math.log1p(math.sinh(u) ** 2)
    return 2 * math.exp(-u) / (1 + decay), math.tanh(u), log_sech


def _log_beta_half(dim: int) -> float:
    """Return log B(1/2, m) with m = (dim - 1)/2, where the large terms have cancelled by hand."""
    m = 0.5 * (dim - 1)
    remainder = stirling_remainder(m) + stirling_remainder(0.5) - stirling_remainder(m + 0.5)
    return 0.5 * math.log(2 * math.pi / m) - m * math.log1p(0.5 / m) + remainder


def _mean_distance_at(dim: int, phi: float, cosine: float, metric: str) -> float:
    """Return the mean distance on the unit sphere to the cap of angle `phi`."""
    half_window = _WINDOW / math.sqrt(max(dim - 2, 1))
    equator = math.pi / 2
    start = max(phi, equator - half_window)
    stop = min(math.pi, max(phi, equator) + half_window)
    if stop <= start:
        return 0.0
    offset = 0.5 * (stop - start) * (_NODES + 1)
    # Latitude above the equator, from sine and cosine: pi/2 - phi would lose the digits of either.
    first = -math.atan2(cosine, math.sin(phi)) if start == phi else start - equator
    latitude = offset + first
    with np.errstate(divide="ignore"):  # log 0 at the pole itself
        log_sine = np.where(
            np.abs(latitude) < 1,
            0.5 * np.log1p(-(np.sin(latitude) ** 2)),
            np.log(np.abs(np.sin(start + offset))),
        )
    density = np.exp((dim - 2) * log_sine - _log_beta_half(dim)) if dim > 2 else 1 / math.pi
    arc = offset + (start - phi)
    length = arc if metric == "geodesic" else 2 * np.sin(0.5 * arc)
    return float(0.5 * (stop - start) * (_NODE_WEIGHTS @ (length * density)))
