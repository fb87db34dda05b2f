"""The contour integral behind `quadratic_forms`: log P(Q > 0) for Q of nonpositive mean.

With K the cumulant generating function of Q, analytic up to the first singularity t_max,

    P(Q > 0) = (1 / 2 pi i) int exp(K(t)) dt / t

along any path that crosses the real axis at c in (0, t_max). At the minimum of K(c) - log c the
integrand is largest on the axis and falls away from it, so nothing cancels. The path
t(s) = c + a [tilt (cosh s - 1) + i sinh s], with a the distance to the nearest singularity, makes
the integrand analytic in a strip around real s, where the trapezoidal rule converges
geometrically. Without a constant in Q the path is vertical; a constant makes the integrand
oscillate there, so the path then bends to the side on which exp(constant t) decays.
So does a term whose own singularity is far away but whose mean is large.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from trueboundary._checks import FloatArray

LOG_2 = math.log(2)
_NEGLIGIBLE = 44.0  # the path is cut where the integrand is below exp(-44) of its peak
_BLOCK = 1 << 16  # nodes are evaluated in blocks of about this many (node, weight) pairs
_MAX_HALVINGS = 12
_CONVERGED = 1e-11  # a halving squares the relative error, so the better estimate is at 1e-22
_TILT = 0.5
_MANY_TURNS = 16.0  # of the integrand: a vertical path needs some nodes for each
_NEGLIGIBLE_TERM = 1e-20  # of a form, as a share of what it competes with
_FARTHEST = 700.0  # exp of it, and its hyperbolic functions, are float64
_LONGEST = 350.0  # and so are their squares
_TOO_NOISY = 1e-3
_NEARLY_LINEAR = 0.1
_DEEP = 1e12  # log-probabilities below minus this are not resolved to 1e-4
_OUT_OF_REACH = (
    "The tail probability is out of float64's reach: the form's terms are too large, or differ by "
    "too many orders of magnitude; leave out those that are negligible."
)


@dataclass(frozen=True)
class QuadraticForm:
    """Q = sum_i w_i chi2(degrees_i, noncentrality_i) + normal_std N(0, 1) + constant.

    The weights are distinct and nonzero.
    """

    weights: FloatArray
    degrees: FloatArray
    noncentrality: FloatArray
    normal_std: float = 0.0
    constant: float = 0.0

    @property
    def mean(self) -> float:
        """Expectation of Q."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.weights @ (self.degrees + self.noncentrality)) + self.constant

    def negated(self) -> "QuadraticForm":
        """Return the form -Q."""
        return QuadraticForm(
            -self.weights, self.degrees, self.noncentrality, self.normal_std, -self.constant
        )

    def normalised(self) -> "QuadraticForm":
        """Return the form divided by a power of two, so that its largest term is about 1.

        The sign of Q does not depend on its scale, and a power of two rounds nothing. Terms that
        underflow are left out where they cannot matter, beside both the largest positive and the
        largest negative term.
        """
        terms = np.concatenate([self.weights, [self.constant, self.normal_std]])
        exponent = math.frexp(float(np.abs(terms).max()))[1]
        scaled = np.ldexp(terms, -exponent)
        lost = (terms != 0) & (np.abs(scaled) < np.finfo(np.float64).tiny)
        if lost.any():
            up = max(float(terms.max()), self.normal_std)
            down = max(-float(terms.min()), self.normal_std)
            if (np.abs(terms[lost]) > _NEGLIGIBLE_TERM * min(up, down)).any():
                raise ValueError(
                    "the form's positive and negative terms must be within 300 orders of "
                    f"magnitude of one another, got {up:g} and {down:g}."
                )
            scaled[lost] = 0.0
        kept = scaled[:-2] != 0
        form = QuadraticForm(
            scaled[:-2][kept],
            self.degrees[kept],
            self.noncentrality[kept],
            float(scaled[-1]),
            float(scaled[-2]),
        )
        if not math.isfinite(form.mean):
            raise ValueError("degrees and noncentralities must have a finite sum.")
        return form

    def certain(self) -> float | None:
        """Return log P(Q > 0) where the signs alone make it 0 or -inf, else None."""
        if self.normal_std > 0:
            return None
        if self.weights.max(initial=0.0) <= 0 and self.constant <= 0:
            return -math.inf
        if self.weights.min(initial=0.0) >= 0 and self.constant >= 0:
            return 0.0
        return None

    def point(self, v: float) -> "Point":
        """Return the point c of (0, t_max) with the coordinate v.

        It is t_max / (1 + exp(-v)), or exp(v) where t_max is infinite.
        """
        highest = float(self.weights.max(initial=0.0))
        if highest <= 0:
            c, reach = math.exp(v), 1.0
            products = c * self.weights
            ratios = 1 - 2 * products
        else:
            share, gap = float(special.expit(v)), float(special.expit(-v))
            c, reach = 0.5 / highest * share, min(1.0, gap / share)
            relative = self.weights / highest
            products = 0.5 * share * relative
            # 1 - share * relative would lose its digits for weights near the largest one.
            ratios = np.where(relative > 0, (1 - relative) + gap * relative, 1 - share * relative)
        return Point(
            self, c, reach, products, ratios, c * self.normal_std, c * self.constant
        )  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A point c of (0, t_max), with products that stay in range where c itself is extreme."""

    form: QuadraticForm
    c: float
    reach: float  # distance to the nearest singularity, in units of c
    products: FloatArray  # c w_i
    ratios: FloatArray  # 1 - 2 c w_i
    normal: float  # c times the normal term's standard deviation
    constant: float  # c times the constant

    @property
    def cgf(self) -> float:
        """K(c)."""
        form = self.form
        small = np.abs(self.products) < 0.25  # there 1 - 2 c w has lost digits of c w
        logs = np.where(
            small, np.log1p(-2 * np.where(small, self.products, 0)), np.log(self.ratios)
        )
        central = -0.5 * float(form.degrees @ logs)
        shifted = float(form.noncentrality @ (self.products / self.ratios))
        return central + shifted + 0.5 * self.normal * self.normal + self.constant

    @property
    def rounding(self) -> float:
        """What the rounding of the terms of K(c), which may cancel, amounts to."""
        form = self.form
        sizes = np.abs(self.products / self.ratios)
        terms = float(sizes @ (form.degrees + form.noncentrality))
        return float(np.finfo(np.float64).eps) * (
            terms + self.normal * self.normal + abs(self.constant)
        )

    @property
    def slope(self) -> float:
        """The product c K'(c)."""
        form = self.form
        with np.errstate(over="ignore"):
            scaled = self.products / self.ratios
            total = float(scaled @ (form.degrees + form.noncentrality / self.ratios))
        return total + self.normal * self.normal + self.constant

    @property
    def drift(self) -> float:
        """The part of c K'(c) that is nearly constant up to the singularity."""
        linear = np.abs(self.factors) < _NEARLY_LINEAR
        share = (self.products / self.ratios)[linear]
        form = self.form
        means = (form.degrees + form.noncentrality / self.ratios)[linear]
        return float(share @ means) + self.constant

    @property
    def spread(self) -> float:
        """The product of c sqrt(K''(c)) and the reach."""
        form = self.form
        squares = 0.5 * self.factors**2
        total = float(squares @ (form.degrees + 2 * form.noncentrality / self.ratios))
        return math.hypot(math.sqrt(total), self.reach * self.normal)

    @property
    def factors(self) -> FloatArray:
        """The i-th ratio changes by this share of itself over the distance to the singularity."""
        factors: FloatArray = -2 * self.reach * (self.products / self.ratios)
        return factors


