r"""Tail probabilities of quadratic forms in Gaussian variables, exact at any depth.

The error rate of a classifier whose decision surface is an ellipsoid is the probability that
Q = sum_i w_i u_i^2 > 0 for standard normal u (Gilmer et al., 2018, Section 4): on the unit sphere
sum_i alpha_i x_i^2 > 1 is the same as sum_i (alpha_i - 1) u_i^2 > 0 for x = u / norm(u). The error
rate of the optimal rule between two Gaussians is of the same kind, with a noncentral part, a linear
part and a constant.

Probabilities keep their *relative* accuracy at 1e-300, and their logarithms far below: see
``_bromwich`` for the method. The approximations in use elsewhere stand beside the exact value
under names of their own.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from trueboundary import _checks
from trueboundary._checks import FloatArray
from trueboundary.theory._bromwich import (
    QuadraticForm,
    log1mexp,
    log_upper_tail,
    solve_increasing,
)

__all__ = [
    "chernoff_log_bound",
    "clt_log_tail",
    "ellipsoid_log_error",
    "ellipsoid_weights",
    "log_tail",
    "lugannani_rice_log_tail",
    "printed_clt_tail",
    "sphere_clt_log_tail",
]

Sphere = Literal["inner", "outer"]
Tail = Literal["upper", "lower"]
Method = Literal["exact", "clt", "sphere-clt", "lugannani-rice", "chernoff"]


def log_tail(
    weights: npt.ArrayLike,
    *,
    degrees: npt.ArrayLike | None = None,
    noncentrality: npt.ArrayLike | None = None,
    normal_std: npt.ArrayLike = 0.0,
    constant: npt.ArrayLike = 0.0,
    tail: Tail = "upper",
) -> float | FloatArray:
    """Return the log-probability that a quadratic form in Gaussian variables is positive.

    Q = sum_i w_i X_i + s Z + q with independent X_i, chi-square of m_i degrees of freedom and
    noncentrality d_i, and standard normal Z. With the defaults Q = sum_i w_i u_i^2.

    Parameters
    ----------
    weights : array_like of shape (..., d)
        Weights w of any sign; leading axes are a batch.
    degrees : array_like, optional
        Degrees of freedom m, broadcast to the shape of `weights`; 1 by default.
    noncentrality : array_like, optional
        Sums d of the squared means of the underlying normals, broadcast likewise; 0 by default.
    normal_std : array_like
        Standard deviation s of the normal term, broadcast to the batch.
    constant : array_like
        The constant q, broadcast to the batch.
    tail : {"upper", "lower"}
        log P(Q > 0), or log P(Q < 0).

    Returns
    -------
    float or ndarray of shape (...)
        Natural logarithm of the probability; exactly -inf and 0 where the probability is 0 and 1
        by the signs of its terms. The relative error of the probability is about 1e-16 times
        1 + abs(log P).

    Raises
    ------
    ValueError
        If the positive and the negative terms are more than 300 orders of magnitude apart.
    ArithmeticError
        If terms above about 1e15 cancel, so that float64 does not determine the probability.

    Notes
    -----
    Cost is O(d) times 30 to 500 nodes; equal weights are merged first. The form is scaled before
    anything else, so that the sizes of its terms may differ by 300 orders of magnitude.

    Examples
    --------
    >>> round(math.exp(log_tail([1.0, -1.0])), 12)
    0.5
    >>> round(log_tail([1e-3] + [-0.2] * 499), 9)
    -1326.504686172
    """
    _checks.choice("tail", tail, ("upper", "lower"))
    array = _checks.finite_array("weights", weights, min_ndim=1)
    if array.shape[-1] == 0:
        raise ValueError("weights must hold at least one weight along its last axis, got none.")
    m = _broadcast("degrees", 1.0 if degrees is None else degrees, array.shape)
    shift = _broadcast(
        "noncentrality", 0.0 if noncentrality is None else noncentrality, array.shape
    )
    std = _broadcast("normal_std", normal_std, array.shape[:-1])
    offset = _broadcast("constant", constant, array.shape[:-1])
    if (m < 1).any() or (shift < 0).any() or (std < 0).any():
        raise ValueError("degrees must be at least 1; noncentrality and normal_std nonnegative.")
    out = np.empty(array.shape[:-1])
    for index in np.ndindex(out.shape):
        form = make_form(
            array[index], m[index], shift[index], float(std[index]), float(offset[index])
        )
        out[index] = log_upper_tail(form.negated() if tail == "lower" else form)
    return float(out) if out.ndim == 0 else out


def ellipsoid_weights(
    alphas: npt.ArrayLike, *, sphere: Sphere = "inner", radius: float = 1.3
) -> FloatArray:
    """Return the weights w such that an ellipsoid's error rate is P(sum_i w_i u_i^2 > 0).

    The ellipsoid sum_i alpha_i z_i^2 = 1 is the decision surface, its inside the inner sphere's
    side. Points of the unit sphere are errors where the sum exceeds 1: w = alpha - 1. Points of the
    sphere of radius R are errors where it falls short of 1: w = 1/R^2 - alpha, without the rounding
    of 1/R^2 unless alpha is that very float64.

    Parameters
    ----------
    alphas : array_like of shape (..., d)
        Coefficients of the ellipsoid in its own axes.
    sphere : {"inner", "outer"}
        The unit sphere, or the sphere of radius `radius`.
    radius : float
        Radius R of the outer sphere, above 1.

    Returns
    -------
    ndarray of shape (..., d)
        The weights.

    Examples
    --------
    >>> ellipsoid_weights([1.5, 0.5])
    array([ 0.5, -0.5])
    """
    _checks.choice("sphere", sphere, ("inner", "outer"))
    radius = _checks.outer_radius(radius)
    array = _checks.finite_array("alphas", alphas, min_ndim=1)
    if sphere == "inner":
        return array - 1
    # The float64 next to 1/R^2 is what the limit is written as, and counts as the limit itself.
    weights: FloatArray = np.where(
        array == 1 / radius**2, 0.0, -above_inverse_square(array, radius)
    )
    return weights


def ellipsoid_log_error(
    alphas: npt.ArrayLike,
    *,
    sphere: Sphere = "inner",
    radius: float = 1.3,
    method: Method = "exact",
) -> float:
    """Return the log error rate of an ellipsoid classifier on one of the two spheres.

    Parameters
    ----------
    alphas : array_like of shape (d,)
        Coefficients of the ellipsoid sum_i alpha_i z_i^2 = 1 in its own axes.
    sphere : {"inner", "outer"}
        The unit sphere, or the sphere of radius `radius`.
    radius : float
        Radius R of the outer sphere, above 1.
    method : {"exact", "clt", "sphere-clt", "lugannani-rice", "chernoff"}
        The exact value, or one of the approximations of this module for comparison.

    Returns
    -------
    float
        Natural logarithm of the error rate, -inf if there are no errors at all.

    Examples
    --------
    >>> alphas = [0.36] * 250 + [1.232] * 250
    >>> round(ellipsoid_log_error(alphas) / math.log(10), 6)
    -14.687712
    """
    weights = ellipsoid_weights(alphas, sphere=sphere, radius=radius)
    if weights.ndim != 1:
        raise ValueError(f"alphas must have one axis, got shape {weights.shape}.")
    _checks.choice("method", method, tuple(_METHODS))
    if not weights.any():  # the whole sphere has a margin of 0, which is class 0, the inner one
        return -math.inf if sphere == "inner" else 0.0
    return _METHODS[method](weights)


def clt_log_tail(weights: npt.ArrayLike) -> float:
    """Return log P(Q > 0) by the central limit theorem: log Phi(mu / sigma).

    mu = sum_i w_i and sigma^2 = 2 sum_i w_i^2. This is Proposition 4.1 of Gilmer et al. (2018) with
    its two misprints put right. It is wrong by orders of magnitude in the tail.

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights of any sign, not all zero.

    Returns
    -------
    float
        Natural logarithm of the approximate probability.

    Examples
    --------
    >>> round(clt_log_tail([0.5, -0.5]), 6)
    -0.693147
    """
    w = _scaled_vector(weights)
    return float(special.log_ndtr(w.sum() / math.sqrt(2 * float(w @ w))))


def printed_clt_tail(weights: npt.ArrayLike) -> float:
    """Return what Proposition 4.1 of Gilmer et al. (2018) gives literally, for comparison only.

    1 - Phi(mu / sigma) with sigma = 2 sum_i w_i^2: the sign is reversed and the square root is
    missing. See `clt_log_tail` for the formula that was meant.

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights of any sign, not all zero.

    Returns
    -------
    float
        The printed "probability".

    Examples
    --------
    >>> round(printed_clt_tail([-0.1] * 200), 6)  # no weight is positive: the truth is 0
    1.0
    """
    vector = _vector(weights)
    scale = binary_scale(vector)
    w = scale * vector
    with np.errstate(over="ignore"):  # far beyond where the probability is 0 or 1
        return float(special.ndtr(scale * (-w.sum() / (2 * float(w @ w)))))


def sphere_clt_log_tail(weights: npt.ArrayLike) -> float:
    """Return log P(Q > 0) by the central limit theorem applied on the sphere itself.

    For x uniform on the unit sphere S = sum_i w_i x_i^2 has exactly the mean of the weights and the
    variance 2 Var(w) / (d + 2), so P(S > 0) is about Phi(mean sqrt((d + 2)/2) / sd). This removes
    the error that `clt_log_tail` makes by ignoring that norm(u)^2 varies along with Q.

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights of any sign, not all zero.

    Returns
    -------
    float
        Natural logarithm of the approximate probability.

    Examples
    --------
    >>> round(sphere_clt_log_tail([1.0, -2.0]), 6)
    -1.143581
    """
    w = _scaled_vector(weights)
    mean = float(w.mean())
    if w.min() == w.max():
        return 0.0 if mean > 0 else -math.inf
    return float(special.log_ndtr(mean * math.sqrt((w.size + 2) / 2) / float(w.std())))


def lugannani_rice_log_tail(weights: npt.ArrayLike) -> float:
    """Return log P(Q > 0) by the saddlepoint formula of Lugannani & Rice (1980).

    With K'(t) = 0, a = sqrt(-2 K(t)) and b = t sqrt(K''(t)):
    P is about 1 - Phi(a) + phi(a) (1/b - 1/a). Its relative error stays bounded in the tail.

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights of any sign, not all zero.

    Returns
    -------
    float
        Natural logarithm of the approximate probability; exact 0 and -inf where the signs decide.

    Examples
    --------
    >>> weights = [1.232 - 1] * 250 + [0.36 - 1] * 250
    >>> round(math.exp(lugannani_rice_log_tail(weights) - log_tail(weights)) - 1, 7)
    3.33e-05
    """
    form = _central(weights)
    certain = form.certain()
    if certain is not None:
        return certain
    if form.mean > 0:
        return log1mexp(_lugannani_rice(form.negated()))
    return _lugannani_rice(form)


def chernoff_log_bound(weights: npt.ArrayLike) -> float:
    """Return the Chernoff bound: log P(Q > 0) <= min over t > 0 of K(t), rigorously.

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights of any sign, not all zero.

    Returns
    -------
    float
        Upper bound on the natural logarithm of the probability; 0 where the mean is not negative.

    Examples
    --------
    >>> weights = [1.232 - 1] * 250 + [0.36 - 1] * 250
    >>> bool(chernoff_log_bound(weights) > log_tail(weights))
    True
    """
    form = _central(weights)
    certain = form.certain()
    if certain is not None:
        return certain
    if form.mean >= 0:
        return 0.0
    return min(solve_increasing(form, 0.0).cgf, 0.0)


def binary_scale(*terms: npt.ArrayLike) -> float:
    """Return the power of two that brings the largest term to between 1/2 and 1 (not public).

    The sign of a form does not depend on its scale, and a power of two rounds nothing.
    """
    largest = max(float(np.abs(term).max()) for term in terms)
    return math.ldexp(1.0, -max(-1000, min(1000, math.frexp(largest)[1])))


def make_form(
    weights: FloatArray,
    degrees: FloatArray,
    noncentrality: FloatArray,
    normal_std: float,
    constant: float,
) -> QuadraticForm:
    """Return the form with zero weights dropped and equal weights merged (not public)."""
    distinct, group = np.unique(weights, return_inverse=True)
    kept = distinct != 0
    return QuadraticForm(
        distinct[kept],
        np.bincount(group, degrees, distinct.size)[kept],
        np.bincount(group, noncentrality, distinct.size)[kept],
        normal_std,
        constant,
    )


def above_inverse_square(alphas: FloatArray, radius: npt.ArrayLike) -> FloatArray:
    """Return alphas - 1 / radius^2, radii broadcast to alphas, to full accuracy (not public).

    Where an alpha is close to the inverse square, the rounding error of the latter would be a large
    part of the difference. It is taken as the sum of a float64 and of what that one lacks.
    """
    r = np.asarray(radius, dtype=np.float64)
    square, missing = _product(r, r)
    high = 1 / square
    back, excess = _product(high, square)
    low = high * (((1 - back) - excess) - high * missing)
    difference: FloatArray = (alphas - high) - low
    return difference


def _product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a * b as its float64 and the exact rest (Dekker, 1971)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, rest


def _halves(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return two numbers of 26 bits whose sum is `a`."""
    shifted = (2.0**27 + 1) * a
    high = shifted - (shifted - a)
    return high, a - high


