"""Up to which dimension no error can be found by attack (Gilmer et al. 2018, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary import theory
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, seeds
from trueboundary.experiments.networks.attacked_points import AttackedPoints
from trueboundary.experiments.networks.trained_networks import (
    SPHERES,
    OfNetwork,
    small_relu_network,
)
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, add_legend, interval_bars, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODES = ("nearest", "worst_case")
_PAPER_DIM = 60


@dataclass(frozen=True)
class ErrorSearch(OfNetwork):
    """A search for any error on either sphere, with a stated budget.

    Both manifold attacks start from every point: the one that stops at the first error, with steps
    of 0.001, and the one that climbs to the worst point, with steps that adapt and so reach the
    whole sphere.

    Parameters
    ----------
    n_points : int
        Random points per sphere.
    n_steps : int
        Largest number of steps from each start.
    n_restarts : int
        Starts per point.
    """

    version: ClassVar[int] = 2  # 1 took a margin of 0 for an error

    n_points: int
    n_steps: int
    n_restarts: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points", "n_steps", "n_restarts")

    def cost(self) -> float:
        """Forward and backward for every step of every start."""
        n_starts = self.n_points * self.n_restarts
        per_attack = self.network.seconds_of_attack(n_starts, self.n_steps)
        return RATES.run + len(SPHERES) * len(MODES) * per_attack

    def compute(self, context: Context) -> RunResult:
        """Attack both spheres in both modes."""
        import torch

        from trueboundary.attacks import ManifoldAttack

        model = self.load(context)
        attacks = {
            "nearest": ManifoldAttack("nearest", self.n_steps, 1e-3, self.n_restarts),
            "worst_case": ManifoldAttack("worst_case", self.n_steps, 1e-2, self.n_restarts),
        }
        summary: Row = {"n_points": self.n_points}
        arrays: Row = {}
        for label, sphere in enumerate(SPHERES):
            points = AttackedPoints(self.network, self.n_points, sphere=sphere, seed=self.seed)
            x, y = points.points()
            for mode in MODES:
                generator = torch.Generator().manual_seed(self.seed)
                result = attacks[mode](model, x, y, generator=generator)
                name = f"{sphere}/{mode}"
                wrongness = (1 - 2 * label) * result.endpoint_margin.double().cpu().numpy()
                arrays[f"distance/{name}"] = result.distance.double().cpu().numpy()
                summary[f"n_found/{name}"] = int(result.success.sum())
                summary[f"worst/{name}"] = float(wrongness.max())
                context.progress((2 * label + MODES.index(mode) + 1) / 4)
        return RunResult(summary, arrays)


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Train and attack every seed in every dimension."""
    budget = (settings["n_attack_points"], settings["n_attack_steps"], settings["n_restarts"])
    rate = settings["learning_rate"]
    return {
        run_name(dim, index): ErrorSearch(
            small_relu_network(settings, own, device, dim=dim, learning_rate=rate),
            *budget,
            seed=own,
        )
        for dim in settings["dims"]
        for index, own in seeds(settings, seed)
    }


def run_name(dim: int, index: int) -> str:
    """Return the name of the search in a dimension by the network of that number."""
    return f"d{dim}/seed-{index}"


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Find the largest dimension without an error."""
    rows = [
        search_row(runs[run_name(dim, index)], dim, index)
        for dim in settings["dims"]
        for index in range(settings["n_seeds"])
    ]
    panel = Panel(
        "dimension",
        "Errors found by attack, by dimension",
        f"Share of {plural(2 * settings['n_attack_points'], 'random point')}, half of them on "
        "each sphere, from which an attack finds an error, one mark per trained network, "
        "with 95 % intervals. The paper finds none up to about 60 dimensions (dashed). "
        "Right: the largest wrong margin (logit) that any search reached; an error is a "
        "value of 0 or more.",
        lambda: _draw(rows),
        rows,
    )
    remark = (
        "Finding none is a statement about the attack as well as about the network: more points, "
        "steps or restarts can only lower the dimension, and longer training can raise it."
    )
    return Analysis([panel], {"A1.9": dimension_measurement(rows, settings)}, [remark])


def search_row(run: Run, dim: int, index: int) -> Row:
    """Return how many points of a network led to an error, and how close the others came."""
    names = [f"{sphere}/{mode}" for sphere in SPHERES for mode in MODES]
    # (sphere, mode, point)
    distances = np.reshape([run.arrays[f"distance/{name}"] for name in names], (2, len(MODES), -1))
    found = np.isfinite(distances).any(axis=1)
    n_found = int(found.sum())
    low, high = theory.intervals.clopper_pearson(n_found, found.size)
    return {
        "dim": dim,
        "seed": index,
        "n_points": found.size,
        "n_found": n_found,
        "low": low,
        "high": high,
        "nearest_error": float(distances.min()),
        "worst": max(run.summary[f"worst/{name}"] for name in names),
        "n_found_inner": int(found[0].sum()),
        "n_found_outer": int(found[1].sum()),
    }


def dimension_measurement(rows: list[Row], settings: Mapping[str, Any]) -> Measurement:
    """Return the largest dimension of the grid up to which no network shows an error.

    What is measured lies between it and the next dimension of the grid, where an error was found.
    """
    dims = sorted({row["dim"] for row in rows})
    with_errors = {row["dim"] for row in rows if row["n_found"]}
    clean = [dim for dim in dims if not any(bad <= dim for bad in with_errors)]
    n_seeds = len({row["seed"] for row in rows})
    note = (
        f"On the grid {', '.join(map(str, dims))}; {n_seeds} trained per dimension. Budget: "
        f"{plural(settings['n_attack_points'], 'point')} per sphere, {settings['n_restarts']} "
        f"starts each, up to {settings['n_attack_steps']} steps, for each of two attacks."
    )
    if not clean:
        note += " Errors were found in the smallest dimension of the grid already."
    elif clean[-1] == dims[-1]:
        note += " No errors were found in any dimension of the grid."
    low = float(clean[-1]) if clean else 0.0
    high = float(min(with_errors, default=math.inf))
    bracket: Any = {"low": low, "high": high, "interval_of": "bracket"}
    return Measurement(low, n=n_seeds, cells=rows, note=note, **bracket)


def _draw(rows: list[Row]) -> Figure:
    figure, (left, right) = new_figure(2, width=9.0, height=3.8)
    n_seeds = len({row["seed"] for row in rows})
    for index, row in enumerate(rows):
        x = row["dim"] + 1.2 * (row["seed"] - (n_seeds - 1) / 2)
        share = row["n_found"] / row["n_points"]
        label = "one trained network" if index == 0 else None
        words: Any = {"color": COLOURS["inner"], "label": label}
        interval_bars(left, x, share, row["low"], row["high"], capsize=3, **words)
        if math.isfinite(row["worst"]):
            right.plot(x, row["worst"], "o", **words)
    right.axhline(0.0, color=COLOURS["truth"], linewidth=0.9)
    for axes in (left, right):
        known: Any = {"color": COLOURS["paper"], "linestyle": "--", "zorder": 1}
        axes.axvline(_PAPER_DIM, **known, label="the paper's 60")
        axes.set_xlabel("dimension d")
    left.set(ylim=(-0.03, 1.03), ylabel="share of points with an error found")
    right.set_ylabel("largest wrong margin (logit)")
    add_legend(left, location="upper left")
    return figure


EXPERIMENT = Experiment(
    id="spheres-dimension",
    paper="spheres",
    place="Section 3",
    title="The largest dimension without errors that an attack finds",
    question="In which dimensions can no error of the ReLU network be found by attack?",
    plan=plan,
    analyse=analyse,
)
