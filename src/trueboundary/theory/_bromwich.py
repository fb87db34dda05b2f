"""The contour integral behind `quadratic_forms`: log P(Q > 0) for Q of nonpositive mean.

With K the cumulant generating function of Q, analytic up to the first singularity t_max,

    P(Q > 0) = (1 / 2 pi i) int exp(K(t)) dt / t

along any path that crosses the real axis at c in (0, t_max). At the minimum of K(c) - log c the
integrand is largest on the axis and falls away from it, so nothing cancels. The path
t(s) = c + a [tilt (cosh s - 1) + i sinh s], with a the distance to the nearest singularity, makes
the integrand analytic in a strip around real s, where the trapezoidal rule converges
geometrically. Without a constant in Q the path is vertical; a constant makes the integrand
oscillate there, so the path then bends to the side on which exp(constant t) decays.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from trueboundary.theory._checks import FloatArray

LOG_2 = math.log(2)
_NEGLIGIBLE = 44.0  # the path is cut where the integrand is below exp(-44) of its peak
_BLOCK = 1 << 16  # nodes are evaluated in blocks of about this many (node, weight) pairs
_MAX_HALVINGS = 18
_CONVERGED = 1e-11  # a halving squares the relative error, so the better estimate is at 1e-22
_TILT = 0.5


@dataclass(frozen=True)
class QuadraticForm:
    """Q = sum_i w_i chi2(degrees_i, noncentrality_i) + sqrt(normal_variance) N(0, 1) + constant.

    The weights are distinct and nonzero.
    """

    weights: FloatArray
    degrees: FloatArray
    noncentrality: FloatArray
    normal_variance: float = 0.0
    constant: float = 0.0

    @property
    def mean(self) -> float:
        """Expectation of Q."""
        return float(self.weights @ (self.degrees + self.noncentrality)) + self.constant

    def negated(self) -> "QuadraticForm":
        """Return the form -Q."""
        return QuadraticForm(
            -self.weights, self.degrees, self.noncentrality, self.normal_variance, -self.constant
        )

    def certain(self) -> float | None:
        """Return log P(Q > 0) where the signs alone make it 0 or -inf, else None."""
        if self.normal_variance > 0:
            return None
        if self.weights.max(initial=0.0) <= 0 and self.constant <= 0:
            return -math.inf
        if self.weights.min(initial=0.0) >= 0 and self.constant >= 0:
            return 0.0
        return None

    def ratios(self, v: float) -> tuple[float, FloatArray, float]:
        """Return c, 1 - 2 c w_i and the distance from c to the nearest singularity.

        The point c of (0, t_max) is t_max / (1 + exp(-v)), or exp(v) where t_max is infinite.
        """
        highest = float(self.weights.max(initial=0.0))
        if highest <= 0:
            c = math.exp(v)
            return c, 1 - 2 * c * self.weights, c
        share, gap = float(special.expit(v)), float(special.expit(-v))
        relative = self.weights / highest
        # 1 - share * relative would lose its digits for weights near the largest one.
        ratios = np.where(relative > 0, (1 - relative) + gap * relative, 1 - share * relative)
        t_max = 0.5 / highest
        return t_max * share, ratios, t_max * min(share, gap)

    def cgf(self, c: float, ratios: FloatArray) -> float:
        """Return K(c)."""
        central = -0.5 * float(self.degrees @ np.log(ratios))
        shifted = c * float(self.noncentrality @ (self.weights / ratios))
        return central + shifted + c * (0.5 * self.normal_variance * c + self.constant)

    def cgf_slope(self, c: float, ratios: FloatArray) -> float:
        """Return K'(c)."""
        scaled = self.weights / ratios
        total = float(scaled @ (self.degrees + self.noncentrality / ratios))
        return total + self.normal_variance * c + self.constant

    def cgf_curvature(self, ratios: FloatArray) -> float:
        """Return K''(c)."""
        squares = (self.weights / ratios) ** 2
        total = 2 * float(squares @ (self.degrees + 2 * self.noncentrality / ratios))
        return total + self.normal_variance


@dataclass(frozen=True)
class Contour:
    """The path t(s) = c + scale [tilt (cosh s - 1) + i sinh s] and the step of the rule on it."""

    c: float
    ratios: FloatArray  # 1 - 2 c w_i
    scale: float
    tilt: float
    step: float
    n_steps: int


def log_upper_tail(form: QuadraticForm) -> float:
    """Return log P(Q > 0), by the smaller of the two tails."""
    certain = form.certain()
    if certain is not None:
        return certain
    if form.mean > 0:  # then P(Q > 0) is not small, and the complement keeps its digits
        return log1mexp(_log_tail_by_contour(form.negated())[0])
    return _log_tail_by_contour(form)[0]


def log1mexp(value: float) -> float:
    """Return log(1 - exp(value)) for value <= 0."""
    if value >= 0:
        return -math.inf
    return math.log(-math.expm1(value)) if value > -LOG_2 else math.log1p(-math.exp(value))


def contour_of(form: QuadraticForm) -> Contour:
    """Return the path and the step at which the integral of `form` has converged."""
    return _log_tail_by_contour(form)[1]


