"""Distances to the other class's subspaces (Richardson and Weiss 2021, journal version, D.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueboundary._checks import check_integer
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel
from trueboundary.experiments.images.attacked_images import AttackName, nearest
from trueboundary.experiments.images.availability import (
    is_available,
    missing_data,
    reason,
    without_data,
)
from trueboundary.experiments.images.image_fits import ImageTask
from trueboundary.experiments.images.image_plans import planned_attack, planned_fit
from trueboundary.experiments.summaries import mean_of_points, ratio_of_means
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]
Row = dict[str, Any]

ATTACKS: tuple[AttackName, ...] = ("gradient", "cw")
CLAIMS = ("B1.12",)


@dataclass(frozen=True)
class SubspaceDistances(RunConfig):
    """Distances from test points to the nearest component subspace of the other class.

    Parameters
    ----------
    task : ImageTask
        The problem.
    n_points : int
        Number of points, those of an `AttackedImages` with the same number and seed.
    seed : int
        Seed of the points.
    """

    task: ImageTask
    n_points: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n_points", self.n_points, minimum=1)

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the fitted mixtures."""
        return {"fit": self.task.fit}

    def cost(self) -> float:
        """Return about the time of all points."""
        return 0.5 + 2e-3 * self.n_points

    def compute(self, context: Context) -> RunResult:
        """Measure, and bound the distance to the nearest error from below."""
        import torch

        from trueboundary.certificates import LipschitzMixtureCertificate
        from trueboundary.problems import other_subspace_distance

        fit = context.inputs["fit"]
        if not is_available(fit):
            return without_data(reason(fit))
        problem = self.task.problem(fit)
        x, y = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        classifier = problem.bayes_classifier(dtype=torch.float64)
        certified = LipschitzMixtureCertificate()(classifier, x, y).distance
        distance = other_subspace_distance(problem, x.double(), y).numpy()
        return RunResult({"available": True}, {"distance": distance, "certified": certified})


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Measure and attack the same points, pair by pair."""
    del device
    runs: dict[str, RunConfig] = {}
    for pair in settings["pairs"]:
        task = ImageTask(planned_fit(settings, pair, seed), "symmetric", settings["noise_std"])
        runs[f"{pair}/subspaces"] = SubspaceDistances(task, settings["n_attack_points"], seed)
        for attack in ATTACKS:
            runs[f"{pair}/{attack}"] = planned_attack(settings, task, None, attack, seed)
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Hold the attacks against half the distances."""
    missing = missing_data(runs)
    if missing:
        return Analysis(remarks=[missing], without_data=CLAIMS)
    pairs = list(settings["pairs"])
    rows = [row(runs, pair) for pair in pairs]
    return Analysis(
        panels=[_histograms(runs, pairs), _scatter(runs, pairs)],
        measurements=measure(rows),
        remarks=[_remark(r) for r in rows],
    )


def row(runs: Mapping[str, Run], pair: str) -> Row:
    """Return one pair's distances in a few numbers."""
    arrays = runs[f"{pair}/subspaces"].arrays
    found = _found(runs, pair)
    mean, low, high = mean_of_points(found)
    ratio = ratio_of_means(found, arrays["distance"] / 2)
    return {
        "pair": pair,
        "n_points": len(found),
        "n_failed": int((~np.isfinite(found)).sum()),
        "mean_attack": mean,
        "attack_low": low,
        "attack_high": high,
        "half_distance": float(arrays["distance"].mean() / 2),
        "mean_certified": float(arrays["certified"].mean()),
        "ratio": ratio[0],
        "ratio_low": ratio[1],
        "ratio_high": ratio[2],
    }


def measure(rows: list[Row]) -> dict[str, Measurement]:
    """Return the measurement of the claim from the pair that deviates most."""
    worst = max(rows, key=lambda r: abs(math.log(r["ratio"])) if r["ratio"] > 0 else math.inf)
    if math.isnan(worst["ratio"]):
        return {}
    words = ", ".join(f"{r['pair']} {r['ratio']:.3f}" for r in rows)
    note = f"{words}. The value is that of {worst['pair']}, the farthest from 1."
    return {
        "B1.12": Measurement(
            worst["ratio"], worst["ratio_low"], worst["ratio_high"], n=worst["n_points"], note=note
        )
    }


def _found(runs: Mapping[str, Run], pair: str) -> Floats:
    return nearest(*(runs[f"{pair}/{attack}"] for attack in ATTACKS))


