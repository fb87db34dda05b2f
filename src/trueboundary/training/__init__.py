"""Training: resumable Adam on streams of batches, and adversaries to train against."""

from trueboundary.training.adversaries import Adversary, ExactWorstCase, OnManifoldAdversary
from trueboundary.training.checkpoints import CheckpointWarning
from trueboundary.training.diagnostics import LogitGap, steps_until_perfect, train_eval_gap
from trueboundary.training.loop import Loss, train
from trueboundary.training.steps import cross_entropy
from trueboundary.training.trades import TRADES, divergence
from trueboundary.training.training_config import TrainingConfig, TrainingResult

__all__ = [
    "TRADES",
    "Adversary",
    "CheckpointWarning",
    "ExactWorstCase",
    "LogitGap",
    "Loss",
    "OnManifoldAdversary",
    "TrainingConfig",
    "TrainingResult",
    "cross_entropy",
    "divergence",
    "steps_until_perfect",
    "train",
    "train_eval_gap",
]