def _broadcast(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return a finite argument broadcast to `shape`."""
    array = _checks.finite_array(name, value)
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise ValueError(f"{name} must broadcast to {shape}, got shape {array.shape}.") from error


def _vector(weights: npt.ArrayLike) -> FloatArray:
    """Return the checked weights of a comparison: one axis, not all zero."""
    array = _checks.finite_array("weights", weights, min_ndim=1)
    if array.ndim != 1 or not array.any():
        raise ValueError(
            f"weights must be one axis of numbers that are not all zero, got shape {array.shape}."
        )
    return array


def _scaled_vector(weights: npt.ArrayLike) -> FloatArray:
    """Return the weights of a comparison, scaled so that no square leaves the range of floats."""
    w = _vector(weights)
    return w * binary_scale(w)


def _central(weights: npt.ArrayLike) -> QuadraticForm:
    """Return the form sum_i w_i u_i^2."""
    w = _vector(weights)
    form = make_form(w, np.ones_like(w), np.zeros_like(w), 0.0, 0.0)
    return form if form.certain() is not None else form.normalised()


def _lugannani_rice(form: QuadraticForm) -> float:
    """Return the saddlepoint formula for a form of nonpositive mean."""
    if form.mean < 0:
        point = solve_increasing(form, 0.0)
        a = math.sqrt(max(-2 * point.cgf, 0.0))
        b = point.spread / point.reach
    else:
        a = b = 0.0
    if a < 1e-3:  # 1/b - 1/a cancels; its limit is minus a sixth of the skewness
        second = 2 * float(form.degrees @ form.weights**2)
        third = 8 * float(form.degrees @ form.weights**3)
        return math.log(0.5 - third / second**1.5 / (6 * math.sqrt(2 * math.pi)))
    mills = math.sqrt(math.pi / 2) * float(special.erfcx(a / math.sqrt(2)))
    return -0.5 * a * a - 0.5 * math.log(2 * math.pi) + math.log(mills + 1 / b - 1 / a)


def _exact(weights: FloatArray) -> float:
    """Return the exact log tail of one weight vector."""
    return float(log_tail(weights))


_METHODS: dict[str, Callable[[FloatArray], float]] = {
    "exact": _exact,
    "clt": clt_log_tail,
    "sphere-clt": sphere_clt_log_tail,
    "lugannani-rice": lugannani_rice_log_tail,
    "chernoff": chernoff_log_bound,
}