def _remark(r: Row) -> str:
    return (
        f"{r['pair']}: half the mean distance to the other class's nearest subspace is "
        f"{r['half_distance']:.2f}, the mean attack {r['mean_attack']:.2f} and the mean certified "
        f"radius {r['mean_certified']:.2f}, over {plural(r['n_points'], 'point')}: the mean "
        "distance to the nearest error lies between the last two."
    )


def _histograms(runs: Mapping[str, Run], pairs: list[str]) -> Panel:
    found = {pair: runs[f"{pair}/subspaces"].arrays["distance"] for pair in pairs}
    return Panel(
        name="subspaces-histogram",
        title="Distances to the other class's nearest subspace (journal version, Figure 14)",
        caption=(
            "Distance from test points of the symmetric problem to the nearest component subspace "
            "of the other class. Dashed: its mean. The paper has 6.2 for the faces called Male."
        ),
        draw=lambda: draw_histograms(found),
        data=[
            {"pair": pair, "distance": float(value)}
            for pair, values in found.items()
            for value in values
        ],
    )


def draw_histograms(found: Mapping[str, Floats]) -> Figure:
    """Draw one histogram per pair."""
    from trueboundary.figures import COLOURS, add_legend, new_figure

    figure, axes = new_figure(len(found), width=max(5.0, 3.2 * len(found)), height=3.2)
    end = max(float(values.max()) for values in found.values())
    for block, (pair, values) in zip(axes, found.items(), strict=True):
        block.hist(values, bins=list(np.linspace(0, end, 25)), color=COLOURS["inner"], alpha=0.75)
        label = f"mean {values.mean():.2f}"
        block.axvline(values.mean(), color=COLOURS["truth"], linestyle="--", label=label)
        block.set_title(pair)
        block.set_xlabel("L2 distance to the subspace")
        block.set_ylim(top=1.25 * max(1.0, block.get_ylim()[1]))
        add_legend(block, location="upper left")
    axes[0].set_ylabel("number of points")
    return figure


def _scatter(runs: Mapping[str, Run], pairs: list[str]) -> Panel:
    rows = [
        {"pair": pair, "half_distance": float(d) / 2, "certified": float(c), "attack": float(a)}
        for pair in pairs
        for d, c, a in zip(
            runs[f"{pair}/subspaces"].arrays["distance"],
            runs[f"{pair}/subspaces"].arrays["certified"],
            _found(runs, pair),
            strict=True,
        )
    ]
    return Panel(
        name="subspaces-scatter",
        title="Half the subspace distance against attack and certificate",
        caption=(
            "For each test point half its distance to the other class's nearest subspace, the "
            "distance of the nearest attack, and a certified lower bound on the distance to the "
            "nearest error. On the line the half distance is right."
        ),
        draw=lambda: draw_scatter(rows, pairs),
        data=rows,
    )


def draw_scatter(rows: list[Row], pairs: list[str]) -> Figure:
    """Draw attacks and certificates against half the subspace distance, pair by pair."""
    from trueboundary.figures import COLOURS, add_legend, new_figure

    figure, axes = new_figure(len(pairs), width=max(5.0, 3.2 * len(pairs)), height=3.4)
    finite = [r["attack"] for r in rows if math.isfinite(r["attack"])]
    end = 1.05 * max([r["half_distance"] for r in rows] + finite)
    for block, pair in zip(axes, pairs, strict=True):
        own = [r for r in rows if r["pair"] == pair]
        half = [r["half_distance"] for r in own]
        for name, colour in (("attack", "inner"), ("certified", "green")):
            values = [r[name] for r in own]
            block.plot(half, values, "o", ms=3, alpha=0.6, color=COLOURS[colour], label=name)
        block.plot([0, end], [0, end], color=COLOURS["truth"], linewidth=0.9)
        block.set_xlim(0, end)
        block.set_ylim(0, end)
        block.set_title(pair)
        block.set_xlabel("half the subspace distance")
    axes[0].set_ylabel("L2 distance")
    add_legend(axes[0], location="lower right")
    return figure


EXPERIMENT = Experiment(
    id="bayes-subspaces",
    paper="bayes",
    place="Journal version, D.1, Figure 14",
    title="Subspaces that predict robustness",
    question="Does half the distance to the other class's nearest subspace predict the attack?",
    plan=plan,
    analyse=analyse,
)
