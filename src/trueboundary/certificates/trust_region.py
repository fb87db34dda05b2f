r"""Exact minima of quadratic functions over balls.

For :math:`q(p) = q_0 + g \cdot p + \tfrac12 \sum_i h_i p_i^2` and every
:math:`\lambda \ge \max(0, -\min h)`,

.. math:: \min_{\|p\| \le t} q(p) \;\ge\;
   q_0 - \tfrac12 \sum_i \frac{g_i^2}{h_i + \lambda} - \tfrac12 \lambda t^2 ,

with equality for the best :math:`\lambda` whatever the signs of h: the trust-region problem has no
duality gap. What is returned is this right-hand side, so that it is a lower bound (up to rounding)
even where :math:`\lambda` has not converged to its last digit.
"""

import numpy as np
import numpy.typing as npt

from trueboundary._checks import finite_array
from trueboundary.certificates.base import FloatArray

__all__ = ["trust_region_minimum"]

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-14


def trust_region_minimum(
    curvature: npt.ArrayLike,
    gradient: npt.ArrayLike,
    value: npt.ArrayLike,
    radius: npt.ArrayLike,
) -> FloatArray:
    """Return the smallest values of quadratic functions within balls around the origin.

    The function is q(p) = value + gradient.p + (1/2) sum_i curvature_i p_i^2 in an eigenbasis of
    its Hessian.

    Parameters
    ----------
    curvature : array_like of shape (d,) or (n, d)
        Eigenvalues h of the Hessian, of any sign.
    gradient : array_like of shape (n, d)
        Gradients g at the origin.
    value : array_like of shape (n,)
        Values at the origin.
    radius : array_like of shape (n,) or ()
        Radii of the balls, not negative.

    Returns
    -------
    ndarray of shape (n,)
        Minima, the hard case included (no gradient along the lowest curvature).

    Examples
    --------
    >>> trust_region_minimum([-2.0, 2.0], [[0.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [1.0, 0.1])
    array([-1.  , -0.09])
    """
    g = finite_array("gradient", gradient)
    q0 = finite_array("value", value)
    h = finite_array("curvature", curvature)
    t = finite_array("radius", radius)
    if g.ndim != 2 or g.shape[1] == 0 or q0.shape != g.shape[:1]:
        raise ValueError(
            f"gradient must have shape (n, d) and value (n,), got {g.shape} and {q0.shape}."
        )
    if h.shape not in (g.shape, g.shape[1:]) or t.shape not in (q0.shape, ()) or (t < 0).any():
        raise ValueError(
            f"curvature must have shape {g.shape[1:]} or {g.shape} and radius, not negative, "
            f"{q0.shape}, got {h.shape} and {t.shape}."
        )
    t = np.broadcast_to(t, q0.shape)
    # Lengths in units of the radius and values in units of the largest term: powers of two.
    length = np.frexp(t)[1]
    steepest, most_curved = np.abs(g).max(axis=1), np.abs(h * np.ones_like(g)).max(axis=1)
    unit = np.maximum(
        np.where(steepest > 0, np.frexp(steepest)[1] + length, -5000),
        np.where(most_curved > 0, np.frexp(most_curved)[1] + 2 * length, -5000),
    )
    g = np.ldexp(g, (length - unit)[:, None])
    h = np.ldexp(h * np.ones_like(g), (2 * length - unit)[:, None])
    g[np.abs(g) < 1e-290] = 0.0
    t = np.ldexp(t, -length)
    lowest = h.min(axis=1)
    excess = h - lowest[:, None]
    # With mu = lambda + min h, the denominators h + lambda = excess + mu lose no digits.
    positive = np.where(t > 0, t, 1.0)
    mu = np.maximum(_boundary_shift(excess, np.abs(g), positive), np.maximum(lowest, 0.0))
    multiplier = np.maximum(mu - lowest, 0.0)
    gain = _ratio(g**2, excess + mu[:, None]).sum(axis=1)
    with np.errstate(over="ignore"):  # a minimum below all float64 is minus infinity
        fall = np.ldexp(0.5 * gain + 0.5 * multiplier * t**2, unit)
        minimum: FloatArray = np.where(t > 0, q0 - fall, q0)
    return minimum


def _boundary_shift(excess: FloatArray, size: FloatArray, radius: FloatArray) -> FloatArray:
    """Return mu >= 0 at which the step of lengths size / (excess + mu) is as long as the radius.

    Newton's method on the inverse length of the step, which is concave in mu and so approaches
    the root from below without passing it. Zero where the step is too short even for mu = 0: the
    hard case, in which the rest of the way leads along the lowest curvature.
    """
    # No single coordinate of the step may be longer than the radius.
    mu: FloatArray = np.maximum((size / radius[:, None] - excess).max(axis=1), 0.0)
    active = np.arange(len(mu))
    for _ in range(_MAX_ITERATIONS):
        shifted = excess[active] + mu[active, None]
        step = _ratio(size[active], shifted)
        squared = (step**2).sum(axis=1)
        length = np.sqrt(squared)
        slope = _ratio(step**2, shifted).sum(axis=1)
        beyond = length / radius[active] - 1
        move = np.where(slope > 0, beyond * squared / np.maximum(slope, 1e-300), 0.0)
        open_rows = (beyond > _TOLERANCE) & (move > 0)
        mu[active] += np.where(open_rows, move, 0.0)
        active = active[open_rows]
        if active.size == 0:
            break
    return mu


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the quotient, 0 for 0 / 0."""
    quotient = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=quotient, where=numerator != 0)
    return quotient
