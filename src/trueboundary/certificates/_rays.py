"""Errors of optimal classifiers on rays: verified upper bounds of the distance to the nearest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trueboundary.certificates._component_pairs import BLOCK, Classes, IntArray
from trueboundary.certificates.base import BoolArray, FloatArray
from trueboundary.classifiers import wrongness

__all__ = ["Rays"]

# How far beyond the projection a ray is followed, relative to the distance, doubling each time.
_FIRST_STRETCH, _LARGEST_STRETCH = 1e-12, 2.0**20
_BISECTIONS = 60
_HALVINGS = 4
_CLOSE = 4e-16  # relative width at which the crossing counts as found
_NUDGES = (0.0, 1e-13, 1e-11, 1e-9, 1e-7, 1e-5)  # relative, until the classifier confirms an error
_DEPTHS = (1e-6, 1e-3, 0.1, 1.0)  # nats
# Relative widths of brackets from which corners are stepped into, and rays are turned.
_WIDE, _NARROW = 1e-3, 1e-7
_VERY_WIDE = 0.1  # from which another class may have been passed over
_SETTLED = 1e-3  # share of a bracket: turns that close less are the last, unless it is wide


@dataclass(frozen=True, eq=False)
class Rays:
    """Errors on rays from the points, confirmed by the classifier in float64."""

    classes: Classes
    classifier: Any
    x: FloatArray
    labels: npt.NDArray[np.int64]
    sides: tuple[_Side, ...] = field(init=False)

    def __post_init__(self) -> None:
        n_classes = self.classes.n_classes
        sides = tuple(_Side.of(self.classes, label, self.x) for label in range(n_classes))
        object.__setattr__(self, "sides", sides)

    def follow(
        self, rows: IntArray, step: FloatArray, upper: FloatArray, nearest: FloatArray
    ) -> BoolArray:
        """Follow rays to their first error and keep those that are nearer; say which were."""
        shorter = np.zeros(len(rows), dtype=bool)
        for part in _blocks(len(rows)):
            shorter[part] = self._follow(rows[part], step[part], upper, nearest)
        return shorter

    def aim_at_means(self, upper: FloatArray, nearest: FloatArray) -> None:
        """Where no error was found yet, follow the rays to the other classes' means."""
        for label in range(self.classes.n_classes):
            for normal in self.classes.against(label).others:
                rows = np.flatnonzero(np.isinf(upper) & (self.labels == label))
                if rows.size:
                    self.follow(rows, normal.mean - self.x[rows], upper, nearest)

    def aim_at_each_class(self, lower: FloatArray, upper: FloatArray, nearest: FloatArray) -> None:
        """Where brackets are very wide, aim at the likeliest component of each other class.

        The nearest boundaries of single components may all be those of a class that wins nowhere
        near. Of two classes there is no other to have passed over.
        """
        n_classes = len(self.sides)
        if n_classes == 2:
            return
        for rival in range(n_classes):
            means = np.stack([normal.mean for normal in self.classes.normals[rival]])
            wide = (self.labels != rival) & (lower < (1 - _VERY_WIDE) * upper)
            rows = np.flatnonzero(wide)
            if rows.size:
                likeliest = self.sides[rival].joint[rows].argmax(axis=1)
                self.follow(rows, means[likeliest] - self.x[rows], upper, nearest)

    def step_inside(
        self, lower: FloatArray, aim: FloatArray, upper: FloatArray, nearest: FloatArray
    ) -> None:
        """Where brackets are wide, aim a little inside the corner that a projection `aim` lies in.

        Where several own components tie with one of another class, errors can be a wedge that the
        ray through its tip does not enter. The shortest step that puts all of them behind, to
        first order, does.
        """
        for depth in _DEPTHS:
            wide = (lower < (1 - _WIDE) * upper) & np.isfinite(aim).all(axis=1)
            rows = np.flatnonzero(wide)
            if rows.size:
                goal = aim[rows] + self._inward(aim[rows], self.labels[rows], depth)
                self.follow(rows, goal - self.x[rows], upper, nearest)

    def _inward(
        self, points: FloatArray, labels: npt.NDArray[np.int64], depth: float
    ) -> FloatArray:
        """Return the shortest steps after which tied own components are `depth` nats behind."""
        joint = np.column_stack([self.classes.joint(c, points) for c in range(len(self.sides))])
        steps = np.zeros_like(points)
        for label in np.unique(labels).tolist():
            first, last = self.classes.first[label : label + 2]
            numbers = self.classes.against(label).numbers
            for i in np.flatnonzero(labels == label):
                own, other, point = joint[i, first:last], joint[i, numbers], points[i]
                j = int(other.argmax())
                tied = np.flatnonzero(own > other[j] - depth - 1.0)
                if tied.size == 0:
                    continue
                own_slopes = [self._slope(int(first + k), point) for k in tied]
                slopes = np.stack(own_slopes) - self._slope(int(numbers[j]), point)
                behind = np.minimum(other[j] - own[tied] - depth, 0.0)
                steps[i] = np.linalg.lstsq(slopes, behind, rcond=1e-10)[0]
        return steps

    def _slope(self, number: int, point: FloatArray) -> FloatArray:
        normal = self.classes.all_normals[number]
        return -normal.precision_times((point - normal.mean)[:, None])[:, 0]

    def other_class(self, points: FloatArray) -> npt.NDArray[np.int64]:
        """Return the likeliest class but the own at points (n, d), -1 for NaN."""
        other = np.full(len(points), -1)
        rows = np.flatnonzero(np.isfinite(points).all(axis=1))
        if len(self.sides) == 2:
            other[rows] = 1 - self.labels[rows]
            return other
        for part in _blocks(rows.size):
            at = rows[part]
            logits = self.classifier.outputs(torch.from_numpy(points[at])).numpy(force=True)
            logits[np.arange(at.size), self.labels[at]] = -np.inf
            other[at] = logits.argmax(axis=1)
        return other

    def _follow(
        self, rows: IntArray, way: FloatArray, upper: FloatArray, nearest: FloatArray
    ) -> BoolArray:
        x, labels = self.x[rows], self.labels[rows]
        stretch = self._first_error(rows, way)
        shorter = np.zeros(len(rows), dtype=bool)
        promising = np.isfinite(stretch)
        length = stretch[promising] * np.linalg.norm(way[promising], axis=1)
        promising[promising] = length < upper[rows[promising]]
        for nudge in _NUDGES:
            at = np.flatnonzero(promising)
            if at.size == 0:
                break
            reached = x[at] + ((1 + nudge) * stretch[at])[:, None] * way[at]
            y = torch.from_numpy(labels[at])
            found = wrongness(self.classifier, torch.from_numpy(reached), y)
            wrong = found.numpy(force=True) >= 0
            hit, points = at[wrong], reached[wrong]
            distance = np.linalg.norm(points - x[hit], axis=1)
            nearer = distance < upper[rows[hit]]
            kept = rows[hit[nearer]]
            upper[kept], nearest[kept] = distance[nearer], points[nearer]
            shorter[hit[nearer]] = True
            promising[hit] = False
        return shorter

    def _first_error(self, rows: IntArray, way: FloatArray) -> FloatArray:
        """Return multiples of `way` at which the own class loses, infinite where none was found.

        Along a ray every log density is a parabola.
        """
        labels = self.labels[rows]
        sides = [side.along(rows, way) for side in self.sides]
        combine = _largest if self.classes.hardest_component else _log_sum

        def lead(at: IntArray, stretch: FloatArray) -> tuple[FloatArray, FloatArray]:
            found = (combine(*side.take(at).at(stretch)) for side in sides)
            value, slope = (np.stack(part) for part in zip(*found, strict=True))
            place = labels[at], np.arange(at.size)
            own, own_slope = value[place], slope[place]
            value[place] = -np.inf  # of the others the likeliest counts
            first = value.argmax(axis=0), place[1]
            return own - value[first], own_slope - slope[first]

        low, high = np.zeros(len(rows)), np.ones(len(rows))
        # An exact projection can miss the boundary by its rounding, and what lies behind it can be
        # a thin strip of errors: so the first steps beyond are tiny.
        beyond, left = 0.0, np.arange(len(rows))
        while beyond < _LARGEST_STRETCH:
            left = left[lead(left, high[left])[0] > 0]
            if left.size == 0:
                break
            beyond = max(2 * beyond, _FIRST_STRETCH)
            low[left], high[left] = high[left], 1 + beyond
        found = np.ones(len(rows), dtype=bool)
        found[left] = lead(left, high[left])[0] <= 0
        self._close_in(lead, np.flatnonzero(found), low, high)
        return np.where(found, high, np.inf)

    @staticmethod
    def _close_in(
        lead: Callable[[IntArray, FloatArray], tuple[FloatArray, FloatArray]],
        left: IntArray,
        low: FloatArray,
        high: FloatArray,
    ) -> None:
        """Move `low`, where the own class leads, and `high`, where it does not, together.

        The bracket is halved a few times, which favours the first of several crossings, and where
        Newton's steps leave it. They go a little too far, so that both ends move.
        """
        at = 0.5 * (low[left] + high[left])
        for i in range(_BISECTIONS):
            value, slope = lead(left, at)
            low[left], high[left] = (
                np.where(value > 0, at, low[left]),
                np.where(value > 0, high[left], at),
            )
            still = high[left] - low[left] > _CLOSE * high[left]
            left, at, value, slope = left[still], at[still], value[still], slope[still]
            if left.size == 0:
                return
            step = np.divide(-value, slope, out=np.full_like(at, np.nan), where=slope != 0)
            # Beyond the root by a share of what the step itself may be wrong by.
            target = at + step
            overshoot = np.maximum(0.25 * _CLOSE * at, np.abs(step) * 2.0**-12)
            target += np.where(value > 0, overshoot, -overshoot)
            middle = 0.5 * (low[left] + high[left])
            inside = (target > low[left]) & (target < high[left]) & (i >= _HALVINGS) & (i % 4 != 3)
            at = np.where(inside, target, middle)

    def turn(self, lower: FloatArray, upper: FloatArray, nearest: FloatArray, n_turns: int) -> None:
        """Turn the rays of wide brackets towards the normal of the boundary they meet."""
        weight, moving = np.ones(len(upper)), np.isfinite(upper)
        for _ in range(n_turns):
            rows = np.flatnonzero(moving & (lower < (1 - _NARROW) * upper))
            if rows.size == 0:
                return
            before = upper[rows]
            direction = (nearest[rows] - self.x[rows]) / before[:, None]
            normal = self._downhill(nearest[rows], self.labels[rows])
            turned = direction + weight[rows, None] * normal
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            turned *= before[:, None] / np.where(length > 0, length, 1.0)
            shorter = self.follow(rows, turned, upper, nearest)
            weight[rows] *= np.where(shorter, 1.0, 0.25)
            gain = before - upper[rows]
            wide = lower[rows] < (1 - _WIDE) * upper[rows]
            moving[rows] = wide | ~shorter | (gain > _SETTLED * (before - lower[rows]))

    def _downhill(self, points: FloatArray, labels: npt.NDArray[np.int64]) -> FloatArray:
        """Return unit vectors along which the own class loses fastest."""
        with torch.enable_grad():
            leaf = torch.from_numpy(points).requires_grad_()
            total = wrongness(self.classifier, leaf, torch.from_numpy(labels)).sum()
            downhill = torch.autograd.grad(total, leaf)[0].numpy()
        length = np.linalg.norm(downhill, axis=1, keepdims=True)
        unit: FloatArray = downhill / np.where(length > 0, length, 1.0)
        return unit


