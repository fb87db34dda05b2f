"""CIFAR-10: the journal version's last figure, run where its users have the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trueboundary.experiments.base import Analysis, Experiment, Measurement
from trueboundary.experiments.bayes import bayes_real
from trueboundary.experiments.bayes.bayes_real import CLASSIFIERS, PAPER_MEANS
from trueboundary.experiments.images.attack_tables import Row, Rows, Settings, estimate
from trueboundary.experiments.images.attack_tables import limit as end_of
from trueboundary.experiments.summaries import largest_deviation
from trueboundary.runs import Run


def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Judge the attacks and accuracies on real images by the journal version's."""
    names = settings["dataset"]
    found = bayes_real.analyse(runs, settings)
    rows = bayes_real.attack_rows(runs, names)
    return replace(
        found,
        panels=[replace(panel, name=f"cifar-{panel.name}") for panel in found.panels],
        measurements=measure(runs, rows),
    )


def measure(runs: Mapping[str, Run], rows: Rows) -> dict[str, Measurement]:
    """Return the measurements by claim."""
    table = {(row["dataset"], row["classifier"]): row for row in rows}
    names = list(dict.fromkeys(row["dataset"] for row in rows))

    def difference(better: str, worse: str) -> Measurement:
        tests = [[f"{name}/{classifier}/test" for classifier in (better, worse)] for name in names]
        return bayes_real.accuracy_difference(runs, tests)

    measurements = {
        "B1.14a": Measurement(
            all(_in_order(*(table[name, c] for c in CLASSIFIERS)) for name in names),
            n=rows[0]["n_points"],
            cells=rows,
            note="The linear SVM under the CNN under the RBF SVM, intervals apart, on every pair.",
        ),
        "B1.14b": difference("CNN", "RBF SVM"),
        "B1.14c": difference("RBF SVM", "linear SVM"),
    }
    for name in set(names) & set(PAPER_MEANS):
        means = {c: estimate(table[name, c], "mean_l2") for c in CLASSIFIERS}
        claim = f"B3.12-{name.partition('/')[2]}"
        measurements[claim] = largest_deviation(means, PAPER_MEANS[name], n=rows[0]["n_points"])
    return measurements


def _in_order(cnn: Row, linear: Row, rbf: Row) -> bool:
    return (
        end_of(linear, "mean_l2", "high") < end_of(cnn, "mean_l2", "low")
        and end_of(cnn, "mean_l2", "high") < end_of(rbf, "mean_l2", "low")
    )  # fmt: skip


EXPERIMENT = Experiment(
    id="bayes-cifar",
    paper="bayes",
    place="Journal version, Figure 12",
    title="Pairs of CIFAR-10",
    question="Which classifiers of pairs of CIFAR-10's classes are robust?",
    plan=bayes_real.plan,
    analyse=analyse,
    on_request="it needs CIFAR-10, which you bring",
)
