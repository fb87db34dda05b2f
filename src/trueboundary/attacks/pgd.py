"""Projected gradient ascent in a ball about each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks._search import find_crossing, kicked, rescaled, uphill
from trueboundary.attacks.base import Attack
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import norm, per_sample, unit

__all__ = ["PGD"]

_MOST_SHORTENINGS = 30


@dataclass(frozen=True)
class PGD(Attack):
    r"""Projected gradient ascent (Madry et al. 2018) in the Euclidean ball about each sample.

    .. math:: x_{k+1} = \Pi_\varepsilon\Bigl(x_k + \alpha \frac{g}{\|g\|}\Bigr)

    Only errors within the radius count as found, so that what it answers is whether a sample is
    robust at this radius. It searches no farther: `NearestError` tells how far the error is.

    Parameters
    ----------
    radius : float
        Radius of the ball, in units of the points.
    n_steps : int
        Largest number of steps from each start.
    step_size : float
        Length of a step, in units of ``radius / n_steps``, so that it takes at least ``n_steps /
        step_size`` steps to cross the ball's radius.
    n_restarts : int
        Number of starts: the first is the sample itself, the others are random points of the ball.
        Samples with an error start no more.
    to_boundary : bool
        Whether an error is moved back on its path to the sample until the boundary, so that its
        distance means more than that it lies in the ball.

    Notes
    -----
    What differs from the published algorithm: the gradient is that of the wrongness, not of the
    cross-entropy, so that neither scale nor saturation of the logits matters; a sample is done at
    its first error; and the first start is the sample itself, not a random point. On a sphere the
    ball is what it cuts out of the sphere.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras and Vladu (2018), *Towards deep learning models resistant to
    adversarial attacks*, ICLR, Section 2.1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import PGD
    >>> plane = lambda points: points.sum(1) - 1  # half a unit from the origin
    >>> x, y = torch.zeros(1, 4), torch.tensor([0])
    >>> [PGD(radius)(plane, x, y).success.item() for radius in (0.45, 0.55)]
    [False, True]
    """

    radius: float
    n_steps: int = 40
    step_size: float = 2.5
    n_restarts: int = 1
    to_boundary: bool = True

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_restarts"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("radius", "step_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"expected {name} to be positive and finite, got {getattr(self, name)}"
                )

    def search(self, target: Target) -> Search:
        """Climb in the ball from every start until an error is met."""
        reached, status = self._climb(target, target.x, stream=0)
        for number in range(1, self.n_restarts):
            rest = (status != AttackStatus.FOUND.code).nonzero().squeeze(1)
            if rest.numel() == 0:
                break
            part, stream = target.take(rest), number << 32
            start = self._random(part, stream)
            ended, why = self._climb(part, start, stream=stream + 1)
            found = why == AttackStatus.FOUND.code
            reached[rest[found]], status[rest[found]] = ended[found], why[found]
        found = (status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if self.to_boundary and found.numel() > 0:
            part = target.take(found)
            reached[found] = find_crossing(part, part.x, reached[found])
        return Search(reached, status)

    def _climb(self, target: Target, start: Tensor, *, stream: int) -> tuple[Tensor, Tensor]:
        """Climb from each of ``start (n, *event)``; return points and status codes."""
        step = self.step_size * self.radius / self.n_steps
        begin = kicked(target, start, stream=stream, step_size=step)
        reached, direction, status = (
            self._inside(target, begin.points),
            begin.direction,
            begin.status,
        )
        active = (status == AttackStatus.BUDGET_SPENT.code).nonzero().squeeze(1)
        part, direction = target.take(active), direction[active]
        for _ in range(self.n_steps):
            if active.numel() == 0:
                break
            moved = part.domain.move(reached[active], direction, part.filled(step))
            points = self._inside(part, moved)
            value, gradient = part.wrongness_and_gradient(points)
            direction = uphill(part, points, gradient)
            finite = value.isfinite() & direction.flatten(1).isfinite().all(1)
            stays = finite & (value <= 0) & (norm(direction) == 0)
            reached[active] = points
            status[active[stays]] = AttackStatus.CONVERGED.code
            status[active[~finite]] = AttackStatus.NON_FINITE.code
            status[active[value > 0]] = AttackStatus.FOUND.code
            keep = (finite & ~stays & (value <= 0)).nonzero().squeeze(1)
            active, part, direction = active[keep], part.take(keep), direction[keep]
        return reached, status

    def _random(self, target: Target, stream: int) -> Tensor:
        """Return points of the ball in random directions, at distances spread evenly."""
        noise = target.noise(stream)
        # The length of normal noise does not depend on its direction.
        half_dim = target.filled(noise[0].numel() / 2)
        share = torch.special.gammainc(half_dim, norm(noise).square() / 2)
        direction = unit(target.domain.tangent(target.x, noise))
        points = target.domain.move(target.x, direction, share * self.radius)
        return self._inside(target, points)

    def _inside(self, target: Target, points: Tensor) -> Tensor:
        """Return points of which those outside the ball are brought back to its edge.

        Along a sphere the straight distance grows ever slower with the path, so that shortening
        the path by the quotient of radius and distance approaches the edge from outside.
        """
        edge = self.radius * (1 - 4 * torch.finfo(points.dtype).eps)
        for _ in range(_MOST_SHORTENINGS):
            distance = target.domain.distance(target.x, points)
            outside = distance > self.radius
            if not bool(outside.any()):
                break
            length = norm(target.domain.log(target.x, points)) * edge / distance
            nearer = rescaled(target, points, length)
            points = torch.where(per_sample(outside, points), nearer, points)
        return points