@dataclass(frozen=True, eq=False)
class _Side:
    """One class at the points: what log densities along any ray from them are made of.

    The precision of component k is diag(w) - F F^T (see `LowRankNormal.factor`).

    Attributes
    ----------
    x, joint : ndarray of shape (n, d) and (n, K)
        Points, and their joint log densities.
    precision, pull : ndarray of shape (d, K)
        w, and w times the means.
    basis : ndarray of shape (d, K l)
        The F of all components, side by side.
    coordinates : ndarray of shape (n, K l)
        Coordinates of the points relative to the means.
    """

    x: FloatArray
    joint: FloatArray
    precision: FloatArray
    pull: FloatArray
    basis: FloatArray
    coordinates: FloatArray

    @classmethod
    def of(cls, classes: Classes, label: int, x: FloatArray) -> _Side:
        normals = classes.normals[label]
        joint = np.concatenate([classes.joint(label, x[rows]) for rows in _blocks(len(x))])
        precision = np.column_stack([1 / normal.noise_variance for normal in normals])
        means = np.column_stack([normal.mean for normal in normals])
        bases = [normal.factor for normal in normals]
        centres = np.concatenate(
            [normal.mean @ basis for normal, basis in zip(normals, bases, strict=True)]
        )
        basis = np.concatenate(bases, axis=1)
        return cls(x, joint, precision, precision * means, basis, x @ basis - centres)

    def along(self, rows: IntArray, way: FloatArray) -> _Parabolas:
        """Return the joint log densities along rays from some of the points."""
        n_components = self.joint.shape[1]
        shape = (len(rows), n_components, self.basis.shape[1] // n_components)
        move = (way @ self.basis).reshape(shape)
        at = self.coordinates[rows].reshape(shape)
        slope = (way * self.x[rows]) @ self.precision - way @ self.pull - (move * at).sum(axis=2)
        bend = way**2 @ self.precision - (move**2).sum(axis=2)
        return _Parabolas(self.joint[rows], -slope, -0.5 * bend)


@dataclass(frozen=True, eq=False)
class _Parabolas:
    """Joint log densities (n, K) of one class along rays: value, slope and half the curvature."""

    value: FloatArray
    slope: FloatArray
    bend: FloatArray

    def take(self, rows: IntArray) -> _Parabolas:
        return _Parabolas(self.value[rows], self.slope[rows], self.bend[rows])

    def at(self, stretch: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the log densities and their slopes."""
        s = stretch[:, None]
        curved = s * self.bend
        return self.value + s * (self.slope + curved), self.slope + 2 * curved


def _largest(values: FloatArray, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    best = values.argmax(axis=1)[:, None]
    return (
        np.take_along_axis(values, best, axis=1)[:, 0],
        np.take_along_axis(slopes, best, axis=1)[:, 0],
    )


def _log_sum(values: FloatArray, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    largest = values.max(axis=1, keepdims=True)
    terms = np.exp(values - largest)
    total = terms.sum(axis=1)
    return np.log(total) + largest[:, 0], (terms * slopes).sum(axis=1) / total


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, max(n, 1), BLOCK)]
