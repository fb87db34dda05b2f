r"""The nearest error of any classifier on any domain.

The boundary of a smooth classifier is followed by sliding along it. Where it has kinks (optimal
classifiers of mixtures, piecewise linear networks) a slide ends at the first one. There the last
few tangent planes of the boundary are kept: as far as they tell, an error lies beyond all of them,
so that the point nearest to the sample :math:`x` beyond them all is the next guess,

.. math:: \min_z \|z - x\|^2 \quad\text{with}\quad n_i^T (z - p_i) \ge 0,
          \qquad\text{that is}\quad z = x + N^T \lambda,\; \lambda \ge 0,

with unit normals :math:`n_i` at points :math:`p_i` of the boundary. The dual is solved by
Hildreth's method (1957), one coordinate after the other, on a matrix of a few rows. If the guess is
an error, the boundary is crossed on the way to it from the sample; if not, on the way from it to
the nearest error known. Either crossing is nearer than that error, and gives the next plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks._search import (
    Outcome,
    best_of_starts,
    climb_to_worst,
    find_crossing,
    uphill,
)
from trueboundary.attacks.base import Attack
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import dot, norm, per_sample, unit

__all__ = ["NearestError"]

_FIRST_STEP = 0.1  # of the expected distance; ten times that of attacks that keep the first error
_N_PLANES = 6  # planes kept for each sample
_SMALLEST_GAIN = 1e-6  # of the distance: a guess that promises less is not followed
_USELESS = 0.02  # of the promise: a guess that keeps less does not count, and ...
_PATIENCE = 6  # ... after so many of them the search ends
_SAME = 1 - 1e-6  # inner product of normals above which two planes are one
_MOST_SWEEPS = 60


@dataclass(frozen=True)
class NearestError(Attack):
    """Nearest error in any domain, on boundaries that are smooth or have kinks.

    It climbs the margin with steps of growing length until it meets an error, goes back to the
    boundary, slides along it, and then cuts: it keeps the last tangent planes of the boundary and
    tries the nearest point beyond them all. It has no parameter in units of the points or the
    logits, so that scaling either changes nothing. Where the gradient says nothing of the boundary
    (shattered gradients, labels alone) it finds what its climb finds.

    Parameters
    ----------
    n_steps : int
        Largest number of steps of each climb.
    n_restarts : int
        Number of starts: the first is the sample itself, the others are random points near it. More
        starts find errors in other valleys of the boundary.
    n_slides : int
        Largest number of slides along the boundary.
    n_cuts : int
        Largest number of cuts with tangent planes; each costs about six evaluations.

    References
    ----------
    Hildreth (1957), *A quadratic programming procedure*, Naval Research Logistics Quarterly 4.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import NearestError
    >>> kinked = lambda points: points.amin(dim=1) - 1.0  # class 1 where all coordinates exceed 1
    >>> x, y = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0])
    >>> round(NearestError()(kinked, x, y).distance.item(), 6)  # sqrt(3), at the kink
    1.732051
    """

    n_steps: int = 1000
    n_restarts: int = 1
    n_slides: int = 30
    n_cuts: int = 30

    def __post_init__(self) -> None:
        for name, minimum in (("n_steps", 1), ("n_restarts", 1), ("n_slides", 1), ("n_cuts", 0)):
            check_integer(name, getattr(self, name), minimum=minimum)

    def search(self, target: Target) -> Search:
        """Climb, go back to the boundary, slide and cut, from every start."""
        return best_of_starts(target, self._nearest, self.n_restarts, step_size=None)

    def _nearest(self, target: Target, start: Tensor, stream: int) -> Outcome:
        reached, _, status = climb_to_worst(
            target,
            start,
            n_steps=self.n_steps,
            step_size=None,
            stream=stream,
            stop_at_error=True,
            first_step=_FIRST_STEP,
        )
        score = torch.full_like(target.sign, -math.inf)
        found = (status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if found.numel() > 0:
            part = target.take(found)
            error = find_crossing(part, part.x, reached[found])
            error = _slide(part, error, n_steps=self.n_slides)
            if self.n_cuts:
                error = _cut(part, error, n_steps=self.n_cuts)
            reached[found] = error
            score[found] = -part.domain.distance(part.x, error)
        return Outcome(reached, status, score)


def _slide(target: Target, error: Tensor, *, n_steps: int) -> Tensor:
    """Shorten the distance of each error by sliding along the boundary; return the new errors.

    At a nearest error the path back to the sample is perpendicular to the boundary, so the part
    of that path tangent to the boundary is the way to slide. A slide of ``pace`` times that part
    is tried at unchanged distance from the sample: if it lands on an error, the crossing between
    the sample and it is nearer still and is kept; if not, the pace is reduced. The pace follows
    the curvature of the boundary seen so far (Barzilai and Borwein 1988).
    """
    best = error.clone()
    tolerance = torch.finfo(error.dtype).eps ** 0.4
    active, part = torch.arange(error.shape[0], device=error.device), target
    pace = torch.ones_like(target.sign)
    along = _slope(part, best)
    for _ in range(n_steps):
        points, domain = best[active], part.domain
        to_points = norm(domain.log(part.x, points))
        trial = domain.move(points, unit(along), pace * norm(along))
        beyond = to_points / norm(domain.log(part.x, trial))
        trial = domain.interpolate(part.x, trial, beyond)
        # Projection onto a domain with an edge may have lengthened the distance.
        not_farther = norm(domain.log(part.x, trial)) <= to_points * (1 + tolerance)
        nearer = (part.wrongness(trial) > 0) & not_farther

        pace = torch.where(nearer, pace, pace / 4)
        moved = nearer.nonzero().squeeze(1)
        if moved.numel() > 0:
            there = part.take(moved)
            # The gain of a slide is of second order in its length: resolve a tenth of that.
            gain = (norm(along[moved]) / to_points[moved]) ** 2 / 10
            width = gain.clamp(torch.finfo(error.dtype).eps ** 0.5, 1e-2)
            crossing = find_crossing(there, there.x, trial[moved], tolerance=width)
            new_along = _slope(there, crossing)
            pace[moved] = _next_pace(
                pace[moved], crossing - points[moved], along[moved] - new_along
            )
            best[active[moved]], along[moved] = crossing, new_along

        going = (norm(along) > tolerance * to_points) & (pace > tolerance)
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            active, part = active[keep], part.take(keep)
            pace, along = pace[keep], along[keep]
        if active.numel() == 0:
            break
    return find_crossing(target, target.x, best)


def _slope(target: Target, points: Tensor) -> Tensor:
    """Return the part of the path back to the sample that runs along the boundary."""
    domain = target.domain
    _, gradient = target.wrongness_and_gradient(points)
    normal = uphill(target, points, gradient)
    back = domain.log(points, target.x)
    along = back - per_sample(dot(back, normal), back) * normal
    along = domain.tangent(points, along)
    return torch.where(along.isfinite(), along, torch.zeros_like(along))


def _next_pace(pace: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Return the Barzilai-Borwein pace for a step and the change of slope that it caused."""
    curvature = dot(step, change) / dot(step, step)
    secant = torch.where(curvature > 0, 1 / curvature, 2 * pace)
    return torch.where(secant.isfinite(), secant, pace).clamp(pace / 8, pace * 8)


