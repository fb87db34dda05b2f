"""Errors of trained networks on spheres of any norm, at random points and found by attack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trueboundary.experiments.networks.attacked_points import PIECE_POINTS
from trueboundary.experiments.networks.trained_networks import OfNetwork
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, Pieced, Run, RunResult, joined
from trueboundary.runs.config import Arrays

if TYPE_CHECKING:
    from trueboundary.classifiers import ClassifierModule

#: Halfway between the spheres.
MIDDLE = 1.15
_BLOCK_SIZE = 5000


@dataclass(frozen=True)
class NormScan(OfNetwork):
    """Errors among random points of given norms, against the rule "outer above `middle`".

    Parameters
    ----------
    norms : tuple of float
        Norms, none equal to `middle`.
    n_points : int
        Random points per norm.
    middle : float
        Norm above which a point counts as outer.
    """

    norms: tuple[float, ...]
    n_points: int
    middle: float = MIDDLE
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")
        _check_norms(self.norms, self.middle)

    def in_words(self) -> str:
        """Return what is counted."""
        return f"counting the errors of the {self.network.name} at every norm"

    def cost(self) -> float:
        """Two operations per parameter and point."""
        return len(self.norms) * self.n_points * self.network.seconds_per_point

    def compute(self, context: Context) -> RunResult:
        """Count the errors at each norm."""
        import torch

        from trueboundary.classifiers import margin, misclassified
        from trueboundary.problems import block_generator

        model = self.load(context)
        density = self.network.problem().density(0)
        n_errors = np.zeros(len(self.norms), dtype=np.int64)
        for index, norm in enumerate(self.norms):
            generator = block_generator(self.seed, index, purpose="norms")
            for start in range(0, self.n_points, _BLOCK_SIZE):
                n = min(_BLOCK_SIZE, self.n_points - start)
                x = norm * density.sample((n,), generator=generator)
                with torch.no_grad():
                    margins = margin(model, x.to(self.network.device))
                n_errors[index] += int(misclassified(margins, int(norm > self.middle)).sum())
            context.progress((index + 1) / len(self.norms))
        return RunResult(
            {"n_points": self.n_points}, {"norm": np.array(self.norms), "n_errors": n_errors}
        )


@dataclass(frozen=True)
class NormAttack(Pieced, OfNetwork):
    """Errors found by attack on spheres of given norms, against the rule of `NormScan`.

    Parameters
    ----------
    n_steps, n_restarts : int
        Budget of the worst-case manifold attack.
    step_size : float
        Length of its first step, as a fraction of the norm.
    """

    version: ClassVar[int] = 2  # 1 took a margin of 0 for an error

    norms: tuple[float, ...]
    n_points: int
    n_steps: int
    n_restarts: int = 1
    step_size: float = 1e-2
    middle: float = MIDDLE
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points", "n_steps", "n_restarts")
        _check_norms(self.norms, self.middle)

    def pieces(self) -> dict[str, AttackedNorm]:
        """Return a norm each."""
        if self.n_points * self.n_restarts <= PIECE_POINTS:
            return {}
        return {
            f"norm-{index}": AttackedNorm(**self.field_values(), index=index)
            for index in range(len(self.norms))
        }

    def in_words(self) -> str:
        """Return what is searched for."""
        return f"searching for errors of the {self.network.name} at every norm"

    def whole_cost(self) -> float:
        """Return about the time of the attack on all norms."""
        return self.seconds() * len(self.norms)

    def seconds(self) -> float:
        """Return about the time of one norm, whose starts rest after a third of the steps."""
        n_starts = self.n_points * self.n_restarts
        return RATES.run + self.network.seconds_of_attack(n_starts, self.n_steps // 3)

    def whole(self, context: Context) -> RunResult:
        """Attack each norm to convergence."""
        model = self.load(context)
        found = []
        for index in range(len(self.norms)):
            found.append(self.attack_norm(model, index))
            context.progress((index + 1) / len(self.norms))
        return RunResult({"n_points": self.n_points}, joined(found))

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Return all norms."""
        found = [piece.arrays for piece in pieces.values()]
        return RunResult({"n_points": self.n_points}, joined(found))

    def attack_norm(self, model: ClassifierModule, index: int) -> Arrays:
        """Attack `model` on the sphere of one norm: errors found and the worst margin."""
        import torch

        from trueboundary.attacks import ManifoldAttack
        from trueboundary.problems import block_generator

        norm = self.norms[index]
        generator = block_generator(self.seed, index, purpose="attacked norms")
        density = self.network.problem().density(0)
        x = norm * density.sample((self.n_points,), generator=generator)
        label = int(norm > self.middle)
        attack = ManifoldAttack("worst_case", self.n_steps, self.step_size * norm, self.n_restarts)
        y = torch.full((self.n_points,), label)
        result = attack(model, x.to(self.network.device), y, generator=generator)
        margins = result.endpoint_margin
        return {
            "norm": np.array([norm]),
            "n_found": np.array([int(result.success.sum())], dtype=np.int64),
            "worst_margin": np.array([float(margins.min() if label else margins.max())]),
        }


@dataclass(frozen=True, kw_only=True)
class AttackedNorm(NormAttack):
    """A piece of a large `NormAttack`, whose fields it has: the sphere of norm number `index`."""

    index: int

    def pieces(self) -> dict[str, AttackedNorm]:
        """Return none: a piece is not cut further."""
        return {}

    def whole_cost(self) -> float:
        """Return about the time of one norm."""
        return self.seconds()

    def whole(self, context: Context) -> RunResult:
        """Attack the same points, from the same starts, as a job in one piece would."""
        model = self.load(context)
        return RunResult({}, self.attack_norm(model, self.index))


def _check_norms(norms: tuple[float, ...], middle: float) -> None:
    if not norms or any(not (math.isfinite(norm) and norm > 0) for norm in norms):
        raise ValueError(f"norms must be positive numbers, got {norms}")
    if middle in norms:
        raise ValueError(f"a point of norm {middle} has no right class; leave that norm out")
