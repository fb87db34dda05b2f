"""Pictures of attacked images, and of how much their pixels change, as figures show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trueboundary import theory
from trueboundary.experiments.base import ImagePair, Panel, rows_of
from trueboundary.experiments.images.attacked_images import CHANGE_EDGES, count_changes
from trueboundary.experiments.summaries import Estimate, mean_of_points
from trueboundary.figure_parts import draw_attacked
from trueboundary.figures import COLOURS, new_figure
from trueboundary.tiles import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trueboundary.runs import Run

#: What is known of a point besides its pictures.
_OF_A_POINT = ("distance", "label", "correct")

#: A change of a pixel by more than this is called visible, as in the paper.
VISIBLE = 5 / 255


@dataclass(frozen=True)
class Sheet:
    """What one column of a sheet shows: images, attacked images and all changes of pixels.

    Parameters
    ----------
    original, adversarial : ndarray
        Pixels of some images, shape ``(n, dim)``.
    image_shape : tuple of int
        Channels, height and width.
    change_count, distance : ndarray
        As in an `AttackedImages`: of all attacked images, not only those shown.
    kept : tuple of tuple
        All images that the run kept: original, attacked, distance, class, whether it is
        decided for.
    """

    original: Floats
    adversarial: Floats
    image_shape: tuple[int, int, int]
    change_count: NDArray[np.int64]
    distance: Floats
    kept: tuple[tuple[Floats, Floats, float, int, bool], ...] = ()

    @classmethod
    def from_run(cls, run: Run, per_class: int = 2) -> Sheet:
        """Read an `AttackedImages`, with at most `per_class` pictures of each class."""
        labels = run.arrays["label"][run.arrays["kept"]]
        rows = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in (0, 1)])
        channels, height, width = run.summary["image_shape"]
        return cls(
            run.arrays["original"][rows],
            run.arrays["adversarial"][rows],
            (channels, height, width),
            run.arrays["change_count"],
            run.arrays["distance"],
            tuple(
                (original, attacked, *(run.arrays[name][place].item() for name in _OF_A_POINT))
                for original, attacked, place in zip(
                    run.arrays["original"],
                    run.arrays["adversarial"],
                    run.arrays["kept"],
                    strict=True,
                )
            ),
        )

    def pairs(self, classifier: str, names: Sequence[str]) -> list[ImagePair]:
        """Return the kept images for readers to step through, with the names of both classes."""
        pairs = []
        for original, attacked, distance, label, is_right in self.kept:
            # A wrong decision between two classes is for the other one, and an attack turns it.
            decisions = (names[label], names[1 - label])[:: 1 if is_right else -1]
            found = math.isfinite(distance)
            pairs.append(
                ImagePair(
                    classifier,
                    names[label],
                    decisions if found else decisions[:1],
                    original.reshape(self.image_shape),
                    attacked.reshape(self.image_shape),
                    distance,
                )
            )
        return pairs

    @property
    def visible_share(self) -> float:
        """Share of the pixels that change by more than 5/255; 0 where no attack succeeded."""
        return _visible_share(self.change_count)


def visible_share_of_images(run: Run) -> Estimate:
    r"""Return which share of an image's pixels an attack changes by more than 5/255, on average.

    The mean is over all n images whose decision an `AttackedImages` changed. How much they differ
    shows in the k that it keeps as pictures, the first of each class, which are drawn like the
    others. With their standard deviation s the 95 % interval is
    :math:`m \mp t_{k-1} s / \sqrt n`: for normal shares :math:`(m - \mu) \sqrt n / s` has
    Student's t distribution with k - 1 degrees of freedom, as the mean of all is independent of the
    differences among some. There is no interval where fewer than two are kept, and NaN is returned
    where no decision changed.
    """
    found = np.isfinite(run.arrays["distance"])
    if not found.any():
        return math.nan, None, None
    mean = _visible_share(run.arrays["change_count"])
    pairs = zip(run.arrays["adversarial"], run.arrays["original"], strict=True)
    changes = [one - other for one, other in pairs]
    kept = [
        _visible_share(count_changes(change))
        for change, place in zip(changes, run.arrays["kept"], strict=True)
        if found[place]
    ]
    if len(kept) < 2:
        return mean, None, None
    low, high = theory.intervals.t_interval(kept)
    half = (high - low) / 2 * math.sqrt(len(kept) / found.sum())
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def _visible_share(change_count: NDArray[np.int64]) -> float:
    """Return the share of changes beyond `VISIBLE` among those that `count_changes` counted."""
    middles = (CHANGE_EDGES[:-1] + CHANGE_EDGES[1:]) / 2
    # Bins are a level wide and centred on levels: the sixth level is the first beyond five.
    beyond = np.abs(middles) > VISIBLE + 0.25 / 255
    return float(change_count[beyond].sum() / max(1, change_count.sum()))


def draw_sheet(sheets: Mapping[str, Sheet]) -> Figure:
    """Draw images, attacked images, changes and the histogram of changes, a column for each."""
    n = len(sheets)
    figure, axes = new_figure(n, 2, width=max(6.4, 3.1 * n), height=5.2)
    for index, (name, sheet) in enumerate(sheets.items()):
        pictures = (sheet.original, sheet.adversarial, sheet.image_shape)
        draw_attacked(axes[index], *pictures, with_labels=index == 0)
        found = np.isfinite(sheet.distance).any()
        mean = f"mean L2 {mean_of_points(sheet.distance)[0]:.2f}" if found else "no success"
        axes[index].set_title(f"{name}: {mean}")
        draw_changes(axes[n + index], sheet)
    axes[n].set_ylabel("share of pixels")
    top = max(a.get_ylim()[1] for a in axes[n:])
    for histogram in axes[n:]:
        histogram.set_ylim(1e-6, top)
    return figure


def draw_changes(axes: Axes, sheet: Sheet) -> None:
    """Draw the histogram of changes of pixels, on a logarithmic scale."""
    share = sheet.change_count / max(1, sheet.change_count.sum())
    axes.stairs(np.maximum(share, 1e-7), CHANGE_EDGES, fill=True, color=COLOURS["inner"])
    for edge in (-VISIBLE, VISIBLE):
        axes.axvline(edge, color=COLOURS["truth"], linewidth=0.8, linestyle=":")
    axes.set(yscale="log", xlim=(-0.5, 0.5), xlabel="change of a pixel (white - black = 1)")
    axes.set_title(f"{100 * sheet.visible_share:.0f} % beyond 5/255")


def sheet_panel(
    group: str,
    dataset: str,
    sheets: Mapping[str, Sheet],
    *,
    title: str,
    caption: str,
    attacked: str = "{}",
) -> Panel:
    """Return the panel of a data set's sheet; its data are the histograms, empty bins left out.

    `attacked` says which classifier a column of some name is of.
    """
    from trueboundary.data import parse_classes

    names = parse_classes(dataset)[1]
    middles = (CHANGE_EDGES[:-1] + CHANGE_EDGES[1:]) / 2
    rows = [
        {"dataset": dataset, "attacked": name} | row
        for name, sheet in sheets.items()
        for row in rows_of(change=np.round(middles, 6), n_pixels=sheet.change_count)
        if row["n_pixels"]
    ]
    return Panel(
        name=f"{group}-sheet-{file_name(dataset)}",
        title=title,
        caption=caption,
        draw=lambda: draw_sheet(sheets),
        data=rows,
        pairs=[
            pair
            for name, sheet in sheets.items()
            for pair in sheet.pairs(attacked.format(name), names)
        ],
    )


def file_name(dataset: str) -> str:
    """Return the name of a data set as file names have it.

    Examples
    --------
    >>> file_name("celeba/Male")
    'celeba-male'
    """
    return dataset.replace("/", "-").lower()
