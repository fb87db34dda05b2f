"""The nearest error off the data manifold."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trueboundary.attacks._search import (
    Outcome,
    best_of_starts,
    check_settings,
    nearest_error,
)
from trueboundary.attacks.base import Attack
from trueboundary.attacks.target import Search, Target

__all__ = ["OffManifoldAttack"]


@dataclass(frozen=True)
class OffManifoldAttack(Attack):
    """Nearest error anywhere in the domain, wherever the data may lie.

    The attack climbs the margin until it meets an error, goes back to the boundary along the
    straight line to the sample, and slides along the boundary to the nearest error. For
    concentric spheres call it with ``domain=Shell(1.0, radius)``: the errors between the spheres,
    where no data lie. By default it searches all of space.

    Parameters
    ----------
    n_steps : int
        Largest number of steps of each start.
    step_size : float or None
        Length of a step (L2, in units of ``x``): of the first one, as steps lengthen while they
        help, or of every one if ``refine_steps`` is 0. None takes a hundredth of the first-order
        distance from each start, so that the units of ``x`` do not matter.
    n_restarts : int
        Number of starts: the first is the sample itself, the others are random points near it.
    refine_steps : int
        Largest number of slides along the boundary; with 0 the first crossing is reported.

    Notes
    -----
    Gilmer et al. (2018), Section 3, report the mean distance of such errors and their mean norm;
    the norm is that of ``result.x_adv``.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import OffManifoldAttack, Shell
    >>> between = lambda points: points.norm(dim=1) - 1.15
    >>> x, y = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0])
    >>> result = OffManifoldAttack()(between, x, y, domain=Shell(1.0, 1.3))
    >>> round(result.distance.item(), 4), round(result.x_adv.norm().item(), 4)
    (0.15, 1.15)
    """

    n_steps: int = 1000
    step_size: float | None = None
    n_restarts: int = 1
    refine_steps: int = 100

    def __post_init__(self) -> None:
        check_settings(self.n_steps, self.step_size, self.n_restarts, self.refine_steps)

    def search(self, target: Target) -> Search:
        """Climb, go back to the boundary and slide along it, from every start."""
        return best_of_starts(target, self._nearest, self.n_restarts, step_size=self.step_size)

    def _nearest(self, target: Target, start: Tensor, stream: int) -> Outcome:
        return nearest_error(
            target,
            start,
            n_steps=self.n_steps,
            step_size=self.step_size,
            refine_steps=self.refine_steps,
            stream=stream,
        )
