"""Settings and results of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from trueboundary._checks import check_integer, check_real
from trueboundary.plurals import plural
from trueboundary.presentable import PresentableFields

Schedule = Literal["constant", "linear"]
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: Adam on the sigmoid cross-entropy of the margin.

    The batches, and with them the batch size and the seed, belong to the stream.

    Parameters
    ----------
    n_steps : int
        Number of Adam steps.
    learning_rate : float
        Step length of Adam, positive.
    schedule : {"constant", "linear"}
        ``"linear"`` lowers the rate from `learning_rate` at the first step towards 0 at the end.
    snapshots : tuple of int
        Numbers of completed steps, from 0 (before training) to `n_steps`, at which ``on_snapshot``
        and ``until`` are called.
    checkpoint_every : int, optional
        Steps between checkpoints, where a checkpoint file is given; one is always written at the
        end. It has no influence on the result.
    log_every : int
        Steps over which the recorded losses are averaged.
    betas : tuple of float
        Decay rates of Adam's two moments.
    adam_eps : float
        Adam's constant in the denominator.

    Examples
    --------
    >>> from trueboundary.training import TrainingConfig
    >>> TrainingConfig(n_steps=1000, schedule="linear").rate_at(500)
    5e-05
    """

    n_steps: int
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"
    snapshots: tuple[int, ...] = ()
    checkpoint_every: int | None = None
    log_every: int = 100
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("n_steps", "log_every", "checkpoint_every"):
            value = getattr(self, name)
            if name != "checkpoint_every" or value is not None:
                object.__setattr__(self, name, check_integer(name, value, minimum=1))
        for name in ("learning_rate", "adam_eps"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), above=0.0))
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule must be 'constant' or 'linear', got {self.schedule!r}.")
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise ValueError(f"betas must lie in [0, 1), got {self.betas}.")
        snapshots = sorted({check_integer("a snapshot", s, minimum=0) for s in self.snapshots})
        if snapshots and snapshots[-1] > self.n_steps:
            raise ValueError(
                f"a snapshot at step {snapshots[-1]} is beyond n_steps = {self.n_steps}."
            )
        object.__setattr__(self, "snapshots", tuple(snapshots))
        object.__setattr__(self, "betas", tuple(self.betas))

    def rate_at(self, step: int) -> float:
        """Return the learning rate of step `step`, counted from 0."""
        if self.schedule == "linear":
            return self.learning_rate * (1 - step / self.n_steps)
        return self.learning_rate


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult(PresentableFields):
    """What a training run leaves behind, besides the trained model.

    Attributes
    ----------
    steps : ndarray
        Completed steps at the end of each logging interval, int64.
    losses : ndarray
        Mean training loss over each of these intervals in nats, float64.
    n_steps : int
        Steps completed; fewer than configured only if ``until`` ended the run.
    resumed_from : int
        Step of the checkpoint that this call continued, 0 for a fresh run.
    snapshots : dict
        What ``on_snapshot`` returned, arrays by name, by step.
    stopped_early : bool
        Whether ``until`` was met.
    """

    steps: Array
    losses: Array
    n_steps: int
    resumed_from: int = 0
    snapshots: dict[int, dict[str, Array]] = field(default_factory=dict)
    stopped_early: bool = False

    def __str__(self) -> str:
        """Say how far the training came in one line, and its losses in another."""
        went = f"{plural(self.n_steps, 'step')} done"
        went += f", from {self.resumed_from:,} on" if self.resumed_from else ""
        went += ", stopped early" if self.stopped_early else ""
        if not len(self.losses):
            return went
        return f"{went}\n  mean loss {self.losses[0]:.4g} at first, {self.losses[-1]:.4g} at last"

    def to_dict(self) -> dict[str, Any]:
        """Return steps, losses and how it ended as plain values; snapshots are only named."""
        return super().to_dict() | {"snapshots": sorted(self.snapshots)}
