"""What to ask of a network during and after training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.classifiers import (
    ClassifierModule,
    QuadraticNetwork,
    evaluated,
    outputs,
    predicted,
)
from trueboundary.presentable import PresentableFields
from trueboundary.problems.streams import Stream
from trueboundary.training.adversaries import Adversary
from trueboundary.training.loop import train
from trueboundary.training.training_config import TrainingConfig


@dataclass(frozen=True, repr=False)
class LogitGap(PresentableFields):
    """How far the margins in train mode are from those in eval mode.

    A margin is the difference of two logits. Of more than two classes that of the pair counts
    which differs most at each point.

    Attributes
    ----------
    mean : float
        Mean absolute difference of the margins.
    maximum : float
        Largest absolute difference.
    disagreement : float
        Fraction of the points that the two modes classify differently.
    """

    mean: float
    maximum: float
    disagreement: float

    def __str__(self) -> str:
        """Say how far the two modes are apart."""
        return (
            f"margins in train mode differ from those in eval mode by {self.mean:.3g} on average, "
            f"{self.maximum:.3g} at most\n  {self.disagreement:.2%} of the points change class"
        )


@torch.no_grad()
def train_eval_gap(model: ClassifierModule, x: Tensor) -> LogitGap:
    """Measure how much batch normalisation's two modes differ on a batch.

    In train mode a network with batch normalisation uses the statistics of the batch, in eval
    mode running averages. The model itself, its averages included, is left as it is.

    Parameters
    ----------
    model : ClassifierModule
        The network.
    x : Tensor
        Points, shape ``(n, *event)``; `n` should be the batch size of training.

    Returns
    -------
    LogitGap
        Zero for a network without batch normalisation.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import ReLUNetwork
    >>> from trueboundary.training import train_eval_gap
    >>> network = ReLUNetwork(2, 8, 1, batch_norm=None, generator=torch.Generator().manual_seed(0))
    >>> train_eval_gap(network, torch.eye(2))
    margins in train mode differ from those in eval mode by 0 on average, 0 at most
      0.00% of the points change class
    """
    # No copies: those of pruned networks, or of what else holds computed tensors, are impossible.
    with evaluated(model):
        in_eval = outputs(model, x)
        in_train = outputs(model.train(), x)
    change = in_train - in_eval
    gap = change.abs() if change.ndim == 1 else change.amax(dim=1) - change.amin(dim=1)
    disagreement = (predicted(in_train) != predicted(in_eval)).double().mean()
    return LogitGap(gap.mean().item(), gap.max().item(), disagreement.item())


def steps_until_perfect(
    model: QuadraticNetwork,
    stream: Stream,
    config: TrainingConfig,
    *,
    radius: float = 1.3,
    check_every: int = 100,
    adversary: Adversary | None = None,
    progress: bool | Callable[[int], None] | None = None,
) -> int | None:
    """Train a quadratic network until it makes no error on either sphere, and count the steps.

    Parameters
    ----------
    model : QuadraticNetwork
        The network, trained in place.
    stream, config, adversary, progress
        As in `train`; the snapshots of `config` are replaced.
    radius : float
        Radius of the outer sphere.
    check_every : int
        Steps between two looks at the alphas; the answer is a multiple of it.

    Returns
    -------
    int or None
        Steps after which the network was first seen to be perfect; None if it never was.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import QuadraticNetwork
    >>> from trueboundary.problems import ConcentricSpheres, OnlineStream
    >>> from trueboundary.training import ExactWorstCase, TrainingConfig, steps_until_perfect
    >>> network = QuadraticNetwork(5, 10, generator=torch.Generator().manual_seed(0))
    >>> stream = OnlineStream(ConcentricSpheres(dim=5), batch_size=50, seed=0)
    >>> config = TrainingConfig(n_steps=2000, learning_rate=1e-3)
    >>> steps = steps_until_perfect(network, stream, config, adversary=ExactWorstCase("both"))
    >>> steps is not None and network.ellipsoid().is_perfect()
    True
    """
    check_every = check_integer("check_every", check_every, minimum=1)
    config = replace(config, snapshots=tuple(range(0, config.n_steps + 1, check_every)))
    result = train(
        model,
        stream,
        config,
        until=lambda _: model.ellipsoid().is_perfect(radius),
        progress=progress,
        adversary=adversary,
    )
    return result.n_steps if result.stopped_early else None
