r"""When the optimal boundary lies close to the data: two Gaussians, and two tables.

Formulas behind Observations 1 to 4 of Richardson and Weiss (2021), *A Bayes-Optimal View on
Adversarial Examples*, corrected where the printed ones are wrong (see the errata page). Class 1 has
a direction of small standard deviation :math:`\sigma_1`, along which a point has the coordinate t
and class 2 the standard deviation :math:`\sigma_2`; s are the other coordinates. The optimal
boundary along that direction is where

.. math::
   \left(\frac1{\sigma_1^2} - \frac1{\sigma_2^2}\right) t^2
   + \left(\frac{2 t_2}{\sigma_2^2} - \frac{2 t_1}{\sigma_1^2}\right) t
   + \left(\frac{t_1^2}{\sigma_1^2} - \frac{t_2^2}{\sigma_2^2}
   + \log \frac{\sigma_1^2}{\sigma_2^2}\right)
   = 2 \left[\log p_1(s) - \log p_2(s | t)\right].

Its roots approach :math:`t_1`, the mean of class 1, but only at
:math:`\pm \sigma_1 \sqrt{2 \ln(\sigma_2 / \sigma_1)}`: many standard deviations away, so that
accuracy stays high, and yet a tiny distance.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from trueboundary._checks import (
    check_integer,
    finite,
    finite_array,
    moderate,
    moderate_array,
    moderate_positive,
    positive,
)

__all__ = [
    "boundary_distance_along",
    "boundary_roots",
    "conditional_gaussian",
    "flip_mass",
    "flip_mass_bound",
    "leading_boundary_distance",
    "outlier_attack_size",
    "spherical_pair_error",
    "spherical_pair_share_within",
]

FloatArray = npt.NDArray[np.float64]


def boundary_roots(
    mean_1: float,
    mean_2: float,
    std_1: float,
    std_2: float,
    log_ratio: npt.ArrayLike = 0.0,
) -> tuple[FloatArray, FloatArray]:
    r"""Return both coordinates t at which the optimal decision changes (Observation 1).

    Solves the quadratic equation above for u = t - t_1, where no digits cancel.

    Parameters
    ----------
    mean_1, mean_2 : float
        Means :math:`t_1, t_2` of the classes along the direction.
    std_1, std_2 : float
        Standard deviations along it, the first the smaller.
    log_ratio : array_like
        :math:`\log p_1(s) - \log p_2(s | t)`, plus the logarithm of the ratio of the weights
        (priors, or mixing weights of the two components, Observation 2), any shape.

    Returns
    -------
    low, high : ndarray
        Roots, of the shape of `log_ratio`. Class 1 wins between them; NaN where it wins nowhere.

    Examples
    --------
    >>> low, high = boundary_roots(0.0, 0.0, 1e-3, 1.0)
    >>> round(float(high), 6)  # 3.7 standard deviations away, and a thousandth of the others'
    0.003717
    """
    t_1, t_2 = moderate("mean_1", mean_1), moderate("mean_2", mean_2)
    std_1, std_2 = _increasing_stds(std_1, std_2)
    shift = (t_1 - t_2) / std_2
    # Multiplied by std_1^2, with u in units of std_1: a v^2 - 2 b v - c = 0.
    ratio = std_1 / std_2
    a = (1 - ratio) * (1 + ratio)
    b = shift * ratio
    c = shift**2 - 2 * math.log(ratio) + 2 * moderate_array("log_ratio", log_ratio)
    discriminant = b**2 + a * c
    root = np.sqrt(np.where(discriminant < 0, np.nan, discriminant))
    # The root away from zero first; the other one from the product of both, -c / a.
    far = b + math.copysign(1.0, b) * root
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = far / a, np.where(far == 0, 0.0, -c / far)
    low, high = np.minimum(first, second), np.maximum(first, second)
    return t_1 + std_1 * low, t_1 + std_1 * high


def leading_boundary_distance(
    std_1: float, std_2: float, shift: float = 0.0, log_ratio: npt.ArrayLike = 0.0
) -> FloatArray:
    r"""Return the distance of the roots from class 1's mean, to leading order for small std_1.

    .. math::
       |t - t_1| \approx \sigma_1
       \sqrt{(t_1 - t_2)^2 / \sigma_2^2 + 2 \ln(\sigma_2 / \sigma_1) + 2 \Delta}

    Parameters
    ----------
    std_1, std_2 : float
        Standard deviations of the classes along the direction, the first the smaller.
    shift : float
        Difference of the means, :math:`t_1 - t_2`.
    log_ratio : array_like
        :math:`\Delta`, as in `boundary_roots`, at :math:`t = t_1`.

    Returns
    -------
    ndarray
        Distances, of the shape of `log_ratio`; NaN where the root does not exist.

    Examples
    --------
    >>> round(float(leading_boundary_distance(1e-3, 1.0)), 6)
    0.003717
    """
    std_1, std_2 = _increasing_stds(std_1, std_2)
    squared = (
        (moderate("shift", shift) / std_2) ** 2
        + 2 * math.log(std_2 / std_1)
        + 2 * moderate_array("log_ratio", log_ratio)
    )
    return np.asarray(std_1 * np.sqrt(np.where(squared < 0, np.nan, squared)))


def conditional_gaussian(
    mean: npt.ArrayLike, covariance: npt.ArrayLike, t: float, axis: int = 0
) -> tuple[FloatArray, FloatArray]:
    r"""Return mean and covariance of the other coordinates, given that one of them is t.

    .. math::
       \mu_{s|t} = \mu_s + \Sigma^{st} \sigma^{-2} (t - \mu_t), \qquad
       \Sigma_{s|t} = \Sigma^{ss} - \Sigma^{st} \sigma^{-2} \Sigma^{ts}

    Parameters
    ----------
    mean : array_like
        Mean, shape ``(d,)`` with d at least 2.
    covariance : array_like
        Covariance, shape ``(d, d)``, positive definite.
    t : float
        Value of the coordinate.
    axis : int
        Which coordinate.

    Returns
    -------
    mean, covariance : ndarray
        Shapes ``(d - 1,)`` and ``(d - 1, d - 1)``.

    Examples
    --------
    >>> conditional_gaussian([0.0, 0.0], [[4.0, 2.0], [2.0, 2.0]], 2.0)
    (array([1.]), array([[1.]]))
    """
    mu, sigma = _gaussian(mean, covariance)
    axis = check_integer("axis", axis, minimum=0)
    if len(mu) < 2 or axis >= len(mu):
        raise ValueError(f"axis must be below d = {len(mu)}, and d at least 2, got {axis}.")
    rest = np.delete(np.arange(len(mu)), axis)
    slope = sigma[rest, axis] / sigma[axis, axis]
    return (
        mu[rest] + slope * (moderate("t", t) - mu[axis]),
        sigma[np.ix_(rest, rest)] - np.outer(slope, sigma[axis, rest]),
    )


def boundary_distance_along(
    x: npt.ArrayLike,
    mean_1: npt.ArrayLike,
    covariance_1: npt.ArrayLike,
    mean_2: npt.ArrayLike,
    covariance_2: npt.ArrayLike,
    *,
    direction: npt.ArrayLike | None = None,
    log_weight_ratio: float = 0.0,
) -> FloatArray:
    r"""Return the exact distance to where class 2 takes over, along one line through each point.

    The difference of the log densities is a quadratic function of the step, so nothing is
    approximated. It bounds the distance to the nearest error from above; Observation 1 says that
    it goes to zero with class 1's smallest standard deviation.

    Parameters
    ----------
    x : array_like
        Points of class 1, shape ``(n, d)``.
    mean_1, mean_2 : array_like
        Means, shape ``(d,)``.
    covariance_1, covariance_2 : array_like
        Covariances, shape ``(d, d)``, positive definite.
    direction : array_like, optional
        Direction of the line, shape ``(d,)``; class 1's direction of least variance by default.
    log_weight_ratio : float
        Logarithm of class 1's weight over that of class 2: of priors, or mixing weights.

    Returns
    -------
    ndarray
        Distances, shape ``(n,)``: 0 where class 2 wins already, infinite where it wins nowhere on
        the line.

    Examples
    --------
    >>> narrow, wide = np.diag([1e-4, 1.0]), np.eye(2)
    >>> boundary_distance_along([[0.0, 0.5]], [0.0, 0.0], narrow, [3.0, 0.0], wide).round(4)
    array([0.0424])
    """
    mu_1, sigma_1 = _gaussian(mean_1, covariance_1)
    mu_2, sigma_2 = _gaussian(mean_2, covariance_2)
    points = moderate_array("x", x)
    if points.ndim != 2 or points.shape[1:] != mu_1.shape or mu_2.shape != mu_1.shape:
        raise ValueError(
            f"x must have shape (n, d) and the means (d,), got {points.shape}, {mu_1.shape} and "
            f"{mu_2.shape}."
        )
    step = np.linalg.eigh(sigma_1)[1][:, 0] if direction is None else _unit(direction, len(mu_1))
    # log p_1 - log p_2 = value + slope u + curvature u^2 / 2 at x + u step
    value = np.full(len(points), moderate("log_weight_ratio", log_weight_ratio))
    slope, curvature = np.zeros(len(points)), 0.0
    for sign, mu, sigma in ((1, mu_1, sigma_1), (-1, mu_2, sigma_2)):
        precision_step = np.linalg.solve(sigma, step)
        offset = points - mu
        squares = (offset * np.linalg.solve(sigma, offset.T).T).sum(axis=1)
        value -= sign * 0.5 * (squares + np.linalg.slogdet(sigma)[1])
        slope -= sign * offset @ precision_step
        curvature -= sign * float(step @ precision_step)
    return _first_root(value, slope, curvature)


def outlier_attack_size(
    noise_std: float, outlier_std: float, dim: int, n_factors: int, weight_ratio: float = 1.0
) -> float:
    r"""Return the size of an attack that hands a point over to the other class's broad outlier.

    A component with small noise :math:`\sigma` on the :math:`m = d - l` directions outside its
    subspace loses to a spherical Gaussian of standard deviation :math:`\sigma_o` at the residual

    .. math::
       \|r\|^2 = \frac{2 m \ln(\sigma_o / \sigma) + 2 \ln w}{\sigma^{-2} - \sigma_o^{-2}},

    while a typical point has :math:`\|r\| = \sigma \sqrt m` already. The few directions inside the
    subspace are left out, an error of the order of l nats.

    Parameters
    ----------
    noise_std, outlier_std : float
        :math:`\sigma` and :math:`\sigma_o`, the first the smaller.
    dim, n_factors : int
        d and l, the second the smaller.
    weight_ratio : float
        w, the component's mixing weight over the outlier's.

    Returns
    -------
    float
        Length of the perturbation.

    Examples
    --------
    >>> round(outlier_attack_size(0.01, 0.5, 784, 6), 3)  # MNIST; the journal version measured 0.5
    0.501
    """
    small, large = _increasing_stds(noise_std, outlier_std)
    n_factors = check_integer("n_factors", n_factors, minimum=0)
    n_outside = check_integer("dim", dim, minimum=n_factors + 1) - n_factors
    gap = 2 * n_outside * math.log(large / small) + 2 * math.log(
        positive("weight_ratio", weight_ratio)
    )
    residual = math.sqrt(max(gap, 0.0) / (small**-2 - large**-2))
    return max(residual - small * math.sqrt(n_outside), 0.0)


def spherical_pair_error(separation: float, std: float) -> float:
    r"""Return the error rate of the optimal classifier of two equal spherical Gaussians.

    It is :math:`\Phi(-D / 2 \sigma)` in every dimension, for means at the distance D.

    Parameters
    ----------
    separation : float
        Distance D of the means.
    std : float
        Their standard deviation.

    Returns
    -------
    float
        Error rate.

    Examples
    --------
    >>> round(spherical_pair_error(2.0, 1.0), 6)
    0.158655
    """
    return spherical_pair_share_within(0.0, separation, std)


def spherical_pair_share_within(distance: float, separation: float, std: float) -> float:
    r"""Return the share of points whose nearest error is at most `distance` away.

    The signed distance of a random point to the boundary is :math:`D / 2 + \sigma g` with standard
    normal g, in every dimension, so that for small :math:`\sigma` almost no perturbation shorter
    than :math:`D / 2` succeeds (Theorem 1 of the journal version).

    Parameters
    ----------
    distance : float
        Size of the perturbation, not negative.
    separation, std : float
        As in `spherical_pair_error`.

    Returns
    -------
    float
        Probability, :math:`\Phi((r - D / 2) / \sigma)`.

    Examples
    --------
    >>> spherical_pair_share_within(1.0, separation=2.0, std=0.1)
    0.5
    """
    if finite("distance", distance) < 0:
        raise ValueError(f"distance must not be negative, got {distance!r}.")
    half = positive("separation", separation) / 2
    return float(special.ndtr((distance - half) / positive("std", std)))


def flip_mass(table_1: npt.ArrayLike, table_2: npt.ArrayLike, axis: int = 0) -> float:
    """Return the share of class 1 that one step of one feature makes class 2, exactly.

    A step is one up or one down, within the table. Points that class 2 wins already count too, as
    do ties; weights of the classes or components may be multiplied into the tables beforehand.

    Parameters
    ----------
    table_1, table_2 : array_like
        Probabilities of each combination of feature values, of one shape.
    axis : int
        Feature that may change.

    Returns
    -------
    float
        Share of class 1's probability.

    Examples
    --------
    >>> flip_mass([[0.0, 0.0], [0.5, 0.5]], [[0.7, 0.1], [0.1, 0.1]])
    1.0
    """
    first, second, axis = _tables(table_1, table_2, axis)
    lost = np.moveaxis(second >= first, axis, 0)
    near = lost.copy()
    near[1:] |= lost[:-1]
    near[:-1] |= lost[1:]
    return float(np.moveaxis(first, axis, 0)[near].sum() / first.sum())


def flip_mass_bound(table_1: npt.ArrayLike, table_2: npt.ArrayLike, axis: int = 0) -> float:
    r"""Return the share of class 1 that Observation 3 guarantees to be one step from an error.

    Where a feature has a value s next to some :math:`\tilde s` with
    :math:`p_1(\tilde s) < \min p_2`, every point with the value s is flipped by the step to
    :math:`\tilde s`, since :math:`p_1(\tilde s, t) \le p_1(\tilde s)`.

    Parameters
    ----------
    table_1, table_2, axis
        As in `flip_mass`, which this never exceeds.

    Returns
    -------
    float
        Share of class 1's probability.

    Examples
    --------
    >>> flip_mass_bound([[0.0, 0.0], [0.5, 0.5]], [[0.7, 0.1], [0.1, 0.1]])
    1.0
    """
    first, second, axis = _tables(table_1, table_2, axis)
    marginal = np.moveaxis(first, axis, 0).reshape(first.shape[axis], -1).sum(axis=1)
    weak = marginal < second.min()
    near = weak.copy()
    near[1:] |= weak[:-1]
    near[:-1] |= weak[1:]
    return float(marginal[near].sum() / marginal.sum())


def _increasing_stds(std_1: float, std_2: float) -> tuple[float, float]:
    small, large = moderate_positive("std_1", std_1), moderate_positive("std_2", std_2)
    if small >= large:
        raise ValueError(
            f"the first standard deviation must be the smaller one, got {small} and {large}."
        )
    return small, large


def _gaussian(mean: npt.ArrayLike, covariance: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    mu, sigma = moderate_array("mean", mean), moderate_array("covariance", covariance)
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(
            f"a mean (d,) needs a covariance (d, d), got shapes {mu.shape} and {sigma.shape}."
        )
    asymmetry = np.abs(sigma - sigma.T).max(initial=0.0)
    if asymmetry > 1e-8 * np.abs(sigma).max(initial=0.0) or (
        len(mu) > 0 and not np.linalg.eigvalsh(sigma)[0] > 1e-60
    ):
        raise ValueError("a covariance must be symmetric and positive definite.")
    return mu, sigma


def _unit(direction: npt.ArrayLike, dim: int) -> FloatArray:
    vector = moderate_array("direction", direction)
    length = float(np.linalg.norm(vector))
    if vector.shape != (dim,) or length == 0:
        raise ValueError(f"direction must have shape ({dim},) and not be zero, got {vector}.")
    return vector / length


def _first_root(value: FloatArray, slope: FloatArray, curvature: float) -> FloatArray:
    """Return the smallest abs(u) with value + slope u + curvature u^2 / 2 <= 0."""
    # By symmetry u may be taken so that the slope goes down; then solve for 1/u, which needs no
    # case for vanishing curvature: value w^2 - abs(slope) w + curvature / 2 = 0, largest w.
    down = np.abs(slope)
    discriminant = down**2 - 2 * value * curvature
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = (down + np.sqrt(np.where(discriminant < 0, np.nan, discriminant))) / (2 * value)
        distance = np.where(inverse > 0, 1 / inverse, np.inf)
    return np.where(value <= 0, 0.0, distance)


def _tables(
    table_1: npt.ArrayLike, table_2: npt.ArrayLike, axis: int
) -> tuple[FloatArray, FloatArray, int]:
    first = finite_array("table_1", table_1, min_ndim=1)
    second = finite_array("table_2", table_2, min_ndim=1)
    axis = check_integer("axis", axis, minimum=0)
    if first.shape != second.shape or axis >= first.ndim:
        raise ValueError(
            f"tables must have one shape, with an axis {axis}, got {first.shape} and "
            f"{second.shape}."
        )
    if first.min(initial=0) < 0 or second.min(initial=0) < 0 or not first.any():
        raise ValueError("probabilities must not be negative, and those of class 1 not all zero.")
    # In units of the largest entry, a power of two, no sum leaves the range.
    unit = int(np.frexp(max(first.max(), second.max()))[1])
    first, second = np.ldexp(first, -unit), np.ldexp(second, -unit)
    if not first.any():
        raise ValueError("the tables must be within 300 orders of magnitude of one another.")
    return first, second, axis
