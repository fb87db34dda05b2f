"""Pairwise distances between points and the components of mixtures.

A point of one class is held against the components of all other classes at once: an error of the
most likely component's rule has some component of any of them above all own ones. Where sums over
components decide, each other class has its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special

from trueboundary.certificates._blends import Blend, Expansion, balance
from trueboundary.certificates.base import BoolArray, FloatArray
from trueboundary.certificates.mixture_bounds import (
    _Components,
    _Prepared,
    log_sum_exp,
    pairwise_radius,
    prepare,
    require_mixtures,
    require_same_odds,
)
from trueboundary.certificates.quadric import project_quadric
from trueboundary.certificates.trust_region import trust_region_minimum
from trueboundary.theory.log_ratios import LogRatio, LowRankNormal, log_ratio

__all__ = ["BLOCK", "Against", "Classes", "IntArray", "PairSearch"]

IntArray = npt.NDArray[np.intp]

BLOCK = 1024  # points at once
_CACHE_NUMBERS = 1 << 27  # numbers that the kept eigenbases of pairs may fill: 1 GiB
_BISECTIONS = 48
_NEGLIGIBLE = 45.0  # nats: 25 components that far below add 1e-18 to a sum that is held below 1
_TIE = 1e-9  # relative difference of log densities that is taken for rounding
_LEAST_SHARE = 1e-9  # weights below this are left out of a blend
_LARGEST_BLEND = 160  # coordinates; larger eigenproblems at every step would cost too much
_BLEND_NUMBERS = 1 << 22  # numbers in the Hessians that are worked on at once
_NEAR = 2.0  # times the nearest: boundaries beyond matter little to sums over components
_N_SHIFTS = 8  # how often weight is shifted between own components, at each point and rival


@dataclass(eq=False)
class Classes:
    """All classes in float64: densities, and the quadratic functions of pairs of components.

    Components are numbered through all classes, those of class c from ``first[c]`` on.
    """

    sides: tuple[_Prepared, ...]
    normals: tuple[list[LowRankNormal], ...]
    hardest_component: bool
    kept: dict[tuple[int, int], LogRatio] = field(default_factory=dict)

    @classmethod
    def build(cls, classifier: Any, user: str) -> Classes:
        """Prepare a BayesOptimal classifier, or say what `user` needs instead."""
        require_mixtures(classifier, user)
        sides = prepare(classifier)
        return cls(sides, tuple(map(_normals, sides)), classifier.hardest_component)

    def check_outputs(self, classifier: Any, x: FloatArray, user: str) -> None:
        """Raise if the classifier's outputs at points are not those of the components."""
        for start in range(0, len(x), BLOCK):
            points = x[start : start + BLOCK]
            require_same_odds(classifier, points, [side.at(points) for side in self.sides], user)

    @property
    def n_classes(self) -> int:
        return len(self.sides)

    @cached_property
    def first(self) -> IntArray:
        """Number of the first component of each class."""
        return np.cumsum([0, *(len(side.peak) for side in self.sides)])

    @cached_property
    def all_normals(self) -> list[LowRankNormal]:
        return [normal for of_class in self.normals for normal in of_class]

    @cached_property
    def offsets(self) -> FloatArray:
        """Log weights and log priors of all components."""
        return np.concatenate([side.peak - side.centre for side in self.sides])

    @cached_property
    def isotropic(self) -> bool:
        """Whether every component's noise is the same in all coordinates."""
        return all(normal.isotropic for normal in self.all_normals)

    @property
    def single(self) -> bool:
        """Whether all classes have one component only."""
        return all(len(side.peak) == 1 for side in self.sides)

    def ratio(self, own: int, other: int) -> LogRatio:
        """Return a - b for two components of different classes, by their numbers."""
        key = (min(own, other), max(own, other))
        if key not in self.kept:
            made = log_ratio(
                [self.all_normals[index] for index in key],
                offset=float(self.offsets[key[0]]) - float(self.offsets[key[1]]),
            )
            if len(self.kept) * made.basis.size > _CACHE_NUMBERS:
                self.kept.clear()
            self.kept[key] = made
        ratio = self.kept[key]
        return ratio if own < other else ratio.negated()

    def joint(self, label: int, x: FloatArray) -> FloatArray:
        """Return joint log densities (n, K) of the components of one class."""
        side = self.sides[label]
        logs = side.density.component_log_prob(torch.from_numpy(np.ascontiguousarray(x)))
        joint: FloatArray = logs.numpy() + (side.peak - side.centre)
        return joint

    def against(self, label: int) -> Against:
        """Return one class and all components of the others."""
        return Against(self, label)

    def level(self, joint: FloatArray) -> FloatArray:
        """Return the log density of a class from joint log densities (..., K), by the rule."""
        return joint.max(axis=-1) if self.hardest_component else log_sum_exp(joint)


