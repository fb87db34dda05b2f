"""Attacks under their former names; they warn, and go with version 0.4."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from trueboundary._checks import check_integer
from trueboundary.attacks._search import check_settings
from trueboundary.attacks.base import Attack
from trueboundary.attacks.manifold import ManifoldAttack
from trueboundary.attacks.nearest_error import NearestError
from trueboundary.attacks.target import Search, Target

__all__ = ["OffManifoldAttack"]


@dataclass(frozen=True)
class OffManifoldAttack(Attack):
    """Nearest error anywhere in the domain: now `NearestError`.

    With ``refine_steps=0`` it is the `ManifoldAttack` on whatever domain it is called with.

    Parameters
    ----------
    n_steps, n_restarts
        As in `NearestError`.
    step_size : float or None
        As in `ManifoldAttack`; without effect where slides refine what is found.
    refine_steps : int
        Largest number of slides along the boundary; 0 reports the first crossing.
    """

    n_steps: int = 1000
    step_size: float | None = None
    n_restarts: int = 1
    refine_steps: int = 100

    def __post_init__(self) -> None:
        check_settings(self.n_steps, self.step_size, self.n_restarts)
        check_integer("refine_steps", self.refine_steps, minimum=0)
        warnings.warn(
            "OffManifoldAttack is deprecated and goes with trueboundary 0.4; use NearestError, or "
            "ManifoldAttack with a domain for the first crossing.",
            DeprecationWarning,
            stacklevel=3,
        )

    def search(self, target: Target) -> Search:
        """Search with the attack that took its place."""
        if self.refine_steps > 0:
            return NearestError(self.n_steps, self.n_restarts, self.refine_steps).search(target)
        attack = ManifoldAttack("nearest", self.n_steps, self.step_size, self.n_restarts)
        return attack.search(target)
