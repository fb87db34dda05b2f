"""Red flags: signs that numbers say more of how a classifier was given than of its errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary.attacks import AttackStatus
from trueboundary.classifiers import (
    Classifier,
    misclassified,
    number_of_classes,
    outputs,
    wrongness_and_gradient,
)
from trueboundary.measure import Distances
from trueboundary.plurals import plural

__all__ = ["Flag", "flags_of_outputs", "flags_of_search"]

_N_POINTS = 32  # at which outputs and gradients are looked at
_N_STEPS = 24  # on the way to a point of another class
_N_BISECTIONS = 20
_NEARER = 0.95  # an error at less than this part of the distance found shows masking, and ...
_OFTEN = 0.05  # ... from this share of the points it is no accident


@dataclass(frozen=True)
class Flag:
    """A reason to distrust an audit.

    Attributes
    ----------
    name : str
        What it is called, such as ``gradient masking``; a page of the docs tells more.
    text : str
        What was seen, and what to do about it, in a sentence or two.
    """

    name: str
    text: str

    def __str__(self) -> str:
        """Say the flag in one line."""
        return f"{self.name}: {self.text}"


def flags_of_outputs(
    classifier: Classifier, x: Tensor, y: Tensor, *, by_labels: bool = False
) -> tuple[Flag, ...]:
    """Return what the outputs of a classifier, held in eval mode, and their gradients show.

    Parameters
    ----------
    classifier : callable
        The classifier.
    x, y : Tensor
        Points ``(n, *event)`` with labels ``(n,)``; the first few are looked at.
    by_labels : bool
        Whether labels are all that it says, so that nothing else can be looked at.
    """
    x, y = x[:_N_POINTS], y[:_N_POINTS]
    flags = []
    with torch.no_grad():
        found, again = (outputs(classifier, x, allow_nan=True) for _ in range(2))
        alone = torch.cat([outputs(classifier, point[None], allow_nan=True) for point in x[:4]])
    scale = found.abs().amax().item() if found.isfinite().all() else math.inf
    slack = 1e-4 * max(scale, torch.finfo(found.dtype).tiny)
    if not torch.equal(found.nan_to_num(), again.nan_to_num()):
        flags.append(
            Flag(
                "random outputs",
                "the same points gave other outputs when asked again, so that no attack can hold "
                "on to an error; switch the randomness off, or audit the mean of many calls",
            )
        )
    elif not torch.allclose(alone, found[:4], rtol=1e-3, atol=slack, equal_nan=True):
        flags.append(
            Flag(
                "outputs depend on the batch",
                "a point alone gets other outputs than among others (batch statistics?); an audit "
                "needs each point's own",
            )
        )
    if by_labels:
        return tuple(flags)
    if _are_probabilities(found):
        flags.append(
            Flag(
                "probabilities",
                "the outputs of each point lie between 0 and 1 and add up to 1; where they "
                "saturate their gradient vanishes; give as_classifier(classifier, "
                "outputs='probability')",
            )
        )
    flags += _flags_of_gradients(classifier, x, y)
    return tuple(flags)


def _are_probabilities(found: Tensor) -> bool:
    """Whether logits of three classes and more look like probabilities."""
    if number_of_classes(found) == 2 or not bool(found.isfinite().all()):
        return False  # of two classes `output_doubts` judges
    inside = bool(((found >= 0) & (found <= 1)).all())
    return inside and bool((found.sum(1) - 1).abs().amax() < 1e-3)


def _flags_of_gradients(classifier: Classifier, x: Tensor, y: Tensor) -> list[Flag]:
    value, gradient = wrongness_and_gradient(classifier, x, y, allow_nan=True)
    if gradient is None:
        return [
            Flag(
                "autograd cut off",
                "the outputs do not depend on the points for autograd (no_grad, detach, a trip "
                "through NumPy), so that attacks that follow gradients are blind",
            )
        ]
    sizes = gradient.flatten(1).abs().amax(1)
    n_nan = int((~sizes.isfinite() | value.isnan()).sum())
    n_zero = int((sizes == 0).sum())
    flags = []
    if n_nan:
        flags.append(
            Flag(
                "gradients that are not finite",
                f"at {n_nan} of {plural(len(x), 'point')} the outputs or their gradients are NaN "
                "or infinite",
            )
        )
    if n_zero:
        flags.append(
            Flag(
                "zero gradients",
                f"at {n_zero} of {plural(len(x), 'point')} the gradient is exactly zero (steps, "
                "saturated outputs?); trust an attack by labels there",
            )
        )
    return flags


def flags_of_search(
    classifier: Classifier,
    measured: Distances,
    x: Tensor,
    ways: Sequence[Tensor],
) -> tuple[npt.NDArray[np.float64], tuple[Flag, ...]]:
    """Look for nearer errors by labels alone, and return what that and the search itself show.

    From each point the straight ways to some others are followed, in even steps and then by
    bisection, and only the predicted class is asked for: what masks a gradient does not mask it.

    Parameters
    ----------
    classifier : callable
        The classifier.
    measured : Distances
        What an attack that follows gradients found.
    x : Tensor
        The points that it was measured from.
    ways : sequence of Tensor
        Other points ``(n, *event)``, NaN where there is none: nearest errors of another classifier,
        nearest points of another class.

    Returns
    -------
    nearest : ndarray
        Distances ``(n,)`` of the nearest errors on these ways, infinite where there is none.
    flags : tuple of Flag
        What there is to distrust.
    """
    y = torch.full((len(x),), measured.label, device=x.device)
    nearest = np.full(measured.n, np.inf)
    for other in ways:
        found = _first_error(classifier, x, y, other).double().numpy(force=True)
        nearest = np.minimum(nearest, found)
    flags = []
    right = measured.upper > 0
    beaten = right & (nearest < _NEARER * measured.upper)
    share = beaten.sum() / max(1, right.sum())
    if share >= _OFTEN:
        flags.append(
            Flag(
                "gradient masking",
                f"from {share:.0%} of the points of class {measured.label} a straight line, "
                f"followed by labels alone, met an error at less than {_NEARER:.0%} of the "
                "distance at which the attack that follows gradients found one; the nearer of "
                "both counts",
            )
        )
    reasons = Counter(measured.reasons)
    for status, name in (
        (AttackStatus.UNRESOLVED, "rounding hides the boundary"),
        (AttackStatus.BUDGET_SPENT, "attack stopped by its budget"),
        (AttackStatus.NOT_CONFIRMED, "errors that were not repeated"),
    ):
        if reasons[status.value]:
            n = plural(reasons[status.value], "point")
            flags.append(Flag(name, f"from {n} of class {measured.label}: {status.value}"))
    return nearest, tuple(flags)


@torch.no_grad()
def _first_error(classifier: Classifier, x: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """Return how far along the way to `other` the first error is seen, ``(n,)``."""
    known = other.flatten(1).isfinite().all(1)
    other = torch.where(known.reshape(-1, *[1] * (x.ndim - 1)), other, x)
    length = (other - x).flatten(1).norm(dim=1)

    def wrong(fraction: Tensor) -> Tensor:
        points = x + fraction.reshape(-1, *[1] * (x.ndim - 1)) * (other - x)
        return misclassified(outputs(classifier, points, allow_nan=True), y)

    low, high = torch.zeros_like(length), torch.full_like(length, math.inf)
    for step in range(1, _N_STEPS + 1):
        fraction = torch.full_like(length, 1.05 * step / _N_STEPS)
        is_first = wrong(fraction) & high.isinf()
        high = torch.where(is_first, fraction, high)
        low = torch.where(high.isinf(), fraction, low)
    found = known & high.isfinite() & (length > 0)
    high = torch.where(found, high, 1.0)
    low = torch.minimum(low, high)
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2
        is_wrong = wrong(middle)
        high = torch.where(is_wrong, middle, high)
        low = torch.where(is_wrong, low, middle)
    return torch.where(found, high * length, math.inf)
