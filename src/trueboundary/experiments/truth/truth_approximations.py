"""Beyond Gilmer et al. (2018), Section 4 and footnote 1: how wrong approximate error rates are.

The paper estimates error rates that no sample shows by the central limit theorem. Here it, the same
on the sphere, the saddle-point formula of Lugannani and Rice and Chernoff's bound are held against
the exact rates of ellipsoids of many shapes and of trained networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.networks import ellipsoids
from trueboundary.experiments.networks.spectra import MEAN_ALPHA, SHAPES, shape, std_for_clt
from trueboundary.experiments.networks.trained_networks import SPHERES
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, new_figure, plot_rows, shared_legend
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The error rate that the paper estimates for its network with wrong alphas, log10.
PAPER_ESTIMATE = -11.0
APPROXIMATIONS = tuple(ellipsoids.METHODS)[1:]
#: Marker and colour of each method.
_STYLES = {
    "exact": ("|", "truth"),
    "clt": ("x", "paper"),
    "sphere-clt": ("+", "orange"),
    "lugannani-rice": ("o", "green"),
    "chernoff": ("v", "grey"),
}


@dataclass(frozen=True)
class ShapeErrors(RunConfig):
    """Error rates of ellipsoids of every shape, by every method.

    Each shape's spread is such that the central limit theorem gives the same estimate on both
    spheres; shapes cannot differ in it, only in how wrong it is. The summary's ``rows`` hold
    ``shape``, ``estimate``, ``sphere`` and the log10 of each method; estimates that no spread has
    are left out.
    """

    dim: int
    estimates: tuple[float, ...]

    def __post_init__(self) -> None:
        self.check_at_least(11, "dim")

    def cost(self) -> float:
        """Two exact tails and eight formulas per shape and estimate."""
        n_tails = 2 * len(SHAPES) * len(self.estimates)
        return RATES.run + n_tails * (RATES.tail + self.dim * RATES.tail_weight)

    def compute(self, context: Context) -> RunResult:
        """Evaluate every method."""
        rows = []
        for name in SHAPES:
            unit = shape(name, self.dim)
            for estimate in self.estimates:
                std = std_for_clt(estimate, self.dim)
                if std is None:
                    continue
                alphas = MEAN_ALPHA + std * unit
                for sphere in SPHERES:
                    row: Row = {"shape": name, "estimate": estimate, "sphere": sphere}
                    for method in ellipsoids.METHODS:
                        row[method] = ellipsoids.log10_error(alphas, sphere, method=method)
                    rows.append(row)
        return RunResult({"rows": rows})


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return the shapes, and the trained networks' error rates."""
    runs: dict[str, RunConfig] = {"shapes": ShapeErrors(settings["dim"], settings["estimates"])}
    for n_train in settings["train_sizes"]:
        network = ellipsoids.quadratic_network(settings, seed, device, n_train=n_train)
        runs[f"trained/{n_train}"] = ellipsoids.EllipsoidErrors(network)
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Tabulate the errors of each method by shape, and over the training of networks."""
    shapes: Rows = list(runs["shapes"].summary["rows"])
    trained = trained_rows(runs, settings["train_sizes"])
    at_paper = [row for row in shapes if row["estimate"] == PAPER_ESTIMATE]
    measurements = {}
    if any(math.isfinite(row["exact"]) for row in at_paper):
        measurements["T4"] = _clt_measurement(at_paper)
    panels = [_deviations(shapes, trained)]
    if at_paper:
        panels.insert(0, _at_paper(at_paper, settings["dim"]))
    return Analysis(panels, measurements, _remarks(shapes, trained))


def trained_rows(runs: Mapping[str, Run], train_sizes: Sequence[int]) -> Rows:
    """Return one row per network, stored step and sphere."""
    rows = []
    for n_train in train_sizes:
        arrays = runs[f"trained/{n_train}"].arrays
        for index, step in enumerate(arrays["step"]):
            which = {"shape": f"trained, {ellipsoids.training_words(n_train)}", "step": int(step)}
            rows += [which | row for row in ellipsoids.method_rows(arrays, index)]
    return rows


def _clt_measurement(rows: Rows) -> Measurement:
    compared = [row for row in rows if math.isfinite(row["exact"])]
    worst = max(compared, key=lambda row: abs(row["clt"] - row["exact"]))
    none = [f"{row['shape']} ({row['sphere']})" for row in rows if not math.isfinite(row["exact"])]
    rest = f" No error at all: {', '.join(none)}." if none else ""
    note = (
        f"Largest for alphas of shape {worst['shape']!r}, {worst['sphere']} sphere, where "
        f"10^{worst['exact']:.1f} is exact.{rest}"
    )
    value = abs(worst["clt"] - worst["exact"])
    return Measurement(value, n=len(compared), cells=rows, note=note)


def _remarks(shapes: Rows, trained: Rows) -> list[str]:
    remarks = []
    for words, rows in (("Ellipsoids of all shapes", shapes), ("Trained networks", trained)):
        compared = [row for row in rows if math.isfinite(row["exact"]) and row["exact"] < 0]
        if not compared:
            continue
        parts = []
        for method in APPROXIMATIONS:
            gaps = [row[method] - row["exact"] for row in compared if math.isfinite(row[method])]
            if gaps:
                parts.append(f"{ellipsoids.METHODS[method]} {min(gaps):+.2g} to {max(gaps):+.2g}")
        remarks.append(
            f"{words}, {len(compared)} error rates: log10 of the approximation minus that of the "
            f"exact rate is {'; '.join(parts)}."
        )
    return remarks


def _at_paper(rows: Rows, dim: int) -> Panel:
    return Panel(
        "shapes",
        "What an estimate of 1e-11 can mean",
        f"Ellipsoids of {dim} alphas whose error rate the central limit theorem puts at 1e-11 on "
        "both spheres, as the paper does for its network (Fig. 3). The black ticks are exact; an "
        "arrow at the left edge says that there is no error at all. The estimate sees mean and "
        "spread of the alphas alone; skewed ones err far more often inside and far less outside.",
        lambda: _draw_shapes(rows),
        rows,
    )


def _draw_shapes(rows: Rows) -> Figure:
    figure, panels = new_figure(2, width=10.5, height=4.6)
    names = [name for name in SHAPES if any(row["shape"] == name for row in rows)]
    edge = -47.0
    for axes, sphere in zip(panels, SPHERES, strict=True):
        for method, label in ellipsoids.METHODS.items():
            marker, colour = _STYLES[method]
            found = [row for row in rows if row["sphere"] == sphere]
            found = [row | {"place": len(names) - 1 - names.index(row["shape"])} for row in found]
            finite = [row for row in found if math.isfinite(row[method])]
            size, width = (16, 2.2) if method == "exact" else (7, 1.4)
            style: Any = {"markersize": size, "markeredgewidth": width, "markerfacecolor": "none"}
            colour = COLOURS[colour]
            plot_rows(axes, finite, method, "place", marker, color=colour, label=label, **style)
            if method == "exact":
                none = [row["place"] for row in found if row[method] == -math.inf]
                zero: Any = {"color": COLOURS["truth"], "markersize": 7, "linestyle": ""}
                axes.plot([edge] * len(none), none, "<", **zero, label="no error at all")
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.set(title=f"{sphere} sphere", xlabel=r"$\log_{10}$ of the error rate")
        axes.set(xlim=(edge - 1, 0), ylim=(-0.6, len(names) - 0.4))
    shared_legend(figure, n_columns=6, of=panels[0])
    return figure


def _deviations(shapes: Rows, trained: Rows) -> Panel:
    return Panel(
        "deviations",
        "How wrong each approximation is, by the exact error rate",
        "Distance between the logarithms of approximate and exact error rates: 1 is a factor of "
        "ten, 0.001 a quarter of a percent; what is nearer than 1e-6 is drawn there. Left: "
        "ellipsoids of all shapes and many spreads. Right: quadratic networks at several steps of "
        "training. The central limit theorem, on the sphere or not, can miss by many powers of "
        "ten, and one cannot tell when; the saddle-point formula is right to within a fifth "
        "everywhere; Chernoff's bound stays within a factor of a thousand, and is a bound.",
        lambda: _draw_deviations(shapes, trained),
        [*shapes, *trained],
    )


def _draw_deviations(shapes: Rows, trained: Rows) -> Figure:
    figure, panels = new_figure(2, width=10.5, height=4.6)
    titles = ("ellipsoids of all shapes", "trained networks")
    for axes, rows, title in zip(panels, (shapes, trained), titles, strict=True):
        _draw_gaps(axes, rows)
        axes.set(title=title, xlabel=r"$\log_{10}$ of the exact error rate", yscale="log")
        axes.set(ylabel=r"difference of $\log_{10}$ error rates", ylim=(1e-6, 1e2))
    shared_legend(figure, n_columns=4, of=panels[0])
    return figure


def _draw_gaps(axes: Axes, rows: Rows) -> None:
    for method in APPROXIMATIONS:
        marker, colour = _STYLES[method]
        compared = [
            row | {"gap": max(abs(row[method] - row["exact"]), 1e-6)}
            for row in rows
            if -60 < row["exact"] < 0 and math.isfinite(row[method])
        ]
        style: Any = {"color": COLOURS[colour], "markersize": 5, "markerfacecolor": "none"}
        plot_rows(axes, compared, "exact", "gap", marker, label=ellipsoids.METHODS[method], **style)


EXPERIMENT = Experiment(
    id="truth-approximations",
    paper="truth",
    place="Gilmer et al. (2018), Section 4 and footnote 1",
    title="How wrong approximate error rates are",
    question="Which approximations of error rates far below sampling can be trusted, and where?",
    plan=plan,
    analyse=analyse,
)
