"""Attacks that stay on the data manifold: here, on a sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from trueboundary.attacks._search import climb_to_error, climb_to_worst, find_crossing, slide
from trueboundary.attacks.base import Attack, AttackStatus, Search, Target
from trueboundary.attacks.domains import Domain, Sphere, norm, unit

__all__ = ["ManifoldAttack"]

Mode = Literal["nearest", "worst_case"]

_STREAMS_PER_RESTART = 1 << 32  # so that restarts and their steps never share random numbers


@dataclass(frozen=True)
class ManifoldAttack(Attack):
    """Projected gradient ascent along the manifold that the samples lie on.

    Each step takes the gradient of the margin, keeps its part tangent to the manifold, scales it
    to length ``step_size`` and follows the manifold (on a sphere: a great circle) for that
    length. Because the gradient is normalized, shifting or rescaling the logits changes nothing.

    Parameters
    ----------
    mode : {"nearest", "worst_case"}
        ``"nearest"`` stops at the first error of each sample and bisects the path back to it;
        ``"worst_case"`` climbs to convergence, with a step length that adapts, and returns the
        point of largest wrong margin, however far away it is.
    n_steps : int
        Largest number of steps of each start.
    step_size : float
        Length of a step along the manifold (L2, in units of ``x``); in worst-case mode that of
        the first step.
    n_restarts : int
        Number of starts: the first is the sample itself, the others follow random directions.
    refine_steps : int
        In nearest mode, the largest number of slides along the boundary that then shorten the
        distance of each error; 0 leaves the attack as it was published.

    Raises
    ------
    ValueError
        If the mode is unknown or a number is not positive.

    Notes
    -----
    The default of 1000 steps of length 0.001 is that of Gilmer et al. (2018), Section 5; it
    cannot reach an error farther than 1.0 along the manifold. By default the manifold is the
    sphere through each sample, `Sphere`.

    Examples
    --------
    >>> import torch
    >>> plane = lambda points: points[:, 0] - 0.6
    >>> x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([0])
    >>> result = ManifoldAttack()(plane, x, y)
    >>> result.x_adv
    tensor([[0.6000, 0.8000]])
    >>> result.messages()
    ['An error was found.']
    """

    mode: Mode = "nearest"
    n_steps: int = 1000
    step_size: float = 1e-3
    n_restarts: int = 1
    refine_steps: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"expected mode 'nearest' or 'worst_case', got {self.mode!r}")
        for name in ("n_steps", "step_size", "n_restarts"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")

    @property
    def default_domain(self) -> Domain:
        """The sphere through each sample."""
        return Sphere()

    @property
    def _attacks_misclassified(self) -> bool:
        return self.mode == "worst_case"

    def _run(self, target: Target) -> Search:
        run_once = self._nearest if self.mode == "nearest" else self._worst_case
        search, score = run_once(target, target.x, 0)
        for restart in range(1, self.n_restarts):
            stream = restart * _STREAMS_PER_RESTART
            other, other_score = run_once(target, _random_start(target, stream), stream)
            search, score = _better(search, score, other, other_score)
        return search

    def _nearest(self, target: Target, start: Tensor, stream: int) -> tuple[Search, Tensor]:
        """Run once; the score is minus the distance of the error, minus infinity without one."""
        climb = {"n_steps": self.n_steps, "step_size": self.step_size}
        inside, reached, status = climb_to_error(target, start, stream=stream + 1, **climb)
        score = torch.full_like(target.sign, -torch.inf)
        found = (status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if found.numel() > 0:
            part = target.take(found)
            error = find_crossing(part, inside[found], reached[found])
            error = find_crossing(part, part.x, error)  # the climb bends: the arc may cross first
            if self.refine_steps > 0:
                error = slide(part, error, n_steps=self.refine_steps)
            reached[found] = error
            score[found] = -part.domain.distance(part.x, error)
        return Search(reached, status), score

    def _worst_case(self, target: Target, start: Tensor, stream: int) -> tuple[Search, Tensor]:
        """Run once; the score is the wrongness reached."""
        del stream
        best, value, status = climb_to_worst(
            target, start, n_steps=self.n_steps, step_size=self.step_size
        )
        return Search(best, status), value


def _random_start(target: Target, stream: int) -> Tensor:
    """Return points a random direction and a random length of up to half the norm away."""
    noise = target.noise(stream)
    direction = unit(target.domain.tangent(target.x, noise))
    fraction = torch.frac(noise.flatten(1)[:, 0].abs() * 1e3)  # uniform, and the sample's own
    return target.domain.move(target.x, direction, fraction * norm(target.x) / 2)


def _better(
    first: Search, first_score: Tensor, second: Search, second_score: Tensor
) -> tuple[Search, Tensor]:
    """Keep for each sample the search with the larger score, the first one if they tie."""
    swap = second_score > first_score
    endpoint, status = first.endpoint.clone(), first.status.clone()
    endpoint[swap], status[swap] = second.endpoint[swap], second.status[swap]
    return Search(endpoint, status), torch.where(swap, second_score, first_score)
