"""What all measurements ask of the classifier and the problem that they are given."""

from __future__ import annotations

from typing import Any

from trueboundary.classifiers.base import BinaryClassifier
from trueboundary.problems import Problem


def check_inputs(classifier: Any, problem: Any) -> None:
    """Raise unless there is a classifier and a problem of the same dimension."""
    if not callable(classifier):
        raise TypeError(
            "expected a classifier, a callable from points to margins or logits, got "
            f"{type(classifier).__name__}."
        )
    if not isinstance(problem, Problem):
        raise TypeError(
            "expected a problem such as ConcentricSpheres or MixtureProblem, got "
            f"{type(problem).__name__}."
        )
    # Modules of other people may call something else their dim.
    dim = getattr(classifier, "dim", None) if isinstance(classifier, BinaryClassifier) else None
    if dim is not None and problem.event_shape != (dim,):
        raise ValueError(
            f"the classifier takes points of {dim} dimensions, but the problem's have shape "
            f"{problem.event_shape}."
        )
