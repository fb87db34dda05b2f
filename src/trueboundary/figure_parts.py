"""Parts of figures that the experiments draw, and `trueboundary.plot` for others' classifiers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trueboundary.figures import COLOURS, add_legend
from trueboundary.tiles import tile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

#: What ellipsoids with many comparable alphas reach of the best possible mean distance.
LIMIT = 1 / math.sqrt(2)

#: Pixels between pictures.
GAP = 1


def draw_best_possible(axes: Axes, log10_error: Floats, best: Floats) -> None:
    """Draw the best possible mean distance over the log10 of the error rate, and `LIMIT` of it."""
    axes.plot(log10_error, best, color=COLOURS["truth"], label="best possible (cap, exact)")
    axes.plot(log10_error, LIMIT * best, "--", color=COLOURS["truth"], label=r"$1/\sqrt{2}$ of it")


def draw_rate_and_bracket(
    axes: Axes,
    log10_error: float,
    interval: tuple[float, float],
    certified: float,
    attacked: float,
    *,
    color: str,
    label: str | None = None,
) -> None:
    """Draw a mean distance from proof (open) to attack (filled) at an error rate's interval."""
    found = math.isfinite(attacked)
    if found:
        axes.vlines(log10_error, certified, attacked, color=color, linewidth=1.2)
        axes.hlines(attacked, *interval, color=color, linewidth=1.2)
    axes.plot(log10_error, attacked if found else math.nan, "v", color=color, ms=6, label=label)
    axes.plot(log10_error, certified, "^", color=color, markerfacecolor="none", markersize=6)


def draw_robust_accuracy(axes: Axes, curve: Mapping[str, Floats]) -> None:
    """Draw the shares ``certified``, ``found`` and, if it is there, ``best`` over ``size``."""
    size = curve["size"]
    axes.fill_between(
        size, curve["certified"], curve["found"], color=COLOURS["sky"], alpha=0.4,
        label="between proof and attack",
    )  # fmt: skip
    axes.plot(size, curve["found"], color=COLOURS["outer"], label="no error found nearer", lw=3)
    axes.plot(size, curve["certified"], color=COLOURS["inner"], label="proven: no error nearer")
    if "best" in curve:
        axes.plot(
            size, curve["best"], color=COLOURS["truth"], ls="--", label="optimal classifier, proven"
        )
    axes.set(xlabel="size of the perturbation (L2)", ylabel="robust accuracy", ylim=(0, 1.02))
    axes.set_xlim(0, size[-1])
    add_legend(axes)


def draw_attacked(
    axes: Axes,
    original: npt.NDArray[np.floating[Any]],
    adversarial: npt.NDArray[np.floating[Any]],
    image_shape: tuple[int, int, int],
    *,
    with_labels: bool = True,
) -> None:
    """Draw originals, attacked images and changes (grey is no change) below each other."""
    rows = [original, adversarial, 0.5 + adversarial - original]
    show_pictures(axes, rows, image_shape)
    height = image_shape[1]
    places = [i * (height + GAP) + height / 2 for i in range(len(rows))]
    axes.set_yticks(places, ["sample", "attacked", "change"] if with_labels else [""] * len(rows))
    axes.tick_params(length=0)


def show_pictures(
    axes: Axes,
    rows: Sequence[npt.NDArray[np.floating[Any]]],
    image_shape: tuple[int, int, int],
) -> None:
    """Show rows of images as `trueboundary.tiles.tile` puts them together, without a frame."""
    picture = tile(rows, image_shape, gap=GAP)
    axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
