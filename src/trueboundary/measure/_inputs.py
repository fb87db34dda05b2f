"""What all measurements ask of the classifier and the problem that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trueboundary.classifiers.base import ClassifierModule
from trueboundary.problems import Problem

_N_COMPARED = 100  # random points of each class at which margins are compared


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
    dim = getattr(classifier, "dim", None) if isinstance(classifier, ClassifierModule) else None
    if dim is not None and problem.event_shape != (dim,):
        raise ValueError(
            f"the classifier takes points of {dim} dimensions, but the problem's have shape "
            f"{problem.event_shape}."
        )


def compared_points(problem: Problem) -> list[npt.NDArray[np.float64]]:
    """Return random points of each class at which margins are compared with what was read."""
    blocks = (
        problem.block(0, seed=0, label=label, dtype=torch.float64, purpose="compare")[0]
        for label in range(problem.n_classes)
    )
    return [x[:_N_COMPARED].flatten(1).numpy(force=True) for x in blocks]
