"""Figure 11: whether adversarial training comes near the optimum, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel
from trueboundary.experiments.images.attack_tables import (
    Row,
    Rows,
    Settings,
    attack_row,
    attacks_on,
    describe_row,
    error_bars,
    image_task,
    limit,
    under,
    words_of,
)
from trueboundary.experiments.images.trained_classifiers import TrainedCNN
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Mean attack and clean accuracy by beta in the journal version's Figure 10, over five attributes.
PAPER: Mapping[int, tuple[float, float]] = {
    0: (0.71, 0.996),
    2: (2.94, 0.911),
    5: (3.61, 0.852),
    10: (4.34, 0.813),
}
#: Where the optimal classifier stands there.
PAPER_OPTIMAL = (3.36, 1.0)
#: A mean attack above this share of the optimal classifier's is no longer far from it.
FAR = 0.8


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Train one network per beta on fresh samples and attack all, and the optimal classifier."""
    runs: dict[str, RunConfig] = {}
    batch = settings["batch_size"]
    for name in settings["dataset"]:
        task = image_task(name, settings, seed)
        runs |= under(f"{name}/optimal", attacks_on(task, None, settings, seed))
        for beta in settings["betas"]:
            network = TrainedCNN(
                task,
                0,
                seed,
                architecture="strided",
                width=settings["width"],
                n_steps=max(1, settings["n_samples"] // batch),
                batch_size=batch,
                learning_rate=settings["learning_rate"],
                beta=float(beta),
                device=device,
            )
            runs |= under(f"{name}/beta-{beta:g}", attacks_on(task, network, settings, seed))
    return runs


def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Tabulate robustness and accuracy by beta, and hold them against the optimum."""
    names = settings["dataset"]
    optima = [attack_row(runs, f"{name}/optimal", dataset=name, beta="") for name in names]
    rows = beta_rows(runs, settings)
    remarks = [
        describe_row(
            row,
            f"{words_of(row['dataset'])}, "
            + (f"beta {row['beta']:g}" if row in rows else "optimal"),
        )
        for row in [*optima, *rows]
    ]
    return Analysis(
        panels=[_panel(rows, optima)],
        measurements=measure(rows, optima),
        remarks=[*remarks, *(_share_remark(rows, optimum) for optimum in optima)],
    )


def beta_rows(runs: Mapping[str, Run], settings: Settings) -> Rows:
    """Return one row per data set and beta."""
    return [
        attack_row(runs, f"{name}/beta-{beta:g}", dataset=name, beta=beta)
        for name in settings["dataset"]
        for beta in settings["betas"]
    ]


def measure(rows: Rows, optima: Rows) -> dict[str, Measurement]:
    """Return whether both statements hold on every data set, intervals included."""
    slight, traded, ends = [], [], []
    for optimum in optima:
        along = [row for row in rows if row["dataset"] == optimum["dataset"]]
        first, last = _ends(along)
        ends += [first, last]
        slight.append(
            _is_above(last, first, "mean_l2")
            and limit(last, "mean_l2", "high") <= FAR * limit(optimum, "mean_l2", "low")
        )
        traded.append(_is_above(last, first, "mean_l2") and _is_above(first, last, "accuracy"))
    note = (
        "Differences count where the 95 % intervals over points lie apart. One network per beta; "
        "perturbations are searched within 1.5 in training."
    )
    n = min(row["n_points"] for row in ends)
    cells = [*rows, *optima]
    return {
        "B1.15a": Measurement(all(slight), n=n, cells=cells, note=note),
        "B1.15b": Measurement(all(traded), n=n, cells=cells, note=note),
    }


def _share_remark(rows: Rows, optimum: Row) -> str:
    first, last = _ends([row for row in rows if row["dataset"] == optimum["dataset"]])
    shares = [row["mean_l2"] / optimum["mean_l2"] for row in (first, last)]
    return (
        f"{words_of(optimum['dataset'])}: the mean attack is {shares[0]:.2f} of the optimal "
        f"classifier's at beta {first['beta']:g} and {shares[1]:.2f} at beta {last['beta']:g}, "
        f"with clean accuracies {first['accuracy']:.4f} and {last['accuracy']:.4f}."
    )


def _ends(rows: Sequence[Row]) -> tuple[Row, Row]:
    """Return the rows of the smallest and the largest beta."""
    ordered = sorted(rows, key=lambda row: float(row["beta"]))
    return ordered[0], ordered[-1]


def _is_above(row: Row, other: Row, value: str) -> bool:
    """Whether a value lies above another, intervals apart."""
    return limit(row, value, "low") > limit(other, value, "high")


def _panel(rows: Rows, optima: Rows) -> Panel:
    return Panel(
        name="trades",
        title="Adversarial training against the optimal classifier",
        caption=(
            "Mean L2 size of the smallest perturbation found that changes the decision (left) and "
            "clean accuracy (right) of networks trained by TRADES, with 95 % intervals over "
            "points, against the weight beta of its robust term. Dashed: the optimal classifier. "
            "Crosses and dotted line: the journal version's means over five face attributes, and "
            "its optimal classifier."
        ),
        draw=lambda: draw_trades(rows, optima),
        data=[*optima, *rows],
    )


def draw_trades(rows: Rows, optima: Rows) -> Figure:
    """Draw mean attack and accuracy against beta, data sets in colours."""
    from trueboundary.figures import COLOURS, CYCLE, add_legend, new_figure

    figure, (left, right) = new_figure(2, width=9.4, height=4.0)
    colours = [colour for colour in CYCLE if colour != COLOURS["paper"]]
    for index, optimum in enumerate(optima):
        colour = colours[index % len(colours)]
        along = [row for row in rows if row["dataset"] == optimum["dataset"]]
        along.sort(key=lambda row: float(row["beta"]))
        for axes, value in ((left, "mean_l2"), (right, "accuracy")):
            axes.axhline(optimum[value], color=colour, linestyle="--")
            axes.errorbar(
                [row["beta"] for row in along],
                [row[value] for row in along],
                yerr=error_bars(along, value),
                fmt="o-",
                color=colour,
                capsize=3,
                label=words_of(optimum["dataset"]),
            )
    for axes, index in ((left, 0), (right, 1)):
        points = [values[index] for values in PAPER.values()]
        axes.plot(list(PAPER), points, "x", color=COLOURS["paper"], label="the paper's faces")
        axes.axhline(PAPER_OPTIMAL[index], color=COLOURS["paper"], linestyle=":")
        axes.set_xlabel("weight beta of the robust term")
        axes.set_xticks(list(PAPER))
    left.plot([], [], "--", color=COLOURS["truth"], label="optimal classifier")
    left.set_ylabel("mean L2 of the attack")
    left.set_ylim(0, 1.4 * max(4.4, left.get_ylim()[1]))
    right.set_ylabel("accuracy on clean samples")
    right.set_ylim(min(0.45, right.get_ylim()[0]), 1.03)
    add_legend(left, location="upper left")
    return figure


EXPERIMENT = Experiment(
    id="bayes-trades",
    paper="bayes",
    place="Figure 11",
    title="Adversarial training",
    question=(
        "How near does adversarial training bring a network to the robustness of the optimal "
        "classifier, and at what cost in accuracy?"
    ),
    plan=plan,
    analyse=analyse,
)
