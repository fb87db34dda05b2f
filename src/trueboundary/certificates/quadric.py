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
eigenspace. The set is closed: where a convex q has the minimum 0 (a cone that is a subspace), its
minimisers are the set, and nu is infinite.

Every problem is first brought to a value and a length scale of 1 by powers of two, which round
nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from trueboundary._checks import finite_array
from trueboundary.certificates.base import BoolArray, FloatArray

__all__ = ["NearestErrors", "QuadricProjection", "project_quadric"]

_BLOCK = 1 << 17  # rows are solved in blocks of about this many entries
_LIMIT = 300.0  # v at which the multiplier counts as having reached its limit
_FLOOR = -700.0  # and below which exp(v) is no float64
_MAX_ITERATIONS = 200
_TOLERANCE = 4e-15
_NEARLY = 1e-13  # a share of q0 that rounding may have left
_BADLY_SCALED = (
    "The projection does not converge: curvatures and gradients differ by too many orders of "
    "magnitude."
)


@dataclass(frozen=True)
class NearestErrors:
    """Exact distances to the nearest error with what certifies them, one entry per point.

    Attributes
    ----------
    distance : ndarray of shape (n,)
        Distances; 0 for errors, infinite where there is none.
    nearest : ndarray of shape (n, d)
        The nearest point of the error set's closure; NaN where the distance is infinite.
    residual, hard : ndarray of shape (n,)
        As in `QuadricProjection`.
    """

    distance: FloatArray
    nearest: FloatArray
    residual: FloatArray
    hard: BoolArray


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
        The multiplier nu, which together with p certifies global optimality; infinite where there
        is no solution, or where the set is where q has its minimum.
    residual : ndarray of shape (n,)
        The larger of two violations, relative to the sizes of their terms: of q(x + p) = 0 and of
        p + nu (g + h p) = 0.
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

    Raises
    ------
    ArithmeticError
        If curvatures and gradients of a point differ by too many orders of magnitude.

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
        with np.errstate(over="ignore", invalid="ignore"):
            _solve_scaled(h[rows], g[rows], q0[rows], None if c is None else c[rows], rows, out)
    return out