@dataclass(frozen=True, eq=False)
class Against:
    """One class, and the components of all others, each with its class and its number."""

    classes: Classes
    label: int

    @cached_property
    def rivals(self) -> list[int]:
        """The other classes."""
        return [label for label in range(self.classes.n_classes) if label != self.label]

    @cached_property
    def numbers(self) -> IntArray:
        """Numbers of the others' components."""
        first = self.classes.first
        return np.concatenate([np.arange(first[c], first[c + 1]) for c in self.rivals])

    @cached_property
    def parts(self) -> list[slice]:
        """Where each other class's components stand among all of the others'."""
        sizes = [len(self.classes.sides[c].peak) for c in self.rivals]
        ends = np.cumsum(sizes).tolist()
        return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]

    @property
    def own(self) -> list[LowRankNormal]:
        return self.classes.normals[self.label]

    @cached_property
    def others(self) -> list[LowRankNormal]:
        return [self.classes.all_normals[number] for number in self.numbers]

    @cached_property
    def n_factors(self) -> IntArray:
        """Number of factors of each of the others' components."""
        return np.array([normal.loadings.shape[1] for normal in self.others])

    def ratio(self, k: int, j: int) -> LogRatio:
        """Return a_k - b_j of an own component and one of the others."""
        start = int(self.classes.first[self.label])
        return self.classes.ratio(start + k, int(self.numbers[j]))

    def joint(self, x: FloatArray) -> FloatArray:
        """Return joint log densities (n, K) of the own components."""
        return self.classes.joint(self.label, x)

    def class_sums(self, *terms: FloatArray) -> FloatArray:
        """Return the sums of terms (n, K) over the components of each other class, (n, classes)."""
        return np.column_stack(
            [sum(each[:, part].sum(axis=1) for each in terms) for part in self.parts]
        )


def _normals(side: _Prepared) -> list[LowRankNormal]:
    arrays = (side.density.means, side.density.loadings, side.density.noise_variance)
    return [LowRankNormal(*(a.numpy() for a in of_one)) for of_one in zip(*arrays, strict=True)]


@dataclass(eq=False)
class _Tried:
    """Functions a - b tried so far, in eigencoordinates padded to a common size.

    Row i belongs to point `row[i]` and to component `other[i]` of the other classes. a is the own
    component `own[i]`, or, where that is -1, the mean of several with weights `weights[i]`; `bonus`
    is the entropy of these, by which the sum over components exceeds their mean at least.
    """

    row: IntArray
    other: IntArray
    own: IntArray
    weights: FloatArray
    bonus: FloatArray
    curvature: FloatArray
    gradient: FloatArray
    value: FloatArray
    distance: FloatArray
    displacement: FloatArray

    def joined(self, more: _Tried) -> _Tried:
        """Return these and more."""
        size = max(self.gradient.shape[1], more.gradient.shape[1])
        one, two = self._padded(size), more._padded(size)
        pairs = zip(vars(one).values(), vars(two).values(), strict=True)
        return _Tried(*map(np.concatenate, pairs))

    def _padded(self, size: int) -> _Tried:
        """Append coordinates that the functions do not depend on."""
        wide = [(0, 0), (0, size - self.gradient.shape[1])]
        padded = ("curvature", "gradient", "displacement")
        return replace(self, **{name: np.pad(getattr(self, name), wide) for name in padded})


