"""Proofs that a ReLU network makes no error on the whole of either sphere.

Gilmer et al. (2018), Section 3, found no error by attack up to about 60 dimensions. An attack that
fails proves nothing; covering the sphere by certified caps does, in a few dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows
from trueboundary.experiments.networks.trained_networks import (
    SPHERES,
    OfNetwork,
    Sphere,
    small_relu_network,
)
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, add_legend, new_figure, plot_rows
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Highest dimension at which the paper's attack found no error.
PAPER_DIM = 60


@dataclass(frozen=True)
class WholeSphere(OfNetwork):
    """A proof that a ReLU network of 2 to 10 inputs errs nowhere on a sphere, or an error.

    At most `max_cells` caps are bounded. The summary has ``status`` ("proven", "error" or
    "undecided"), ``n_cells``, the caps that were bounded, ``n_open``, those left open, and
    ``smallest_margin``.
    """

    sphere: Sphere
    max_cells: int

    def __post_init__(self) -> None:
        self.check_at_least(1, "max_cells")

    def cost(self) -> float:
        """About sixteen times as many caps per dimension, each a relaxation of the network."""
        n_cells = min(float(self.max_cells), 10.0 * 16.0 ** (self.network.dim - 2))
        return RATES.run + n_cells * (RATES.cap + self.network.width**2 * RATES.cap_bound)

    def compute(self, context: Context) -> RunResult:
        """Cover the sphere."""
        from trueboundary.certificates import prove_sphere_error_free

        model = self.load(context)
        proof = prove_sphere_error_free(
            model,
            self.network.radius_of(self.sphere),
            label=SPHERES.index(self.sphere),
            max_cells=self.max_cells,
        )
        names = ("status", "n_cells", "n_open", "smallest_margin")
        return RunResult({name: getattr(proof, name) for name in names})


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return a proof per dimension and sphere."""
    runs: dict[str, RunConfig] = {}
    for dim in settings["dims"]:
        rate = settings["learning_rate"]
        network = small_relu_network(settings, seed, device, dim=dim, learning_rate=rate)
        for sphere in SPHERES:
            runs[f"{dim}/{sphere}"] = WholeSphere(network, sphere, settings["max_cells"])
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Say up to which dimension both spheres are proven."""
    rows = [
        {"dim": dim, "sphere": sphere} | dict(runs[f"{dim}/{sphere}"].summary)
        for dim in settings["dims"]
        for sphere in SPHERES
    ]
    open_dims = {row["dim"] for row in rows if row["status"] != "proven"}
    proven = [dim for dim in settings["dims"] if dim not in open_dims]
    errors, undecided = (
        [f"d = {row['dim']} ({row['sphere']})" for row in rows if row["status"] == status]
        for status in ("error", "undecided")
    )
    note = (
        f"Proven on both spheres at d = {', '.join(str(dim) for dim in proven) or 'none'}. "
        f"Errors found: {', '.join(errors) or 'none'}. Undecided within {settings['max_cells']:,} "
        f"caps: {', '.join(undecided) or 'none'}."
    )
    largest = max((dim for dim in proven if not any(d < dim for d in open_dims)), default=0)
    found = Measurement(float(largest), cells=rows, note=note)
    return Analysis([_panel(rows)], {"T3": found}, [note, _growth(rows)])


def _growth(rows: Rows) -> str:
    cells = {
        dim: sum(row["n_cells"] for row in rows if row["dim"] == dim)
        for dim in sorted({row["dim"] for row in rows if row["status"] == "proven"})
    }
    text = "; ".join(f"{n:,} at d = {dim}" for dim, n in cells.items())
    return (
        f"Caps needed for both spheres: {text or 'no proof came to an end'}. The number multiplies "
        "with each dimension, so that a proof by covering ends far below the dimension of about "
        f"{PAPER_DIM} up to which the paper's attack found no error; above, the attack and the "
        "limits from certified radii of random points are all there is."
    )


def _panel(rows: Rows) -> Panel:
    return Panel(
        "whole-sphere",
        "What it takes to prove that there is no error on a whole sphere",
        "Number of caps that had to be bounded until a ReLU network was proven to classify every "
        "point of the sphere correctly. Crosses mark spheres on which an error was found, open "
        "triangles those left undecided. See how the number grows with the dimension.",
        lambda: _draw(rows),
        rows,
    )


def _draw(rows: Rows) -> Figure:
    figure, (axes,) = new_figure(width=6.0, height=4.0)
    for sphere, marker in zip(SPHERES, ("o", "s"), strict=True):
        proven = [r for r in rows if r["sphere"] == sphere and r["status"] == "proven"]
        style: Any = {"color": COLOURS[sphere], "label": f"{sphere} sphere, proven"}
        plot_rows(axes, proven, "dim", "n_cells", f"{marker}-", **style)
    style = {"color": COLOURS["truth"], "markerfacecolor": "none", "markersize": 9}
    for status, marker, label in (("error", "x", "error found"), ("undecided", "^", "undecided")):
        if found := [row for row in rows if row["status"] == status]:
            plot_rows(axes, found, "dim", "n_cells", marker, **style, label=label)
    axes.set(yscale="log", xlabel="dimension d", ylabel="number of caps bounded")
    axes.set_xticks(sorted({row["dim"] for row in rows}))
    add_legend(axes, location="upper left")
    return figure


EXPERIMENT = Experiment(
    id="truth-whole-sphere",
    paper="truth",
    place="Gilmer et al. (2018), Section 3",
    title="Proofs that a ReLU network makes no error on a whole sphere",
    question="Up to which dimension can the absence of errors be proven, rather than not refuted?",
    plan=plan,
    analyse=analyse,
)
