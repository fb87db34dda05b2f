"""Figure 3 (left) of Gilmer et al. (2018): most alphas are wrong, and errors are rare all the same.

A quadratic network is perfect when each of its d alphas lies in [1/R^2, 1]. Trained on a finite
sample it misses that for most of them; trained online for long enough, for none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, rows_of, seeds
from trueboundary.experiments.networks.ellipsoids import (
    EllipsoidErrors,
    Floats,
    draw_alphas,
    last,
    last_of,
    log10_error,
    mark_right_alphas,
    power_of_ten,
    quadratic_network,
    training_words,
)
from trueboundary.experiments.networks.trained_networks import SPHERES, TrainedNetwork
from trueboundary.experiments.summaries import over_networks
from trueboundary.figures import COLOURS, add_legend, new_figure, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Heights of the 50 bars of the paper's histogram (500 alphas, N = 100,000), read off the figure.
PAPER_BARS = (
    *(51, 23, 16, 14, 13, 12, 10, 13, 11, 11, 11, 10, 10, 11, 11, 10, 10, 10, 12, 9, 11, 10, 10),
    *(10, 9, 9, 10, 7, 9, 10, 8, 9, 8, 8, 8, 8, 8, 8, 7, 6, 7, 6, 6, 7, 4, 5, 5, 3, 4, 2),
)
#: The bars divide the interval from 0 to this alpha evenly.
PAPER_MAXIMUM = 1.957

N_SAMPLED = 10_000_000  # points per sphere in which the paper saw no error
#: Sizes of the sample by the title of Figure 3 and by the text, and how their claims' ids end.
PAPER_SIZES: Mapping[int, str] = {100_000: "", 1_000_000: "-1e6"}


def paper_alphas() -> Floats:
    """Return 500 alphas with the paper's histogram, spread evenly inside each bar."""
    width = PAPER_MAXIMUM / len(PAPER_BARS)
    bars = [(i + (np.arange(n) + 0.5) / n) * width for i, n in enumerate(PAPER_BARS)]
    return np.concatenate(bars)


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return the alphas of every network: each training set, and the smaller perfect network."""
    if 0 not in settings["train_sizes"]:
        raise ValueError(
            "train_sizes must hold 0, the online training that the others are compared "
            f"with, got {list(settings['train_sizes'])}"
        )
    runs: dict[str, RunConfig] = {}
    small = dict(settings) | {
        name: settings[f"perfect_{name}"] for name in ("dim", "width", "n_steps")
    }
    for index, own in seeds(settings, seed):
        for n_train in settings["train_sizes"]:
            network = quadratic_network(settings, own, device, n_train=n_train)
            runs[_name(n_train, index)] = EllipsoidErrors(network)
        runs[_small(index)] = EllipsoidErrors(quadratic_network(small, own, device))
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Count wrong alphas and compute the error rates that they amount to."""
    online = _seeds(runs, settings, 0)
    return Analysis(
        panels=(_histograms(runs, settings), _progress(runs, settings)),
        measurements={
            "A2.3": Measurement(
                float(last_of(online, "n_wrong").max()),
                n=len(online),
                note=f"The largest over seeds, of {settings['dim']} alphas.",
            ),
            **_of_finite_samples(runs, settings),
        },
        remarks=[
            _paper_remark(),
            _nearest_remark(runs, settings),
            _start_remark(runs, settings),
            *_perfect_remark(runs, settings),
            *_epoch_remarks(settings),
        ],
    )