class PairSearch:
    """Pairwise distances of points of one class, tried only where they can matter.

    `reach[i, j]` is a lower bound of the distance from point i to where component j of the other
    classes is at least as likely as every own component; `leader[i, j]` is the index in `tried` of
    the function that gives it, -1 where it is still the Lipschitz bound. `tight` tells for which
    points the smallest of them is attained.
    """

    def __init__(
        self, against: Against, x: FloatArray, own: _Components, other: _Components
    ) -> None:
        self.against, self.x = against, x
        self.hardest_component = against.classes.hardest_component
        self.own, self.other = own, other
        # Rounded against the own class, so that what follows from them is rounded down.
        self.joint_own, self.joint_other = own.joint - own.doubt, other.joint + other.doubt
        self.first = self.joint_own.argmax(axis=1)
        self.reach = pairwise_radius(own, other, self.first)
        self.leader = np.full(self.reach.shape, -1)
        self.tight = np.zeros(len(x), dtype=bool)
        self.points: dict[int, FloatArray] = {}  # projections of blends, by their row in `tried`
        # The most promising component of each point shows which others can be nearer.
        nearest = self.reach.argmin(axis=1)
        rows = np.arange(len(x))
        self.tried = self._pairs(rows, self.first, nearest)
        self._record(0)
        known = self.reach[rows, nearest]
        self._add_first(*np.nonzero((self.leader < 0) & (self.reach < known[:, None])))

    def run(self) -> None:
        """Raise each point's bound until it is attained or grows no more."""
        everywhere, n_shifts = slice(0, self.reach.shape[1]), _N_SHIFTS * len(self.against.parts)
        self.tight = self._raised(np.arange(len(self.x)), everywhere, n_shifts)

    def run_each_class(self, rows: IntArray) -> None:
        """Do the same of some points for each other class by itself, where it may matter to sums.

        The nearest component of all has been raised as far as it goes; a class that is a little
        farther has not, and its sum would be taken for larger than it need be.
        """
        for part in self.against.parts:
            nearest = self.reach[rows].min(axis=1)
            near = self.reach[rows, part].min(axis=1) <= _NEAR * nearest
            self._raised(rows[near], part, _N_SHIFTS)

    def _raised(self, todo: IntArray, part: slice, n_shifts: int) -> BoolArray:
        """Raise the smallest bounds of some points within part of the others' components.

        Say for all points (n,) whether theirs is attained, False where it was not asked for.
        """
        tight = np.zeros(len(self.x), dtype=bool)
        shifts = np.zeros(len(self.x), dtype=int)
        while todo.size:
            self._add_first(*self._untried_nearest(todo, part))
            j = part.start + self.reach[todo, part].argmin(axis=1)
            stale = self.leader[todo, j] < 0  # another, untried one has become the nearest
            nowhere = np.isinf(self.reach[todo, j])
            tight[todo[nowhere]] = True
            ready = ~stale & ~nowhere
            waiting, rows, j = todo[stale], todo[ready], j[ready]
            leader = self.leader[rows, j]
            joint = self.against.joint(self._move(leader))
            level = (self.tried.weights[leader] * joint).sum(axis=1)
            rival = joint.argmax(axis=1)
            above = joint.max(axis=1) - level > _TIE * (1 + np.abs(level))
            tight[rows] = ~above
            again = above & (shifts[rows] < n_shifts)
            shifts[rows[again]] += 1
            grown = self._raise(rows[again], rival[again], j[again])
            todo = np.union1d(waiting, rows[again][grown])
        return tight

    def _untried_nearest(self, rows: IntArray, part: slice) -> tuple[IntArray, IntArray]:
        j = part.start + self.reach[rows, part].argmin(axis=1)
        new = self.leader[rows, j] < 0
        return rows[new], j[new]

    def _raise(self, rows: IntArray, rival: IntArray, other: IntArray) -> BoolArray:
        """Bring in a rival own component against `other`; say for which points that helped."""
        before = self.reach[rows, other]
        weights = self.tried.weights[self.leader[rows, other]]
        support = (weights > 0).sum(axis=1)
        small = self._blend_size(support + 2) <= _LARGEST_BLEND
        self._add(rows[~small], rival[~small], other[~small])
        # Expansions of one batch have equal shapes: equal numbers of components and of factors.
        factors = self.against.n_factors[other]
        for count, n_factors in np.unique(np.column_stack([support, factors])[small], axis=0):
            chosen = np.flatnonzero(small & (support == count) & (factors == n_factors))
            size = self._blend_size(count + 2)
            at_once = max(1, int(_BLEND_NUMBERS // ((count + 2) * size**2)))
            for start in range(0, chosen.size, at_once):
                part = chosen[start : start + at_once]
                self._shift(rows[part], rival[part], other[part], weights[part])
        grown: BoolArray = self.reach[rows, other] > before * (1 + 1e-12)
        return grown

    def _blend_size(self, n_components: Any) -> IntArray:
        """Return how many coordinates a blend of so many components has."""
        classes = self.against.classes
        n_factors = max(of_class[0].loadings.shape[1] for of_class in classes.normals)
        dim = classes.normals[0][0].mean.size
        if not classes.isotropic:
            return np.full_like(n_components, dim)
        return np.asarray(np.minimum(n_components * (n_factors + 1), dim))

    def _shift(self, rows: IntArray, rival: IntArray, other: IntArray, weights: FloatArray) -> None:
        """Shift weight to the rivals; the number of present own components is the same."""
        own = [np.append(np.flatnonzero(w), k) for w, k in zip(weights, rival, strict=True)]
        expansion = self._expand(rows, own, other)
        local = np.array([w[k] for w, k in zip(weights, own, strict=True)])
        local[:, -1] = 0.0  # a rival that has weight already is listed twice
        local /= local.sum(axis=1, keepdims=True)
        blend, local = balance(expansion, local)
        self._add_blends(rows, own, other, local, blend, expansion)
        if not self.hardest_component:
            self._share(rows, own, other, blend, expansion)

    def _share(
        self,
        rows: IntArray,
        own: list[IntArray],
        other: IntArray,
        blend: Blend,
        expansion: Expansion,
    ) -> None:
        """Add blends for the sum of the own components, for which Gibbs' inequality is best.

        It holds with equality for the responsibilities at the projection, which moves with them.
        """
        once = np.array([[k not in ks[:i] for i, k in enumerate(ks)] for ks in own])

        def responsibilities(step: FloatArray) -> FloatArray:
            joint = expansion.at_steps(np.nan_to_num(step))[:, :-1]
            return np.asarray(special.softmax(np.where(once, joint, -np.inf), axis=1))

        shares = responsibilities(blend.step)
        aim = Blend.of(expansion, shares, bonus=special.entr(shares).sum(axis=1))
        shares = responsibilities(aim.step)
        blend = Blend.of(expansion, shares)
        self._add_blends(rows, own, other, shares, blend, expansion)

    def _expand(self, rows: IntArray, own: list[IntArray], other: IntArray) -> Expansion:
        mine, theirs = self.against.own, self.against.others
        components = [[*(mine[k] for k in ks), theirs[j]] for ks, j in zip(own, other, strict=True)]
        values = np.column_stack(
            [
                np.stack([self.joint_own[row, ks] for row, ks in zip(rows, own, strict=True)]),
                self.joint_other[rows, other],
            ]
        )
        return Expansion.at(self.x[rows], values, components)

    def _add_blends(
        self,
        rows: IntArray,
        own: list[IntArray],
        other: IntArray,
        local: FloatArray,
        blend: Blend,
        expansion: Expansion,
    ) -> None:
        """Add blends with weights `local` (n, s) of the own components listed in `own`."""
        weights = np.zeros((len(rows), self.joint_own.shape[1]))
        for i, ks in enumerate(own):
            np.add.at(weights[i], ks, local[i])
        start = len(self.tried.row)
        self.tried = self.tried.joined(
            _Tried(
                rows,
                other,
                np.full(len(rows), -1),
                weights,
                special.entr(weights).sum(axis=1),
                blend.curvature,
                blend.gradient,
                blend.value,
                blend.distance,
                np.zeros_like(blend.step),  # kept as `points`, in full
            )
        )
        spots = self.x[rows] + np.einsum("ndm,nm->nd", expansion.frame, blend.step)
        self.points.update(zip(range(start, start + len(rows)), spots, strict=True))
        self._record(start)

    def _pairs(self, rows: IntArray, own: IntArray, other: IntArray) -> _Tried:
        """Project points onto the boundaries of pairs of components."""
        groups = _groups(own, other)
        ratios = [self.against.ratio(int(own[g[0]]), int(other[g[0]])) for g in groups]
        size = max((r.n_coordinates for r in ratios), default=1)
        curvature, gradient = np.zeros((len(rows), size)), np.zeros((len(rows), size))
        value = self.joint_own[rows, own] - self.joint_other[rows, other]
        for group, ratio in zip(groups, ratios, strict=True):
            h, g = ratio.expand(self.x[rows[group]])
            curvature[group, : len(h)], gradient[group, : len(h)] = h, g
        found = project_quadric(curvature, gradient, value)
        weights = np.zeros((len(rows), self.joint_own.shape[1]))
        weights[np.arange(len(rows)), own] = 1.0
        return _Tried(
            rows,
            other,
            own,
            weights,
            np.zeros(len(rows)),
            curvature,
            gradient,
            value,
            found.distance,
            found.displacement,
        )

    def _add_first(self, rows: IntArray, other: IntArray) -> None:
        self._add(rows, self.first[rows], other)

    def _add(self, rows: IntArray, own: IntArray, other: IntArray) -> None:
        if rows.size:
            start = len(self.tried.row)
            self.tried = self.tried.joined(self._pairs(rows, own, other))
            self._record(start)

    def _record(self, start: int) -> None:
        """Raise `reach` where what was tried from `start` on is farther; no pair occurs twice."""
        new = np.arange(start, len(self.tried.row))
        row, other, distance = (
            getattr(self.tried, name)[new] for name in ("row", "other", "distance")
        )
        # The first try replaces the Lipschitz bound, which is not larger but for rounding.
        better = (distance > self.reach[row, other]) | (self.leader[row, other] < 0)
        self.reach[row[better], other[better]] = distance[better]
        self.leader[row[better], other[better]] = new[better]

    def _move(self, index: IntArray) -> FloatArray:
        """Return the projections of what was tried, (len(index), d)."""
        out = np.empty((len(index), self.x.shape[1]))
        tried = self.tried
        for group in _groups(tried.own[index], tried.other[index]):
            at = index[group]
            k, j = int(tried.own[at[0]]), int(tried.other[at[0]])
            if k < 0:
                out[group] = [self.points[int(i)] for i in at]
                continue
            ratio = self.against.ratio(k, j)
            step = tried.displacement[at, : ratio.n_coordinates]
            out[group] = ratio.move(self.x[tried.row[at]], step)
        return out

    def projections(self, other: IntArray) -> FloatArray:
        """Return the projections onto `other`, NaN where it was not tried or has no boundary."""
        leader = self.leader[np.arange(len(other)), other]
        out = np.full(self.x.shape, np.nan)
        known = np.flatnonzero(leader >= 0)
        out[known] = self._move(leader[known])
        return out

    def add_shared(self) -> None:
        """Add, by Gibbs' inequality, a blend for each point that several components share."""
        share = special.softmax(self.joint_own, axis=1)
        share[share < _LEAST_SHARE] = 0.0
        share /= share.sum(axis=1, keepdims=True)
        support = (share > 0).sum(axis=1)
        near = (self.reach <= _NEAR * self.reach.min(axis=1, keepdims=True)) & np.isfinite(
            self.reach
        )
        factors = self.against.n_factors
        for count, n_factors in itertools.product(
            np.unique(support[support > 1]), np.unique(factors)
        ):
            size = self._blend_size(count + 1)
            if size > _LARGEST_BLEND:
                continue
            rows, others = np.nonzero((support == count)[:, None] & near & (factors == n_factors))
            at_once = max(1, int(_BLEND_NUMBERS // ((count + 1) * size**2)))
            for start in range(0, rows.size, at_once):
                part, j = rows[start : start + at_once], others[start : start + at_once]
                own = [np.flatnonzero(share[row]) for row in part]
                expansion = self._expand(part, own, j)
                local = np.stack([share[row, ks] for row, ks in zip(part, own, strict=True)])
                blend = Blend.of(expansion, local)
                self._add_blends(part, own, j, local, blend, expansion)

    def sum_radius(self, known: FloatArray) -> FloatArray:
        """Return the radii within which no other class's sum over components reaches the own.

        Within `known` (n, classes) that is proven of each class already, which counts where there
        are several: one may be proven in one way, and another in the other.
        """
        if known.shape[1] > 1:
            # Entropy can carry the bound of what was tried beyond cheap bounds of what was not.
            beyond = self.sum_reach(np.where(self.leader < 0, np.inf, self.reach))
            self._add_first(*np.nonzero((self.leader < 0) & (self.reach < beyond[:, None])))
        high = self.sum_reach(self.reach)
        endless = np.isinf(high)  # each other component alone loses everywhere; their sum may not
        ball = np.where(endless, self._far(), high)
        clear = self._least_lead(ball) >= _NEGLIGIBLE
        self._add_first(*np.nonzero(~clear & (self.leader < 0)))
        row, other = self.tried.row, self.tried.other
        outermost = self._least_lead(ball)
        # A function that falls below zero somewhere proves nothing beyond all balls.
        index = np.flatnonzero(~endless[row] | np.isinf(self.tried.distance))
        np.maximum.at(outermost, (row[index], other[index]), self._minimum(index, ball))
        class_sums = self.against.class_sums
        known = known if known.shape[1] > 1 else np.full_like(known, -1.0)
        below = class_sums(np.exp(np.minimum(-outermost, 1.0))) < 1
        everywhere = endless & (below | np.isinf(known)).all(axis=1)
        active = outermost < _NEGLIGIBLE
        rest = np.where(active, 0.0, np.exp(-np.maximum(outermost, 0.0)))
        index = np.flatnonzero(active[row, other])
        low = np.zeros(len(ball))
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + ball)
            lead = np.full(self.reach.shape, -np.inf)
            np.maximum.at(lead, (row[index], other[index]), self._minimum(index, middle))
            # The exponent is cut off: any positive one is too much already.
            terms = np.where(active, np.exp(np.minimum(-lead, 1.0)), 0.0)
            proven = ((class_sums(terms, rest) < 1) | (middle[:, None] <= known)).all(axis=1)
            low, ball = np.where(proven, middle, low), np.where(proven, ball, middle)
        return np.where(everywhere, np.inf, low)

    def _far(self) -> FloatArray:
        """Return radii (n,) of balls that hold the minimum of every function that has one."""
        h, g = self.tried.curvature, self.tried.gradient
        newton = np.divide(g, h, out=np.zeros_like(g), where=h > 0)
        far = np.ones(len(self.x))
        np.maximum.at(far, self.tried.row, 2 * np.linalg.norm(newton, axis=1))
        return far

    def sum_reach(self, reach: FloatArray) -> FloatArray:
        """Return radii (n,) beyond which one component alone is too much, at least `reach`."""
        reach = reach.copy()
        mixed = np.flatnonzero(self.tried.bonus > 0)
        tried = self.tried
        found = project_quadric(
            tried.curvature[mixed], tried.gradient[mixed], tried.value[mixed] + tried.bonus[mixed]
        )
        np.maximum.at(reach, (tried.row[mixed], tried.other[mixed]), found.distance)
        smallest: FloatArray = reach.min(axis=1)
        return smallest

    def _minimum(self, index: IntArray, radius: FloatArray) -> FloatArray:
        """Return the least leads of the sum over components that tried functions prove in balls."""
        tried = self.tried
        return trust_region_minimum(
            tried.curvature[index],
            tried.gradient[index],
            tried.value[index] + tried.bonus[index],
            radius[tried.row[index]],
        )

    def _least_lead(self, radius: FloatArray) -> FloatArray:
        """Return Lipschitz bounds (n, K) of the first own component's lead within the balls."""
        rows = np.arange(len(self.x))
        own = self.own.least(radius[:, None])[rows, self.first]
        lead: FloatArray = own[:, None] - self.other.most(radius[:, None])
        return lead


def _groups(own: IntArray, other: IntArray) -> list[IntArray]:
    """Return the indices of each distinct pair."""
    if own.size == 0:
        return []
    order = np.lexsort((other, own))
    changed = (np.diff(own[order]) != 0) | (np.diff(other[order]) != 0)
    return np.split(order, np.flatnonzero(changed) + 1)
