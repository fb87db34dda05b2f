"""How often the trained ReLU network errs on random points (Gilmer et al. 2018, Section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trueboundary.experiments import summaries
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows, seeds
from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.trained_networks import SPHERES, small_relu_network
from trueboundary.figures import COLOURS, CYCLE, add_legend, interval_bars, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Points per sphere on which the paper's network made no error.
PAPER_POINTS = 10_000_000


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return a count per seed."""
    n_points = settings["n_points"]
    return {
        f"seed-{index}": ErrorCount(small_relu_network(settings, own, device), n_points, seed=own)
        for index, own in seeds(settings, seed)
    }


def rate_rows(run: Run, network: str) -> Rows:
    """Return one row per sphere with the error rate and its 95 % limits.

    ``low`` and ``high`` are two-sided, ``upper_limit`` is one-sided: what can be said of a rate
    when no error was seen.
    """
    rows: Rows = []
    for sphere in SPHERES:
        count = run.summary[f"n_errors_{sphere}"], run.summary["n_points"]
        row = {"network": network, "sphere": sphere, **summaries.share_row(*count)}
        rows.append(row | {"upper_limit": summaries.upper_limit(*count)})
    return rows


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Count the errors and say what rate they allow."""
    rows: Rows = []
    for index in range(settings["n_seeds"]):
        rows += rate_rows(runs[f"seed-{index}"], f"seed {index}")
    panel = Panel(
        "error-rate",
        "Error rate on random points of each sphere",
        f"Share of {plural(settings['n_points'], 'random point')} of each sphere that the network "
        "gets wrong, with 95 % Clopper-Pearson intervals. A triangle marks a count of zero: it "
        "stands at the upper limit, and the rate may be anything below. The line is the limit that "
        "the paper's count of zero errors in 10 million points allows.",
        lambda: _draw(rows),
        rows,
    )
    named = settings["n_seeds"] > 1
    note = " ".join(_sentence(row, named=named) for row in rows)
    none = all(row["n_errors"] == 0 for row in rows)
    measurement = Measurement(none, n=settings["n_points"], cells=rows, note=note)
    return Analysis([panel], {"A1.1": measurement})


def _draw(rows: Rows) -> Figure:
    figure, (axes,) = new_figure(width=6.4, height=4.2)
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for place, network in enumerate(networks):
        shift = 0.12 * (place - (len(networks) - 1) / 2)
        colour = CYCLE[place % len(CYCLE)]
        for row in (row for row in rows if row["network"] == network):
            x = SPHERES.index(row["sphere"]) + shift
            label = network if row["sphere"] == SPHERES[0] else None
            if row["n_errors"] == 0:
                axes.plot(x, row["upper_limit"], "v", color=colour, label=label)
                continue
            ends = row["low"], row["high"]
            interval_bars(axes, x, row["rate"], *ends, color=colour, capsize=4, label=label)
    limit = summaries.upper_limit(0, PAPER_POINTS)
    axes.axhline(limit, color=COLOURS["paper"], label="limit of the paper's 0 in 10 million")
    axes.set(yscale="log", ylabel="error rate (share of random points)")
    lowest = min([limit, *(row["low"] for row in rows if row["low"] > 0)])
    axes.set_ylim(lowest / 3, max(1e-2, *(30 * row["high"] for row in rows)))  # room for the legend
    axes.set_xlim(-0.5, len(SPHERES) - 0.5)
    axes.set_xticks(range(len(SPHERES)), [f"{sphere} sphere" for sphere in SPHERES])
    add_legend(axes, location="upper right")
    return figure


def _sentence(row: Mapping[str, Any], *, named: bool) -> str:
    who = f" ({row['network']})" if named else ""
    return (
        f"{row['n_errors']:,} of {plural(row['n_points'], 'point')} of the {row['sphere']} sphere "
        f"are errors{who}: with 95 % confidence the rate is below {row['upper_limit']:.2g}."
    )


EXPERIMENT = Experiment(
    id="spheres-error-rate",
    paper="spheres",
    place="Section 3",
    title="Errors of the ReLU network on random points",
    question="How many of millions of random points of either sphere does the network get wrong?",
    plan=plan,
    analyse=analyse,
)
