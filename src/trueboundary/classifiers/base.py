"""The one thing every classifier is reduced to: a margin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

Classifier = Callable[[Tensor], Tensor]
"""Anything that maps points ``(n, *event)`` to margins or logits; see `margin`."""


class BinaryClassifier(nn.Module, ABC):
    """A classifier with two classes, given by its margin.

    A subclass writes `margin`. `forward` returns the two logits ``[-m/2, +m/2]``, whose
    difference is the margin m and whose softmax is its sigmoid, so that libraries that expect
    logits of two classes take the module as it is. Such libraries also read the device from the
    first parameter, so every subclass has at least one parameter, frozen if need be.
    """

    @abstractmethod
    def margin(self, x: Tensor) -> Tensor:
        """Return logit 1 minus logit 0, shape ``(n,)``; positive means class 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of both classes, shape ``(n, 2)``."""
        half = self.margin(x) / 2
        return torch.stack([-half, half], dim=-1)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the predicted class, int64, shape ``(n,)``; a margin of exactly 0 gives 0."""
        return (margin(self, x) > 0).long()

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor needs to build a module of the same shape."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be stored; write its arguments() and register it."
        )

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a module of the given shape, with any parameter values."""
        return cls(**arguments)

    def _check_points(self, x: Tensor, dim: int) -> None:
        """Raise unless `x` has shape ``(n, dim)`` and the dtype of the parameters."""
        if x.ndim != 2 or x.shape[1] != dim:
            raise ValueError(
                f"{type(self).__name__} expects points of shape (n, {dim}), got {tuple(x.shape)}."
            )
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype:
            raise TypeError(
                f"{type(self).__name__} computes in {dtype} but the points are {x.dtype}; "
                f"convert the points with x.to({dtype}) or the classifier with .to({x.dtype})."
            )


def margin(classifier: Classifier, x: Tensor) -> Tensor:
    """Return the margin of any classifier, logit 1 minus logit 0.

    Parameters
    ----------
    classifier : callable
        Maps points ``(n, *event)`` to one margin per point, shape ``(n,)`` or ``(n, 1)``, or to
        two logits per point, shape ``(n, 2)``.
    x : Tensor
        Points, shape ``(n, *event)``.

    Returns
    -------
    Tensor
        Margins, shape ``(n,)``; positive means class 1. Gradients flow through it. A margin of
        exactly 0 counts as an error for either class.

    Raises
    ------
    TypeError
        If the classifier does not return a tensor of floating-point numbers.
    ValueError
        If its output has another shape, or a margin is NaN.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import margin
    >>> x = torch.tensor([[0.5, 0.0], [2.0, 0.0]])
    >>> margin(lambda x: x.norm(dim=1) - 1, x)
    tensor([-0.5000,  1.0000])
    >>> margin(lambda x: torch.stack([x[:, 1], x[:, 0]], dim=1), x)
    tensor([0.5000, 2.0000])
    """
    # A margin that went through two logits would only lose digits.
    output = classifier.margin(x) if isinstance(classifier, BinaryClassifier) else classifier(x)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(
            f"a classifier must return a tensor of floating-point margins or logits, got {kind}."
        )
    n, shape = x.shape[0], tuple(output.shape)
    if shape == (n, 2):
        output = output[:, 1] - output[:, 0]
    elif shape == (n, 1):
        output = output[:, 0]
    elif shape != (n,):
        raise ValueError(
            f"a classifier of {n} points must return shape ({n},), ({n}, 1) or ({n}, 2), "
            f"got {shape}; only two classes are supported."
        )
    is_nan = output.isnan()
    if is_nan.any():
        raise ValueError(
            f"the classifier returned NaN for {int(is_nan.sum())} of {n} points, so they have no "
            "class; check the points and the classifier's parameters."
        )
    return output


class CallableClassifier(BinaryClassifier):
    """Any callable, seen as a `BinaryClassifier`; made by `as_classifier`.

    Parameters
    ----------
    function : callable
        What `margin` accepts.
    """

    def __init__(self, function: Classifier) -> None:
        super().__init__()
        self.function = function
        if next(self.parameters(), None) is None:
            self.placeholder = nn.Parameter(torch.zeros(()), requires_grad=False)

    def margin(self, x: Tensor) -> Tensor:
        """Return the margin of the wrapped callable, shape ``(n,)``."""
        return margin(self.function, x)


def as_classifier(classifier: Classifier) -> BinaryClassifier:
    """Return any classifier as a `BinaryClassifier`, itself if it is one already.

    Parameters
    ----------
    classifier : callable
        A module or function that `margin` accepts. A module keeps its parameters and its mode.

    Returns
    -------
    BinaryClassifier
        A module whose `margin` has shape ``(n,)`` and whose logits have shape ``(n, 2)``.

    Raises
    ------
    TypeError
        If `classifier` is not callable.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import as_classifier
    >>> classifier = as_classifier(torch.nn.Linear(3, 1))
    >>> classifier(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """
    if isinstance(classifier, BinaryClassifier):
        return classifier
    if not callable(classifier):
        raise TypeError(f"a classifier must be callable, got {type(classifier).__name__}.")
    adapted = CallableClassifier(classifier)
    if isinstance(classifier, nn.Module):
        adapted.training = classifier.training
    return adapted
