"""Errors of a network with better statistics of its batch normalisation than training left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.trained_networks import SPHERES, OfNetwork
from trueboundary.runs import Context, RunResult

if TYPE_CHECKING:
    from trueboundary.classifiers import ClassifierModule
    from trueboundary.problems import Problem

#: Points per batch of the new statistics, half of them of either class.
_BATCH = 2000


@dataclass(frozen=True)
class RestatedCount(OfNetwork):
    """Errors on random points after the statistics of batch normalisation were taken again.

    Training keeps running averages of the means and variances of its batches, with a memory of
    about ten batches of 50 points: they are noisy, and belong to weights that have moved since.
    Here they are those of `n_statistics` fresh points under the final weights.
    """

    version: ClassVar[int] = 1

    n_points: int
    n_statistics: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")
        self.check_at_least(2 * _BATCH, "n_statistics")

    def in_words(self) -> str:
        """Return what is counted."""
        return f"counting the errors of the {self.network.name} with statistics taken again"

    def cost(self) -> float:
        """Two operations per parameter and point, of both spheres."""
        return (2 * self.n_points + self.n_statistics) * self.network.seconds_per_point

    def compute(self, context: Context) -> RunResult:
        """Take the statistics again, and count among the points of an `ErrorCount`."""
        model = self.load(context)
        restate_norms(model, self.network.problem(), self.n_statistics, seed=self.seed)
        counts = ErrorCount(self.network, self.n_points, seed=self.seed).count(
            model, context.checkpoint / "tally.json", context.progress
        )
        return RunResult(
            {f"n_errors_{sphere}": counts[sphere] for sphere in SPHERES}
            | {"n_points": self.n_points}
        )


def restate_norms(
    model: ClassifierModule, problem: Problem, n_points: int, *, seed: int = 0
) -> None:
    """Give every batch normalisation of `model` the mean statistics of large fresh batches.

    Parameters
    ----------
    model : ClassifierModule
        Changed in place; evaluated as before otherwise.
    problem : Problem
        Where the points come from, half of each batch of either class.
    n_points : int
        How many; a whole number of batches of 2,000 is drawn.
    seed : int
        Of the points.
    """
    import torch

    norms = [each for each in model.modules() if isinstance(each, torch.nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average of all batches, each with the same weight
        norm.train()
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    device = next(model.parameters()).device
    with torch.no_grad():
        for _ in range(n_points // _BATCH):
            halves = [
                problem.sample_class(_BATCH // 2, label, generator=generator, dtype=dtype)
                for label in range(2)
            ]
            model(torch.cat(halves).to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