@dataclass(frozen=True)
class Contour:
    """The path t(s) = c (1 + reach [tilt (cosh s - 1) + i sinh s]) and the rule's step on it."""

    point: Point
    tilt: float
    step: float
    n_steps: int


def log_upper_tail(form: QuadraticForm) -> float:
    """Return log P(Q > 0), by the smaller of the two tails."""
    certain = form.certain()
    if certain is not None:
        return certain
    form = form.normalised()
    if form.mean > 0:  # then P(Q > 0) is not small, and the complement keeps its digits
        return log1mexp(_log_tail_by_contour(form.negated()))
    return _log_tail_by_contour(form)


def log1mexp(value: float) -> float:
    """Return log(1 - exp(value)) for value <= 0."""
    if value >= 0:
        return -math.inf
    return math.log(-math.expm1(value)) if value > -LOG_2 else 0.0 + math.log1p(-math.exp(value))


def contour_of(form: QuadraticForm) -> Contour:
    """Return the vertical path and the step at which the integral of `form` has converged."""
    return _integral(solve_increasing(form, 1.0), 0.0)[1]


def solve_increasing(form: QuadraticForm, target: float) -> Point:
    """Return the point where c K'(c) = target; target 1 is the saddle point of exp(K)/t.

    With target 0 it is the saddle point of exp(K) alone (for a form of negative mean).
    """

    def excess(v: float) -> float:  # on a scale on which hundreds of orders of magnitude are near
        return math.asinh(min(form.point(v).slope - target, 1e300))

    magnitude = float(np.abs(form.weights) @ (form.degrees + form.noncentrality))
    magnitude += form.normal_std + abs(form.constant)
    start = -math.log(magnitude) if form.weights.max(initial=0.0) <= 0 else 0.0
    low = high = max(-_FARTHEST, min(_FARTHEST, start))
    stride = 1.0
    while excess(high) < 0 and high < _FARTHEST:
        low, high, stride = high, min(high + stride, _FARTHEST), 2 * stride
    while excess(low) >= 0 and low > -_FARTHEST:
        high, low, stride = low, max(low - stride, -_FARTHEST), 2 * stride
    if not excess(low) < 0 <= excess(high):
        raise ArithmeticError(_OUT_OF_REACH)
    v = float(optimize.brentq(excess, low, high, xtol=1e-15, rtol=1e-15, maxiter=1000))
    return form.point(v)