def _cut(target: Target, error: Tensor, *, n_steps: int) -> Tensor:
    """Return errors at most as far as ``error (n, *event)``, by cuts with tangent planes."""
    best = error.clone()
    planes = _Planes.none(error)
    active, part = torch.arange(len(error), device=error.device), target
    n_useless = torch.zeros_like(active)
    value, gradient = part.wrongness_and_gradient(error)
    planes.add(0, error, value, part.domain.tangent(error, gradient))
    for step in range(1, n_steps + 1):
        domain, here = part.domain, best[active]
        guess = domain.project(planes.nearest_beyond(part.x))
        distance = norm(domain.log(part.x, here))
        promise = 1 - norm(domain.log(part.x, guess)) / distance
        usable = guess.flatten(1).isfinite().all(1) & (promise > _SMALLEST_GAIN)
        point = torch.where(per_sample(usable, guess), guess, here)
        value, gradient = part.wrongness_and_gradient(point)
        planes.add(step, point, value, domain.tangent(point, gradient))
        wrong = usable & (value > 0)
        width = (promise / 10).clamp(torch.finfo(error.dtype).eps ** 0.5, 1e-2)
        for rows, is_error in ((wrong, True), (usable & ~wrong, False)):
            chosen = rows.nonzero().squeeze(1)
            if chosen.numel() > 0:
                there = part.take(chosen)
                inside, outside = (
                    (there.x, guess[chosen]) if is_error else (guess[chosen], here[chosen])
                )
                point[chosen] = find_crossing(there, inside, outside, tolerance=width[chosen])
        gain = 1 - norm(domain.log(part.x, point)) / distance
        best[active[gain > 0]] = point[gain > 0]
        n_useless = torch.where(gain > _USELESS * promise, 0, n_useless + 1)
        going = usable & (n_useless < _PATIENCE)
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            active, part, n_useless = active[keep], part.take(keep), n_useless[keep]
            planes = planes.take(keep)
        if active.numel() == 0:
            break
    return find_crossing(target, target.x, best)


