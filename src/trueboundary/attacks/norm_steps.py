"""Attacks that step up the gradient and keep the length of the whole displacement in hand.

Both alternate a step of a known length along the gradient with a correction of the distance from
the sample: shorter where the point is an error, longer where it is none. They differ in how.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks._search import (
    FIRST_STEP,
    find_crossing,
    kicked,
    rescaled,
    uphill,
)
from trueboundary.attacks.base import Attack
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import dot, norm, per_sample

__all__ = ["DDN", "FMN"]

_FARTHEST = math.pi / 2  # of the domain's span: as far as a path on a sphere leads
_PAST = 1e-3  # of the first-order distance: past the boundary in spite of rounding


@dataclass(frozen=True, eq=False)
class _Point:
    """Where the walks of some samples stand after an evaluation."""

    length: Tensor  # (n,) of the path from the sample
    shortest: Tensor  # (n,) of the path to the nearest error seen, infinite where there is none
    ahead: Tensor  # (n,) first-order distance from here to the boundary, negative beyond it
    is_error: Tensor  # (n,)
    radius: Tensor  # (n,) as chosen last


@dataclass(frozen=True)
class _NormSteps(Attack):
    """What both share; the fields of each say the rest."""

    n_steps: int = 100
    gamma: float = 0.05

    def __post_init__(self) -> None:
        check_integer("n_steps", self.n_steps, minimum=1)
        if not 0 < self.gamma < 1:
            raise ValueError(f"expected gamma between 0 and 1, got {self.gamma}")

    @abstractmethod
    def _radius(self, here: _Point, part: float) -> Tensor:
        """Return how far from the samples the next points may or must lie, ``(n,)``."""

    @abstractmethod
    def _corrected(self, target: Target, points: Tensor, radius: Tensor) -> Tensor:
        """Return points brought to their radius about the samples."""

    @abstractmethod
    def _rate(self, part: float) -> float:
        """Return the length of the step, in units of the radius, after ``part`` of all steps."""

    def search(self, target: Target) -> Search:
        """Walk a fixed number of steps; bring the nearest error met back to the boundary."""
        begin = kicked(target, target.x, stream=0)
        status = begin.status
        nearest, shortest = begin.points.clone(), target.filled(math.inf)
        active = torch.arange(len(status), device=status.device)
        part, points, value = target, begin.points, begin.value
        gradient, direction, radius = begin.gradient, begin.direction, begin.length / FIRST_STEP
        going = (status == AttackStatus.BUDGET_SPENT.code) | (status == AttackStatus.FOUND.code)
        for step in range(self.n_steps + 1):
            length = norm(part.domain.log(part.x, points))
            is_error = value > 0
            nearer = is_error & (length < shortest[active])
            nearest[active[nearer]], shortest[active[nearer]] = points[nearer], length[nearer]
            if step == self.n_steps:
                break
            if not bool(going.all()):
                keep = going.nonzero().squeeze(1)
                active, part, points, value = (
                    active[keep],
                    part.take(keep),
                    points[keep],
                    value[keep],
                )
                gradient, direction, radius = gradient[keep], direction[keep], radius[keep]
                length, is_error = length[keep], is_error[keep]
            if active.numel() == 0:
                break
            ahead = -value / dot(gradient, direction)
            done = step / self.n_steps
            radius = self._radius(_Point(length, shortest[active], ahead, is_error, radius), done)
            radius = torch.minimum(radius, _FARTHEST * part.domain.span(points))
            moved = part.domain.move(points, direction, self._rate(done) * radius)
            points = self._corrected(part, moved, radius)
            value, gradient = part.wrongness_and_gradient(points)
            direction = uphill(part, points, gradient)
            going = value.isfinite() & direction.flatten(1).isfinite().all(1)
            status[active[~going]] = AttackStatus.NON_FINITE.code
        found = shortest.isfinite().nonzero().squeeze(1)
        status[found] = AttackStatus.FOUND.code
        if found.numel() > 0:
            part = target.take(found)
            nearest[found] = find_crossing(part, part.x, nearest[found])
        return Search(nearest, status)


@dataclass(frozen=True)
class DDN(_NormSteps):
    r"""Decoupled direction and norm (Rony et al. 2019): a walk on spheres that breathe.

    Each step goes up the unit gradient and is then scaled to a radius about the sample that shrinks
    where the last point was an error and grows where it was none:

    .. math:: x_k = x + \varepsilon_k \frac{\delta_k}{\|\delta_k\|}, \quad
        \delta_k = x_{k-1} - x + \alpha_k \frac{g}{\|g\|}, \quad
        \varepsilon_k = (1 \mp \gamma) \, \varepsilon_{k-1}.

    Parameters
    ----------
    n_steps : int
        Number of steps, each of one evaluation with its gradient.
    gamma : float
        By which part the radius shrinks or grows, between 0 and 1.

    Notes
    -----
    The length :math:`\alpha_k` falls by a cosine from 1 to .01, as published. What differs:

    - The first radius is the distance at which an error is expected to first order, not 1, and
      :math:`\alpha_k` is measured in the radius of the moment, so that neither the units of the
      points nor those of the logits matter.
    - The gradient is that of the wrongness, not of the cross-entropy. Of two classes both have the
      same direction.
    - The nearest error is moved back on its path to the sample until the boundary.
    - Points are not quantized.

    `NearestError` finds errors as near with fewer evaluations where the boundary is smooth.

    References
    ----------
    Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger (2019), *Decoupling direction and norm
    for efficient gradient-based L2 adversarial attacks and defenses*, CVPR, Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import DDN
    >>> plane = lambda points: points.sum(1) - 1
    >>> x, y = torch.zeros(1, 4), torch.tensor([0])
    >>> round(DDN()(plane, x, y).distance.item(), 4)
    0.5
    """

    def _radius(self, here: _Point, part: float) -> Tensor:
        del part
        return here.radius * torch.where(here.is_error, 1 - self.gamma, 1 + self.gamma)

    def _corrected(self, target: Target, points: Tensor, radius: Tensor) -> Tensor:
        return rescaled(target, points, radius)

    def _rate(self, part: float) -> float:
        return _cosine(1.0, 0.01, part)


@dataclass(frozen=True)
class FMN(_NormSteps):
    r"""Fast minimum-norm attack (Pintor et al. 2021) for the Euclidean norm.

    Each step goes up the unit gradient and is then projected into a ball about the sample. While no
    error is known its radius is the first-order estimate of the distance to the boundary,

    .. math:: \varepsilon_k = \|\delta_{k-1}\| + \frac{|w(x_{k-1})|}{\|\nabla w(x_{k-1})\|},

    of the wrongness w; later on it grows by a factor :math:`1 + \gamma_k` where the last point was
    no error, and shrinks to :math:`1 - \gamma_k` of itself where it was one, to no more than the
    distance of the nearest error.

    Parameters
    ----------
    n_steps : int
        Number of steps, each of one evaluation with its gradient.
    gamma : float
        First :math:`\gamma_k`, between 0 and 1; it falls by a cosine to a fiftieth.

    Notes
    -----
    The step's length falls by a cosine from 1 to .01. What differs from the published algorithm:

    - That length is measured in the radius of the moment, so that the units of the points do not
      matter.
    - The first-order estimate is taken a thousandth longer: on a linear classifier the point would
      else lie on the boundary itself, where rounding decides whether it is an error.
    - The nearest error is moved back on its path to the sample until the boundary.

    References
    ----------
    Pintor, Roli, Brendel and Biggio (2021), *Fast minimum-norm adversarial attacks through adaptive
    norm constraints*, NeurIPS, Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import FMN
    >>> plane = lambda points: points.sum(1) - 1
    >>> x, y = torch.zeros(1, 4), torch.tensor([0])
    >>> round(FMN()(plane, x, y).distance.item(), 4)
    0.5
    """

    def _radius(self, here: _Point, part: float) -> Tensor:
        gamma = _cosine(self.gamma, self.gamma / 50, part)
        unknown = here.shortest.isinf()
        first_order = here.length + (1 + _PAST) * here.ahead.clamp(min=0)
        usable = unknown & first_order.isfinite()
        outwards = torch.where(usable, first_order, (1 + gamma) * here.radius)
        inwards = torch.minimum((1 - gamma) * here.radius, here.shortest)
        return torch.where(here.is_error, inwards, outwards)

    def _corrected(self, target: Target, points: Tensor, radius: Tensor) -> Tensor:
        beyond = norm(target.domain.log(target.x, points)) > radius
        return torch.where(per_sample(beyond, points), rescaled(target, points, radius), points)

    def _rate(self, part: float) -> float:
        return _cosine(1.0, 0.01, part)


def _cosine(first: float, last: float, part: float) -> float:
    """Return what falls from first to last like half a cosine, after a part of the way."""
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2
