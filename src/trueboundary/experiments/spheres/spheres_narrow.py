"""Section 4.1 of Gilmer et al. (2018): a network half as wide as perfection needs is accurate.

With fewer hidden units than dimensions the remaining alphas are 0, so there are always errors on
the outer sphere; in high dimension they are rare all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows, seeds
from trueboundary.experiments.networks import ellipsoids
from trueboundary.experiments.networks.trained_networks import SPHERES
from trueboundary.experiments.summaries import over_networks
from trueboundary.figures import COLOURS, add_legend, new_figure, plot_rows
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: log10 of the error rates that the paper estimates at d = 2000 with 1000 hidden units.
PAPER = {"inner": -21.0, "outer": -9.0}


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return the alphas of one network per seed."""
    return {
        f"seed{i}": ellipsoids.EllipsoidErrors(ellipsoids.quadratic_network(settings, own, device))
        for i, own in seeds(settings, seed)
    }


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Compute the error rates on both spheres, exactly and as the paper does."""
    return Analysis(
        panels=(_panel(runs, settings),),
        measurements={
            claim: _measure(list(runs.values()), settings, sphere)
            for claim, sphere in (("A2.12a", "inner"), ("A2.12b", "outer"))
        },
    )


def _measure(runs: Sequence[Run], settings: Mapping[str, Any], sphere: str) -> Measurement:
    exact = ellipsoids.last_of(runs, f"exact-{sphere}").mean()
    return over_networks(
        ellipsoids.last_of(runs, f"clt-{sphere}"),
        f"Exactly, 10^{exact:.1f} (mean exponent). Measured at d = {settings['dim']} with "
        f"{settings['width']} hidden units; exponents grow in proportion to d.",
    )


def _panel(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Panel:
    rows: Rows = [
        {"run": name, "sphere": sphere, "method": method}
        | {"log10_error": ellipsoids.last(run, f"{method}-{sphere}")}
        for name, run in runs.items()
        for sphere in SPHERES
        for method in ("exact", "clt")
    ]
    exponents = [row["log10_error"] for row in rows]
    lowest = min(filter(math.isfinite, [*exponents, *PAPER.values()]))

    def draw() -> Figure:
        figure, (left, right) = new_figure(2, width=9.6)
        title = f"d = {settings['dim']}, {settings['width']} hidden units"
        ellipsoids.draw_alphas(left, next(iter(runs.values())), 40, yscale="log", title=title)
        left.set_ylim(top=6 * left.get_ylim()[1])
        add_legend(left, location="upper right")
        for method, marker, colour in (("exact", "o", "truth"), ("clt", "x", "sky")):
            own = [row for row in rows if row["method"] == method]
            shown = [row | {"place": SPHERES.index(row["sphere"])} for row in own]
            style: Any = {"color": COLOURS[colour], "label": ellipsoids.METHODS[method]}
            plot_rows(right, shown, "place", "log10_error", marker, **style)
        style = {"color": COLOURS["paper"], "label": "paper (CLT, d = 2000)"}
        right.plot(range(2), [PAPER[sphere] for sphere in SPHERES], "_", markersize=22, **style)
        right.set_xticks(range(2), SPHERES)
        right.set(xlim=(-0.5, 1.5), ylim=(1.1 * lowest, 0))
        right.set_ylabel(r"$\log_{10}$ of the error rate")
        add_legend(right, location="center")
        return figure

    return Panel(
        "narrow-network",
        "A network half as wide as it would have to be",
        "Left: the alphas of the first seed; as many are 0 as there are hidden units missing. "
        "Right: error rates on both spheres, one point per seed, beside the paper's estimates.",
        draw,
        rows,
    )


EXPERIMENT = Experiment(
    id="spheres-narrow",
    paper="spheres",
    place="Section 4.1",
    title="A quadratic network that is too narrow to be perfect",
    question="How rare are the errors of a network with half as many hidden units as dimensions?",
    plan=plan,
    analyse=analyse,
)
