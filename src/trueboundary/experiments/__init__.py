"""The papers' figures, tables and claims: one module per experiment."""

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel
from trueboundary.experiments.claims import Claim, Judgement, Verdict, judge, read_claims
from trueboundary.experiments.registry import experiments, get_experiment
from trueboundary.runs import Scale

__all__ = [
    "Analysis",
    "Claim",
    "Experiment",
    "Judgement",
    "Measurement",
    "Panel",
    "Scale",
    "Verdict",
    "experiments",
    "get_experiment",
    "judge",
    "read_claims",
]
