r"""Exact projection onto the set where a quadratic function is not positive.

For q(x + p) = q0 + g.p + (1/2) sum_i h_i p_i^2 with q0 > 0, the nearest p with q(x + p) <= 0 is a
quadratic problem with one quadratic constraint. By the S-lemma it has no duality gap: p is globally
optimal if and only if, for a multiplier nu >= 0,

    p_i = -nu g_i / (1 + nu h_i),   1 + nu h_i >= 0 for all i,   q(x + p) = 0.

The constraint reads F(nu) = sum_i g_i^2 nu (2 + nu h_i) / (1 + nu h_i)^2 = 2 q0 with F increasing,
one scalar equation per point. Where the form is centred, q(z) = c + (1/2) sum_i h_i z_i^2 with
z_i = g_i / h_i at the point, the same equation is c + (1/2) sum_i h_i z_i^2 / (1 + nu h_i)^2 = 0,
whose positive and negative terms are balanced against each other: that keeps its digits where F
comes close to its limit, as for cones that are nearly a line. In the hard case (the bottom
eigenspace carries no gradient) nu is at its limit and the remaining distance is covered along that
eigenspace.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from trueboundary.certificates.base import BoolArray, FloatArray
from trueboundary.theory._checks import finite_array

__all__ = ["QuadricProjection", "project_quadric"]

_BLOCK = 1 << 17  # rows are solved in blocks of about this many entries
_LIMIT = 200.0  # |v| at which the multiplier counts as having reached its limit
_MAX_ITERATIONS = 200
_TOLERANCE = 4e-15


@dataclass(frozen=True)
class QuadricProjection:
    """Solution of `project_quadric`, one entry per point.

    Attributes
    ----------
    distance : ndarray of shape (n,)
        Length of the shortest p; 0 where q0 <= 0, infinite where q is positive everywhere.
    displacement : ndarray of shape (n, d)
        That p; NaN where the distance is infinite.
    multiplier : ndarray of shape (n,)
        The multiplier nu, which together with p certifies global optimality.
    residual : ndarray of shape (n,)
        The larger of two relative violations: of q(x + p) = 0 and of p + nu (g + h p) = 0.
    hard : ndarray of bool, shape (n,)
        Whether the hard case occurred, where the solution is not unique.
    """

    distance: FloatArray
    displacement: FloatArray
    multiplier: FloatArray
    residual: FloatArray
    hard: BoolArray


def project_quadric(
    curvature: npt.ArrayLike,
    gradient: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    centre_value: npt.ArrayLike | None = None,
) -> QuadricProjection:
    """Return the shortest steps onto the set where a quadratic function is not positive.

    The function is q(x + p) = value + gradient.p + (1/2) sum_i curvature_i p_i^2 in an eigenbasis
    of its Hessian.

    Parameters
    ----------
    curvature : array_like of shape (d,) or (n, d)
        Eigenvalues h of the Hessian, of any sign.
    gradient : array_like of shape (n, d)
        Gradients g at the points.
    value : array_like of shape (n,)
        Values q0 at the points.
    centre_value : array_like of shape (n,), optional
        Value c of q at its centre, where the gradient is 0. Where it is known without rounding (a
        cone's is 0) thin error sets are solved to more digits. Directions without curvature must
        then be without gradient.

    Returns
    -------
    QuadricProjection
        Distances, displacements and what certifies them.

    Raises
    ------
    TypeError
        If an argument is not an array of real numbers.
    ValueError
        If an argument is not finite or the shapes do not fit.

    Examples
    --------
    >>> inside_a_circle = project_quadric([-2.0, -2.0], [[-1.0, 0.0]], [0.75])  # 1 - |x|^2
    >>> inside_a_circle.distance
    array([0.5])
    """
    g = finite_array("gradient", gradient)
    q0 = finite_array("value", value)
    h = finite_array("curvature", curvature)
    if g.ndim != 2 or g.shape[1] == 0 or q0.shape != g.shape[:1]:
        raise ValueError(
            f"gradient must have shape (n, d) and value (n,), got {g.shape} and {q0.shape}."
        )
    if h.shape not in (g.shape, g.shape[1:]):
        raise ValueError(f"curvature must have shape {g.shape[1:]} or {g.shape}, got {h.shape}.")
    h = np.broadcast_to(h, g.shape)
    c = (
        None
        if centre_value is None
        else np.broadcast_to(finite_array("centre_value", centre_value), q0.shape)
    )
    if c is not None and g[h == 0].any():
        raise ValueError("a centre needs directions without curvature to be without gradient.")
    n, d = g.shape
    out = QuadricProjection(
        np.zeros(n), np.zeros((n, d)), np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool)
    )
    todo = np.flatnonzero(q0 > 0)
    rows_at_once = max(1, _BLOCK // d)
    for first in range(0, todo.size, rows_at_once):
        rows = todo[first : first + rows_at_once]
        _solve_block(h[rows], g[rows], q0[rows], None if c is None else c[rows], rows, out)
    return out


def _solve_block(
    h: FloatArray,
    g: FloatArray,
    q0: FloatArray,
    c: FloatArray | None,
    rows: npt.NDArray[np.intp],
    out: QuadricProjection,
) -> None:
    """Solve points with q0 > 0 and write them to their rows of `out`."""
    lowest = h.min(axis=1)
    squares = g**2
    target = 2 * q0
    # Where even the largest multiplier leaves q positive: hard if nu is bounded, else no solution.
    v = np.full(q0.shape, _LIMIT)
    if c is None:
        missing = target - _dual(h, lowest, squares, v)[0]
    else:
        positive, negative, _, _ = _balance(h, lowest, squares, c, v)
        missing = 2 * (positive - negative)
    beyond = missing > 0
    impossible = beyond & (lowest >= 0)
    if impossible.any():
        out.distance[rows[impossible]] = out.multiplier[rows[impossible]] = np.inf
        out.displacement[rows[impossible]] = np.nan
        rest = ~impossible
        _solve_block(h[rest], g[rest], q0[rest], None if c is None else c[rest], rows[rest], out)
        return
    inside = np.flatnonzero(~beyond)
    v[inside] = _newton(
        h[inside],
        lowest[inside],
        squares[inside],
        target[inside],
        None if c is None else c[inside],
    )
    nu, stretch, _ = _multiplier(h, lowest, v)
    pull = g / stretch
    # In the hard case the bottom eigenspace has no gradient; what is missing is covered along it.
    extra = np.zeros_like(q0)
    extra[beyond] = np.sqrt(missing[beyond] / -lowest[beyond])
    p = -nu[:, None] * pull
    bottom = (np.arange(q0.size), h.argmin(axis=1))
    p[bottom] = np.where(beyond, extra, p[bottom])
    distance = np.hypot(nu * np.linalg.norm(pull, axis=1), extra)

    terms = np.abs(g * p).sum(axis=1) + 0.5 * (np.abs(h) * p**2).sum(axis=1)
    violation = np.abs(q0 + (g * p + 0.5 * h * p**2).sum(axis=1)) / (q0 + terms)
    stationarity = np.linalg.norm(p + nu[:, None] * (g + h * p), axis=1) / distance
    out.distance[rows] = distance
    out.displacement[rows] = p
    out.multiplier[rows] = nu
    out.residual[rows] = np.maximum(violation, stationarity)
    out.hard[rows] = beyond


def _newton(
    h: FloatArray,
    lowest: FloatArray,
    squares: FloatArray,
    target: FloatArray,
    c: FloatArray | None,
) -> FloatArray:
    """Solve F = target by Newton's method on log F against v, safeguarded by a bracket.

    With a centre value, the negative terms of q are balanced with its positive ones instead.

    v is the logit of nu / nu_max (log nu where nu is unbounded), against which log F is
    asymptotically linear at both ends. Rows leave the iteration when they have converged; a
    converged row must never reach the safeguard, whose bisection would throw it far away when
    rounding puts the last tiny step just outside the bracket.
    """
    total = squares.sum(axis=1)
    first_order = 0.5 * target / total  # F is about 2 nu |g|^2 for small nu
    share = np.minimum(np.where(lowest < 0, -lowest * first_order, 0.0), 0.5)
    v = np.clip(
        np.where(lowest < 0, special.logit(np.maximum(share, 1e-300)), np.log(first_order)),
        -4 * _LIMIT,
        _LIMIT,
    )
    low = np.full_like(v, -4 * _LIMIT)
    high = np.full_like(v, _LIMIT)
    active = np.arange(v.size)
    for _ in range(_MAX_ITERATIONS):
        if active.size == 0:
            return v
        at = v[active]
        here = (h[active], lowest[active], squares[active])
        if c is None:
            f, slope = _dual(*here, at)
            excess = np.log(f) - np.log(target[active])
        else:
            positive, negative, rise, fall = _balance(*here, c[active], at)
            positive, negative = np.maximum(positive, 1e-300), np.maximum(negative, 1e-300)
            excess = np.log(negative) - np.log(positive)
            slope = rise / negative + fall / positive
        low[active] = np.where(excess < 0, at, low[active])
        high[active] = np.where(excess < 0, high[active], at)
        step = excess / np.maximum(slope, 1e-300)
        converged = (np.abs(excess) <= _TOLERANCE) | (
            np.abs(step) <= 5e-16 * np.maximum(np.abs(at), 8)  # the last digits of v
        )
        new = at - step
        stray = (new <= low[active]) | (new >= high[active])
        new = np.where(stray, 0.5 * (low[active] + high[active]), new)
        v[active] = np.where(converged, at, new)
        active = active[~converged]
    raise ArithmeticError("The projection did not converge; are the curvatures badly scaled?")


def _multiplier(
    h: FloatArray, lowest: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return nu, 1 + nu h and d(log nu)/dv.

    With nu_max = -1/min(h), 1 + nu h is written with 1 - nu/nu_max apart, so that it keeps its
    digits for h near its minimum.
    """
    bounded = lowest < 0
    share, gap = special.expit(v), special.expit(-v)
    scale = np.where(bounded, lowest, -1.0)
    nu = np.where(bounded, -share / scale, np.exp(np.where(bounded, 0.0, v)))
    relative = h / scale[:, None]
    stretch = np.where(h < 0, (1 - relative) + gap[:, None] * relative, 1 + nu[:, None] * h)
    return nu, stretch, np.where(bounded, gap, 1.0)


def _dual(
    h: FloatArray, lowest: FloatArray, squares: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return F(nu(v)) and d(log F)/dv."""
    nu, stretch, rate = _multiplier(h, lowest, v)
    ratio = squares / stretch**2
    curve = (ratio * (1 + stretch)).sum(axis=1)
    slope = 2 * rate * (ratio / stretch).sum(axis=1)
    return nu * curve, slope / np.maximum(curve, 1e-300)


def _balance(
    h: FloatArray, lowest: FloatArray, squares: FloatArray, c: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the positive and negative terms of q(nu(v)), and how fast they fall and rise with v.

    The order is positive, negative, rise of the negative, fall of the positive ones.
    """
    nu, stretch, rate = _multiplier(h, lowest, v)
    curved = h != 0
    terms = 0.5 * squares / np.where(curved, np.abs(h), 1.0) / stretch**2
    changes = (nu * rate)[:, None] * squares / stretch**3
    positive = np.where(h > 0, terms, 0.0).sum(axis=1) + np.maximum(c, 0)
    negative = np.where(h < 0, terms, 0.0).sum(axis=1) + np.maximum(-c, 0)
    rise = np.where(h < 0, changes, 0.0).sum(axis=1)
    fall = np.where(h > 0, changes, 0.0).sum(axis=1)
    return positive, negative, rise, fall
