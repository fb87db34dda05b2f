"""What is proven of classifiers of images: how far no decision changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trueboundary.experiments.images.trained_classifiers import OfClassifier
from trueboundary.experiments.networks.trained_networks import FINAL
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, RunResult


@dataclass(frozen=True)
class CertifiedImages(OfClassifier):
    """Distances from test points within which no change of a classifier's decision is possible.

    The points are those of an `AttackedImages` with the same task, number and seed. The proof is
    the one that is registered for the classifier's class; where none is, all distances are 0.

    Parameters
    ----------
    n_points, seed : int
        Number and seed of the points.
    model : str
        Which of the classifier's stored models.
    """

    n_points: int
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

    def in_words(self) -> str:
        """Return what is proven."""
        return f"proving distances to errors of the {self.name}, {self.task.name}"

    def cost(self) -> float:
        """Return about the time of all points; other proofs than the optimal one's take little."""
        start = RATES.run + self.task.seconds_of_points(self.n_points)
        if self.classifier is None:
            return start + self.n_points * self.task.fit.n_parameters * RATES.bracket
        return start + self.seconds_of_passes(1, self.n_points)

    def measure(self, context: Context) -> RunResult:
        """Prove; of errors that the proof finds, the distance (``upper``) and the class are kept.

        The distance is infinite where it finds none, and the class -1 where nothing tells.
        """
        import torch

        from trueboundary.classifiers import outputs, predicted
        from trueboundary.measure.proofs import default_proof

        model = self.load(context, self.model).eval()
        fit = context.inputs["fit"]
        x, _ = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        proof, why_not = default_proof(model)
        if proof is None:
            reason = why_not or "none is known for its class"
            nothing = {
                "lower": np.zeros(len(x)),
                "upper": np.full(len(x), np.inf),
                "other": np.full(len(x), -1),
            }
            return RunResult({"available": True, "certificate": "", "reason": reason}, nothing)
        twin, x = proof.in_float64(), x.double()
        decided = predicted(outputs(twin, x))
        found = proof.certificate.bracket(twin, x, decided)
        if found is not None:
            lower, upper, other = found.lower, found.upper, found.other
        else:
            result = proof.certificate(twin, x, decided)
            lower, upper = result.distance, result.distance.where(result.exact, math.inf)
            other = torch.full_like(decided, -1)
        summary = {"available": True, "certificate": proof.name, "reason": ""}
        parts = {"lower": lower, "upper": upper, "other": other}
        return RunResult(summary, {name: part.numpy(force=True) for name, part in parts.items()})
