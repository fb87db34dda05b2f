"""Training: resumable Adam on streams of batches, and adversaries to train against."""

from trueboundary.training.adversaries import (
    Adversary,
    ExactWorstCase,
    OnManifoldAdversary,
    TowardsNearestError,
)
from trueboundary.training.checkpoints import CheckpointWarning
from trueboundary.training.diagnostics import LogitGap, steps_until_perfect, train_eval_gap
from trueboundary.training.loop import Loss, train
from trueboundary.training.losses import LargeMargin, WeightDecay
from trueboundary.training.steps import cross_entropy
from trueboundary.training.trades import TRADES, divergence
from trueboundary.training.training_config import TrainingConfig, TrainingResult

__all__ = [
    "TRADES",
    "Adversary",
    "CheckpointWarning",
    "ExactWorstCase",
    "LargeMargin",
    "LogitGap",
    "Loss",
    "OnManifoldAdversary",
    "TowardsNearestError",
    "TrainingConfig",
    "TrainingResult",
    "WeightDecay",
    "cross_entropy",
    "divergence",
    "steps_until_perfect",
    "train",
    "train_eval_gap",
]
