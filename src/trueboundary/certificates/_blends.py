r"""Weighted means of own log densities against one of the other class.

An error for which component j of the other class is at least as likely as every own component k
also has :math:`b_j \ge \sum_k v_k a_k` for all weights v, so that the distance to where that holds
is a lower bound for every v; the best v is the Lagrangian dual of the distance to the intersection.
At the best v the projection has equal :math:`a_k` for all k of positive weight, and if no other is
larger, the projection is itself an error and the bound exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trueboundary.certificates.base import BoolArray, FloatArray
from trueboundary.certificates.quadric import project_quadric
from trueboundary.theory.log_ratios import ROUNDING, LowRankNormal, outside, span_frame

__all__ = ["Blend", "Expansion", "balance"]

_N_STEPS = 24
_N_ROUNDS, _N_NEWTON = 3, 6
_TIED = 1e-10


@dataclass(frozen=True, eq=False)
class Expansion:
    """Joint log densities around points, as quadratics in the same few coordinates per point.

    The first axis counts points, the second components, own ones first and the other one last. The
    last coordinate leads away from the span of the components, and has a curvature of its own.

    Attributes
    ----------
    value : ndarray of shape (n, s)
        Values at the points.
    gradient : ndarray of shape (n, s, m + 1)
        Gradients.
    hessian : ndarray of shape (n, s, m, m)
        Second derivatives within the span.
    outer : ndarray of shape (n, s)
        Second derivatives outside it.
    frame : ndarray of shape (n, d, m + 1)
        Orthonormal directions of the coordinates.
    """

    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    outer: FloatArray
    frame: FloatArray

    @classmethod
    def at(
        cls, x: FloatArray, values: FloatArray, components: Sequence[Sequence[LowRankNormal]]
    ) -> Expansion:
        """Expand the components of each point around it; their number is the same for all."""
        parts = [_expand(*args) for args in zip(x, components, strict=True)]
        gradient, hessian, outer, frame = (np.stack(p) for p in zip(*parts, strict=True))
        return cls(values, gradient, hessian, outer, frame)

    def take(self, rows: BoolArray) -> Expansion:
        """Return some of the points."""
        return Expansion(*(part[rows] for part in vars(self).values()))

    def at_steps(self, step: FloatArray) -> FloatArray:
        """Return the log densities (n, s) after steps (n, m + 1)."""
        inner = step[:, :-1]
        bent = np.einsum("ni,nsij,nj->ns", inner, self.hessian, inner)
        linear = np.einsum("nsi,ni->ns", self.gradient, step)
        values: FloatArray = self.value + linear + 0.5 * (bent + self.outer * step[:, -1:] ** 2)
        return values


@dataclass(frozen=True, eq=False)
class Blend:
    """The function sum_k v_k a_k - b in its own eigencoordinates, and its nearest boundary point.

    Attributes
    ----------
    curvature, gradient : ndarray of shape (n, m + 1)
        Eigenvalues, and gradients at the points.
    value, distance : ndarray of shape (n,)
        Values at the points; distances to where the function is not positive.
    step : ndarray of shape (n, m + 1)
        Projections in the coordinates of the expansion.
    multiplier : ndarray of shape (n,)
        Their multipliers.
    """

    curvature: FloatArray
    gradient: FloatArray
    value: FloatArray
    distance: FloatArray
    step: FloatArray
    multiplier: FloatArray

    @classmethod
    def of(
        cls, expansion: Expansion, weights: FloatArray, bonus: FloatArray | float = 0.0
    ) -> Blend:
        """Blend with weights (n, s - 1) of the own components, and add what is given."""
        factors = np.column_stack([weights, -np.ones(len(weights))])
        largest = np.abs(factors[:, :, None, None] * expansion.hessian).max(axis=(1, 2, 3))[:, None]
        hessian = np.einsum("ns,nsij->nij", factors, expansion.hessian)
        inner, rotation = np.linalg.eigh(hessian)
        outer = (factors * expansion.outer).sum(axis=1)
        curvature = np.column_stack([inner, outer])
        curvature[np.abs(curvature) < ROUNDING * largest] = 0.0
        slope = np.einsum("ns,nsi->ni", factors, expansion.gradient)
        gradient = slope.copy()
        gradient[:, :-1] = np.einsum("nij,ni->nj", rotation, slope[:, :-1])
        value = (factors * expansion.value).sum(axis=1) + bonus
        found = project_quadric(curvature, gradient, value)
        step = found.displacement.copy()
        step[:, :-1] = np.einsum("nij,nj->ni", rotation, step[:, :-1])
        return cls(curvature, gradient, value, found.distance, step, found.multiplier)

    def replaced(self, rows: BoolArray, new: Blend) -> Blend:
        """Return these with the chosen points taken from `new`, which holds only those."""
        out = Blend(*(part.copy() for part in vars(self).values()))
        for name, part in vars(new).items():
            getattr(out, name)[rows] = part
        return out


def balance(expansion: Expansion, weights: FloatArray) -> tuple[Blend, FloatArray]:
    """Bring in the last own component, whose weight is 0, so that the distance becomes largest.

    There the projection p has equal log densities c_k = a_k - b = 0 of all own components of
    positive weight, and p + sum_k l_k grad c_k(p) = 0 with multipliers l that are proportional to
    the weights: Newton's method finds both together, and components of negative multipliers are
    left out. Whatever it finds is only a proposal: the distance is that of the blend with the
    weights, which proves it.
    """
    before = Blend.of(expansion, weights)
    proposed = _tied_weights(expansion, before, weights)
    usable = np.isfinite(proposed).all(axis=1) & (proposed.sum(axis=1) > 0)
    after = np.where(usable[:, None], proposed, weights)
    after /= after.sum(axis=1, keepdims=True)
    blend = Blend.of(expansion, after)
    own = expansion.at_steps(np.nan_to_num(blend.step))[:, :-1]
    level = (after * own).sum(axis=1)
    tied = own.max(axis=1) - level <= _TIED * (1 + np.abs(level))
    settled = usable & tied & (blend.distance > before.distance)
    if not settled.all():
        rest = ~settled
        other, after[rest] = shift_weight(expansion.take(rest), weights[rest])
        blend = blend.replaced(rest, other)
    return blend, after


def _tied_weights(expansion: Expansion, start: Blend, weights: FloatArray) -> FloatArray:
    """Return multipliers (n, s - 1) at which all own components of positive ones tie."""
    n, n_own = weights.shape
    size = start.step.shape[1]
    value = expansion.value[:, :-1] - expansion.value[:, -1:]
    gradient = expansion.gradient[:, :-1] - expansion.gradient[:, -1:]
    hessian = np.zeros((n, n_own, size, size))
    hessian[:, :, :-1, :-1] = expansion.hessian[:, :-1] - expansion.hessian[:, -1:]
    hessian[:, :, -1, -1] = expansion.outer[:, :-1] - expansion.outer[:, -1:]
    step = np.nan_to_num(start.step)
    multiplier = np.nan_to_num(start.multiplier, posinf=0.0)[:, None] * weights
    free = np.ones((n, n_own), dtype=bool)
    system = np.zeros((n, size + n_own, size + n_own))
    inner, outer = np.arange(size), np.arange(size, size + n_own)
    for _ in range(_N_ROUNDS):
        for _ in range(_N_NEWTON):
            bent = np.einsum("nsij,nj->nsi", hessian, step)
            slope = np.where(free[:, :, None], gradient + bent, 0.0)
            lead = value + np.einsum("nsi,ni->ns", gradient + 0.5 * bent, step)
            system[:, :size, :size] = np.einsum("ns,nsij->nij", multiplier, hessian)
            system[:, inner, inner] += 1.0
            system[:, :size, size:] = slope.transpose(0, 2, 1)
            system[:, size:, :size] = slope
            system[:, outer, outer] = ~free
            off = step + np.einsum("ns,nsi->ni", multiplier, slope)
            right = np.concatenate([off, np.where(free, lead, multiplier)], axis=1)
            try:
                move = np.linalg.solve(system, -right[:, :, None])[:, :, 0]
            except np.linalg.LinAlgError:
                return np.full_like(weights, np.nan)
            step, multiplier = step + move[:, :size], multiplier + move[:, size:]
        worst = multiplier.min(axis=1) < 0
        if not worst.any():
            break
        free[worst, multiplier[worst].argmin(axis=1)] = False
        multiplier[~free] = 0.0
    return np.maximum(multiplier, 0.0)


def shift_weight(expansion: Expansion, weights: FloatArray) -> tuple[Blend, FloatArray]:
    """Shift weight from present weights to the last own component, to the largest distance.

    Of the s - 1 own components of the expansion the last has no weight yet; the present weights
    ``(n, s - 1)`` add up to one. Returned are the blend at the best share of the last component,
    where it is as likely at the projection as the rest, and its weights ``(n, s - 1)``: the share
    lies between 0, where it is likelier, and 1, and bisection and secants in turn find it.
    """
    n = len(weights)
    last = np.zeros(weights.shape[1])
    last[-1] = 1.0

    def shares(rows: BoolArray, share: FloatArray) -> tuple[Blend, FloatArray]:
        """Return blends, and by how much the last component leads the others there."""
        part = expansion.take(rows)
        old = weights[rows]
        blend = Blend.of(part, old + share[:, None] * (last - old))
        own = part.at_steps(np.nan_to_num(blend.step))[:, :-1]
        return blend, own[:, -1] - (old * own).sum(axis=1)

    everyone = np.ones(n, dtype=bool)
    low, high = np.zeros(n), np.ones(n)
    lead_low = shares(everyone, low)[1]
    best, lead_high = shares(everyone, high)
    best_share, best_lead = high.copy(), np.abs(lead_high)
    open_rows = lead_high < 0
    for i in range(_N_STEPS):
        rows = open_rows & (high - low > 1e-15)
        if not rows.any():
            break
        middle = 0.5 * (low + high)
        if i % 2:
            drop = np.where(rows, lead_low - lead_high, 1.0)
            secant = low + (high - low) * lead_low / np.where(drop > 0, drop, 1.0)
            middle = np.where((secant > low) & (secant < high), secant, middle)
        blend, lead = shares(rows, middle[rows])
        closer = np.abs(lead) < best_lead[rows]
        improved = np.flatnonzero(rows)[closer]
        chosen = np.zeros(n, dtype=bool)
        chosen[improved] = True
        picked = Blend(*(part[closer] for part in vars(blend).values()))
        best = best.replaced(chosen, picked)
        best_share[improved], best_lead[improved] = middle[improved], np.abs(lead[closer])
        above = np.zeros(n, dtype=bool)
        above[rows] = lead > 0
        full_lead = np.zeros(n)
        full_lead[rows] = lead
        below = rows & ~above
        low, lead_low = np.where(above, middle, low), np.where(above, full_lead, lead_low)
        high, lead_high = np.where(below, middle, high), np.where(below, full_lead, lead_high)
    return best, weights + best_share[:, None] * (last - weights)


def _expand(
    x: FloatArray, components: Sequence[LowRankNormal]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return gradients, Hessians, outer curvatures and the frame at one point."""
    span = span_frame(components)
    fills_space = span.shape[0] == span.shape[1]
    aside = x - components[0].mean
    for _ in range(2):  # twice, since what remains can be small
        aside = aside - span @ (span.T @ aside)
    outer_length = 0.0 if fills_space else float(np.linalg.norm(aside))
    gradients, hessians, outer = [], [], []
    for normal in components:
        pull = normal.precision_times((x - normal.mean)[:, None])[:, 0]
        precision = 0.0 if fills_space else 1 / float(normal.noise_variance[0])
        hessians.append(-normal.precision_within(span))
        gradients.append(np.append(-span.T @ pull, -precision * outer_length))
        outer.append(-precision)
    if fills_space:  # a last coordinate that nothing depends on
        direction = np.zeros_like(x)
    else:
        direction = aside / outer_length if outer_length > 0 else outside(span)
    return (
        np.array(gradients),
        np.array(hessians),
        np.array(outer),
        np.column_stack([span, direction]),
    )