def _log_tail_by_contour(form: QuadraticForm) -> float:
    """Return log P(Q > 0) for a form of nonpositive mean."""
    point = solve_increasing(form, 1.0)
    if point.rounding > _TOO_NOISY * max(1.0, abs(point.cgf)):
        raise ArithmeticError(_OUT_OF_REACH)
    if _noise(point) > _TOO_NOISY and point.cgf < -_DEEP:
        # Laplace's approximation is off by a few percent, less than the rounding of log P itself.
        spread = math.hypot(point.spread / point.reach, 1)
        return point.cgf - math.log(math.sqrt(2 * math.pi) * spread)
    bent = -math.copysign(_TILT, point.drift)
    first = -math.copysign(_TILT, form.constant) if form.constant != 0 else 0.0
    if first == 0 and _turns(point) > _MANY_TURNS:
        first, bent = bent, first
    if bent != first:
        try:
            return _integral(point, first)[0]
        except ArithmeticError:  # a term far below the others can act like a constant
            pass
    return _integral(point, bent)[0]


def _turns(point: Point) -> float:
    """Return how often the drift turns the integrand round on the vertical path.

    Many terms of which none is near its singularity turn it at a constant rate while hardly making
    it smaller, the more of them the longer; on the path that bends they make it vanish.
    """
    vertical = Contour(point, 0.0, _first_step(point), 0)
    end = _cutoff(vertical, 4 * vertical.step)
    return abs(point.reach * point.drift) * math.sinh(end) / (2 * math.pi)


