"""Classifiers of the concentric spheres that need no training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer, check_real
from trueboundary._tensors import check_floating
from trueboundary.classifiers.base import BinaryClassifier
from trueboundary.classifiers.ellipsoid import Ellipsoid
from trueboundary.classifiers.stored_classifiers import register


@register
class SphereBayes(BinaryClassifier):
    """Separates the spheres halfway: the margin is ``norm(x) - (1 + radius) / 2``.

    It makes no error, and of all classifiers it stays farthest from both spheres.

    Parameters
    ----------
    dim : int
        Dimension of the points, at least 2.
    radius : float
        Radius of the outer sphere, above 1; the inner one has radius 1.
    dtype : torch.dtype
        float32 or float64.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import SphereBayes
    >>> SphereBayes(dim=2, radius=1.3).margin(torch.tensor([[0.0, 1.3]]))
    tensor([0.1500])
    """

    def __init__(
        self, dim: int, radius: float = 1.3, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.dim = check_integer("dim", dim, minimum=2)
        self.radius = check_real("radius", radius, above=1.0)
        boundary = torch.tensor((1 + self.radius) / 2, dtype=check_floating(dtype))
        self.boundary = nn.Parameter(boundary, requires_grad=False)

    def margin(self, x: Tensor) -> Tensor:
        """Return the signed distance to the boundary, shape ``(n,)``."""
        self._check_points(x, self.dim)
        norm: Tensor = torch.linalg.vector_norm(x, dim=1)
        return norm - self.boundary

    def ellipsoid(self) -> Ellipsoid:
        """Return the sphere at the boundary, whose margin is ``|x|**2 / boundary**2 - 1``."""
        alphas = np.full(self.dim, self.boundary.item() ** -2)
        return Ellipsoid(alphas, np.eye(self.dim), weight=1.0, bias=-1.0)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"dim": self.dim, "radius": self.radius}


@register
class TruncatedSum(BinaryClassifier):
    """Looks at the first `k` coordinates alone: the margin is ``sum(x[:k]**2) - threshold``.

    Parameters
    ----------
    dim : int
        Dimension of the points, at least 2.
    k : int
        Number of coordinates it sees, from 1 to `dim`.
    threshold : float
        Sum of squares above which it says class 1.
    dtype : torch.dtype
        float32 or float64.

    References
    ----------
    Gilmer et al. (2018), *Adversarial Spheres*, Section 4.1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import TruncatedSum
    >>> TruncatedSum(dim=3, k=2, threshold=1.0).margin(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([4.])
    """

    def __init__(
        self, dim: int, k: int, threshold: float, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.dim = check_integer("dim", dim, minimum=2)
        self.k = check_integer("k", k, minimum=1)
        if self.k > self.dim:
            raise ValueError(f"k must be at most dim = {self.dim}, got {self.k}.")
        value = torch.tensor(check_real("threshold", threshold), dtype=check_floating(dtype))
        self.threshold = nn.Parameter(value, requires_grad=False)

    def margin(self, x: Tensor) -> Tensor:
        """Return the margin, shape ``(n,)``."""
        self._check_points(x, self.dim)
        return x[:, : self.k].square().sum(dim=1) - self.threshold

    def ellipsoid(self) -> Ellipsoid:
        """Return the cylinder on which the margin is 0; the threshold must be positive."""
        threshold = self.threshold.item()
        if not threshold > 0:
            raise ValueError(f"an ellipsoid needs a threshold above 0, got {threshold}.")
        alphas = np.zeros(self.dim)
        alphas[-self.k :] = 1 / threshold
        # Alphas ascend, so the axes run backwards: the first coordinates are those that count.
        return Ellipsoid(alphas, np.eye(self.dim)[:, ::-1], weight=1.0, bias=-threshold)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"dim": self.dim, "k": self.k, "threshold": float(self.threshold)}
