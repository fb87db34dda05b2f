"""Distances to the other class's subspaces (Richardson and Weiss 2021, journal version, D.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary.experiments.base import (
    Analysis,
    Experiment,
    Measurement,
    Panel,
    Row,
    Rows,
    rows_of,
)
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import (
    chosen,
    distance_row,
    estimate,
    nearest_distances,
    with_interval,
)
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.image_fits import OnImages
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    image_task,
    under,
    words_of,
)
from trueboundary.experiments.summaries import ratio_of_means
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, add_legend, new_figure, plot_rows
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SubspaceDistances(OnImages):
    """Distances from test points to the nearest component subspace of the other class.

    Parameters
    ----------
    n_points, seed : int
        Number and seed of the points, those of an `AttackedImages` with the same ones.
    """

    version: ClassVar[int] = 3  # 1 and 2 certified less

    n_points: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

    def cost(self) -> float:
        """Return about the time of all points."""
        return RATES.run + self.n_points * self.task.fit.n_parameters * RATES.subspaces

    def measure(self, context: Context) -> RunResult:
        """Measure, and bound the distance to the nearest error from below."""
        import torch

        from trueboundary.measure import certified_distances
        from trueboundary.problems import other_subspace_distance

        fit = context.inputs["fit"]
        problem = self.task.problem(fit)
        x, y = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        classifier = problem.bayes_classifier(dtype=torch.float64)
        certified = certified_distances(classifier, x, y).distance.numpy()
        distance = other_subspace_distance(problem, x.double(), y).numpy()
        return RunResult({"available": True}, {"distance": distance, "certified": certified})


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Measure and attack the same points, pair by pair."""
    del device
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        task = image_task(name, settings, seed)
        runs[f"{name}/subspaces"] = SubspaceDistances(task, settings["n_points"], seed)
        runs |= under(name, attacks_on(task, None, settings, seed, attacks=("gradient", "nearest")))
    return runs


@unless_images_are_missing("bayes-subspaces")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Hold the attacks against half the distances."""
    names = settings["dataset"]
    rows = [_row(runs, name) for name in names]
    histograms = histogram_panel(
        {name: runs[f"{name}/subspaces"] for name in names},
        name="subspaces-histogram",
        title="Distances to the other class's nearest subspace (journal version, Figure 14)",
        caption="Distance from test points of the symmetric problem to the nearest component "
        "subspace of the other class. Dashed: its mean. The paper has 6.2 for the faces called "
        "Male.",
    )
    return Analysis(
        panels=[histograms, _scatter(runs, names)],
        measurements=measure(rows),
        remarks=[_remark(row) for row in rows],
    )


def _row(runs: Mapping[str, Run], name: str) -> Row:
    """Return one data set's distances in a few numbers."""
    arrays = runs[f"{name}/subspaces"].arrays
    found = nearest_distances(runs, name)
    return (
        distance_row(found, dataset=name)
        | {
            "half_distance": float(arrays["distance"].mean() / 2),
            "mean_certified": float(arrays["certified"].mean()),
        }
        | with_interval("ratio", ratio_of_means(found, arrays["distance"] / 2))
    )


def measure(rows: Rows) -> dict[str, Measurement]:
    """Return the measurement of the claim from the data set that deviates most."""
    worst = max(rows, key=lambda r: abs(math.log(r["ratio"])) if r["ratio"] > 0 else math.inf)
    if math.isnan(worst["ratio"]):
        return {}
    words = ", ".join(f"{words_of(r['dataset'])} {r['ratio']:.3f}" for r in rows)
    note = f"{words}. The value is that of {words_of(worst['dataset'])}, the farthest from 1."
    return {"B1.12": Measurement(*estimate(worst, "ratio"), n=worst["n_points"], note=note)}