def _of_finite_samples(
    runs: Mapping[str, Run], settings: Mapping[str, Any]
) -> dict[str, Measurement]:
    """Return what is measured of the networks of each size of sample that the paper names."""
    measurements: dict[str, Measurement] = {}
    for n_train, suffix in PAPER_SIZES.items():
        if n_train not in settings["train_sizes"]:
            continue
        networks = _seeds(runs, settings, n_train)
        worse = np.maximum(*(last_of(networks, f"exact-{sphere}") for sphere in SPHERES))
        measurements |= {
            f"A2.4a{suffix}": over_networks(
                last_of(networks, "n_wrong"), f"Of {settings['dim']} alphas."
            ),
            f"A2.4b{suffix}": over_networks(
                math.log10(N_SAMPLED) + worse,
                f"On average {float((N_SAMPLED * 10**worse).mean()):.3g} of 10 million points of "
                "the worse sphere, by the exact error rate.",
            ),
            f"A2.5{suffix}": over_networks(last_of(networks, "clt-inner"), _all_errors(networks)),
        }
    return measurements


def _name(n_train: int, index: int) -> str:
    return f"{f'n{n_train}' if n_train else 'online'}-seed{index}"


def _small(index: int) -> str:
    return f"small-seed{index}"


def _seeds(runs: Mapping[str, Run], settings: Mapping[str, Any], n_train: int) -> list[Run]:
    return [runs[_name(n_train, index)] for index in range(settings["n_seeds"])]


def _all_errors(runs: Sequence[Run]) -> str:
    """Say what the other method and the other sphere give."""
    parts = [
        f"{method} {sphere} {last_of(runs, f'{method}-{sphere}').mean():.2f}"
        for sphere in SPHERES
        for method in ("exact", "clt")
    ]
    return f"log10 of the error rates: {', '.join(parts)}."


def _paper_remark() -> str:
    alphas = paper_alphas()
    exact, clt = (
        {sphere: log10_error(alphas, sphere, method=method) for sphere in SPHERES}
        for method in ("exact", "clt")
    )
    return (
        "The bars of the paper's own figure give, by the central limit theorem, an error rate of "
        f"10^{clt['inner']:.1f} on the inner sphere, the paper's number to reading accuracy, and "
        f"of 10^{clt['outer']:.1f} on the outer one, which the paper leaves out; exactly they "
        f"are 10^{exact['inner']:.1f} and 10^{exact['outer']:.1f}. On the outer sphere that is "
        f"{N_SAMPLED * 10 ** exact['outer']:.0f} errors among 10 million points."
    )


