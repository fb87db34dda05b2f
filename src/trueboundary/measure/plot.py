"""The report's figures, for a classifier of one's own; `trueboundary.plot` is this module.

Every function returns a `matplotlib.figure.Figure` that is registered nowhere; a notebook shows it,
and ``figure.savefig(file)`` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

from trueboundary.attacks import AttackResult
from trueboundary.figure_parts import (
    GAP,
    draw_attacked,
    draw_best_possible,
    draw_rate_and_bracket,
    draw_robust_accuracy,
)
from trueboundary.figures import COLOURS, CYCLE, add_legend, new_figure, shared_legend
from trueboundary.measure.brackets import Distances
from trueboundary.measure.tradeoff import Optimality
from trueboundary.problems import ConcentricSpheres
from trueboundary.theory import caps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "attacked",
    "brackets",
    "tradeoff",
]

Floats = npt.NDArray[np.float64]

_SPHERES = ("inner", "outer")
_FARTHEST = -40.0  # log10 of the least error rate that is drawn
_N_SIZES = 201
_MOST_CLASSIFIERS = len(CYCLE)


def tradeoff(
    found: Mapping[str, Sequence[Optimality]] | Sequence[Optimality], problem: ConcentricSpheres
) -> Figure:
    r"""Draw error rates against mean distances to the nearest error, beside the best possible.

    Parameters
    ----------
    found : mapping of str to sequence of Optimality, or such a sequence
        What `trueboundary.optimality` returned for each classifier, by name.
    problem : ConcentricSpheres
        The spheres that it was asked about.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each sphere. Bars reach from the certificate (open) to the attack (filled), and
        across the error rate's interval; the upper line is the best that any error set of that size
        can do, the lower one :math:`1/\sqrt{2}` of it. A classifier of which no error is known, or
        that errs more rarely than at 1e-40, has no place and is named in the panel.

    References
    ----------
    Gilmer et al. (2018), *Adversarial Spheres*, Figure 5.

    Examples
    --------
    >>> import trueboundary as tb
    >>> problem = tb.ConcentricSpheres(dim=20)
    >>> network = tb.QuadraticNetwork(20, 40, seed=0)
    >>> figure = tb.plot.tradeoff(tb.optimality(network, problem, n_points=20), problem)
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['inner sphere', 'outer sphere']
    """
    by_name = dict(found) if isinstance(found, Mapping) else {"this classifier": found}
    if not 1 <= len(by_name) <= _MOST_CLASSIFIERS:
        raise ValueError(f"expected 1 to {_MOST_CLASSIFIERS} classifiers, got {len(by_name)}.")
    figure, panels = new_figure(2, width=10.0, height=4.6)
    rates = [one.rate.log10 for parts in by_name.values() for one in parts]
    least = min([-4.0, *(rate for rate in rates if math.isfinite(rate))])
    floor = max(_FARTHEST, least - 1)
    for label, (axes, sphere) in enumerate(zip(panels, _SPHERES, strict=True)):
        grid = np.linspace(floor, math.log10(0.5), 200)
        best = [
            caps.mean_distance(
                problem.dim, log_measure=x * math.log(10), radius=problem.radii[label]
            )
            for x in grid
        ]
        draw_best_possible(axes, grid, np.array(best))
        missing = []
        for (name, parts), colour in zip(by_name.items(), CYCLE, strict=False):
            one = next((part for part in parts if part.label == label), None)
            if one is None or not math.isfinite(one.rate.log10):
                missing.append(f"no error known: {name}")
            elif one.rate.log10 < floor:
                missing.append(f"error rate $10^{{{one.rate.log10:.1f}}}$: {name}")
            if one is None or not floor <= one.rate.log10 < math.inf:
                axes.plot([], [], "v", color=colour, label=name)
                continue
            draw_rate_and_bracket(
                axes,
                one.rate.log10,
                (_log10(one.rate.low), _log10(one.rate.high))
                if one.rate.method != "exact"
                else (one.rate.log10, one.rate.log10),
                float(one.distances.lower.mean()),
                one.mean_distance,
                color=colour,
                label=name,
            )
        if missing:
            axes.text(
                0.02, 0.02, "\n".join(missing),
                transform=axes.transAxes, fontsize=9, color=COLOURS["grey"],
            )  # fmt: skip
        axes.set_title(f"{sphere} sphere", loc="left", fontsize=10.5, fontweight="bold")
        axes.set(xlabel=r"$\log_{10}$ of the error rate", xlim=(floor, 0), ylim=(0, None))
        axes.set_ylabel("mean distance to the nearest error (L2)")
    shared_legend(figure, n_columns=3, of=panels[0])
    return figure


def brackets(
    found: Sequence[Distances] | Distances, best: Sequence[Distances] | Distances | None = None
) -> Figure:
    """Draw robust accuracy at every size of perturbation, between what is proven and what is found.

    Parameters
    ----------
    found : Distances or sequence of them
        What `trueboundary.distances` returned; all classes are put together, point by point.
    best : Distances or sequence of them, optional
        The same of the optimal classifier, for a line of what is possible: its proven distances.

    Returns
    -------
    matplotlib.figure.Figure
        The share of points without an error that near. The line of what is proven is a lower end,
        that of what was found an upper one; points without an error found stay in it to the end.

    Examples
    --------
    >>> import trueboundary as tb
    >>> from trueboundary.problems import planar_problem
    >>> problem = planar_problem("a")
    >>> optimal = problem.bayes_classifier()
    >>> figure = tb.plot.brackets(tb.distances(optimal, problem, n_points=20))
    >>> figure.axes[0].get_ylabel()
    'robust accuracy'
    """
    lower, upper = (_joined(found, name) for name in ("lower", "upper"))
    optimal = None if best is None else _joined(best, "lower")
    seen = upper if optimal is None else np.concatenate([upper, optimal])
    proven = lower[np.isfinite(lower)]
    largest = max(seen[np.isfinite(seen)].max(initial=0.0), proven.max(initial=0.0))
    size = np.linspace(0.0, (largest if largest > 0 else 1.0) * 1.05, _N_SIZES)
    figure, (axes,) = new_figure(width=6.4, height=3.6)
    shares = {"certified": lower, "found": upper} | ({} if optimal is None else {"best": optimal})
    draw_robust_accuracy(
        axes,
        {"size": size}
        | {name: (one[None] > size[:, None]).mean(axis=1) for name, one in shares.items()},
    )
    return figure


def attacked(
    result: AttackResult,
    x: Tensor,
    *,
    image_shape: tuple[int, int, int] | None = None,
    n_shown: int = 8,
) -> Figure:
    """Draw samples, what an attack made of them, and the change; points of a plane with their ways.

    Parameters
    ----------
    result : AttackResult
        What the attack returned.
    x : Tensor
        The samples ``(n, *event)`` that it was given.
    image_shape : tuple of int, optional
        Channels, height and width, where images were given as rows of pixels; by default the
        shape of the samples.
    n_shown : int
        The first so many samples are drawn; of a plane's points, all.

    Returns
    -------
    matplotlib.figure.Figure
        Samples, attacked images and changes (grey is none) below each other, with the distance of
        each; where no error was found the sample stands twice.

    Raises
    ------
    ValueError
        If the samples are neither images nor points of a plane, or not those attacked.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> x = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    >>> darker = lambda images: images.flatten(1).mean(1) - 0.5
    >>> result = tb.NearestError()(darker, x, (darker(x) > 0).long())
    >>> len(tb.plot.attacked(result, x).axes)
    1
    """
    if x.shape != result.x_adv.shape:
        raise ValueError(
            f"expected the samples that were attacked, of shape {tuple(result.x_adv.shape)}, got "
            f"{tuple(x.shape)}."
        )
    shape = tuple(x.shape[1:]) if image_shape is None else tuple(image_shape)
    if shape == (2,):
        return _in_plane(result, x)
    if len(shape) != 3 or shape[0] not in (1, 3) or math.prod(shape) != x[0].numel():
        raise ValueError(
            f"expected images of 1 or 3 channels, or points of a plane, got samples of shape "
            f"{tuple(x.shape[1:])}; image_shape=(channels, height, width) says what rows are."
        )
    original, changed = (
        part[:n_shown].flatten(1).double().numpy(force=True) for part in (x, result.x_adv)
    )
    height, width = shape[1] + GAP, shape[2] + GAP
    n = len(original)
    figure, (axes,) = new_figure(
        width=max(3.2, 1.1 * n * width / height + 1.0), height=3 * 1.1 + 0.5
    )
    draw_attacked(axes, original, changed, (shape[0], shape[1], shape[2]))
    words = [f"{d:.2g}" if math.isfinite(d) else "none" for d in result.distance[:n].tolist()]
    axes.set_xticks([i * width + shape[2] / 2 for i in range(n)], words)
    axes.set_xlabel("distance to the error (L2)")
    return figure


def _in_plane(result: AttackResult, x: Tensor) -> Figure:
    figure, (axes,) = new_figure(width=5.6, height=5.0)
    start, end = (part.double().numpy(force=True) for part in (x, result.x_adv))
    labels, found = result.y.numpy(force=True), result.success.numpy(force=True)
    for a, b in zip(start[found], end[found], strict=True):
        axes.plot([a[0], b[0]], [a[1], b[1]], color=COLOURS["grey"], lw=0.8)
    for label, colour in zip(sorted(set(labels.tolist())), CYCLE, strict=False):
        own = labels == label
        axes.plot(*start[own].T, "o", color=colour, ms=4, label=f"class {label}")
        axes.plot(*end[own & found].T, "x", color=colour, ms=5)
    lost = ~found
    if lost.any():
        axes.plot(*start[lost].T, "o", mfc="none", color=COLOURS["truth"], ms=8, label="none found")
    axes.plot([], [], "x", color=COLOURS["truth"], label="nearest error found")
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    axes.set_aspect("equal", adjustable="datalim")
    add_legend(axes)
    return figure


def _joined(found: Sequence[Distances] | Distances, name: str) -> Floats:
    parts = [found] if isinstance(found, Distances) else list(found)
    if not parts:
        raise ValueError("expected distances of one class at least, got none.")
    joined: Floats = np.concatenate([getattr(part, name) for part in parts])
    return joined


def _log10(rate: float) -> float:
    return math.log10(max(rate, 1e-300))
