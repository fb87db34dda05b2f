"""DeepFool: one linearisation of every class after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks._search import find_crossing, kicked
from trueboundary.attacks.base import Attack
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import dot, norm, per_sample, unit

__all__ = ["DeepFool"]


@dataclass(frozen=True)
class DeepFool(Attack):
    r"""DeepFool (Moosavi-Dezfooli et al. 2016): steps to the nearest face of a linearised boundary.

    At each point all classes are linearised. To first order, the nearest point where class j
    overtakes the sample's class y is

    .. math:: \frac{|f_j - f_y|}{\|\nabla f_j - \nabla f_y\|}

    away; the step leads to the nearest of them, and a little beyond. The first error ends the walk.

    Parameters
    ----------
    n_steps : int
        Largest number of steps.
    n_classes : int
        How many of the other classes, those that lead most at each point, are linearised: each
        costs a pass back through the classifier. The published implementation takes nine.
    overshoot : float
        By which part each step is longer than the linearisation says.

    Notes
    -----
    Of two classes the linearisation is that of the margin; with a class to be reached it is that of
    its lead over all others. What differs from the published algorithm: steps follow the domain;
    a sample of which the gradient vanishes starts a little beside itself; and the error is moved
    back on its path to the sample until the boundary, where the published one stays ``overshoot``
    beyond.

    It is fast and not near: each step leads to the nearest point of a plane from where the last
    ended, not from the sample. On needle-like ellipsoids it ends at several times the distance.

    References
    ----------
    Moosavi-Dezfooli, Fawzi and Frossard (2016), *DeepFool: a simple and accurate method to fool
    deep neural networks*, CVPR, Algorithms 1 and 2.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import DeepFool
    >>> logits = lambda x: torch.stack([0 * x[:, 0], x[:, 0] - 1, 9 * (x[:, 1] - 0.5)], dim=1)
    >>> x, y = torch.zeros(1, 2), torch.tensor([0])
    >>> result = DeepFool()(logits, x, y)
    >>> round(result.distance.item(), 4), result.predicted.item()
    (0.5, 2)
    """

    n_steps: int = 50
    n_classes: int = 9
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        check_integer("n_steps", self.n_steps, minimum=1)
        check_integer("n_classes", self.n_classes, minimum=1)
        if not 0 < self.overshoot < math.inf:
            raise ValueError(f"expected overshoot positive and finite, got {self.overshoot}")

    def search(self, target: Target) -> Search:
        """Step to the nearest face until an error is met; go back to the boundary."""
        begin = kicked(target, target.x, stream=0)
        reached, status = begin.points.clone(), begin.status
        active = (status == AttackStatus.BUDGET_SPENT.code).nonzero().squeeze(1)
        part = target.take(active)
        for _ in range(self.n_steps):
            if active.numel() == 0:
                break
            points = reached[active]
            leads, gradients = part.leads_and_gradients(points, self.n_classes)
            direction, length = _nearest_face(part, points, leads, gradients)
            error = leads.amax(1) > 0  # rounded otherwise than in the batch of the last step
            length = torch.minimum((1 + self.overshoot) * length, part.domain.span(points))
            moved = part.domain.move(points, direction, length)
            broken = ~error & ~(leads.isfinite().any(1) & moved.flatten(1).isfinite().all(1))
            level = ~error & ~broken & (norm(direction) == 0)
            lost = ~error & ~broken & ~level & (moved == points).flatten(1).all(1)
            status[active[level]] = AttackStatus.CONVERGED.code
            status[active[lost]] = AttackStatus.UNRESOLVED.code
            status[active[broken]] = AttackStatus.NON_FINITE.code
            going = ~(error | broken | level | lost)
            reached[active[going]] = moved[going]
            error[going] = part.take(going.nonzero().squeeze(1)).wrongness(moved[going]) > 0
            status[active[error]] = AttackStatus.FOUND.code
            keep = (going & ~error).nonzero().squeeze(1)
            active, part = active[keep], part.take(keep)
        found = (status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if found.numel() > 0:
            part = target.take(found)
            reached[found] = find_crossing(part, part.x, reached[found])
        return Search(reached, status)


def _nearest_face(
    target: Target, points: Tensor, leads: Tensor, gradients: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the way to the nearest face that the linearisations know, and how far it is.

    The way is zero where no class comes nearer in any direction, and NaN where nothing is known.
    """
    best, shortest = torch.zeros_like(points), target.filled(math.inf)
    for lead, gradient in zip(leads.unbind(1), gradients.unbind(1), strict=True):
        direction = unit(target.domain.tangent(points, unit(gradient)))
        length = -lead / dot(gradient, direction)
        nearer = (length < shortest) & (norm(direction) > 0)
        best = torch.where(per_sample(nearer, points), direction, best)
        shortest = torch.where(nearer, length, shortest)
    known = shortest.isfinite() | gradients.flatten(1).isfinite().all(1)
    best = torch.where(per_sample(known, points), best, math.nan)
    return best, torch.where(shortest.isfinite(), shortest, 0.0)
