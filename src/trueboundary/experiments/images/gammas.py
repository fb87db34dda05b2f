"""Widths of an RBF SVM's kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating[Any]]

#: Wide to narrow kernels, relative to 1 / (dim * variance of the pixels), scikit-learn's "scale".
GAMMA_SCALES = tuple(4.0**k for k in range(-4, 5))


def gamma_grid(x: Tensor) -> Floats:
    """Return the gammas of a path for the points `x`, from wide to narrow kernels."""
    scale = x.shape[1] * float(x.double().var())
    return np.array(GAMMA_SCALES) / scale
