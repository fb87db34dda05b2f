"""Scores: how near to an error a point is, as far as splitting is concerned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from trueboundary.classifiers import Classifier, margin, margin_and_gradient, misclassified

__all__ = ["Score", "ScoreFunction"]

Score = Literal["margin", "normalised margin"] | Callable[[Tensor], Tensor]
"""What may be asked for: the margin, the margin over the norm of its gradient, or a function."""


class ScoreFunction:
    """Scores points such that exactly the errors score 0 or more; counts what it scores.

    Errors are always decided by the classifier's margin, as by argmax (see
    `trueboundary.classifiers.misclassified`). A score of the user's own only guides the
    particles: it is cut off just below 0 for correct points and at 0 for errors, so that no choice
    of it can change what is estimated.

    Parameters
    ----------
    classifier : callable
        What `trueboundary.classifiers.margin` accepts.
    label : {0, 1}
        Class of the points.
    score : Score
        ``"margin"``, ``"normalised margin"`` or a function of points ``(n, *event)`` that
        returns ``(n,)`` numbers, larger where errors are nearer.

    Attributes
    ----------
    n_evaluations : int
        Points scored so far.

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
        self.sign = 1.0 if label == 0 else -1.0
        self.score = score
        self.n_evaluations = 0

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
            margins = margin(self.classifier, x)
            # A function of the user's may work in place, too.
            score = self.score(x.clone()) if callable(self.score) else self.sign * margins
            return self._guided(score, margins)

    def _normalised(self, x: Tensor) -> Tensor:
        margins, gradient = margin_and_gradient(self.classifier, x)
        if gradient is None:
            raise ValueError(
                "the score 'normalised margin' needs the gradient of the margin, but the "
                "classifier's output does not depend on its input for autograd (no_grad, "
                "detach or NumPy?); use the score 'margin'."
            )
        slope = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        # Where the gradient is zero the score is huge, as it should be: an error is far off.
        tiny = torch.finfo(slope.dtype).tiny
        return self._guided(self.sign * margins / slope.clamp_(min=tiny), margins)

    def _guided(self, score: Any, margins: Tensor) -> Tensor:
        """Return the score, at least 0 for errors and below 0 for all others."""
        score = _checked(score, len(margins)).to(margins.dtype)
        just_below = -torch.finfo(score.dtype).tiny
        wrong = misclassified(margins, self.label)
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
