"""Softmax regression: one linear logit per class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating
from trueboundary.classifiers.base import ClassifierModule
from trueboundary.classifiers.stored_classifiers import register


@register
class SoftmaxRegression(ClassifierModule):
    """A linear classifier with the logits ``W x + b``, one per class; points of any event shape.

    Its cross-entropy is convex in `weight` and `bias`, which begin at 0: there is nothing to draw.

    Parameters
    ----------
    dim : int
        Dimension of the points, at least 1.
    n_classes : int
        Number of classes, at least 2.
    dtype : torch.dtype
        float32 or float64.

    Attributes
    ----------
    weight : Parameter
        Shape ``(n_classes, dim)``.
    bias : Parameter
        Shape ``(n_classes,)``.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import SoftmaxRegression
    >>> model = SoftmaxRegression(dim=784, n_classes=10)
    >>> model.outputs(torch.zeros(5, 784)).shape
    torch.Size([5, 10])
    """

    def __init__(self, dim: int, n_classes: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dim = check_integer("dim", dim, minimum=1)
        shape = (check_integer("n_classes", n_classes, minimum=2), self.dim)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=check_floating(dtype)))
        self.bias = nn.Parameter(torch.zeros(shape[0], dtype=dtype))

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.bias)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the margin of two classes, shape ``(n,)``, or logits ``(n, K)`` of K >= 3."""
        x = x.flatten(1) if x.ndim > 2 else x
        self._check_points(x, self.dim)
        logits = nn.functional.linear(x, self.weight, self.bias)
        return logits[:, 1] - logits[:, 0] if self.n_classes == 2 else logits

    @torch.no_grad()
    def folded(self) -> list[tuple[Tensor, Tensor]]:
        """Return the weight and bias of the one layer, float64, as `ReLUNetwork.folded` does."""
        return [(self.weight.double(), self.bias.double())]

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"dim": self.dim, "n_classes": self.n_classes}
