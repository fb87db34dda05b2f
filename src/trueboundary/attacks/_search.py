"""The searches that attacks are made of.

Climb to a first error, find where a path crosses the boundary, climb to the worst point. All act on
a `Target`, one path per sample, and narrow it as samples finish.

An error is a point of wrongness > 0; see `Target`. No search takes a step without a measurable
effect as evidence of anything: margins and points are rounded, and below a certain length of step
nothing but the rounding is left to see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import dot, norm, per_sample, unit

FIRST_STEP = 0.01  # default step, of the distance at which an error is expected
_SHORTEST_STEP = 1e-7  # of the first step: a climb does not try shorter ones
_LONGEST_STEP = 1e6  # of the expected distance and of the point: nor longer ones
_CLEAR = 16.0  # a change above this many roundings of the margin is none of them
_STREAMS_PER_START = 1 << 32  # so that starts and their steps never share random numbers
_MAX_KICKS = 10  # random steps granted to a sample whose gradient is exactly zero


@dataclass(frozen=True, eq=False)
class Outcome(Search):
    """A search from one start, with the score ``(n,)`` by which starts are compared."""

    score: Tensor


class RunFromStart(Protocol):
    """A search from given points; random numbers come from ``stream`` and those that follow it."""

    def __call__(self, target: Target, start: Tensor, stream: int) -> Outcome:
        """Search from ``start (n, *event)``."""
        ...


def check_settings(n_steps: int, step_size: float | None, n_restarts: int) -> None:
    """Raise a ValueError for the first setting that is out of range."""
    for name, value in (("n_steps", n_steps), ("step_size", step_size), ("n_restarts", n_restarts)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"expected {name} to be positive and finite, got {value}")


def expected_distance(target: Target, points: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Return about how far an error is from each point, ``(n,)``, given wrongness and gradient.

    That is the first-order estimate as the domain sees it (`Domain.reach`), and never so little
    that a hundredth of it is lost in the rounding of the point.
    """
    slope = dot(gradient, uphill(target, points, gradient))
    reach = target.domain.reach(points, value.abs() / slope)
    rounding = torch.finfo(points.dtype).eps * norm(points)
    return torch.maximum(reach, 4 * rounding / FIRST_STEP)


def best_of_starts(
    target: Target, run: RunFromStart, n_starts: int, *, step_size: float | None
) -> Outcome:
    """Search from the samples themselves and from random points near them; keep the best score.

    Random points are up to half the norm of the sample away, or, where the problem gives the scale
    (``step_size`` None), five times the expected distance.
    """
    best = run(target, target.x, 0)
    if n_starts == 1:
        return best
    farthest = norm(target.x) / 2
    if step_size is None:
        farthest = 5 * expected_distance(target, target.x, *target.wrongness_and_gradient(target.x))
    for number in range(1, n_starts):
        stream = number * _STREAMS_PER_START
        other = run(target, _random_start(target, farthest, stream), stream + 1)
        swap = other.score > best.score
        best = Outcome(
            torch.where(per_sample(swap, best.endpoint), other.endpoint, best.endpoint),
            torch.where(swap, other.status, best.status),
            torch.where(swap, other.score, best.score),
        )
    return best


def rescaled(target: Target, points: Tensor, length: Tensor) -> Tensor:
    """Return what lies at path lengths ``length (n,)`` from the samples, towards or past points."""
    there = norm(target.domain.log(target.x, points))
    fraction = torch.where(there > 0, length / there, 1.0)
    return target.domain.interpolate(target.x, points, fraction)


def _random_start(target: Target, farthest: Tensor, stream: int) -> Tensor:
    """Return points a random direction and a random length of up to ``farthest (n,)`` away."""
    noise = target.noise(stream)
    direction = unit(target.domain.tangent(target.x, noise))
    # The normal distribution function makes a uniform number of an entry of the noise.
    fraction = torch.special.ndtr(noise.flatten(1)[:, 0])
    return target.domain.move(target.x, direction, fraction * farthest)


def uphill(target: Target, points: Tensor, gradient: Tensor) -> Tensor:
    """Return the unit direction along the domain that climbs fastest, zero where there is none."""
    return unit(target.domain.tangent(points, unit(gradient)))