@dataclass(frozen=True, eq=False)
class _Planes:
    """The tangent planes of each sample's boundary that are kept, in float64.

    ``normals (n, k, d)`` are unit vectors towards the errors, zero for a plane that is not there;
    ``offsets (n, k)`` their inner products with a point of the plane; ``weights (n, k)`` how much
    each held the last guess back, zero where it did not; ``added (n, k)`` in which step it came.
    """

    normals: Tensor
    offsets: Tensor
    weights: Tensor
    added: Tensor

    @classmethod
    def none(cls, like: Tensor) -> _Planes:
        """Return no planes for the samples of ``like (n, *event)``."""
        n, dim = like.flatten(1).shape
        normals = torch.zeros(n, _N_PLANES, dim, dtype=torch.float64, device=like.device)
        offsets, weights = (torch.zeros_like(normals[:, :, 0]) for _ in range(2))
        return cls(normals, offsets, weights, torch.full_like(offsets, -1))

    def take(self, keep: Tensor) -> _Planes:
        """Return the planes of the samples at the positions ``keep``."""
        return _Planes(*(getattr(self, f.name)[keep] for f in fields(self)))

    def add(self, step: int, points: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Keep the planes on which the wrongness would vanish, to first order at ``points``.

        ``value (n,)`` and ``gradient (n, *event)``, along the domain, are the wrongness there.

        Each takes the place of one with its normal, else of the oldest of those that held nothing
        back, else of the oldest: the faces that meet at a kink all stay.
        """
        flat = gradient.flatten(1).double()
        slope = norm(flat)
        flat, ahead = flat / slope[:, None], value.double() / slope
        usable = flat.isfinite().all(1) & ahead.isfinite()
        flat = torch.where(usable[:, None], flat, 0.0)
        offset = (flat * points.flatten(1).double()).sum(1) - torch.where(usable, ahead, 0.0)
        alike = torch.einsum("nkd,nd->nk", self.normals, flat)
        dispensable = step - self.added + step * (self.weights == 0) + 3 * step * (alike > _SAME)
        rows, slot = torch.arange(len(flat), device=flat.device), dispensable.argmax(1)
        self.normals[rows, slot] = flat
        self.offsets[rows, slot] = offset
        self.added[rows, slot] = step

    def nearest_beyond(self, x: Tensor) -> Tensor:
        """Return the point nearest to each of ``x (n, *event)`` that lies beyond all planes."""
        flat = x.flatten(1).double()  # (n, d)
        ahead = self.offsets - torch.einsum("nkd,nd->nk", self.normals, flat)  # (n, k)
        gram = self.normals @ self.normals.mT  # (n, k, k)
        squares = gram.diagonal(dim1=1, dim2=2)
        there, weights = squares > 0, self.weights
        weights.zero_()
        for _ in range(_MOST_SWEEPS):
            before = weights.clone()
            for i in range(_N_PLANES):
                short = ahead[:, i] - (gram[:, i] * weights).sum(1)
                step = torch.where(there[:, i], short / squares[:, i], 0.0)
                weights[:, i] = (weights[:, i] + step).clamp(min=0)
            if bool(((weights - before).abs() <= 1e-9 * weights.amax(1, keepdim=True)).all()):
                break
        moved = flat + torch.einsum("nk,nkd->nd", weights, self.normals)
        return moved.to(x).reshape(x.shape)
