"""What the cards of the zoo say was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.networks.ellipsoids import count_wrong
from trueboundary.release.zoo_contents import Draft
from trueboundary.zoo.loading import classifier_from

if TYPE_CHECKING:
    from trueboundary.problems import Problem

# Of a measured number; more would differ from machine to machine.
_DIGITS = 6


@dataclass(frozen=True)
class Effort:
    """How much is measured for a card.

    Parameters
    ----------
    n_points, n_on_spheres : int
        Random points per class behind an error rate that has no closed form: of images, and on
        spheres.
    n_distances : int
        Points per class whose distance is bracketed.
    """

    n_points: int = 10_000
    n_on_spheres: int = 1_000_000
    n_distances: int = 100


@dataclass(frozen=True)
class Subject:
    """What is measured: an entry to be, as it will be loaded.

    Parameters
    ----------
    draft : Draft
        The entry.
    spec, arrays : dict
        What it is made of.
    problem : Problem
        The problem that it is, or was trained on.
    """

    draft: Draft
    spec: dict[str, Any]
    arrays: dict[str, Any]
    problem: Problem

    def n_points(self, effort: Effort) -> int:
        """Return the number of points behind an error rate."""
        from trueboundary.problems import ConcentricSpheres

        on_spheres = isinstance(self.problem, ConcentricSpheres)
        return effort.n_on_spheres if on_spheres else effort.n_points


def how(subject: Subject, effort: Effort) -> str:
    """Return the Python that measures it again, for a reader who has imported the names."""
    draft = subject.draft
    classifier = (
        f"zoo.problem('{draft.name}').bayes_classifier(dtype=torch.float64)"
        if draft.kind == "problem"
        else f"zoo.load('{draft.name}')"
    )
    return (
        f"classifier, problem = {classifier}, zoo.problem('{draft.problem}'); "
        f"error_rate(classifier, problem, n_points={subject.n_points(effort)}); "
        f"distances(classifier, problem, n_points={effort.n_distances})"
    )


def measure(subject: Subject, effort: Effort) -> dict[str, Any]:
    """Return error rates and distances of a classifier, or of a problem's optimal one."""
    import torch

    from trueboundary.classifiers import QuadraticNetwork
    from trueboundary.measure import distance_values, distances, error_rate, rate_values
    from trueboundary.problems import ConcentricSpheres

    problem = subject.problem
    classifier = (
        problem.bayes_classifier(dtype=torch.float64)
        if subject.draft.kind == "problem"
        else classifier_from(subject.spec, subject.arrays)
    )
    rates = error_rate(classifier, problem, n_points=subject.n_points(effort))
    found = distances(classifier, problem, n_points=effort.n_distances)
    measured: dict[str, Any] = {
        "error_rate": [rate_values(rate) for rate in rates],
        "distance": [distance_values(of_class) for of_class in found],
        "how": how(subject, effort),
        "torch": torch.__version__,
    }
    if isinstance(classifier, QuadraticNetwork) and isinstance(problem, ConcentricSpheres):
        measured["n_wrong_alphas"] = count_wrong(classifier.alphas(), problem.radius)
    rounded: dict[str, Any] = _rounded(measured)
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return value
