"""Scores: how near to an error a point is, as far as splitting is concerned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from trueboundary._tensors import check_labels
from trueboundary.classifiers import (
    Classifier,
    misclassified,
    number_of_classes,
    outputs,
    predicted,
    value_and_gradient,
    wrongness_of,
)

__all__ = ["Score", "ScoreFunction"]

Score = Literal["margin", "normalised margin"] | Callable[[Tensor], Tensor]
"""What may be asked for: the wrongness, which for two classes is the margin with the sign of the
label; that over the norm of its gradient; or a function of one's own."""


class ScoreFunction:
    """Scores points such that exactly the errors score 0 or more; counts what it scores.

    Errors are always decided by the classifier's outputs, as by argmax (see
    `trueboundary.classifiers.misclassified`). A score of the user's own only guides the
    particles: it is cut off just below 0 for correct points and at 0 for errors, so that no choice
    of it can change what is estimated.

    Parameters
    ----------
    classifier : callable
        What `trueboundary.classifiers.outputs` accepts.
    label : int
        Class of the points, 0 to K - 1.
    score : Score
        ``"margin"`` (`trueboundary.classifiers.wrongness`), ``"normalised margin"`` or a function
        of points ``(n, *event)`` that returns ``(n,)`` numbers, larger where errors are nearer.

    Attributes
    ----------
    n_evaluations : int
        Points scored so far.
    n_classes : int
        Number of classes, once a point was scored.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.rare_events.scores import ScoreFunction
    >>> classifier = lambda x: 10 * (x[:, 0] - 0.5)
    >>> score = ScoreFunction(classifier, label=0, score="normalised margin")
    >>> score(torch.tensor([[0.2, 0.0], [0.7, 0.0]]))
    tensor([-0.3000,  0.2000])
    >>> score.n_evaluations
    2
    """

    def __init__(self, classifier: Classifier, label: int, score: Score = "margin") -> None:
        if not callable(score) and score not in ("margin", "normalised margin"):
            raise ValueError(
                "expected score 'margin', 'normalised margin' or a function of points, "
                f"got {score!r}."
            )
        self.classifier = classifier
        self.label = label
        self.score = score
        self.n_evaluations = 0
        self.n_classes = 0

    @property
    def name(self) -> str:
        """The score in words."""
        return self.score if isinstance(self.score, str) else _name(self.score)

    def __call__(self, x: Tensor) -> Tensor:
        """Score points ``(n, *event)``, shape ``(n,)``."""
        self.n_evaluations += len(x)
        if self.score == "normalised margin":
            return self._normalised(x)
        with torch.no_grad():
            found, y = self._outputs(x)
            # A function of the user's may work in place, too.
            score = self.score(x.clone()) if callable(self.score) else wrongness_of(found, y)
            return self._guided(score, found)

    def classes(self, x: Tensor) -> Tensor:
        """Return the predicted classes of points ``(n, *event)``, int64, shape ``(n,)``."""
        self.n_evaluations += len(x)
        with torch.no_grad():
            return predicted(self._outputs(x)[0])

    def _outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the classifier says of points, and their labels."""
        found = outputs(self.classifier, x)
        y = torch.full((len(x),), self.label, device=found.device)
        if self.n_classes != number_of_classes(found):
            self.n_classes = number_of_classes(found)
            check_labels(y[:1], self.n_classes)
        return found, y

    def _normalised(self, x: Tensor) -> Tensor:
        found = torch.empty(0)

        def lead(points: Tensor) -> Tensor:
            nonlocal found
            found, y = self._outputs(points)
            return wrongness_of(found, y)

        value, gradient = value_and_gradient(lead, x)
        if gradient is None:
            raise ValueError(
                "the score 'normalised margin' needs the gradient of the margin, but the "
                "classifier's output does not depend on its input for autograd (no_grad, "
                "detach or NumPy?); use the score 'margin'."
            )
        slope = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        # Where the gradient is zero the score is huge, as it should be: an error is far off.
        tiny = torch.finfo(slope.dtype).tiny
        return self._guided(value / slope.clamp_(min=tiny), found.detach())

    def _guided(self, score: Any, found: Tensor) -> Tensor:
        """Return the score, at least 0 for errors and below 0 for all others."""
        score = _checked(score, len(found)).to(found.dtype)
        just_below = -torch.finfo(score.dtype).tiny
        wrong = misclassified(found, self.label)
        return torch.where(wrong, score.clamp(min=0.0), score.clamp(max=just_below))


def _checked(score: Any, n: int) -> Tensor:
    if not isinstance(score, Tensor) or score.shape != (n,) or not score.is_floating_point():
        got = (
            f"{score.dtype} of shape {tuple(score.shape)}"
            if isinstance(score, Tensor)
            else type(score).__name__
        )
        raise ValueError(f"a score of {n} points must be {n} floating-point numbers, got {got}.")
    if score.isnan().any():
        raise ValueError(f"the score is NaN for {int(score.isnan().sum())} of {n} points.")
    return score


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