def solve_increasing(form: QuadraticForm, target: float) -> tuple[float, FloatArray, float]:
    """Return c, ratios and scale where c K'(c) = target; target 1 is the saddle point of exp(K)/t.

    With target 0 it is the saddle point of exp(K) alone (for a form of negative mean).
    """

    def excess(v: float) -> float:
        c, ratios, _ = form.ratios(v)
        return c * form.cgf_slope(c, ratios) - target

    magnitude = float(np.abs(form.weights) @ (form.degrees + form.noncentrality))
    magnitude += math.sqrt(form.normal_variance) + abs(form.constant)
    start = -math.log(magnitude) if form.weights.max(initial=0.0) <= 0 else 0.0
    low = high = start
    stride = 1.0
    while excess(high) < 0:
        low, high, stride = high, high + stride, 2 * stride
    while excess(low) >= 0:
        high, low, stride = low, low - stride, 2 * stride
    v = float(optimize.brentq(excess, low, high, xtol=1e-10, rtol=1e-12))
    return form.ratios(v)


def _log_tail_by_contour(form: QuadraticForm) -> tuple[float, Contour]:
    """Integrate by the trapezoidal rule, halving the step until two estimates agree."""
    c, ratios, scale = solve_increasing(form, 1.0)
    tilt = -math.copysign(_TILT, form.constant) if form.constant != 0 else 0.0
    width = 1 / math.hypot(scale * math.sqrt(form.cgf_curvature(ratios)), scale / c)
    step = min(0.5, width)
    path = Contour(c, ratios, scale, tilt, step, 0)
    n_steps = math.ceil(_cutoff(form, path, 4 * step) / step)
    total = 0.5 * _sum_of_nodes(form, path, np.zeros(1))
    total += _sum_of_nodes(form, path, step * np.arange(1, n_steps + 1, dtype=np.float64))
    for _ in range(_MAX_HALVINGS):
        previous = step * total
        total += _sum_of_nodes(form, path, step * (np.arange(n_steps, dtype=np.float64) + 0.5))
        step, n_steps = 0.5 * step, 2 * n_steps
        if abs(step * total - previous) <= _CONVERGED * abs(step * total):
            value = form.cgf(c, ratios) + math.log(step * total / math.pi)
            return value, Contour(c, ratios, scale, tilt, step, n_steps)
    raise ArithmeticError(
        "The contour integral did not converge: the weights may differ by too many orders of "
        "magnitude; try leaving out those that are negligible."
    )


def _cutoff(form: QuadraticForm, path: Contour, start: float) -> float:
    """Return an s beyond which the integrand is negligible."""
    s = start
    peak = float(_log_polar(form, path, np.zeros(1))[0][0])
    while True:
        log_magnitude = float(_log_polar(form, path, np.array([s]))[0][0])
        if log_magnitude < peak - _NEGLIGIBLE:
            return s
        peak = max(peak, log_magnitude)
        s *= 1.25


def _sum_of_nodes(form: QuadraticForm, path: Contour, nodes: FloatArray) -> float:
    """Return the sum of Im[exp(K(t) - K(c)) t'(s) / t(s)] over the nodes."""
    block = max(1, _BLOCK // max(form.weights.size, 1))
    total = 0.0
    for first in range(0, nodes.size, block):
        log_magnitude, phase = _log_polar(form, path, nodes[first : first + block])
        total += float(np.sum(np.exp(log_magnitude) * np.sin(phase)))
    return total


def _log_polar(
    form: QuadraticForm, path: Contour, nodes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return log modulus and argument of exp(K(t) - K(c)) t'(s) / t(s) at each node.

    Every factor 1 - 2 t w_i stays in one half plane along the path, so its principal logarithm is
    the right one; the logarithm of their product would not be.
    """
    # Everything is measured in units of the path's scale, so that nothing leaves the range.
    sinh, cosh = np.sinh(nodes), np.cosh(nodes)
    real = path.tilt * 2 * np.sinh(0.5 * nodes) ** 2  # (t - c) / scale
    # (1 - 2 t w) / (1 - 2 c w) = 1 + z with z = factor (t - c) / scale
    factors = -2 * path.scale * form.weights / path.ratios
    z_imaginary = np.multiply.outer(sinh, factors)
    if path.tilt:
        z_real = np.multiply.outer(real, factors)
        square = z_real * (2 + z_real) + z_imaginary**2  # |1 + z|^2 - 1
        argument = np.arctan2(z_imaginary, 1 + z_real)
    else:
        square = z_imaginary**2
        argument = np.arctan(z_imaginary)
    log_modulus = -0.25 * (np.log1p(square) @ form.degrees)
    phase = -0.5 * (argument @ form.degrees)
    if form.noncentrality.any():
        shift = 0.5 * form.noncentrality / path.ratios
        along = np.multiply.outer(real, factors) + np.multiply.outer(real**2 + sinh**2, factors**2)
        log_modulus -= (along / (1 + square)) @ shift
        phase -= (z_imaginary / (1 + square)) @ shift
    slope = path.scale * (form.normal_variance * path.c + form.constant)
    curvature = path.scale**2 * form.normal_variance if form.normal_variance > 0 else 0.0
    log_modulus += slope * real + 0.5 * curvature * (real**2 - sinh**2)
    phase += slope * sinh + curvature * real * sinh
    crossing = path.c / path.scale
    log_modulus += np.log(np.hypot(path.tilt * sinh, cosh) / np.hypot(crossing + real, sinh))
    phase += np.arctan2(cosh, path.tilt * sinh) - np.arctan2(sinh, crossing + real)
    return log_modulus, phase
