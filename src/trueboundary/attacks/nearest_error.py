r"""The nearest error of any classifier on any domain.

Three searches follow each other, each where the one before it ends.

**Slides.** At a nearest error the path back to the sample is perpendicular to the boundary, so the
part of that path along the boundary is the way to slide. How far is told by the changes of that
part over the last steps (L-BFGS; Nocedal 1980), which also carries a search along boundaries with
many small kinks (Lewis and Overton 2013). No step is brought to the boundary before the next one:
to first order its value and gradient tell where it is, so that a step costs one evaluation.

**Cuts.** Where a few smooth pieces of the boundary meet (optimal classifiers of mixtures), the last
few tangent planes are kept: as far as they tell, an error lies beyond all of them, so that the
point nearest to the sample :math:`x` beyond them all is the next guess,

.. math:: \min_z \|z - x\|^2 \quad\text{with}\quad n_i^T (z - p_i) \ge 0,
          \qquad\text{that is}\quad z = x + N^T \lambda,\; \lambda \ge 0,

with unit normals :math:`n_i` at points :math:`p_i` of the boundary. The dual is solved by
Hildreth's method (1957), one coordinate after the other, on a matrix of a few rows. If the guess is
an error, the boundary is crossed on the way to it from the sample; if not, on the way from it to
the nearest error known. Either crossing is nearer than that error, and gives the next plane.

**Boxes.** A wall holds a point only where the way down leads through it: the pull back to the
sample and the push along the normal are added up before what leads through walls is dropped. The
guess of the cuts is the nearest of the box,

.. math:: z = \Pi(x + N^T \lambda), \; \lambda \ge 0.

**Hops.** Where a slide ended at a kink, of which piecewise linear networks have many, others start
from random points beside the nearest error known. Cuts end what they began.
"""

from __future__ import annotations

import functools
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
from trueboundary.domains import Box, Domain, dot, norm, per_sample, unit

__all__ = ["NearestError"]

_FIRST_STEP = 0.1  # of the expected distance; ten times that of attacks that keep the first error
_N_PLANES = 6  # planes kept for each sample
_SMALLEST_GAIN = 1e-6  # of the distance: a guess that promises less is not followed
_BEYOND = 1e-7  # of the distance to the planes
_USELESS = 0.02  # of the promise: a guess that keeps less does not count, and ...
_PATIENCE = 6  # ... after so many of them the search ends
_COARSE = 1e-2  # of the path to the first error: slides need no more
_CLOSE = 0.05  # of the distance: where the boundary is farther off, a step looks again
_MOST_RETRIES = 3  # of one step
_SHORTER = 0.3  # of a step that failed is the next one long
_DOUBT = 2  # failures after which the point they started from is looked at again
_HOP = 0.25  # of the distance is a hop long, and ...
_HOP_SLIDES = 25  # ... that many slides follow it
_N_PAIRS = 6  # steps that the curvature is estimated from
_SAME = 1 - 1e-6  # inner product of normals above which two planes are one
_MOST_SWEEPS = 60


