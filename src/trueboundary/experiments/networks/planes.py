"""Margins on two-dimensional slices of the input space, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueboundary.figures import COLOURS
from trueboundary.runs import spans

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trueboundary.classifiers import ClassifierModule

Array = NDArray[np.floating[Any]]

#: Points evaluated together; a memory limit.
_TOGETHER = 8192


def square_points(extent: float, resolution: int) -> Array:
    """Return a grid over the square [-extent, extent]^2, shape ``(resolution, resolution, 2)``.

    Rows go with the second coordinate, as pictures want it.
    """
    line = np.linspace(-extent, extent, resolution)
    return np.stack(np.meshgrid(line, line), axis=-1)


def polar_points(angles: Array, radii: Sequence[float] | Array) -> Array:
    """Return points by radius and angle, shape ``(n_radii, n_angles, 2)``."""
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points: Array = np.asarray(radii)[:, None, None] * directions
    return points


def evaluate_plane(model: ClassifierModule, plane: Array, points: Array) -> Array:
    """Return margins (float32) at points ``(..., 2)`` of the plane of two orthonormal vectors."""
    import torch

    from trueboundary.classifiers import margin

    parameter = next(model.parameters())
    flat = points.reshape(-1, 2)
    with torch.no_grad():
        found = [
            margin(model, torch.from_numpy(flat[first:stop] @ plane).to(parameter)).cpu().numpy()
            for first, stop in spans(len(flat), _TOGETHER)
        ]
    return np.concatenate(found).astype(np.float32).reshape(points.shape[:-1])


def draw_plane(
    axes: Axes, margins: Array, extent: float, *, radii: Sequence[float] = (1.0, 1.3)
) -> None:
    """Draw margins on `square_points` as the paper does: classified inner green, data black.

    The circle halfway between those of the data, the boundary of largest margin, is red and dashed.
    """
    from matplotlib.patches import Circle

    line = np.linspace(-extent, extent, len(margins))
    lowest = min(-1.0, 2 * float(margins.min()))
    axes.contourf(line, line, margins, levels=[lowest, 0.0], colors=[COLOURS["green"]], alpha=0.45)
    for radius in radii:
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", linewidth=1.2))
    middle = sum(radii) / len(radii)
    axes.add_patch(Circle((0, 0), middle, fill=False, color="red", ls="--", linewidth=1.2))
    # Legends draw patches as boxes, and a circle is a line to the reader.
    axes.fill([], [], color=COLOURS["green"], alpha=0.45, label="classified as inner")
    axes.plot([], [], color="black", linewidth=1.2, label="spheres of the data")
    axes.plot([], [], "--", color="red", linewidth=1.2, label="boundary of largest margin")
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), box_aspect=1)
    axes.grid(visible=False)
