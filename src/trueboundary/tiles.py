"""Images side by side in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def tile(rows: Sequence[Floats], image_shape: tuple[int, int, int], *, gap: int = 1) -> Floats:
    """Return one picture of rows of images, shape ``(height, width, channels)``.

    Parameters
    ----------
    rows : sequence of ndarray
        Pixels from 0 (black) to 1 (white), which are clipped, each of shape ``(n, dim)``.
    image_shape : tuple of int
        Channels, height and width of one image.
    gap : int
        White pixels between images: two that touched would read as another, zeros as an eight.

    Examples
    --------
    >>> tile([np.zeros((3, 4)), np.ones((3, 4))], (1, 2, 2)).shape
    (5, 8, 1)
    """
    channels, height, width = image_shape
    n_columns = max(len(row) for row in rows)
    step_y, step_x = height + gap, width + gap
    picture = np.ones((len(rows) * step_y - gap, n_columns * step_x - gap, channels))
    for i, row in enumerate(rows):
        for j, pixels in enumerate(row):
            image = np.clip(pixels, 0, 1).reshape(image_shape).transpose(1, 2, 0)
            picture[
                i * step_y : i * step_y + height,
                j * step_x : j * step_x + width,
            ] = image
    return picture