def _solve_scaled(
    h: FloatArray,
    g: FloatArray,
    q0: FloatArray,
    c: FloatArray | None,
    rows: npt.NDArray[np.intp],
    out: QuadricProjection,
) -> None:
    """Solve points with q0 > 0 in units of their own and write them to their rows of `out`.

    The length is that at which the linear or the quadratic part becomes as large as the value,
    whichever comes first: no solution is much nearer.
    """
    value, steepest = _exponents(q0), _exponents(np.abs(g).max(axis=1))
    if c is not None:  # a centre far below: keep it in range
        value = np.maximum(value, _exponents(np.abs(c)) - 900)
    most_curved = _exponents(np.abs(h).max(axis=1))
    length = np.minimum(value - steepest, (value - most_curved) // 2)
    length[length > 5000] = 0  # neither a gradient nor a curvature
    scaled_g = np.ldexp(g, (length - value)[:, None])
    scaled_h = np.ldexp(h, (2 * length - value)[:, None])
    tiny = np.finfo(np.float64).tiny
    lost = ((np.abs(scaled_h) < tiny) & (h < 0)) | ((np.abs(scaled_g) < tiny) & (g != 0))
    scaled_h[np.abs(scaled_h) < tiny] = 0.0
    if c is not None:
        scaled_g[scaled_h == 0] = 0.0
        c = np.ldexp(c, -value)
    _solve_block(scaled_h, scaled_g, np.ldexp(q0, -value), c, rows, out)
    if (lost.any(axis=1) & np.isinf(out.multiplier[rows])).any():
        raise ArithmeticError(_BADLY_SCALED)
    out.distance[rows] = np.ldexp(out.distance[rows], length)
    out.displacement[rows] = np.ldexp(out.displacement[rows], length[:, None])
    out.multiplier[rows] = np.ldexp(out.multiplier[rows], 2 * length - value)


def _exponents(values: FloatArray) -> npt.NDArray[np.int64]:
    """Return binary exponents, a very small one for 0."""
    return np.where(values == 0, -10_000, np.frexp(values)[1]).astype(np.int64)


def _solve_block(
    h: FloatArray,
    g: FloatArray,
    q0: FloatArray,
    c: FloatArray | None,
    rows: npt.NDArray[np.intp],
    out: QuadricProjection,
) -> None:
    """Solve scaled points with q0 > 0 and write them to their rows of `out`."""
    lowest = h.min(axis=1)
    size = np.abs(g)
    target = 2 * q0
    sloping = ((h == 0) & (g != 0)).any(axis=1)
    # Where even the largest multiplier leaves q positive: hard if nu is bounded, else no solution.
    v = np.full(q0.shape, _LIMIT)
    if c is None:
        missing = target - _dual(h, lowest, size, v)[0]
    else:
        positive, negative, _, _ = _balance(h, lowest, size, c, v)
        missing = 2 * (positive - negative)
    beyond = missing > 0
    if c is None:
        least = q0 - 0.5 * (size * _ratio(size, h)).sum(axis=1)  # where q is convex
        touching = (least == 0) | (beyond & (least < 0) & (missing <= _NEARLY * target))
        touching &= (lowest >= 0) & ~sloping
    else:
        least, touching = c, (c == 0) & (lowest >= 0)
    impossible = beyond & (lowest >= 0) & ~touching
    if (touching | impossible).any():
        if (impossible & ((least < 0) | sloping)).any():  # it is not: only out of reach
            raise ArithmeticError(_BADLY_SCALED)
        out.distance[rows[impossible]] = out.multiplier[rows[impossible]] = np.inf
        out.displacement[rows[impossible]] = np.nan
        _solve_touching(h[touching], g[touching], q0[touching], rows[touching], out)
        rest = ~(impossible | touching)
        _solve_block(h[rest], g[rest], q0[rest], None if c is None else c[rest], rows[rest], out)
        return
    inside = np.flatnonzero(~beyond)
    v[inside] = _newton(
        h[inside],
        lowest[inside],
        size[inside],
        target[inside],
        None if c is None else c[inside],
    )
    nu, stretch, _ = _multiplier(h, lowest, v)
    p = -(nu[:, None] * g) / stretch
    # In the hard case the bottom eigenspace has no gradient; what is missing is covered along it.
    extra = np.zeros_like(q0)
    extra[beyond] = np.sqrt(missing[beyond] / -lowest[beyond])
    bottom = (np.arange(q0.size), h.argmin(axis=1))
    p[bottom] = np.where(beyond, np.hypot(p[bottom], extra), p[bottom])
    distance = _lengths(p)
    pulls = np.abs(p) + nu[:, None] * (size + np.abs(h * p))
    stationarity = _lengths(p + nu[:, None] * (g + h * p)) / _lengths(pulls)
    out.distance[rows] = distance
    out.displacement[rows] = p
    out.multiplier[rows] = nu
    out.residual[rows] = np.maximum(_violation(h, g, q0, p), stationarity)
    out.hard[rows] = beyond


def _solve_touching(
    h: FloatArray,
    g: FloatArray,
    q0: FloatArray,
    rows: npt.NDArray[np.intp],
    out: QuadricProjection,
) -> None:
    """Solve points whose set is where a convex q has its minimum, 0."""
    p = -_ratio(g, h)
    out.distance[rows] = _lengths(p)
    out.displacement[rows] = p
    out.multiplier[rows] = np.inf
    out.residual[rows] = _violation(h, g, q0, p)


def _violation(h: FloatArray, g: FloatArray, q0: FloatArray, p: FloatArray) -> FloatArray:
    """Return abs(q(x + p)), relative to the sum of its terms."""
    terms = np.abs(g * p).sum(axis=1) + 0.5 * (np.abs(h * p) * np.abs(p)).sum(axis=1)
    rest: FloatArray = np.abs(q0 + (g * p + 0.5 * h * p * p).sum(axis=1)) / (q0 + terms)
    return rest


def _lengths(p: FloatArray) -> FloatArray:
    """Return the norms of rows whose squares may be out of range."""
    largest = np.abs(p).max(axis=1)
    unit = np.where(largest > 0, largest, 1.0)
    lengths: FloatArray = unit * np.linalg.norm(p / unit[:, None], axis=1)
    return lengths


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the quotient, 0 where the denominator is 0."""
    quotient = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def _newton(
    h: FloatArray,
    lowest: FloatArray,
    size: FloatArray,
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
    total = (size**2).sum(axis=1)
    first_order = 0.5 * target / np.maximum(total, 1e-300)  # F is about 2 nu |g|^2 for small nu
    share = np.minimum(np.where(lowest < 0, -lowest * first_order, 0.0), 0.5)
    v = np.clip(
        np.where(lowest < 0, special.logit(np.maximum(share, 1e-300)), np.log(first_order)),
        _FLOOR,
        _LIMIT,
    )
    low = np.full_like(v, _FLOOR)
    high = np.full_like(v, _LIMIT)
    active = np.arange(v.size)
    for _ in range(_MAX_ITERATIONS):
        if active.size == 0:
            return v
        at = v[active]
        here = (h[active], lowest[active], size[active])
        if c is None:
            f, slope = _dual(*here, at)
            quotient = f / target[active]
        else:
            positive, negative, rise, fall = _balance(*here, c[active], at)
            positive, negative = np.maximum(positive, 1e-300), np.maximum(negative, 1e-300)
            quotient = negative / positive
            slope = rise / negative + fall / positive
        # The logarithm of the quotient keeps the digits that a difference of logarithms loses.
        excess = np.log(np.clip(quotient, 1e-300, 1e300))
        low[active] = np.where(excess < 0, at, low[active])
        high[active] = np.where(excess < 0, high[active], at)
        step = excess / np.maximum(slope, 1e-300)
        converged = (np.abs(excess) <= _TOLERANCE) | (
            np.abs(step) <= 5e-16 * np.maximum(np.abs(at), 8)  # the last digits of v
        )
        new = at - step
        stray = ~((new > low[active]) & (new < high[active]))  # NaN included
        new = np.where(stray, 0.5 * (low[active] + high[active]), new)
        v[active] = np.where(converged, at, new)
        active = active[~converged]
    raise ArithmeticError(_BADLY_SCALED)


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
    h: FloatArray, lowest: FloatArray, size: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return F(nu(v)) and d(log F)/dv."""
    nu, stretch, rate = _multiplier(h, lowest, v)
    # In an order in which nothing leaves the range that is not negligible.
    share = (nu[:, None] * size / stretch) * size
    curve = (share * ((1 + stretch) / stretch)).sum(axis=1)
    slope = 2 * (share / stretch * (rate[:, None] / stretch)).sum(axis=1)
    return curve, slope / np.maximum(curve, 1e-300)


def _balance(
    h: FloatArray, lowest: FloatArray, size: FloatArray, c: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the positive and negative terms of q(nu(v)), and how fast they fall and rise with v.

    The order is positive, negative, rise of the negative, fall of the positive ones.
    """
    nu, stretch, rate = _multiplier(h, lowest, v)
    curved = h != 0
    terms = 0.5 * (size / np.where(curved, np.abs(h), 1.0) / stretch) * (size / stretch)
    changes = (nu[:, None] * size / stretch) * (size / stretch) * (rate[:, None] / stretch)
    positive = np.where(h > 0, terms, 0.0).sum(axis=1) + np.maximum(c, 0)
    negative = np.where(h < 0, terms, 0.0).sum(axis=1) + np.maximum(-c, 0)
    rise = np.where(h < 0, changes, 0.0).sum(axis=1)
    fall = np.where(h > 0, changes, 0.0).sum(axis=1)
    return positive, negative, rise, fall
