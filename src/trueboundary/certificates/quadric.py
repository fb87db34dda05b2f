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
from trueboundary.plurals import plural
from trueboundary.presentable import PresentableFields
from trueboundary.theory.intervals import censored_median

__all__ = ["NearestErrors", "QuadricProjection", "project_quadric", "proven_length"]

_BLOCK = 1 << 15  # rows are solved in blocks of about this many entries
_LIMIT = 300.0  # v at which the multiplier counts as having reached its limit
_FLOOR = -700.0  # and below which exp(v) is no float64
_MAX_ITERATIONS = 200
_TOLERANCE = 4e-15
_NEARLY = 1e-13  # a share of q0 that rounding may have left
_BADLY_SCALED = (
    "The projection does not converge: curvatures and gradients differ by too many orders of "
    "magnitude."
)


@dataclass(frozen=True, repr=False)
class NearestErrors(PresentableFields):
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

    def __str__(self) -> str:
        """Say how far the errors are in one line, how well that is certified in another."""
        return _words(self, "nearest errors")


@dataclass(frozen=True, repr=False)
class QuadricProjection(PresentableFields):
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

    def __str__(self) -> str:
        """Say how long the steps are in one line, how well that is certified in another."""
        return _words(self, "projections")


def _words(found: NearestErrors | QuadricProjection, what: str) -> str:
    n = len(found.distance)
    if not n:
        return f"{what} of no points"
    return (
        f"{what} of {plural(n, 'point')}: median distance {censored_median(found.distance):.4g}\n"
        f"  {int(np.isinf(found.distance).sum()):,} without one, {int(found.hard.sum()):,} not "
        f"unique, largest residual {found.residual.max():.2g}"
    )


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


def proven_length(
    curvature: FloatArray, gradient: FloatArray, value: FloatArray, multiplier: FloatArray
) -> FloatArray:
    """Return lower bounds (n,) of the distances of `project_quadric` that multipliers prove.

    By weak duality half the square of a distance is at least the minimum over p of
    |p|^2 / 2 + nu q(x + p), for every nu >= 0. 0 where a multiplier proves nothing.
    """
    nu = np.where(np.isfinite(multiplier), multiplier, 0.0)[:, None]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        stretch = 1 + nu * curvature
        gain = (nu * gradient * (gradient / stretch)).sum(axis=1)
        square = nu[:, 0] * (2 * value - gain)
    proves = (stretch > 0).all(axis=1) & (square > 0) & (value > 0)
    return np.sqrt(np.where(proves, square, 0.0))


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
    scaled_g = _times_power(g, length - value)
    scaled_h = _times_power(h, 2 * length - value)
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
    out.displacement[rows] = _times_power(out.displacement[rows], length)
    out.multiplier[rows] = np.ldexp(out.multiplier[rows], 2 * length - value)


def _times_power(values: FloatArray, exponent: npt.NDArray[np.int64]) -> FloatArray:
    """Return rows (n, d) times powers of two (n,), by products where these are float64."""
    if (np.abs(exponent) < 1000).all():
        return np.asarray(values * np.ldexp(1.0, exponent)[:, None])
    return np.asarray(np.ldexp(values, exponent[:, None]))


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
    equation = _Equation.of(h, lowest, size, target, c)
    missing = equation.missing(v)
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
    v[inside] = _newton(equation.take(inside) if beyond.any() else equation)
    nu, stretch, _ = equation.multiplier(v)
    p = -(nu[:, None] * g) / stretch
    # In the hard case the bottom eigenspace has no gradient; what is missing is covered along it.
    extra = np.zeros_like(q0)
    extra[beyond] = np.sqrt(missing[beyond] / -lowest[beyond])
    bottom = (np.arange(q0.size), h.argmin(axis=1))
    p[bottom] = np.where(beyond, np.hypot(p[bottom], extra), p[bottom])
    distance = _lengths(p)
    bent = h * p
    pulls = np.abs(p) + nu[:, None] * (size + np.abs(bent))
    stationarity = _lengths(p + nu[:, None] * (g + bent)) / _lengths(pulls)
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
    linear, bent = g * p, 0.5 * (h * p) * p
    terms = np.abs(linear).sum(axis=1) + np.abs(bent).sum(axis=1)
    rest: FloatArray = np.abs(q0 + (linear + bent).sum(axis=1)) / (q0 + terms)
    return rest


