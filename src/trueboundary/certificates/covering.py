r"""Proofs that a ReLU network makes no error on a whole sphere, by covering it with caps.

The sphere is divided like a cube's surface projected onto it. A cell is a box on a face of the cube
[-1, 1]^d, its sides given by angles (v stands for the coordinate tan(pi v / 4)), so that cells are
of similar size all over the sphere. The directions within an angle below pi/2 of a centre form a
convex cone; it contains a cell's cone if it contains the cell's corners. The largest angle to a
corner therefore gives a cap that contains the cell, and the network is bounded on that cap by
linear relaxation (`trueboundary.certificates.bounds`). Cells whose bound does not exclude an error
are halved along their longest side, those with the worst bounds first.

The number of cells grows exponentially with the dimension: 5 or 6 is what is practical.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from trueboundary import _checks
from trueboundary.certificates.base import FloatArray
from trueboundary.certificates.relaxation import (
    classes_of,
    own_leads,
    prepare,
    require_same_outputs,
)
from trueboundary.presentable import PresentableFields

__all__ = ["SphereProof", "prove_sphere_error_free"]

Status = Literal["proven", "error", "undecided"]

_BATCH = 2048  # cells bounded before those with the worst bounds are looked for again
_MAX_DIM = 10
# Relative allowance for the rounding of angles, a thousand times what it can be.
_SLACK = 1e-12


@dataclass(frozen=True, repr=False)
class SphereProof(PresentableFields):
    """What `prove_sphere_error_free` found.

    Attributes
    ----------
    status : {"proven", "error", "undecided"}
        No error anywhere on the sphere; an error was found; or the budget ran out before either.
    n_cells : int
        Cells bounded.
    n_open : int
        Cells on which an error is not excluded; 0 if proven.
    smallest_margin : float
        The margin on the right side is at least this everywhere on the sphere; positive if proven.
    error : ndarray of shape (d,) or None
        A misclassified point of the sphere, if one was found.
    """

    status: Status
    n_cells: int
    n_open: int
    smallest_margin: float
    error: FloatArray | None = None

    def __post_init__(self) -> None:
        _checks.choice("status", self.status, get_args(Status))

    def __str__(self) -> str:
        """Say the result in one sentence."""
        if self.status == "proven":
            return (
                "The classifier is proven to make no error on the sphere: its margin is at least "
                f"{self.smallest_margin:.3g} on each of the caps that cover it "
                f"({self.n_cells:,} bounded)."
            )
        if self.status == "error":
            return f"The classifier errs on the sphere: a point was found among {self.n_cells:,}."
        return (
            f"Undecided: after {self.n_cells:,} caps no error was found, but {self.n_open:,} of "
            "them are not proven to hold none; raise max_cells."
        )


def prove_sphere_error_free(
    network: Any, radius: float, *, label: int, max_cells: int = 200_000
) -> SphereProof:
    """Prove that a ReLU network classifies every point of a sphere correctly, or find an error.

    Parameters
    ----------
    network : ReLUNetwork, Sequential or sequence of (Tensor, Tensor)
        As for `trueboundary.certificates.bounds`, of 2 to 10 inputs.
    radius : float
        The sphere's radius.
    label : int
        The class of its points, 0 to K - 1.
    max_cells : int
        Largest number of cells to bound.

    Returns
    -------
    SphereProof
        Its string is a sentence. Proofs hold up to float64 rounding, as those of `bounds` do.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import prove_sphere_error_free
    >>> square = [  # |z1| + |z2| - 1.6: the square reaches in between the circles at 1 and 1.3
    ...     (torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), torch.zeros(4)),
    ...     (torch.ones(1, 4), torch.tensor([-1.6])),
    ... ]
    >>> prove_sphere_error_free(square, 1.0, label=0).status
    'proven'
    >>> prove_sphere_error_free(square, 1.3, label=1).status
    'error'
    """
    radius = _checks.positive("radius", radius)
    max_cells = _checks.check_integer("max_cells", max_cells, minimum=1)
    layers = prepare(network)
    n_classes = classes_of(layers)
    if label not in range(n_classes):
        known = "0 or 1" if n_classes == 2 else f"from 0 to {n_classes - 1}"
        raise ValueError(f"label must be {known}, got {label!r}.")
    dim, device = layers[0].weight.shape[1], layers[0].weight.device
    if not 2 <= dim <= _MAX_DIM:
        raise ValueError(f"the network must have 2 to {_MAX_DIM} inputs, got {dim}.")

    low, high = _faces(dim)
    inherited = np.full(len(low), -np.inf)  # the bound on the cell that each one came from
    n_cells, smallest = 0, np.inf
    while len(low) > 0:
        # A share of all open cells, or sorting them again and again would take most of the time.
        n_now = min(max(_BATCH, len(low) // 4), len(low), max_cells - n_cells)
        if n_now == 0:
            return SphereProof("undecided", n_cells, len(low), float(inherited.min()))
        worst = np.argpartition(inherited, n_now - 1)[:n_now]
        rest = np.ones(len(low), dtype=bool)
        rest[worst] = False
        centres, angles = _caps(low[worst], high[worst])
        x = torch.from_numpy(radius * centres).to(device)
        if n_cells == 0:
            require_same_outputs(network, layers, x)
        labels = np.full(n_now, label)
        margin = own_leads(layers, x, labels, angles, "cap", relaxed=True)
        n_cells += n_now
        smallest = min(smallest, float(margin[margin > 0].min(initial=np.inf)))
        open_ = margin <= 0
        at_centre = own_leads(layers, x, labels, 0.0, "cap", relaxed=False)
        if (at_centre <= 0).any():
            error = radius * centres[np.argmin(at_centre)]
            n_open = int(open_.sum()) + int(rest.sum())
            lowest = min(float(margin.min()), float(inherited[rest].min(initial=np.inf)))
            return SphereProof("error", n_cells, n_open, lowest, error)
        low_halves, high_halves = _halve(low[worst][open_], high[worst][open_])
        low = np.concatenate([low[rest], low_halves])
        high = np.concatenate([high[rest], high_halves])
        inherited = np.concatenate([inherited[rest], np.tile(margin[open_], 2)])
    return SphereProof("proven", n_cells, 0, smallest)


def _faces(dim: int) -> tuple[FloatArray, FloatArray]:
    """Return the corners of the 2 d faces of the cube, lowest and highest, (2 d, d) each."""
    low, high = -np.ones((2 * dim, dim)), np.ones((2 * dim, dim))
    axes = np.arange(dim)
    high[axes, axes] = -1.0
    low[dim + axes, axes] = 1.0
    return low, high


def _caps(low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return unit centres (n, d) and angles (n,) of caps that contain the cells."""
    centre = _unit(_on_cube(0.5 * (low + high)))
    angle = np.zeros(len(low))
    # The side along the face's own axis has length 0, so that each corner is visited twice.
    for corner in itertools.product((False, True), repeat=low.shape[1]):
        towards = _unit(_on_cube(np.where(corner, high, low)))
        # Twice the arc sine of half the chord: accurate for small angles.
        chord = np.linalg.norm(towards - centre, axis=1)
        angle = np.maximum(angle, 2 * np.arcsin(np.minimum(0.5 * chord, 1.0)))
    return centre, angle * (1 + _SLACK) + _SLACK


def _on_cube(v: FloatArray) -> FloatArray:
    """Return coordinates tan(pi v / 4), exactly -1 and 1 at the ends, where faces meet."""
    return np.where(np.abs(v) == 1, v, np.tan(0.25 * np.pi * v))


def _unit(x: FloatArray) -> FloatArray:
    unit: FloatArray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit


def _halve(low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both halves of each cell, cut across its longest side; all first halves come first."""
    rows = np.arange(len(low))
    side = np.argmax(high - low, axis=1)
    cut = 0.5 * (low[rows, side] + high[rows, side])
    first_high, second_low = high.copy(), low.copy()
    first_high[rows, side] = cut
    second_low[rows, side] = cut
    return np.concatenate([low, second_low]), np.concatenate([first_high, high])