def climb_to_error(
    target: Target, start: Tensor, *, n_steps: int, step_size: float | None, stream: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb the wrongness with steps of fixed length until each sample becomes an error.

    Without a ``step_size`` the length is a hundredth of the expected distance. Where the gradient
    is exactly zero the last direction is followed, or a random one where there is none yet.

    Returns the last points before (``inside``), the points reached (``reached``) and status
    codes; the status is FOUND where ``reached`` is an error.
    """
    inside, reached = start.clone(), start.clone()
    status = torch.full_like(target.index, AttackStatus.BUDGET_SPENT.code)
    n_kicks = torch.zeros_like(target.index)
    last, lengths = torch.zeros_like(start), target.filled(math.nan)
    if step_size is not None:
        lengths = target.filled(step_size)
    active, part = torch.arange(start.shape[0], device=start.device), target
    for step in range(n_steps + 1):
        points = reached[active]
        if step == n_steps:
            found = part.wrongness(points) > 0
            status[active[found]] = AttackStatus.FOUND.code
            break
        value, gradient = part.wrongness_and_gradient(points)
        direction = uphill(part, points, gradient)

        found = value > 0
        broken = ~found & ~(value.isfinite() & direction.flatten(1).isfinite().all(1))
        level = ~found & ~broken & (gradient.flatten(1) == 0).all(1)
        direction = torch.where(per_sample(level, points), last[active], direction)
        flat = ~found & ~broken & (norm(direction) == 0)
        n_kicks[active[flat]] += 1
        stuck = flat & (n_kicks[active] > _MAX_KICKS)
        status[active[found]] = AttackStatus.FOUND.code
        status[active[broken]] = AttackStatus.NON_FINITE.code
        status[active[stuck]] = AttackStatus.GRADIENT_VANISHED.code

        length = lengths[active]
        if bool(length.isnan().any()):  # a flat start says little of the distance: ask again
            estimate = FIRST_STEP * expected_distance(part, points, value, gradient)
            length = torch.where(length.isnan(), estimate, length)
            lengths[active[~flat]] = length[~flat]
        if bool((flat & ~stuck).any()):
            kick = unit(part.domain.tangent(points, part.noise(stream + step)))
            direction = torch.where(per_sample(flat, points), kick, direction)
        moved = part.domain.move(points, direction, length)
        # A step lost in the rounding of the point would be lost again.
        lost = ~found & ~broken & ~flat & (moved == points).flatten(1).all(1)
        status[active[lost]] = AttackStatus.UNRESOLVED.code
        going = ~(found | broken | stuck | lost)
        inside[active[going]], reached[active[going]] = points[going], moved[going]
        last[active[going & ~flat]] = direction[going & ~flat]
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            active, part = active[keep], part.take(keep)
        if active.numel() == 0:
            break
    return inside, reached, status


def find_crossing(
    target: Target, inside: Tensor, wrong: Tensor, *, tolerance: Tensor | None = None
) -> Tensor:
    """Return an error next to a correctly classified point, on the path between the two.

    The path runs from ``inside`` (not an error) to ``wrong`` (an error). What comes back was
    itself evaluated as an error, so rounding cannot leave it on the correct side. ``tolerance``
    ``(n,)`` is the width at which a bracket is narrow enough, as a fraction of the path; by
    default about what the dtype resolves.

    Each step interpolates linearly (the Illinois variant of false position, superlinear on smooth
    margins), and bisects where that falls behind bisection by more than one step, as in the ITP
    method of Oliveira and Takahashi (2020).
    """
    finest = 4 * torch.finfo(wrong.dtype).eps
    if tolerance is None:
        tolerance = target.filled(finest)
    best = wrong.clone()
    active, part = torch.arange(wrong.shape[0], device=wrong.device), target
    low, high = target.filled(0.0), target.filled(1.0)
    value_low, value_high = part.wrongness(inside), part.wrongness(wrong)
    last_side = target.filled(0.0)
    budget = 2 ** (1 + tolerance.log2().ceil().neg()) * tolerance  # width left to bisection
    for _ in range(3 + math.ceil(-math.log2(finest))):
        fraction = _next_fraction(low, high, value_low, value_high, tolerance, budget)
        points = part.domain.interpolate(inside, wrong, fraction)
        value = part.wrongness(points)
        error = value > 0
        best[active[error]] = points[error]
        # Illinois: an end that stays put twice counts half, else it would stay for ever.
        side = torch.where(error, 1.0, -1.0).to(value)
        weight = torch.where(side == last_side, 0.5, 1.0).to(value)
        value_low = torch.where(error, weight * value_low, value)
        value_high = torch.where(error, value, weight * value_high)
        low, high = torch.where(error, low, fraction), torch.where(error, fraction, high)
        last_side, budget = side, budget / 2
        wide = high - low > tolerance
        if not bool(wide.all()):
            keep = wide.nonzero().squeeze(1)
            active, part, inside, wrong = active[keep], part.take(keep), inside[keep], wrong[keep]
            low, high = low[keep], high[keep]
            value_low, value_high = value_low[keep], value_high[keep]
            tolerance, budget, last_side = tolerance[keep], budget[keep], last_side[keep]
        if active.numel() == 0:
            break
    return best


def _next_fraction(
    low: Tensor,
    high: Tensor,
    value_low: Tensor,
    value_high: Tensor,
    tolerance: Tensor,
    budget: Tensor,
) -> Tensor:
    """Interpolate, step a little past the crossing so that it is enclosed, guard by bisection."""
    middle, width = (low + high) / 2, high - low
    secant = low - value_low * width / (value_high - value_low)
    secant = torch.where(secant.isfinite(), secant, middle)
    towards_middle = (middle - secant).sign()
    inwards = secant + towards_middle * torch.minimum(tolerance / 2, (middle - secant).abs())
    reach = (budget - width / 2).clamp(min=0)  # how far off the middle the guard still allows
    return torch.where((inwards - middle).abs() <= reach, inwards, middle - towards_middle * reach)


def climb_to_worst(
    target: Target,
    start: Tensor,
    *,
    n_steps: int,
    step_size: float | None,
    stream: int,
    stop_at_error: bool = False,
    first_step: float = FIRST_STEP,
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb the wrongness until no step helps; return points, their wrongness and status codes.

    A step that raises the wrongness is kept and the next one is longer; one that lowers it is
    taken back and the next one is half as long, so the wrongness only ever rises. A step that
    changes nothing, like a series of ever shorter ones whose effect does not shrink with them, is
    below the resolution of the points or the margins: the next ones are longer than all before,
    until one raises the wrongness or clearly lowers it. Only the latter means convergence. Where
    the gradient is exactly zero the last direction is followed; a start without any is first kicked
    one step in a random direction. With ``stop_at_error`` a sample stops at its first error.

    Without a ``step_size`` the first step is a part, ``first_step``, of the expected distance.
    """
    begin = kicked(target, start, stream=stream, step_size=step_size, first_step=first_step)
    best, first, finite, status = begin.points, begin.length, begin.is_finite, begin.status
    value = torch.where(finite, begin.value, -math.inf)
    direction = torch.where(per_sample(finite, best), begin.direction, 0.0)
    flat = finite & (norm(direction) == 0)

    scale = torch.maximum(first / first_step, norm(start))
    longest = torch.minimum(2 * target.domain.span(start), _LONGEST_STEP * scale)
    trials = _Trials.start(first, _SHORTEST_STEP * first, longest)
    level = torch.zeros_like(flat)  # where the gradient at the best point is exactly zero
    active, part = torch.arange(start.shape[0], device=start.device), target
    going = finite & ~flat
    if stop_at_error:
        going &= value <= 0
    for _ in range(n_steps):
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            active, part, trials = active[keep], part.take(keep), trials.take(keep)
            direction, level = direction[keep], level[keep]
        if active.numel() == 0:
            break
        here = best[active]
        points = part.domain.move(here, direction, trials.length)
        new_value, gradient = part.wrongness_and_gradient(points)
        new_direction = uphill(part, points, gradient)
        finite = new_direction.flatten(1).isfinite().all(1)
        error = new_value > 0
        change = new_value - value[active]
        change = torch.where((finite | error) & ~change.isnan(), change, -math.inf)
        better = change > 0
        best[active[better]] = points[better]
        value[active[better]] = new_value[better]
        level = torch.where(better, (gradient.flatten(1) == 0).all(1), level)
        turned = per_sample(better & ~level & finite, points)
        direction = torch.where(turned, new_direction, direction)
        trials, ended = trials.after(change, (points == here).flatten(1).all(1))

        # A level top is what it looks like, whatever the rounding.
        unresolved = torch.where(
            level, AttackStatus.GRADIENT_VANISHED.code, AttackStatus.UNRESOLVED.code
        )
        why = torch.where(trials.is_clear, AttackStatus.CONVERGED.code, unresolved)
        at_top = norm(direction) == 0  # of what the domain leaves
        why = torch.where(at_top, AttackStatus.CONVERGED.code, why)
        status[active] = torch.where(ended | at_top, why, status[active])
        status[active[value[active] > 0]] = AttackStatus.FOUND.code
        going = ~(ended | at_top)
        if stop_at_error:
            going &= value[active] <= 0
    return best, value, status


@dataclass(frozen=True, eq=False)
class _Trials:
    """How long the next step of a climb is, and what the steps from the same point have shown.

    ``highest`` is the longest step that did not raise the wrongness and ``drop`` by how much it
    lowered it; ``noise`` is the largest effect of steps so much shorter that theirs should have
    been far less; ``quantum`` is the smallest change of the wrongness seen at all. A drop far above
    both is no rounding.
    """

    length: Tensor
    shortest: Tensor
    longest: Tensor
    highest: Tensor
    drop: Tensor
    noise: Tensor
    quantum: Tensor
    growing: Tensor

    @classmethod
    def start(cls, length: Tensor, shortest: Tensor, longest: Tensor) -> Self:
        """Return trials of which the first has the given length."""
        zero = torch.zeros_like(length)
        never = torch.full_like(length, math.inf)
        growing = torch.zeros_like(length, dtype=torch.bool)
        return cls(length, shortest, longest, zero, zero, zero, never, growing)

    def take(self, keep: Tensor) -> Self:
        """Return the trials of the samples at the positions ``keep``."""
        return replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)})

    @property
    def is_clear(self) -> Tensor:
        """Whether the longest step lowered the wrongness by more than rounding does, ``(n,)``."""
        quantum = torch.where(self.quantum.isfinite(), self.quantum, torch.zeros_like(self.quantum))
        return self.drop > _CLEAR * torch.maximum(self.noise, quantum)

    def after(self, change: Tensor, stayed: Tensor) -> tuple[Self, Tensor]:
        """Return the trials after one with this change of the wrongness, and which have ended.

        ``stayed (n,)`` says where the step did not even move the point.
        """
        zero, size = torch.zeros_like(change), change.abs()
        better = change > 0
        seen = size.isfinite() & (size > 0)
        quantum = torch.where(seen, torch.minimum(self.quantum, size), self.quantum)
        is_highest = ~better & (self.length > self.highest)
        is_tiny = ~better & size.isfinite() & (self.length <= self.highest / 64)
        so_far = replace(
            self,
            highest=torch.where(is_highest, self.length, self.highest),
            drop=torch.where(is_highest, size, self.drop),
            noise=torch.where(is_tiny, torch.maximum(self.noise, size), self.noise),
            quantum=quantum,
        )
        useless = (change == 0) | stayed | (self.length / 2 <= self.shortest)
        judged = ~better & (self.growing | useless)
        growing = judged & ~so_far.is_clear
        length = torch.where(growing, 2 * so_far.highest, self.length / 2)
        ended = judged & (so_far.is_clear | (length > self.longest))
        after = replace(
            so_far,
            length=torch.where(better, torch.minimum(1.5 * self.length, self.longest), length),
            highest=torch.where(better, zero, so_far.highest),
            drop=torch.where(better, zero, so_far.drop),
            noise=torch.where(better, zero, so_far.noise),
            growing=growing,
        )
        return after, ended


