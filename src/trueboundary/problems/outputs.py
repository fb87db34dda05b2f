"""What a classifier's outputs on the points of a problem give away about it."""

from __future__ import annotations

import warnings

import torch

from trueboundary.classifiers import (
    Classifier,
    ClassifierModule,
    ClassifierWarning,
    margin,
    number_of_classes,
    outputs,
    probability_doubts,
)
from trueboundary.classifiers.edge import gives_one_number
from trueboundary.problems.base import Problem

__all__ = ["check_number_of_classes", "output_doubts"]

_N_POINTS = 256  # of each class


def output_doubts(
    classifier: Classifier,
    problem: Problem,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[str, ...]:
    """Return a sentence if a classifier seems to return probabilities where logits are expected.

    Parameters
    ----------
    classifier : callable
        Any classifier.
    problem : Problem
        What it is to be measured on; 256 points of each class are classified.
    dtype, device
        Of these points.

    Returns
    -------
    tuple of str
        One sentence or none, see `trueboundary.classifiers.probability_doubts`.

    Warns
    -----
    ClassifierWarning
        With that sentence.

    Examples
    --------
    >>> import torch, warnings
    >>> from trueboundary.problems import ConcentricSpheres, output_doubts
    >>> sigmoid = lambda x: torch.sigmoid(10 * (x.norm(dim=1) - 1.15))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     len(output_doubts(sigmoid, ConcentricSpheres(dim=5)))
    1
    """
    if problem.n_classes > 2 or not gives_one_number(classifier):
        return ()
    margins = []
    for label in (0, 1):
        x, _ = problem.block(
            0,
            seed=0,
            block_size=_N_POINTS,
            label=label,
            dtype=dtype,
            device=device,
            purpose="outputs",
        )
        with torch.no_grad():
            margins.append(margin(classifier, x, allow_nan=True))
    doubts = probability_doubts(classifier, margins[0], margins[1])
    for sentence in doubts:
        warnings.warn(sentence, ClassifierWarning, stacklevel=3)
    return doubts


def check_number_of_classes(
    classifier: Classifier,
    problem: Problem,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> None:
    """Raise unless a classifier speaks of as many classes as a problem has.

    Parameters
    ----------
    classifier, problem, dtype, device
        As for `output_doubts`; two points are classified, unless the classifier says it itself.

    Raises
    ------
    ValueError
        With one sentence that names both numbers.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.problems import ConcentricSpheres, check_number_of_classes
    >>> try:
    ...     check_number_of_classes(torch.nn.Linear(5, 10), ConcentricSpheres(dim=5))
    ... except ValueError as error:
    ...     print(error)
    the classifier has 10 classes and the problem has 2; give as_classifier(...
    """
    n = classifier.n_classes if isinstance(classifier, ClassifierModule) else None
    if n is None:
        x, _ = problem.block(
            0, seed=0, block_size=2, label=0, dtype=dtype, device=device, purpose="outputs"
        )
        with torch.no_grad():
            n = number_of_classes(outputs(classifier, x, allow_nan=True))
    if n != problem.n_classes:
        cure = "give as_classifier(classifier, classes=...), in a terminal --classes"
        if n < problem.n_classes:
            cure = f"a problem of {problem.n_classes} classes asks for as many logits"
        raise ValueError(
            f"the classifier has {n} classes and the problem has {problem.n_classes}; {cure}"
        )