@dataclass(frozen=True)
class NearestError(Attack):
    """Nearest error in any domain, on boundaries that are smooth or have kinks.

    It climbs the margin with steps of growing length until it meets an error, slides along the
    boundary, cuts where a few pieces of it meet, and hops out of kinks; the module tells how. It
    has no parameter in units of the points or the logits, so that scaling either changes nothing.
    Where the gradient says nothing of the boundary (shattered gradients, labels alone) it finds
    what its climb finds. For images whose pixels lie between 0 and 1 call it with
    ``domain=Box(0.0, 1.0)``.

    Parameters
    ----------
    n_steps : int
        Largest number of steps of each climb.
    n_restarts : int
        Number of starts: the first is the sample itself, the others are random points near it. More
        starts find errors in other valleys of the boundary.
    n_slides : int
        Largest number of slides along the boundary, of one evaluation and its gradient each.
    n_hops : int
        Number of hops from where slides end at a kink, of up to 25 slides each. None follow where
        the boundary is smooth.
    n_cuts : int
        Largest number of cuts with tangent planes; each costs about six evaluations.
    n_ways : int
        Of more than two classes each other one is climbed into, and so many of the nearest first
        errors are gone on from.

    References
    ----------
    Hildreth (1957), *A quadratic programming procedure*, Naval Research Logistics Quarterly 4.
    Nocedal (1980), *Updating quasi-Newton matrices with limited storage*, Mathematics of
    Computation 35. Lewis and Overton (2013), *Nonsmooth optimization via quasi-Newton methods*,
    Mathematical Programming 141.

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
    n_hops: int = 6
    n_cuts: int = 30
    n_ways: int = 2

    def __post_init__(self) -> None:
        for name, minimum in (
            ("n_steps", 1),
            ("n_restarts", 1),
            ("n_slides", 1),
            ("n_hops", 0),
            ("n_cuts", 0),
            ("n_ways", 1),
        ):
            check_integer(name, getattr(self, name), minimum=minimum)

    def search(self, target: Target) -> Search:
        """Climb, go back to the boundary, slide and cut, from every start."""
        return best_of_starts(target, self._nearest, self.n_restarts, step_size=None)

    def _nearest(self, target: Target, start: Tensor, stream: int) -> Outcome:
        if target.goal is not None or target.n_classes == 2:
            return self._onwards(target, self._climb(target, start, stream), stream)
        ways = self._ways(target, start, stream)
        found = [self._onwards(target, way, stream) for way in ways[: self.n_ways]]
        return functools.reduce(_better, found)

    def _climb(self, target: Target, start: Tensor, stream: int) -> Outcome:
        """Climb to a first error and go back to about where the path crosses the boundary."""
        reached, _, status = climb_to_worst(
            target,
            start,
            n_steps=self.n_steps,
            step_size=None,
            stream=stream,
            stop_at_error=True,
            first_step=_FIRST_STEP,
        )
        score = target.filled(-math.inf)
        found = (status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if found.numel() > 0:
            part = target.take(found)
            coarse = part.filled(_COARSE)
            error = find_crossing(part, part.x, reached[found], tolerance=coarse)
            reached[found] = error
            score[found] = -part.domain.distance(part.x, error)
        return Outcome(reached, status, score)

    def _ways(self, target: Target, start: Tensor, stream: int) -> list[Outcome]:
        """Climb into every other class; return the ways, those to the nearest first errors first.

        The class that leads where a climb begins need not be the one whose errors are nearest.
        """
        ways = []
        for goal in range(target.n_classes):
            nowhere = torch.full_like(target.index, AttackStatus.CONVERGED.code)
            way = Outcome(start.clone(), nowhere, target.filled(-math.inf))
            rows = (target.y != goal).nonzero().squeeze(1)
            if rows.numel() > 0:
                of_rows = self._climb(target.take(rows).into(goal), start[rows], stream)
                for name in ("endpoint", "status", "score"):
                    getattr(way, name)[rows] = getattr(of_rows, name)
            ways.append(way)
        order = torch.stack([way.score for way in ways]).argsort(dim=0, descending=True)
        rows = torch.arange(len(start), device=start.device)
        stacked = [
            torch.stack([getattr(way, name) for way in ways])
            for name in ("endpoint", "status", "score")
        ]
        return [Outcome(*(part[chosen, rows] for part in stacked)) for chosen in order]

    def _onwards(self, target: Target, first: Outcome, stream: int) -> Outcome:
        """Slide and cut from first errors to nearer ones."""
        reached, score = first.endpoint.clone(), first.score.clone()
        found = (first.status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if found.numel() > 0:
            part = target.take(found)
            error = self._refined(part, reached[found], stream)
            reached[found] = error
            score[found] = -part.domain.distance(part.x, error)
        return Outcome(reached, first.status, score)

    def _refined(self, target: Target, error: Tensor, stream: int) -> Tensor:
        """Slide; where that ends at a kink cut, hop and cut again; return nearer errors."""
        boundary = _slide(target, error, n_steps=self.n_slides)
        best = _confirmed(target, boundary, error)
        kinked = (~boundary.is_stationary).nonzero().squeeze(1)
        if kinked.numel() == 0:
            return best
        part = target.take(kinked)
        best[kinked], is_smooth = _cut(part, best[kinked], n_steps=self.n_cuts)
        rest = kinked[~is_smooth]
        if rest.numel() == 0:
            return best
        part, before = target.take(rest), best[rest]
        here = before
        for hop in range(1, self.n_hops + 1):
            here = _hop(part, here, stream + hop)
        moved = (here != before).flatten(1).any(1).nonzero().squeeze(1)
        if moved.numel() > 0:
            here[moved], _ = _cut(part.take(moved), here[moved], n_steps=self.n_cuts)
        best[rest] = here
        return best


def _better(first: Outcome, second: Outcome) -> Outcome:
    """Return the nearer error of two for each sample."""
    swap = second.score > first.score
    return Outcome(
        torch.where(per_sample(swap, first.endpoint), second.endpoint, first.endpoint),
        torch.where(swap, second.status, first.status),
        torch.where(swap, second.score, first.score),
    )


def _hop(target: Target, error: Tensor, stream: int) -> Tensor:
    """Slide once more, from a random point beside each error; return it or a nearer one."""
    domain = target.domain
    length = norm(domain.log(target.x, error))
    direction = unit(domain.tangent(error, target.noise(stream)))
    beside = domain.move(error, direction, _HOP * length)
    beside = domain.interpolate(target.x, beside, length / norm(domain.log(target.x, beside)))
    boundary = _slide(target, beside, n_steps=_HOP_SLIDES)
    nearer = (boundary.length < length).nonzero().squeeze(1)
    best = error.clone()
    if nearer.numel() > 0:
        part = target.take(nearer)
        found = _confirmed(part, boundary.take(nearer), error[nearer])
        better = norm(part.domain.log(part.x, found)) < length[nearer]
        best[nearer[better]] = found[better]
    return best


@dataclass(eq=False)
class _Boundary:
    """Where the search of each sample stands: at a point taken for one of the boundary.

    ``point (n, *event)`` lies about where the margin vanishes, ``length (n,)`` from the sample,
    infinite before the first; ``error (n, *event)`` is the nearest that was seen to be an error, at
    ``reached (n,)``; ``is_stationary (n,)`` says where no way along the boundary leads nearer.
    """

    point: Tensor
    length: Tensor
    error: Tensor
    reached: Tensor
    is_stationary: Tensor

    def take(self, keep: Tensor) -> _Boundary:
        """Return where the searches of the samples at the positions ``keep`` stand."""
        return _Boundary(*(getattr(self, f.name)[keep] for f in fields(self)))


def _slide(target: Target, start: Tensor, *, n_steps: int) -> _Boundary:
    """Slide from each of ``start (n, *event)`` along the boundary to where it is nearest.

    Each step costs one evaluation with its gradient, of all samples together. The point that it
    tries is not brought to the boundary first: the gradient there tells to first order by how much
    the boundary is farther or nearer on the path from the sample. Where that is far, or where
    steps fail, it is evaluated again.
    """
    eps = torch.finfo(start.dtype).eps
    tolerance = eps**0.4
    never = target.filled(math.inf)
    found = _Boundary(
        start.clone(),
        never,
        start.clone(),
        never.clone(),
        torch.zeros_like(never, dtype=torch.bool),
    )
    active, part, trial = torch.arange(len(start), device=start.device), target, start
    point, length, along = start.clone(), never.clone(), torch.zeros_like(start)
    pace, failures = torch.ones_like(never), torch.zeros_like(target.index)
    again = torch.zeros_like(target.index)  # evaluations of one step so far
    memory = _Curvature.none(start)
    for _ in range(n_steps):
        domain = part.domain
        value, gradient = part.wrongness_and_gradient(trial)
        back = domain.log(trial, part.x)
        away = norm(back)
        ascent = unit(gradient)  # whose norm neither underflows nor overflows
        slope = -dot(gradient, ascent) * dot(domain.tangent(trial, ascent), unit(back))
        shift = -value / slope
        usable = (slope > 0) & (shift.abs() < away / 2)
        shift = torch.where(usable, shift, 0.0)
        new = domain.interpolate(part.x, trial, 1 + shift / away)
        new_length = norm(domain.log(part.x, new))
        error = (value > 0) & (away < found.reached[active])
        found.error[active[error]] = trial[error]
        found.reached[active[error]] = away[error]

        nearer = usable & (new_length < length * (1 - eps))
        retry = nearer & (shift.abs() > _CLOSE * away) & (again < _MOST_RETRIES)
        better = nearer & ~retry
        failed = ~nearer
        normal = uphill(part, trial, gradient)
        to_sample = domain.log(new, part.x)
        push = _with_walls(part, trial, gradient, normal)
        new_along = domain.tangent(
            new, to_sample - per_sample(dot(to_sample, normal), to_sample) * push
        )
        known = better & length.isfinite()
        memory.add(known, new - point, along - new_along)
        point = torch.where(per_sample(better, new), new, point)
        along = torch.where(per_sample(better, new), new_along, along)
        length = torch.where(better, new_length, length)
        pace = torch.where(better, 1.0, torch.where(failed, pace * _SHORTER, pace))
        failures = torch.where(better, 0, failures + failed.long())
        again = torch.where(retry, again + 1, 0)
        found.point[active], found.length[active] = point, length

        still = length.isfinite() & (norm(along) <= tolerance * length)
        found.is_stationary[active] = still
        going = ~still & (failures < _PATIENCE) & (length.isfinite() | retry)
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            if keep.numel() == 0:
                break
            active, part, memory = active[keep], part.take(keep), memory.take(keep)
            point, length, along, new = point[keep], length[keep], along[keep], new[keep]
            pace, failures, again, retry = pace[keep], failures[keep], again[keep], retry[keep]

        # What was taken for the boundary may lie before it, where it has a kink: look again.
        doubted = (failures == _DOUBT) & ~retry
        domain, way = part.domain, memory.newton(along)
        stride = torch.minimum(pace * norm(way), length / 2)
        stride = torch.where(length.isfinite(), stride, 0.0)
        trial = domain.move(point, unit(domain.tangent(point, way)), stride)
        beyond = length / norm(domain.log(part.x, trial))
        trial = torch.where(
            per_sample(beyond < 1, trial), domain.interpolate(part.x, trial, beyond), trial
        )
        trial = torch.where(per_sample(doubted, point), point, trial)
        trial = torch.where(per_sample(retry, new), new, trial)
        length = torch.where(doubted, math.inf, length)
    return found


def _with_walls(target: Target, points: Tensor, gradient: Tensor, normal: Tensor) -> Tensor:
    """Return the gradient in the unit in which its part along the domain is the ``normal``.

    In a box it also pushes on walls, which decides whether they hold a point. No other domain has
    flat ones.
    """
    if not isinstance(target.domain, Box):
        return normal
    full = unit(gradient)
    along = norm(target.domain.tangent(points, full))
    return torch.where(per_sample(along > 0, full), full / per_sample(along, full), normal)


@dataclass(eq=False)
class _Curvature:
    """What the last steps of each sample tell of the curvature along its boundary (L-BFGS)."""

    steps: Tensor  # (n, k, d), the newest first
    changes: Tensor  # (n, k, d)
    inverse: Tensor  # (n, k), of the inner product of each pair; 0 where there is none
    pace: Tensor  # (n,)
    n_pairs: int = 0  # that a sample has at most

    @classmethod
    def none(cls, like: Tensor) -> _Curvature:
        """Return no steps for the samples of ``like (n, *event)``."""
        n, dim = like.flatten(1).shape
        steps = torch.zeros(n, _N_PAIRS, dim, dtype=like.dtype, device=like.device)
        return cls(
            steps,
            torch.zeros_like(steps),
            torch.zeros_like(steps[:, :, 0]),
            torch.ones_like(steps[:, 0, 0]),
        )

    def take(self, keep: Tensor) -> _Curvature:
        """Return the steps of the samples at the positions ``keep``."""
        parts = (self.steps, self.changes, self.inverse, self.pace)
        steps, changes, inverse, pace = (part[keep] for part in parts)
        return _Curvature(steps, changes, inverse, pace, self.n_pairs)

    def add(self, rows: Tensor, step: Tensor, change: Tensor) -> None:
        """Keep a step and the change of slope on it of the samples that ``rows (n,)`` names."""
        step, change = step.flatten(1), change.flatten(1)
        product, square = dot(step, change), dot(change, change)
        curved = product > 1e-10 * norm(step) * norm(change)
        chosen = (rows & curved & (square > 0)).nonzero().squeeze(1)
        if chosen.numel() == 0:
            return
        self.n_pairs = min(self.n_pairs + 1, _N_PAIRS)
        for kept, new in (
            (self.steps, step),
            (self.changes, change),
            (self.inverse, 1 / product),
        ):
            kept[chosen] = torch.cat([new[chosen, None], kept[chosen, :-1]], dim=1)
        self.pace[chosen] = (product / square)[chosen]

    def newton(self, slope: Tensor) -> Tensor:
        """Return the step to where ``slope (n, *event)`` vanishes, as far as is known."""
        way, weights = slope.flatten(1), []
        parts = (self.steps, self.changes, self.inverse[:, :, None])
        pairs = list(zip(*(part.unbind(1)[: self.n_pairs] for part in parts), strict=True))
        for step, change, inverse in pairs:
            weight = inverse * (step * way).sum(1, keepdim=True)
            way = way - weight * change
            weights.append(weight)
        way = self.pace[:, None] * way
        for (step, change, inverse), weight in zip(reversed(pairs), reversed(weights), strict=True):
            way = way + (weight - inverse * (change * way).sum(1, keepdim=True)) * step
        return way.reshape(slope.shape)


def _confirmed(target: Target, found: _Boundary, error: Tensor) -> Tensor:
    """Return errors as near to the points of the boundary as the dtype resolves.

    ``error (n, *event)`` is known to be one, for where there is none so near.
    """
    eps = torch.finfo(target.x.dtype).eps
    reached = norm(target.domain.log(target.x, error))
    seen = found.reached < reached
    wrong = torch.where(per_sample(seen, error), found.error, error)
    reached = torch.where(seen, found.reached, reached)
    width, inside = target.filled(8 * eps), target.x.clone()
    rows = (found.length < reached).nonzero().squeeze(1)
    while rows.numel() > 0:  # outwards until it is an error
        part = target.take(rows)
        here = part.domain.interpolate(part.x, found.point[rows], 1 + width[rows])
        value = part.wrongness(here)
        known = found.length[rows] * (1 + width[rows]) >= reached[rows]
        outside = (value > 0) & ~known
        wrong[rows[outside]] = here[outside]
        right = (value <= 0) & ~known
        inside[rows[right]] = here[right]
        rows = rows[right]
        width[rows] *= 8
    return find_crossing(target, inside, wrong)


def _cut(target: Target, error: Tensor, *, n_steps: int) -> tuple[Tensor, Tensor]:
    """Return errors at most as far as ``error (n, *event)``, by cuts with tangent planes.

    Beside them stands where one plane alone, and the walls of a box, let nothing be nearer: there
    the boundary has no kink to hop out of, ``(n,)``. Elsewhere than in boxes slides tell that.
    """
    is_smooth = torch.zeros(len(error), dtype=torch.bool, device=error.device)
    if n_steps == 0:
        return error, is_smooth
    in_box = isinstance(target.domain, Box)
    best = error.clone()
    planes = _Planes.none(error)
    active, part = torch.arange(len(error), device=error.device), target
    n_useless = torch.zeros_like(active)
    value, gradient = part.wrongness_and_gradient(error)
    planes.add(0, error, value, gradient if in_box else part.domain.tangent(error, gradient))
    for step in range(1, n_steps + 1):
        domain, here = part.domain, best[active]
        guess = planes.nearest_beyond(part.x, domain)
        distance = norm(domain.log(part.x, here))
        promise = 1 - norm(domain.log(part.x, guess)) / distance
        usable = guess.flatten(1).isfinite().all(1) & (promise > _SMALLEST_GAIN)
        is_smooth[active] = in_box & (promise.abs() <= _SMALLEST_GAIN) & planes.is_one
        point = torch.where(per_sample(usable, guess), guess, here)
        value, gradient = part.wrongness_and_gradient(point)
        planes.add(step, point, value, gradient if in_box else domain.tangent(point, gradient))
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
    return find_crossing(target, target.x, best), is_smooth


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

    @property
    def is_one(self) -> Tensor:
        """Whether a single plane held the last guess back, ``(n,)``."""
        return (self.weights > 0).sum(1) == 1

    def nearest_beyond(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the point nearest to each of ``x (n, *event)`` that lies beyond all planes.

        In a box it is that of the box; on other domains it is brought back to the domain.
        """
        flat = x.flatten(1).double()  # (n, d)
        self.weights.zero_()
        if isinstance(domain, Box):
            self._weigh_in_box(x, domain)
        else:
            self._weigh(flat)
        moved = flat + torch.einsum("nk,nkd->nd", self.weights, self.normals)
        return domain.project(moved.to(x).reshape(x.shape))

    def _weigh(self, flat: Tensor) -> None:
        """Solve for the weights in all of space."""
        ahead = self.offsets - torch.einsum("nkd,nd->nk", self.normals, flat)  # (n, k)
        gram = self.normals @ self.normals.mT  # (n, k, k)
        squares = gram.diagonal(dim1=1, dim2=2)
        columns = (part.unbind(1) for part in (gram, squares, squares > 0, ahead, self.weights))
        planes = list(zip(*columns, strict=True))
        for _ in range(_MOST_SWEEPS):
            before = self.weights.clone()
            for row, square, is_there, beyond, weight in planes:
                short = beyond - (row * self.weights).sum(1)
                weight.add_(torch.where(is_there, short / square, 0.0)).clamp_(min=0)
            if _has_settled(self.weights, before):
                break

    def _weigh_in_box(self, x: Tensor, box: Box) -> None:
        """Solve for the weights in a box, by Newton's steps in one weight after the other.

        What a weight moves is what no wall holds, so that the slope falls as the weight grows and
        no step goes too far. It aims a little beyond: a guess that falls short of a plane by the
        last rounding, on a face with the known error, has no crossing on the way to it.
        """
        moved, weights = x.flatten(1).double(), self.weights
        ahead = self.offsets - torch.einsum("nkd,nd->nk", self.normals, moved)
        aim = self.offsets + _BEYOND * ahead.abs().amax(1, keepdim=True)
        for _ in range(_MOST_SWEEPS):
            before = weights.clone()
            for i in range(_N_PLANES):
                normal = self.normals[:, i]
                inside = box.project(moved.reshape(x.shape)).flatten(1)
                square = torch.where(inside == moved, normal**2, 0.0).sum(1)
                short = aim[:, i] - (normal * inside).sum(1)
                step = torch.where(square > 0, short / square, 0.0)
                new = (weights[:, i] + step).clamp(min=0)
                moved = moved + (new - weights[:, i])[:, None] * normal
                weights[:, i] = new
            if _has_settled(weights, before):
                break


def _has_settled(weights: Tensor, before: Tensor) -> bool:
    """Whether a sweep has left all weights ``(n, k)`` as they were."""
    return bool(((weights - before).abs() <= 1e-9 * weights.amax(1, keepdim=True)).all())