def _nearest_remark(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> str:
    """Say which network, at which step, has alphas most like those of the paper's figure.

    The figure, its title and the text disagree about the size of the sample and about the error
    rates; its histogram is the one thing that all of the network's alphas are behind.
    """
    nearest = min(
        (histogram_distance(alphas), n_train, index, i)
        for n_train in settings["train_sizes"]
        for index in range(settings["n_seeds"])
        for i, alphas in enumerate(runs[_name(n_train, index)].arrays["alphas"])
    )
    distance, n_train, index, i = nearest
    arrays = runs[_name(n_train, index)].arrays
    inner, outer = (arrays[f"clt-{sphere}"][i] for sphere in SPHERES)
    return (
        "Of all networks and steps stored here, the alphas most like the figure's are those of "
        f"{training_words(n_train)} at step {arrays['step'][i]:,.0f} (seed {index}): their "
        f"distribution functions differ by {distance:.3f} at most. "
        f"{arrays['n_wrong'][i]:.0f} of them are wrong, and the central limit theorem gives error "
        f"rates of 10^{inner:.1f} on the inner and 10^{outer:.1f} on the outer sphere."
    )


def histogram_distance(alphas: Floats) -> float:
    """Return the largest difference of the distribution functions of `alphas` and the paper's bars.

    It is taken at the edges of the bars, between which the figure says nothing (Kolmogorov's
    distance at those points), and lies between 0 and 1.

    Examples
    --------
    >>> histogram_distance(paper_alphas()), histogram_distance(np.full(500, 3.0))
    (0.0, 1.0)
    """
    edges = np.linspace(0.0, PAPER_MAXIMUM, len(PAPER_BARS) + 1)
    paper = np.cumsum(PAPER_BARS) / sum(PAPER_BARS)
    below = np.searchsorted(np.sort(alphas), edges[1:]) / len(alphas)
    return float(np.abs(below - paper).max())


def _start_remark(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> str:
    n_train = settings["train_sizes"][0]
    arrays = runs[_name(n_train, 0)].arrays
    words = [
        f"10^{arrays['exact-inner'][i]:.1f} inner, 10^{arrays['exact-outer'][i]:.1f} outer and "
        f"{arrays['n_wrong'][i]:.0f} wrong alphas at step {arrays['step'][i]:,.0f}"
        for i in (0, -1)
    ]
    return (
        "The start is part of the answer: it gives the alphas a mean of 0.8, near the best one, so "
        "that low error rates need no training. With "
        f"{training_words(n_train)}{'' if n_train else ' training'}, exactly: {words[0]}; "
        f"{words[1]}."
    )


def _epoch_remarks(settings: Mapping[str, Any]) -> list[str]:
    n_seen = settings["n_steps"] * TrainedNetwork.batch_size
    return [
        f"N = {n_train:,} is less than one epoch here ({plural(n_seen, 'point')} are drawn): it "
        "cannot be told from online training."
        for n_train in settings["train_sizes"]
        if n_train > n_seen
    ]


def _perfect_remark(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> list[str]:
    small = [runs[_small(index)] for index in range(settings["n_seeds"])]
    wrong = last_of(small, "n_wrong")
    remark = (
        f"At d = {settings['perfect_dim']}, with {settings['perfect_width']} hidden units, online "
        f"training leaves {', '.join(f'{n:.0f}' for n in wrong)} wrong alphas after "
        f"{settings['perfect_n_steps']:,} steps."
    )
    if wrong[0] == 0:
        remark += (
            f" The central limit theorem still gives that perfect network error rates of "
            f"10^{last(small[0], 'clt-inner'):.1f} on the inner and "
            f"10^{last(small[0], 'clt-outer'):.1f} on the outer sphere; exactly they are 0."
        )
    return [remark]


def _histograms(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Panel:
    finals = {n: runs[_name(n, 0)].arrays["alphas"][-1] for n in settings["train_sizes"]}
    highest = max(PAPER_MAXIMUM, *(float(alphas.max()) for alphas in finals.values()))
    width = PAPER_MAXIMUM / len(PAPER_BARS)
    # A little more than the highest, so that rounding never drops it; a wild alpha of a network
    # that has hardly been trained must not make thousands of bars.
    n_bars = min(math.ceil(highest / width + 1e-6), 4 * len(PAPER_BARS))
    edges = np.arange(n_bars + 1) * width
    counts = {n: np.histogram(np.minimum(a, edges[-1]), edges)[0] for n, a in finals.items()}
    paper = np.zeros(n_bars, dtype=int)
    paper[: len(PAPER_BARS)] = PAPER_BARS

    def draw() -> Figure:
        n_columns = min(3, len(finals))
        n_rows = -(-len(finals) // n_columns)
        figure, axes = new_figure(n_columns, n_rows, width=4.2 * n_columns, height=3.5 * n_rows)
        for ax in axes[len(finals) :]:
            ax.set_visible(False)
        for ax, (n_train, heights) in zip(axes, counts.items(), strict=False):
            run = runs[_name(n_train, 0)]
            ax.bar(edges[:-1], heights, width, align="edge", color=COLOURS["sky"], label="measured")
            if n_train == settings["train_sizes"][0]:
                ax.stairs(paper, edges, color=COLOURS["paper"], linewidth=1.5, label="paper")
            mark_right_alphas(ax)
            ax.set(xlabel=r"$\alpha_i$", ylabel="number of alphas", xlim=(0, edges[-1]))
            # Most bars are small beside the one at 0, and headroom keeps the text off all of them.
            ax.set_yscale("symlog", linthresh=10, linscale=0.6)
            ax.set_ylim(0, 40 * max(heights.max(), max(PAPER_BARS)))
            ax.set_yticks([0, 5, 10, 100], ["0", "5", "10", "100"])
            ax.set_yticks([], minor=True)
            ax.set_title(
                f"{training_words(n_train)}: {int(last(run, 'n_wrong'))} of {settings['dim']}"
            )
            _write_errors(ax, run)
        shared_legend(figure, n_columns=3, of=axes[0])
        return figure

    return Panel(
        "fig3-left",
        "Figure 3 (left): the alphas of trained quadratic networks",
        "Alphas after training on samples of different sizes, one network each, with the number of "
        "wrong ones in the title; above 10 the axis is logarithmic. A network is perfect when all "
        "lie between the red lines, at 1/R^2 and 1. The step line is the paper's histogram. The "
        "error rates are of both spheres: the paper gives the central limit theorem's on the inner "
        "sphere alone.",
        draw,
        [
            {"n_train": n, "from": edges[i], "to": edges[i + 1], "count": int(heights[i])}
            for n, heights in counts.items()
            for i in range(n_bars)
        ],
    )


def _write_errors(axes: Axes, run: Run) -> None:
    rows = [
        f"{sphere}: exact {power_of_ten(last(run, f'exact-{sphere}'))}, "
        f"CLT {power_of_ten(last(run, f'clt-{sphere}'))}"
        for sphere in SPHERES
    ]
    text = "\n".join(["error rates", *rows])
    style: Any = {"ha": "right", "va": "top", "fontsize": 9}
    axes.text(0.97, 0.97, text, transform=axes.transAxes, **style)


def _progress(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Panel:
    small = runs[_small(0)]
    curves = {
        f"d = {settings['dim']}, {training_words(n)}": (runs[_name(n, 0)], settings["dim"])
        for n in settings["train_sizes"]
    }
    on_the_left = f"d = {settings['perfect_dim']}, online, {settings['perfect_width']} hidden units"
    # The same network may be asked for twice; two networks never share a name.
    if all(run.path != small.path for run, _ in curves.values()):
        curves[on_the_left] = (small, settings["perfect_dim"])

    def draw() -> Figure:
        figure, (left, right) = new_figure(2, width=11.0)
        title = f"d = {settings['perfect_dim']}: {int(last(small, 'n_wrong'))} wrong"
        draw_alphas(left, small, 30, title=title)
        left.set_ylim(top=1.3 * left.get_ylim()[1])
        add_legend(left, location="upper center")
        for index, (label, (run, dim)) in enumerate(curves.items()):
            # Curves start on one another; those below are seen by their markers' sizes.
            look: Any = {"ms": max(10 - 2 * index, 3), "mfc": "none" if index == 0 else None}
            right.plot(run.arrays["step"], run.arrays["n_wrong"] / dim, "o-", **look, label=label)
        right.set(xscale="log", xlabel="training steps", ylabel="share of wrong alphas")
        right.set(ylim=(-0.03, 1.03))
        shared_legend(figure, of=right, beside=True)
        return figure

    return Panel(
        "perfect-network",
        "On the way to a perfect network",
        f"Left: the alphas of one network of {settings['perfect_width']:,} hidden units after "
        "online training; between the red lines they are right. Right: share of wrong alphas "
        "during training, one network each.",
        draw,
        [
            {"network": label, **row, "dim": dim}
            for label, (run, dim) in curves.items()
            for row in rows_of(step=run.arrays["step"], n_wrong=run.arrays["n_wrong"])
        ],
    )


EXPERIMENT = Experiment(
    id="spheres-alphas",
    paper="spheres",
    place="Fig. 3 left, section 4",
    title="The alphas of trained quadratic networks",
    question=(
        "How many of a trained quadratic network's alphas are wrong, and how rare are its errors "
        "on either sphere nevertheless?"
    ),
    plan=plan,
    analyse=analyse,
)
