"""The searches that attacks are made of: climb to a first error, bisect, climb to the worst."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trueboundary.attacks.base import AttackStatus, Target
from trueboundary.attacks.domains import norm, per_sample, unit

_MAX_KICKS = 10  # random steps granted to a sample whose gradient is exactly zero


def climb_to_error(
    target: Target, start: Tensor, *, n_steps: int, step_size: float, stream: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb the wrongness with steps of fixed length until each sample becomes an error.

    Returns the last points before (``inside``), the points reached (``reached``) and status
    codes; the status is FOUND where ``reached`` is an error.
    """
    inside, reached = start.clone(), start.clone()
    status = torch.full_like(target.index, AttackStatus.BUDGET_SPENT.code)
    n_kicks = torch.zeros_like(target.index)
    active, part = torch.arange(start.shape[0], device=start.device), target
    for step in range(n_steps + 1):
        points = reached[active]
        if step == n_steps:
            found = part.wrongness(points) >= 0
            status[active[found]] = AttackStatus.FOUND.code
            break
        value, gradient = part.wrongness_and_gradient(points)
        direction = unit(part.domain.tangent(points, gradient))

        found = value >= 0
        broken = ~found & ~(value.isfinite() & direction.flatten(1).isfinite().all(1))
        flat = ~found & ~broken & (norm(direction) == 0)
        n_kicks[active[flat]] += 1
        stuck = flat & (n_kicks[active] > _MAX_KICKS)
        status[active[found]] = AttackStatus.FOUND.code
        status[active[broken]] = AttackStatus.NON_FINITE.code
        status[active[stuck]] = AttackStatus.GRADIENT_VANISHED.code

        if bool((flat & ~stuck).any()):
            kick = unit(part.domain.tangent(points, part.noise(stream + step)))
            direction = torch.where(per_sample(flat, points), kick, direction)
        going = ~(found | broken | stuck)
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            active, part = active[keep], part.take(keep)
            points, direction = points[keep], direction[keep]
        if active.numel() == 0:
            break
        inside[active] = points
        length = torch.full_like(part.sign, step_size)
        reached[active] = part.domain.move(points, direction, length)
    return inside, reached, status


def bisect(target: Target, inside: Tensor, wrong: Tensor) -> Tensor:
    """Return an error next to a correctly classified point, on the path between the two.

    The path runs from ``inside`` (not an error) to ``wrong`` (an error); what comes back was
    itself evaluated as an error, and is as close to the crossing as the dtype resolves.
    """
    low = torch.zeros_like(target.sign)
    high = torch.ones_like(target.sign)
    best = wrong
    for _ in range(math.ceil(-math.log2(torch.finfo(wrong.dtype).eps))):
        middle = (low + high) / 2
        points = target.domain.interpolate(inside, wrong, middle)
        error = target.wrongness(points) >= 0
        high, low = torch.where(error, middle, high), torch.where(error, low, middle)
        best = torch.where(per_sample(error, best), points, best)
    return best


def climb_to_worst(
    target: Target, start: Tensor, *, n_steps: int, step_size: float, tolerance: float = 1e-7
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb the wrongness until no step helps; return points, their wrongness and status codes.

    A step that raises the wrongness is kept and the next one is longer; one that does not is
    taken back and the next one is half as long, so the wrongness only ever rises.
    """
    best = start.clone()
    status = torch.full_like(target.index, AttackStatus.BUDGET_SPENT.code)
    value = torch.empty_like(target.sign)
    direction = torch.zeros_like(start)
    length = torch.full_like(target.sign, step_size)
    active, part = torch.arange(start.shape[0], device=start.device), target
    for step in range(n_steps + 1):
        points = start if step == 0 else part.domain.move(best[active], direction, length)
        new_value, gradient = part.wrongness_and_gradient(points)
        new_direction = unit(part.domain.tangent(points, gradient))
        finite = new_value.isfinite() & new_direction.flatten(1).isfinite().all(1)
        better = finite if step == 0 else finite & (new_value > value[active])
        best[active[better]] = points[better]
        value[active[better]] = new_value[better]
        direction = torch.where(per_sample(better, points), new_direction, direction)
        length = torch.where(better, 1.5 * length, length / 2)

        if step == 0:
            length.fill_(step_size)
            value[active[~finite]] = -math.inf
            status[active[~finite]] = AttackStatus.NON_FINITE.code
            flat = finite & (norm(direction) == 0)
            status[active[flat]] = AttackStatus.GRADIENT_VANISHED.code
        going = (norm(direction) > 0) & (length > tolerance * step_size)
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            active, part = active[keep], part.take(keep)
            direction, length = direction[keep], length[keep]
        if active.numel() == 0:
            break
    return best, value, status