@dataclass(frozen=True, eq=False)
class Start:
    """Where a climb starts: points, their wrongness and its gradient, the way up, a first step."""

    points: Tensor  # (n, *event)
    value: Tensor  # (n,)
    gradient: Tensor  # (n, *event)
    direction: Tensor  # (n, *event), of length 1, or 0 where nothing leads up
    length: Tensor  # (n,)

    @property
    def is_finite(self) -> Tensor:
        """Whether wrongness and way up are finite numbers, ``(n,)``."""
        return self.value.isfinite() & self.direction.flatten(1).isfinite().all(1)

    @property
    def status(self) -> Tensor:
        """Status codes ``(n,)``: why a climb cannot start, FOUND, or BUDGET_SPENT where it can."""
        status = torch.full_like(self.value, AttackStatus.BUDGET_SPENT.code, dtype=torch.int64)
        status[norm(self.direction) == 0] = AttackStatus.GRADIENT_VANISHED.code
        status[~self.is_finite] = AttackStatus.NON_FINITE.code
        status[self.is_finite & (self.value > 0)] = AttackStatus.FOUND.code
        return status


def kicked(
    target: Target,
    start: Tensor,
    *,
    stream: int,
    step_size: float | None = None,
    first_step: float = FIRST_STEP,
) -> Start:
    """Return starts; those of which nothing leads up are moved one first step at random.

    Without a ``step_size`` the first step is a part, ``first_step``, of the expected distance.
    """
    value, gradient = target.wrongness_and_gradient(start)
    direction = uphill(target, start, gradient)
    length = _first_length(target, start, value, gradient, step_size, first_step)
    flat = (norm(direction) == 0).nonzero().squeeze(1)
    points = start.clone()
    if flat.numel() > 0:
        part = target.take(flat)
        kick = unit(part.domain.tangent(start[flat], part.noise(stream)))
        points[flat] = part.domain.move(start[flat], kick, length[flat])
        value[flat], gradient[flat] = part.wrongness_and_gradient(points[flat])
        direction[flat] = uphill(part, points[flat], gradient[flat])
        length[flat] = _first_length(
            part, points[flat], value[flat], gradient[flat], step_size, first_step
        )
    return Start(points, value, gradient, direction, length)


def _first_length(
    target: Target,
    points: Tensor,
    value: Tensor,
    gradient: Tensor,
    step_size: float | None,
    first_step: float,
) -> Tensor:
    if step_size is not None:
        return torch.full_like(value, step_size)
    return first_step * expected_distance(target, points, value, gradient)
