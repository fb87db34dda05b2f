"""Balls and spherical caps around points, and the extremes of linear functions on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary import _checks
from trueboundary.certificates._operations import Part, Shape

__all__ = ["BallsOrCaps", "Region"]

Region = Literal["ball", "cap"]


@dataclass(frozen=True)
class BallsOrCaps:
    """Balls or caps around points (n, d) or (n, *event), of sizes (n,)."""

    centre: Tensor
    size: Tensor
    kind: Region

    @classmethod
    def build(
        cls, centre: Tensor, size: float | npt.ArrayLike | Tensor, kind: Region
    ) -> BallsOrCaps:
        """Check sizes and centres."""
        _checks.choice("region", kind, ("ball", "cap"))
        sizes = torch.as_tensor(size, dtype=centre.dtype, device=centre.device)
        if sizes.shape not in ((), centre.shape[:1]):
            raise ValueError(
                f"size must be a number or have shape ({len(centre)},), got {tuple(sizes.shape)}."
            )
        largest = math.pi if kind == "cap" else math.inf
        if not bool(((sizes >= 0) & sizes.isfinite() & (sizes <= largest)).all()):
            limit = "radians from 0 to pi" if kind == "cap" else "finite and at least 0"
            raise ValueError(f"the sizes of a {kind} must be {limit}, got {size!r}.")
        if kind == "cap" and not bool((centre != 0).flatten(1).any(1).all()):
            raise ValueError("a cap needs a centre on a sphere, got a point at the origin.")
        return cls(centre, sizes.expand(len(centre)), kind)

    def extremes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the extremes of linear functions, (m, d) or (n, m, d), each of shape (n, m)."""
        size = self.size[:, None]
        if self.kind == "ball":
            middle = (weight @ self.centre[:, :, None]).squeeze(2)
            spread = size * weight.norm(dim=-1)
            return middle - spread, middle + spread
        radius = self.centre.norm(dim=1)[:, None]
        pole = self.centre / radius
        along = (weight @ pole[:, :, None]).squeeze(2)
        # The length of the rest from the rest itself: |w|^2 - along^2 would lose half the digits.
        across = (weight - along[:, :, None] * pole[:, None, :]).norm(dim=2)
        length = torch.hypot(along, across)
        cosine, sine = size.cos() * along, size.sin() * across
        inside = torch.atan2(across, along) <= size
        opposite = torch.atan2(across, -along) <= size
        return (
            radius * torch.where(opposite, -length, cosine - sine),
            radius * torch.where(inside, length, cosine + sine),
        )

    def take(self, rows: Tensor) -> BallsOrCaps:
        """Return those of some points."""
        return BallsOrCaps(self.centre[rows], self.size[rows], self.kind)

    def least(self, part: Part, shape: Shape) -> Tensor:
        """Return the minima (n, p, m) of linear functions of points (n, *shape)."""
        if self.kind == "ball":
            rows = part.values.reshape(*part.values.shape[:3], -1)
            lengths: Tensor = torch.linalg.vector_norm(rows, dim=3)
            return part.times(self.centre) - self.size[:, None, None] * lengths
        whole = part.whole(shape)
        flat = BallsOrCaps(self.centre.flatten(1), self.size, self.kind)
        low, _ = flat.extremes(whole.flatten(3).flatten(1, 2))
        return low.reshape(len(low), *whole.shape[1:3])
