"""The ellipsoid that a quadratic classifier cuts out, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
SphereName = Literal["inner", "outer"]


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """A quadratic classifier in its eigenbasis.

    With ``z = axes.T @ x`` the margin is ``scale * (sum(alphas * z**2) - 1)``. With ``scale > 0``
    the classifier is free of errors on the unit sphere exactly if no alpha exceeds 1, and on the
    sphere of radius R exactly if no alpha is below ``1 / R**2``.

    Attributes
    ----------
    alphas : ndarray
        Coefficients, ascending, float64, shape ``(dim,)``.
    axes : ndarray
        Orthonormal axes as columns, in the order of `alphas`, shape ``(dim, dim)``.
    weight : float
        Output weight of the network.
    bias : float
        Output bias of the network, not 0.

    Examples
    --------
    >>> from trueboundary.classifiers import QuadraticNetwork
    >>> ellipsoid = QuadraticNetwork.perfect(dim=4, width=8).ellipsoid()
    >>> ellipsoid.alphas.round(4)
    array([0.7561, 0.7561, 0.7561, 0.7561])
    >>> ellipsoid.is_perfect(radius=1.3)
    True
    """

    alphas: Array
    axes: Array
    weight: float
    bias: float

    @property
    def dim(self) -> int:
        """Dimension of the space."""
        return len(self.alphas)

    @property
    def scale(self) -> float:
        """Factor of the margin, minus the bias."""
        return -self.bias

    @property
    def is_inverted(self) -> bool:
        """Whether the scale is negative, so that inside and outside are exchanged."""
        return self.scale < 0

    @property
    def n_above(self) -> int:
        """Number of alphas above 1; unless inverted, each makes errors on the inner sphere."""
        return int((self.alphas > 1).sum())

    def n_below(self, radius: float = 1.3) -> int:
        """Return the number of alphas below 1/R^2; each makes errors on the outer sphere."""
        return int((self.alphas < 1 / radius**2).sum())

    def n_bad(self, radius: float = 1.3) -> int:
        """Return the number of alphas outside [1/R^2, 1]."""
        return self.n_above + self.n_below(radius)

    def is_perfect(self, radius: float = 1.3) -> bool:
        """Say whether the classifier makes no error on either sphere.

        That needs every alpha inside [1/R^2, 1] *and* a positive scale: with the same alphas and
        the opposite signs of weight and bias, every single prediction is wrong.
        """
        return not self.is_inverted and self.n_bad(radius) == 0

    def worst_axis(self, sphere: SphereName) -> Array:
        """Return the unit vector on which a point of the sphere is misjudged most, ``(dim,)``."""
        margins = self.scale * self.alphas
        index = margins.argmax() if _is_inner(sphere) else margins.argmin()
        return self.axes[:, index]

    def worst_margin(self, sphere: SphereName, radius: float = 1.3) -> float:
        """Return the margin of the worst point: the largest inside, the smallest outside."""
        if _is_inner(sphere):
            return float((self.scale * (self.alphas - 1)).max())
        return float((self.scale * (radius**2 * self.alphas - 1)).min())

    def worst_case_loss(self, sphere: SphereName, radius: float = 1.3) -> float:
        """Return the largest sigmoid cross-entropy that any point of the sphere has, in nats."""
        margin = self.worst_margin(sphere, radius)
        return float(np.logaddexp(0.0, margin if _is_inner(sphere) else -margin))

    def to_eigenbasis(self, x: Array) -> Array:
        """Return the coordinates ``z`` of points ``x`` of shape ``(n, dim)`` along the axes."""
        return np.asarray(x, dtype=np.float64) @ self.axes


def max_margin_alpha(radius: float = 1.3) -> float:
    """Return the alpha of the sphere halfway between the spheres, ``4 / (1 + R)**2``."""
    return math.pow((1 + radius) / 2, -2)


def _is_inner(sphere: SphereName) -> bool:
    if sphere not in ("inner", "outer"):
        raise ValueError(f"sphere must be 'inner' or 'outer', got {sphere!r}.")
    return sphere == "inner"
