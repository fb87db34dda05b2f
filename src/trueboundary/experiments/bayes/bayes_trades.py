"""Figure 11: whether adversarial training comes near the optimum, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.bayes.published import printed_numbers
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import (
    attack_row,
    attack_rows,
    chosen,
    describe_row,
)
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import draw_line, mark_known
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    fresh_cnn,
    image_task,
    under,
    words_of,
)
from trueboundary.experiments.images.orderings import apart, decide
from trueboundary.experiments.summaries import all_of
from trueboundary.figures import COLOURS, CYCLE, new_figure, shared_legend
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The values of beta in the journal version's Figure 10, over five attributes, and where the
#: optimal classifier stands there: its mean attack and its accuracy.
BETAS, _PAPER_OPTIMAL = (0, 2, 5, 10), (3.36, 1.0)
#: A mean attack above this share of the optimal classifier's is no longer far from it.
FAR = 0.8


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Train one network per beta on fresh samples and attack all, and the optimal classifier."""
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        task = image_task(name, settings, seed)
        runs |= under(f"{name}/optimal", attacks_on(task, None, settings, seed))
        for beta in settings["betas"]:
            sizes = {name: settings[name] for name in ("n_samples", "width")}
            network = fresh_cnn(task, settings, seed, device, **sizes, beta=float(beta))
            runs |= under(f"{name}/beta-{beta:g}", attacks_on(task, network, settings, seed))
    return runs


@unless_images_are_missing("bayes-trades")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Tabulate robustness and accuracy by beta, and hold them against the optimum."""
    names = settings["dataset"]
    optima = [attack_row(runs, f"{name}/optimal", dataset=name, beta="") for name in names]
    rows = beta_rows(runs, settings)
    remarks = [
        describe_row(row, f"beta {row['beta']:g}" if row in rows else "optimal")
        for row in [*optima, *rows]
    ]
    measurements, undecided = decide(claims(rows, optima))
    return Analysis(
        panels=[_panel(rows, optima)],
        measurements=measurements,
        remarks=[*remarks, *(_share_remark(rows, optimum) for optimum in optima), *undecided],
    )


def beta_rows(runs: Mapping[str, Run], settings: Settings) -> Rows:
    """Return one row per data set and beta."""
    return attack_rows(runs, settings["dataset"], "beta-{:g}", beta=settings["betas"])


def claims(rows: Rows, optima: Rows) -> dict[str, Callable[[], Measurement]]:
    """Return what measures whether both statements hold on every data set, intervals included."""
    ends = [(*_ends(chosen(rows, dataset=best["dataset"])), best) for best in optima]

    def on_all(holds: Callable[[Row, Row, Row], Sequence[bool | None]]) -> Measurement:
        return Measurement(
            all_of([outcome for own in ends for outcome in holds(*own)]),
            n=min(row["n_points"] for first, last, _ in ends for row in (first, last)),
            cells=[*rows, *optima],
            note=(
                "Differences count where the 95 % intervals over points lie apart. One network per "
                "beta; perturbations are searched within 1.5 in training."
            ),
        )

    return {
        "B1.15a": lambda: on_all(
            lambda first, last, best: [apart(first, last), apart(last, best, factor=1 / FAR)]
        ),
        "B1.15b": lambda: on_all(
            lambda first, last, _: [apart(first, last), apart(last, first, value="accuracy")]
        ),
    }


def _share_remark(rows: Rows, optimum: Row) -> str:
    first, last = _ends(chosen(rows, dataset=optimum["dataset"]))
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


def _panel(rows: Rows, optima: Rows) -> Panel:
    n_points, n_clean = (counted((r[n] for r in rows), "point") for n in ("n_points", "n_test"))

    def draw() -> Figure:
        figure, (left, right) = new_figure(2, width=9.4, height=4.4)
        colours = [colour for colour in CYCLE if colour != COLOURS["paper"]]
        for index, optimum in enumerate(optima):
            colour = colours[index % len(colours)]
            along = chosen(rows, dataset=optimum["dataset"])
            along.sort(key=lambda row: float(row["beta"]))
            for axes, value in ((left, "mean_l2"), (right, "accuracy")):
                words = words_of(optimum["dataset"])
                known = f"{words}, optimal classifier"
                axes.axhline(optimum[value], color=colour, linestyle="--", label=known)
                draw_line(axes, along, "beta", colour=colour, label=words, value=value)
        claims = ("B3.10a", "B3.10b")
        for axes, claim, optimal in zip((left, right), claims, _PAPER_OPTIMAL, strict=True):
            paper = zip(BETAS, printed_numbers(claim), strict=True)
            mark_known(axes, paper, label="the paper's faces")
            known = "the paper's faces, optimal classifier"
            axes.axhline(optimal, color=COLOURS["paper"], linestyle=":", label=known)
            axes.set_xlabel("weight beta of the robust term")
            axes.set_xticks(BETAS)
        left.set_ylabel("mean L2 of the attack")
        left.set_ylim(0, max(4.8, left.get_ylim()[1]))
        right.set_ylabel("accuracy on clean samples")
        right.set_ylim(min(0.45, right.get_ylim()[0]), 1.03)
        shared_legend(figure, n_columns=2, of=left)
        return figure

    return Panel(
        name="trades",
        title="Adversarial training against the optimal classifier",
        caption="Mean L2 size of the smallest perturbation found that changes the decision (left) "
        "and clean accuracy (right) of networks trained by TRADES, with 95 % intervals over "
        f"{n_points} (attacks) and {n_clean} (accuracy), against the weight beta of its robust "
        "term. Dashed: the optimal classifier. Crosses and dotted line: the journal version's "
        "means over five face attributes, and its optimal classifier.",
        draw=draw,
        data=[*optima, *rows],
    )


EXPERIMENT = Experiment(
    id="bayes-trades",
    paper="bayes",
    place="Figure 11",
    title="Adversarial training",
    question="How near does adversarial training bring a network to the robustness of the optimal "
    "classifier, and at what cost in accuracy?",
    plan=plan,
    analyse=analyse,
)