def _lengths(p: FloatArray) -> FloatArray:
    """Return the norms of rows whose squares may be out of range."""
    squares = _row_sums(p, p)
    if ((squares > 1e-280) & (squares < 1e300)).all():
        return np.sqrt(squares)
    largest = np.abs(p).max(axis=1)
    unit = np.where(largest > 0, largest, 1.0)
    lengths: FloatArray = unit * np.linalg.norm(p / unit[:, None], axis=1)
    return lengths


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the quotient, 0 where the denominator is 0."""
    quotient = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


@dataclass(frozen=True, eq=False)
class _Equation:
    """The scalar equation of each point, in v: the logit of nu / nu_max, or log nu without limit.

    1 + nu h is written as a + b e with a, b and e not negative, so that it keeps its digits for h
    near its minimum: e = 1 - h / min h with a = 1 - nu / nu_max and b = nu / nu_max where nu is
    bounded, else e = h with a = 1 and b = nu.

    Attributes
    ----------
    lowest : ndarray of shape (n,)
        Lowest curvatures.
    excess, size : ndarray of shape (n, d)
        e, and the absolute values of the gradients.
    target : ndarray of shape (n,)
        2 q0.
    centre : ndarray of shape (n,), optional
        Value at the centre.
    signs, halves : ndarray of shape (2, n, d), optional
        Where curvatures are positive, and where negative, as 0 and 1; and that over 2 abs(h).
    """

    lowest: FloatArray
    excess: FloatArray
    size: FloatArray
    target: FloatArray
    centre: FloatArray | None = None
    signs: FloatArray | None = None
    halves: FloatArray | None = None

    @classmethod
    def of(
        cls,
        h: FloatArray,
        lowest: FloatArray,
        size: FloatArray,
        target: FloatArray,
        centre: FloatArray | None,
    ) -> "_Equation":
        bounded = (lowest < 0)[:, None]
        excess = np.where(bounded, 1 - h / np.where(bounded, lowest[:, None], 1.0), h)
        if centre is None:
            return cls(lowest, excess, size, target)
        signs = np.stack([h > 0, h < 0]).astype(np.float64)
        halves = signs * (0.5 / np.where(h == 0, 1.0, np.abs(h)))
        return cls(lowest, excess, size, target, centre, signs, halves)

    def take(self, rows: npt.NDArray[np.intp]) -> "_Equation":
        """Return the equations of some points."""
        lowest, excess = self.lowest[rows], self.excess[rows]
        size, target = self.size[rows], self.target[rows]
        if self.centre is None or self.signs is None or self.halves is None:
            return _Equation(lowest, excess, size, target)
        signs, halves = self.signs[:, rows], self.halves[:, rows]
        return _Equation(lowest, excess, size, target, self.centre[rows], signs, halves)

    def multiplier(self, v: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return nu, 1 + nu h and d(log nu)/dv."""
        bounded = self.lowest < 0
        share, gap = special.expit(v), special.expit(-v)
        nu = np.where(
            bounded,
            share / np.where(bounded, -self.lowest, 1.0),
            np.exp(np.where(bounded, 0.0, v)),
        )
        stretch = self.excess * np.where(bounded, share, nu)[:, None]
        stretch += np.where(bounded, gap, 1.0)[:, None]
        return nu, stretch, np.where(bounded, gap, 1.0)

    def quotient(self, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return F / (2 q0) and d(log F)/dv, or the same of negative over positive terms of q."""
        if self.centre is None:
            curve, slope = self._dual(v)
            return curve / self.target, slope / np.maximum(curve, 1e-300)
        positive, negative, fall, rise = self._balance(v)
        positive, negative = np.maximum(positive, 1e-300), np.maximum(negative, 1e-300)
        return negative / positive, rise / negative + fall / positive

    def missing(self, v: FloatArray) -> FloatArray:
        """Return by how much twice q at nu(v) is still above 0."""
        if self.centre is None:
            return np.asarray(self.target - self._dual(v)[0])
        positive, negative, _, _ = self._balance(v)
        return np.asarray(2 * (positive - negative))

    def _dual(self, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return F(nu(v)) and its derivative."""
        nu, stretch, rate = self.multiplier(v)
        share = self.size / stretch
        share *= np.sqrt(nu)[:, None]  # before the square, which could leave the range
        share *= share
        speed = rate[:, None] / stretch
        stretch += 1
        return _row_sums(share, stretch), 2 * _row_sums(share, speed)

    def _balance(self, v: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the positive and negative terms of q(nu(v)), and how fast they fall and rise."""
        assert self.centre is not None
        assert self.signs is not None
        assert self.halves is not None
        nu, stretch, rate = self.multiplier(v)
        square = self.size / stretch
        square *= square
        positive, negative = (_row_sums(square, half) for half in self.halves)
        square *= rate[:, None] / stretch
        fall, rise = (nu * _row_sums(square, sign) for sign in self.signs)
        centre = self.centre
        return positive + np.maximum(centre, 0), negative + np.maximum(-centre, 0), fall, rise


def _row_sums(one: FloatArray, two: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", one, two))


def _newton(equation: _Equation) -> FloatArray:
    """Solve F = target by Newton's method on log F against v, safeguarded by a bracket.

    With a centre value, the negative terms of q are balanced with its positive ones instead.
    Against v log F is asymptotically linear at both ends. Rows that have converged stay where they
    are; a converged row must never reach the safeguard, whose bisection would throw it far away
    when rounding puts the last tiny step just outside the bracket.
    """
    lowest, target = equation.lowest, equation.target
    total = _row_sums(equation.size, equation.size)
    first_order = 0.5 * target / np.maximum(total, 1e-300)  # F is about 2 nu |g|^2 for small nu
    share = np.minimum(np.where(lowest < 0, -lowest * first_order, 0.0), 0.5)
    v = np.clip(
        np.where(lowest < 0, special.logit(np.maximum(share, 1e-300)), np.log(first_order)),
        _FLOOR,
        _LIMIT,
    )
    low = np.full_like(v, _FLOOR)
    high = np.full_like(v, _LIMIT)
    here, active = equation, np.arange(v.size)  # the rows that `here` holds
    moving = np.ones(v.size, dtype=bool)  # which of them have not converged
    for _ in range(_MAX_ITERATIONS):
        if 2 * moving.sum() < active.size:
            here, active = here.take(np.flatnonzero(moving)), active[moving]
            moving = np.ones(active.size, dtype=bool)
        if active.size == 0:
            return v
        at = v[active]
        quotient, slope = here.quotient(at)
        # The logarithm of the quotient keeps the digits that a difference of logarithms loses.
        excess = np.log(np.clip(quotient, 1e-300, 1e300))
        low[active] = np.where(excess < 0, at, low[active])
        high[active] = np.where(excess < 0, high[active], at)
        step = excess / np.maximum(slope, 1e-300)
        moving &= ~(
            (np.abs(excess) <= _TOLERANCE)
            | (np.abs(step) <= 5e-16 * np.maximum(np.abs(at), 8))  # the last digits of v
        )
        new = at - step
        stray = ~((new > low[active]) & (new < high[active]))  # NaN included
        new = np.where(stray, 0.5 * (low[active] + high[active]), new)
        v[active] = np.where(moving, new, at)
    raise ArithmeticError(_BADLY_SCALED)
