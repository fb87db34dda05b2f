"""Distances to the optimal boundary, for the experiments on problems with known densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueboundary.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from trueboundary.classifiers import ClassifierModule

Array = NDArray[np.float64]


def draw(problem: Any, n: int, label: int, seed: int, purpose: str) -> Tensor:
    """Return `n` points of a class in float64, the same ones for the same seed and purpose."""
    import torch

    from trueboundary.problems import block_generator

    generator = block_generator(seed, label, purpose=purpose)
    x: Tensor = problem.sample_class(n, label, generator=generator, dtype=torch.float64)
    return x


def attacked_distances(
    classifier: ClassifierModule, x: Tensor, label: int, *, n_restarts: int = 1, seed: int = 0
) -> Array:
    """Return distances to the nearest errors that an attack finds and verifies.

    They are upper bounds, infinite where no error was found, 0 where the point is one.
    """
    import torch

    from trueboundary.attacks import NearestError

    attack = NearestError(n_restarts=n_restarts)
    y = torch.full((len(x),), label)
    result = attack(classifier, x, y, generator=torch.Generator().manual_seed(seed))
    return np.asarray(result.distance.double().numpy())


def decisions(classifier: ClassifierModule, points: NDArray[np.floating]) -> NDArray[np.int8]:
    """Return the class that a classifier gives to points, shape ``(..., 2)`` to ``(...)``."""
    import torch

    dtype = next(classifier.parameters()).dtype
    flat = torch.from_numpy(points.reshape(-1, 2)).to(dtype)
    classes = classifier.predict(flat).numpy().astype(np.int8)
    return np.asarray(classes.reshape(points.shape[:-1]))


def grid_distances(
    x: Tensor, label: int, points: NDArray[np.floating], classes: NDArray[np.int8]
) -> Array:
    """Return distances to the nearest of the evaluated points that is given to the other class.

    They are upper bounds that no shape of the margin can deceive, as fine as the grid; infinite
    where the whole grid is given to the class.
    """
    from scipy.spatial import cKDTree

    errors = points[classes != label]
    if len(errors) == 0:
        return np.full(len(x), np.inf)
    return np.asarray(cKDTree(errors).query(x.numpy())[0])


def draw_points(axes: Axes, classes: Sequence[Array], *, ms: float) -> None:
    """Draw the points of class 0 and of class 1."""
    for colour, points in zip(("inner", "outer"), classes, strict=True):
        axes.plot(points[:, 0], points[:, 1], ".", color=COLOURS[colour], ms=ms)


def draw_regions(axes: Axes, classes: NDArray[np.int8], low: float, high: float) -> None:
    """Colour the classes that a classifier gives to a grid over the square [low, high]^2."""
    from matplotlib.colors import ListedColormap

    axes.imshow(
        classes,
        origin="lower",
        extent=(low, high, low, high),
        cmap=ListedColormap(["#C9DFEF", "#F6DCC8"]),
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes.grid(visible=False)