def _integral(point: Point, tilt: float) -> tuple[float, Contour]:
    """Integrate by the trapezoidal rule, halving the step until two estimates agree."""
    noise = _noise(point)
    if noise > _TOO_NOISY:
        raise ArithmeticError(_OUT_OF_REACH)
    step = _first_step(point)
    path = Contour(point, tilt, step, 0)
    n_steps = math.ceil(_cutoff(path, 4 * step) / step)
    total = 0.5 * _sum_of_nodes(path, np.zeros(1))
    total += _sum_of_nodes(path, step * np.arange(1, n_steps + 1, dtype=np.float64))
    for _ in range(_MAX_HALVINGS):
        if not math.isfinite(total):
            break
        previous = step * total
        total += _sum_of_nodes(path, step * (np.arange(n_steps, dtype=np.float64) + 0.5))
        step, n_steps = 0.5 * step, 2 * n_steps
        if abs(step * total - previous) <= max(_CONVERGED, noise) * abs(step * total):
            value = point.cgf + math.log(step * total / math.pi)
            return value, Contour(point, tilt, step, n_steps)
    raise ArithmeticError(_OUT_OF_REACH)


def _first_step(point: Point) -> float:
    """Return the width of the integrand's peak, or 1/2 if it is wider."""
    return min(0.5, 1 / math.hypot(point.spread, point.reach))


def _noise(point: Point) -> float:
    """Return what the rounding of the terms of the phase amounts to within a step.

    Terms of the sizes of the degrees and noncentralities cancel there.
    """
    form = point.form
    terms = 0.5 * float(np.abs(point.factors) @ (form.degrees + form.noncentrality / point.ratios))
    terms += point.reach * (point.normal * point.normal + abs(point.constant))
    return 32 * float(np.finfo(np.float64).eps) * terms * _first_step(point)


def _cutoff(path: Contour, start: float) -> float:
    """Return an s beyond which the integrand is negligible."""
    s = start
    peak = float(_log_polar(path, np.zeros(1))[0][0])
    while s < _LONGEST:
        log_magnitude = float(_log_polar(path, np.array([s]))[0][0])
        if log_magnitude < peak - _NEGLIGIBLE:
            return s
        peak = max(peak, log_magnitude)
        s *= 1.25
    return _LONGEST


def _sum_of_nodes(path: Contour, nodes: FloatArray) -> float:
    """Return the sum of Im[exp(K(t) - K(c)) t'(s) / t(s)] over the nodes."""
    block = max(1, _BLOCK // max(path.point.ratios.size, 1))
    total = 0.0
    for first in range(0, nodes.size, block):
        log_magnitude, phase = _log_polar(path, nodes[first : first + block])
        with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for it
            total += float(np.sum(np.exp(log_magnitude) * np.sin(phase)))
    return total


def _log_polar(path: Contour, nodes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log modulus and argument of exp(K(t) - K(c)) t'(s) / t(s) at each node.

    Every factor 1 - 2 t w_i stays in one half plane along the path, so its principal logarithm is
    the right one; the logarithm of their product would not be.
    """
    point, form = path.point, path.point.form
    # Everything is measured in units of the path's scale, so that nothing leaves the range.
    sinh, cosh = np.sinh(nodes), np.cosh(nodes)
    real = path.tilt * 2 * np.sinh(0.5 * nodes) ** 2  # (t - c) / scale
    # (1 - 2 t w) / (1 - 2 c w) = 1 + z with z = factor (t - c) / scale
    factors = point.factors
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
        shift = 0.5 * form.noncentrality / point.ratios
        along = np.multiply.outer(real, factors) + np.multiply.outer(real**2 + sinh**2, factors**2)
        log_modulus -= (along / (1 + square)) @ shift
        phase -= (z_imaginary / (1 + square)) @ shift
    slope = point.reach * (point.normal * point.normal + point.constant)
    curvature = float(np.square(point.reach * point.normal))
    log_modulus += slope * real + 0.5 * curvature * (real**2 - sinh**2)
    phase += slope * sinh + curvature * real * sinh
    crossing = 1 / point.reach
    log_modulus += np.log(np.hypot(path.tilt * sinh, cosh) / np.hypot(crossing + real, sinh))
    phase += np.arctan2(cosh, path.tilt * sinh) - np.arctan2(sinh, crossing + real)
    return log_modulus, phase
