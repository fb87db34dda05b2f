"""Attacks that stay on the data manifold: here, on a sphere."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks._search import (
    Outcome,
    best_of_starts,
    check_settings,
    climb_to_error,
    climb_to_worst,
    find_crossing,
)
from trueboundary.attacks.base import Attack
from trueboundary.attacks.nearest_error import NearestError
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import Domain, Sphere

__all__ = ["ManifoldAttack"]

Mode = Literal["nearest", "worst_case"]


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
    step_size : float or None
        Length of a step along the manifold (L2, in units of ``x``); in worst-case mode that of
        the first step. None takes a thousandth of the radius on a sphere, elsewhere a hundredth
        of the first-order distance from each start, so that the units of ``x`` do not matter.
    n_restarts : int
        Number of starts: the first is the sample itself, the others follow random directions.
    refine_steps : int
        Deprecated, goes with version 0.4: above 0 `NearestError` searches in nearest mode, with so
        many slides along the boundary, and ``step_size`` has no effect. Use that attack instead.

    Notes
    -----
    The default of 1000 steps of a thousandth of the radius is that of Gilmer et al. (2018),
    Section 5, on the unit sphere; it cannot reach an error farther than one radius along the
    manifold. By default the manifold is the sphere through each sample, `Sphere`. `NearestError`
    finds nearer errors on the same domain with fewer evaluations.

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
    step_size: float | None = None
    n_restarts: int = 1
    refine_steps: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"expected mode 'nearest' or 'worst_case', got {self.mode!r}")
        check_settings(self.n_steps, self.step_size, self.n_restarts)
        check_integer("refine_steps", self.refine_steps, minimum=0)
        if self.refine_steps > 0:
            warnings.warn(
                "refine_steps is deprecated and goes with trueboundary 0.4; use NearestError, "
                "which takes the place of the refined attack.",
                DeprecationWarning,
                stacklevel=3,
            )

    @property
    def default_domain(self) -> Domain:
        """The sphere through each sample."""
        return Sphere()

    @property
    def attacks_misclassified(self) -> bool:
        """Whether the search also climbs from points that are wrong already: in worst-case mode."""
        return self.mode == "worst_case"

    def search(self, target: Target) -> Search:
        """Climb along the manifold from every start; keep the best."""
        if self.refine_steps > 0 and self.mode == "nearest":
            return NearestError(self.n_steps, self.n_restarts, self.refine_steps).search(target)
        run = self._nearest if self.mode == "nearest" else self._worst_case
        return best_of_starts(target, run, self.n_restarts, step_size=self.step_size)

    def _nearest(self, target: Target, start: Tensor, stream: int) -> Outcome:
        inside, reached, status = climb_to_error(
            target, start, n_steps=self.n_steps, step_size=self.step_size, stream=stream
        )
        score = target.filled(-math.inf)
        found = (status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if found.numel() > 0:
            part = target.take(found)
            error = find_crossing(part, inside[found], reached[found])
            # The climb bends, so the direct path from the sample may cross the boundary earlier.
            error = find_crossing(part, part.x, error)
            reached[found] = error
            score[found] = -part.domain.distance(part.x, error)
        return Outcome(reached, status, score)

    def _worst_case(self, target: Target, start: Tensor, stream: int) -> Outcome:
        best, wrongness, status = climb_to_worst(
            target, start, n_steps=self.n_steps, step_size=self.step_size, stream=stream
        )
        return Outcome(best, status, score=wrongness)
