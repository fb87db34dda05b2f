"""HopSkipJump: an attack that sees labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks.base import Attack
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import norm, per_sample, unit

__all__ = ["HopSkipJump"]

_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of starts, in units of the domain or the sample
_MOST_HALVINGS = 30  # of a step
_PROBES = 1 << 32  # random numbers of the probes, apart from those of the starts


@dataclass(frozen=True)
class HopSkipJump(Attack):
    r"""HopSkipJump (Chen et al. 2020): the nearest error found from labels, without gradients.

    It starts from some error and halves the way to the sample until the boundary. There, points at
    random a little to all sides tell by their labels which way the errors lie,

    .. math:: \hat g = \frac{1}{B - 1} \sum_b (\varphi_b - \bar\varphi) \, u_b,
        \qquad \varphi_b = \pm 1 \text{ for the label of } x_t + \delta_t u_b,

    a step goes that way, as long as it can be and still end in an error, and the next halving of
    the way to the sample leads to a nearer point of the boundary.

    Parameters
    ----------
    n_steps : int
        Number of steps along the boundary.
    n_probes : int
        Probes B of the first step; step t takes :math:`B \sqrt t`.
    n_starts : int
        Largest number of random points to find a first error among.

    Notes
    -----
    It asks whether a point is an error and nothing else, so that it works where gradients say
    nothing: on labels alone, shattered or masked gradients, trees. Probes lie a d-th of the
    distance off in d dimensions, and step t is a :math:`\sqrt t`-th of the distance long before it
    is halved, as published. What differs: starts are random rays of growing length from the sample
    and random points of growing norm, not images of uniform noise, so that every domain has some
    and units do not matter; and the last halving goes to the resolution of the points.

    With the default settings it takes some 1,300 evaluations. In hundreds of dimensions that is far
    too few to be near, half as far again as the nearest error; and where random points are hardly
    ever errors, as on spheres in hundreds of dimensions, it finds none to start from. Compare it
    with an attack that sees gradients before concluding anything from its distances. What it is
    good for is the reverse: an error nearer than the gradients' means that they are masked.

    References
    ----------
    Chen, Jordan and Wainwright (2020), *HopSkipJumpAttack: a query-efficient decision-based
    attack*, IEEE Symposium on Security and Privacy, Algorithm 2.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import HopSkipJump
    >>> labels = lambda points: (points.sum(1) > 1).double() - 0.5  # steps: of zero gradient
    >>> x, y = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([0])
    >>> result = HopSkipJump()(labels, x, y)
    >>> 0.5 < result.distance.item() < 0.51, result.n_backward.item()
    (True, 0)
    """

    n_steps: int = 10
    n_probes: int = 50
    n_starts: int = 100

    def __post_init__(self) -> None:
        for name, minimum in (("n_steps", 0), ("n_probes", 2), ("n_starts", 1)):
            check_integer(name, getattr(self, name), minimum=minimum)

    def search(self, target: Target) -> Search:
        """Find an error, then step along the boundary."""
        endpoint, found = self._first_errors(target)
        rows = found.nonzero().squeeze(1)
        if rows.numel() > 0:
            endpoint[rows] = self._walk(target.take(rows), endpoint[rows])
        return Search.of(endpoint, found)

    def _first_errors(self, target: Target) -> tuple[Tensor, Tensor]:
        """Return errors among random points, and for which samples there are any."""
        found = torch.zeros_like(target.index, dtype=torch.bool)
        endpoint = target.x.clone()
        active, part = torch.arange(len(found), device=found.device), target
        for number in range(self.n_starts):
            unit_of_length = part.domain.reach(part.x, part.filled(0.0))
            length = _LENGTHS[number // 2 % len(_LENGTHS)] * unit_of_length
            noise = part.noise(number)
            if number % 2 == 0:
                direction = unit(part.domain.tangent(part.x, noise))
                points = part.domain.move(part.x, direction, length)
            else:
                points = part.domain.project(per_sample(length, noise) * unit(noise))
            error = _is_error(part, points)
            endpoint[active[error]], found[active[error]] = points[error], True
            keep = (~error).nonzero().squeeze(1)
            active, part = active[keep], part.take(keep)
            if active.numel() == 0:
                break
        return endpoint, found

    def _walk(self, target: Target, error: Tensor) -> Tensor:
        """Return errors at the boundary, each nearer than the one before."""
        domain, dim = target.domain, error[0].numel()
        coarse = dim**-1.5
        error = best = _halved(target, error, coarse)
        for step in range(1, self.n_steps + 1):
            distance = norm(domain.log(target.x, error))
            stream = _PROBES + step * _PROBES
            way = self._way(target, error, distance / dim, stream, step)
            error = _stepped(target, error, way, distance / math.sqrt(step))
            error = _halved(target, error, coarse)
            nearer = norm(domain.log(target.x, error)) < norm(domain.log(target.x, best))
            best = torch.where(per_sample(nearer, error), error, best)
        return _halved(target, best, 4 * torch.finfo(error.dtype).eps)

    def _way(
        self, target: Target, points: Tensor, length: Tensor, stream: int, step: int
    ) -> Tensor:
        """Return the unit direction towards the errors that the labels of probes tell."""
        n_probes = int(self.n_probes * math.sqrt(step))
        total, weighted = torch.zeros_like(points), torch.zeros_like(points)
        signs = torch.zeros_like(length)
        for number in range(n_probes):
            probe = unit(target.domain.tangent(points, target.noise(stream + number)))
            error = _is_error(target, target.domain.move(points, probe, length))
            sign = torch.where(error, 1.0, -1.0).to(points)
            total, signs = total + probe, signs + sign
            weighted = weighted + per_sample(sign, probe) * probe
        mean = signs / n_probes
        # Labels that all agree have no mean to be compared with: they say on their own.
        mean = torch.where(mean.abs() == 1, 0.0, mean)
        way = weighted - per_sample(mean, total) * total
        return unit(target.domain.tangent(points, way))


def _is_error(target: Target, points: Tensor) -> Tensor:
    """Whether each point is an error, ``(n,)``: all that the attack asks."""
    return target.wrongness(points) > 0


def _stepped(target: Target, error: Tensor, way: Tensor, length: Tensor) -> Tensor:
    """Return errors a step away, as long as ``length (n,)`` or the first half of it that is one."""
    active, part, reached = torch.arange(len(error), device=error.device), target, error.clone()
    for _ in range(_MOST_HALVINGS):
        points = part.domain.move(error[active], way[active], length[active])
        is_error = _is_error(part, points)
        reached[active[is_error]] = points[is_error]
        keep = (~is_error).nonzero().squeeze(1)
        active, part = active[keep], part.take(keep)
        if active.numel() == 0:
            break
        length[active] /= 2
    return reached


def _halved(target: Target, error: Tensor, tolerance: float) -> Tensor:
    """Return errors within ``tolerance`` of the path's length from the boundary, by bisection."""
    low, high, best = target.filled(0.0), target.filled(1.0), error.clone()
    for _ in range(math.ceil(-math.log2(tolerance))):
        middle = (low + high) / 2
        points = target.domain.interpolate(target.x, error, middle)
        is_error = _is_error(target, points)
        best = torch.where(per_sample(is_error, points), points, best)
        low, high = torch.where(is_error, low, middle), torch.where(is_error, middle, high)
    return best