def _remark(r: Row) -> str:
    return (
        f"{words_of(r['dataset'])}: half the mean distance to the other class's nearest subspace "
        f"is {r['half_distance']:.2f}, the mean attack {r['mean_l2']:.2f} and the mean certified "
        f"radius {r['mean_certified']:.2f}, over {plural(r['n_points'], 'point')}: the mean "
        "distance to the nearest error lies between the last two."
    )


def histogram_panel(runs: Mapping[str, Run], *, name: str, title: str, caption: str) -> Panel:
    """Return the panel of the distances of `SubspaceDistances`, by data set."""
    found = {dataset: run.arrays["distance"] for dataset, run in runs.items()}

    def draw() -> Figure:
        figure, axes = new_figure(len(found), width=max(5.0, 3.2 * len(found)), height=3.2)
        bins = list(np.linspace(0, max(float(values.max()) for values in found.values()), 25))
        for block, (name, values) in zip(axes, found.items(), strict=True):
            block.hist(values, bins, color=COLOURS["inner"], alpha=0.75)
            label = f"mean {values.mean():.2f}"
            block.axvline(values.mean(), color=COLOURS["truth"], linestyle="--", label=label)
            block.set(title=words_of(name), xlabel="L2 distance to the subspace")
            block.set_ylim(top=1.25 * max(1.0, block.get_ylim()[1]))
            add_legend(block, location="upper left")
        axes[0].set_ylabel("number of points")
        return figure

    return Panel(
        name=name,
        title=title,
        caption=caption,
        draw=draw,
        data=[
            {"dataset": dataset} | row
            for dataset, values in found.items()
            for row in rows_of(distance=values)
        ],
    )


def _scatter(runs: Mapping[str, Run], names: Sequence[str]) -> Panel:
    rows: Rows = []
    n_points = counted(
        (len(runs[f"{name}/subspaces"].arrays["distance"]) for name in names), "test point"
    )
    for name in names:
        arrays, attack = runs[f"{name}/subspaces"].arrays, nearest_distances(runs, name)
        own = rows_of(
            half_distance=arrays["distance"] / 2, certified=arrays["certified"], attack=attack
        )
        rows += [{"dataset": name} | row for row in own]

    def draw() -> Figure:
        figure, axes = new_figure(len(names), width=max(5.0, 3.2 * len(names)), height=3.4)
        finite = [r["attack"] for r in rows if math.isfinite(r["attack"])]
        end = 1.05 * max([r["half_distance"] for r in rows] + finite)
        for block, dataset in zip(axes, names, strict=True):
            own = chosen(rows, dataset=dataset)
            # They nearly coincide: a dot inside a ring.
            for name, colour, size, face in (
                ("attack", "outer", 5.5, "none"),
                ("certified", "inner", 2, COLOURS["inner"]),
            ):
                look: Any = {"ms": size, "mfc": face, "mew": 0.8, "color": COLOURS[colour]}
                plot_rows(block, own, "half_distance", name, "o", **look, label=name)
            equal: Any = {"color": COLOURS["truth"], "linewidth": 0.9, "label": "equal"}
            block.plot([0, end], [0, end], **equal)
            block.set(xlim=(0, end), ylim=(0, end), title=words_of(dataset))
            block.set_xlabel("half the subspace distance")
        axes[0].set_ylabel("L2 distance")
        add_legend(axes[0], location="lower right")
        return figure

    return Panel(
        name="subspaces-scatter",
        title="Half the subspace distance against attack and certificate",
        caption=f"For each of {n_points} half the distance to the other class's nearest subspace, "
        "the distance of the nearest attack, and a certified lower bound on the distance to the "
        "nearest error. On the line the half distance is right.",
        draw=draw,
        data=rows,
    )


EXPERIMENT = Experiment(
    id="bayes-subspaces",
    paper="bayes",
    place="Journal version, D.1, Figure 14",
    title="Subspaces that predict robustness",
    question="Does half the distance to the other class's nearest subspace predict the attack?",
    plan=plan,
    analyse=analyse,
)
