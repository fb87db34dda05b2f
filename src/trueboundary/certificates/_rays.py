"""Errors of optimal classifiers on rays: verified upper bounds of the distance to the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trueboundary.certificates._component_pairs import BLOCK, Classes, IntArray
from trueboundary.certificates.base import BoolArray, FloatArray

__all__ = ["Rays"]

# How far beyond the projection a ray is followed, relative to the distance, doubling each time.
_FIRST_STRETCH, _LARGEST_STRETCH = 1e-12, 2.0**20
_BISECTIONS = 60
_NUDGES = (0.0, 1e-13, 1e-11, 1e-9, 1e-7, 1e-5)  # relative, until the classifier confirms an error
_DEPTHS = (1e-6, 1e-3, 0.1, 1.0)  # nats
_WIDE = 1e-3  # relative width from which a bracket is worked on


@dataclass(frozen=True, eq=False)
class Rays:
    """Errors on rays from the points, confirmed by the classifier in float64."""

    pair: Classes
    classifier: Any
    x: FloatArray
    labels: npt.NDArray[np.int64]

    def follow(
        self, rows: IntArray, step: FloatArray, upper: FloatArray, nearest: FloatArray
    ) -> BoolArray:
        """Follow rays to their first error and keep those that are nearer; say which were."""
        shorter = np.zeros(len(rows), dtype=bool)
        for label in (0, 1):
            for of_class in _blocks(np.flatnonzero(self.labels[rows] == label)):
                self._follow_class(label, rows, of_class, step, upper, nearest, shorter)
        return shorter

    def aim_at_means(self, upper: FloatArray, nearest: FloatArray) -> None:
        """Where no error was found yet, follow the rays to the other class's means."""
        for label in (0, 1):
            for mean in self.pair.sides[1 - label].density.means.numpy():
                rows = np.flatnonzero(np.isinf(upper) & (self.labels == label))
                if rows.size:
                    self.follow(rows, mean - self.x[rows], upper, nearest)

    def step_inside(
        self, lower: FloatArray, aim: FloatArray, upper: FloatArray, nearest: FloatArray
    ) -> None:
        """Where brackets are wide, aim a little inside the corner that a projection `aim` lies in.

        Where several own components tie with one of the other class, errors can be a wedge that
        the ray through its tip does not enter. The shortest step that puts all of them behind, to
        first order, does.
        """
        for depth in _DEPTHS:
            wide = (lower < (1 - _WIDE) * upper) & np.isfinite(aim).all(axis=1)
            rows = np.flatnonzero(wide)
            steps = [aim[i] + self._inward(aim[i], int(self.labels[i]), depth) for i in rows]
            if steps:
                self.follow(rows, np.stack(steps) - self.x[rows], upper, nearest)

    def _inward(self, point: FloatArray, label: int, depth: float) -> FloatArray:
        """Return the shortest step after which tied own components are `depth` nats behind."""
        own = self.pair.joint(label, point[None])[0]
        other = self.pair.joint(1 - label, point[None])[0]
        j = int(other.argmax())
        tied = np.flatnonzero(own > other[j] - depth - 1.0)

        def slope(side: int, k: int) -> FloatArray:
            normal = self.pair.normals[side][k]
            return -normal.precision_times((point - normal.mean)[:, None])[:, 0]

        if tied.size == 0:
            return np.zeros_like(point)
        slopes = np.stack([slope(label, int(k)) for k in tied]) - slope(1 - label, j)
        behind = np.minimum(other[j] - own[tied] - depth, 0.0)
        step: FloatArray = np.linalg.lstsq(slopes, behind, rcond=1e-10)[0]
        return step

    def _follow_class(
        self,
        label: int,
        rows: IntArray,
        chosen: IntArray,
        step: FloatArray,
        upper: FloatArray,
        nearest: FloatArray,
        shorter: BoolArray,
    ) -> None:
        x, way = self.x[rows[chosen]], step[chosen]
        stretch = self._first_error(label, x, way)
        length = np.linalg.norm(way, axis=1)
        promising = stretch * length < upper[rows[chosen]]
        for nudge in _NUDGES:
            at = np.flatnonzero(promising)
            if at.size == 0:
                return
            reached = x[at] + ((1 + nudge) * stretch[at])[:, None] * way[at]
            wrong = self._wrong(label, reached)
            hit, points = at[wrong], reached[wrong]
            distance = np.linalg.norm(points - x[hit], axis=1)
            nearer = distance < upper[rows[chosen[hit]]]
            kept = rows[chosen[hit[nearer]]]
            upper[kept], nearest[kept] = distance[nearer], points[nearer]
            shorter[chosen[hit[nearer]]] = True
            promising[hit] = False

    def _wrong(self, label: int, points: FloatArray) -> BoolArray:
        margin = self.classifier.margin(torch.from_numpy(points)).detach().numpy()
        wrong: BoolArray = (margin <= 0) if label == 1 else (margin >= 0)
        return wrong

    def _first_error(self, label: int, x: FloatArray, way: FloatArray) -> FloatArray:
        """Return multiples of `way` at which the own class loses, infinite where none was found.

        Along a ray every log density is a parabola, so that three evaluations give it everywhere.
        """
        own, other = (_Parabolas.fit(self.pair, side, x, way) for side in (label, 1 - label))

        def wrong(stretch: FloatArray) -> BoolArray:
            lost: BoolArray = self.pair.lead(own.at(stretch), other.at(stretch)) <= 0
            return lost

        low, beyond = np.zeros(len(x)), 0.0
        high = np.ones(len(x))
        # An exact projection can miss the boundary by its rounding, and what lies behind it can be
        # a thin strip of errors: so the first steps beyond are tiny.
        while (still := ~wrong(high)).any() and beyond < _LARGEST_STRETCH:
            beyond = max(2 * beyond, _FIRST_STRETCH)
            low, high = np.where(still, high, low), np.where(still, 1 + beyond, high)
        found = wrong(high)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            lost = wrong(middle)
            low, high = np.where(lost, low, middle), np.where(lost, middle, high)
        return np.where(found, high, np.inf)

    def turn(self, lower: FloatArray, upper: FloatArray, nearest: FloatArray, n_turns: int) -> None:
        """Turn the rays of wide brackets towards the normal of the boundary they meet."""
        weight = np.ones(len(upper))
        for _ in range(n_turns):
            rows = np.flatnonzero(np.isfinite(upper) & (lower < (1 - _WIDE) * upper))
            if rows.size == 0:
                return
            direction = (nearest[rows] - self.x[rows]) / upper[rows, None]
            normal = self._downhill(nearest[rows], self.labels[rows])
            turned = direction + weight[rows, None] * normal
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            turned *= upper[rows, None] / np.where(length > 0, length, 1.0)
            shorter = self.follow(rows, turned, upper, nearest)
            weight[rows] *= np.where(shorter, 1.0, 0.25)

    def _downhill(self, points: FloatArray, labels: npt.NDArray[np.int64]) -> FloatArray:
        """Return unit vectors along which the own class loses fastest."""
        with torch.enable_grad():
            leaf = torch.from_numpy(points).requires_grad_()
            total = self.classifier.margin(leaf).sum()
            gradient = torch.autograd.grad(total, leaf)[0].numpy()
        downhill = np.where(labels[:, None] == 1, -gradient, gradient)
        length = np.linalg.norm(downhill, axis=1, keepdims=True)
        unit: FloatArray = downhill / np.where(length > 0, length, 1.0)
        return unit


@dataclass(frozen=True, eq=False)
class _Parabolas:
    """Joint log densities (n, K) of one class along rays: value, slope and half the curvature."""

    value: FloatArray
    slope: FloatArray
    bend: FloatArray

    @classmethod
    def fit(cls, pair: Classes, label: int, x: FloatArray, way: FloatArray) -> _Parabolas:
        zero, one, two = (pair.joint(label, x + s * way) for s in (0.0, 1.0, 2.0))
        bend = 0.5 * (two - 2 * one + zero)
        return cls(zero, one - zero - bend, bend)

    def at(self, stretch: FloatArray) -> FloatArray:
        s = stretch[:, None]
        values: FloatArray = self.value + s * (self.slope + s * self.bend)
        return values


def _blocks(rows: IntArray) -> list[IntArray]:
    return [rows[start : start + BLOCK] for start in range(0, rows.size, BLOCK)]
