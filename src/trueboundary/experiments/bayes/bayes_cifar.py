"""CIFAR-10: the journal version's last figure, run where its users have the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Row, Rows
from trueboundary.experiments.bayes import bayes_real
from trueboundary.experiments.images.attack_tables import chosen, deviation_from, names_of
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.image_plans import Settings
from trueboundary.experiments.images.orderings import apart, decide, ordering
from trueboundary.experiments.summaries import all_of
from trueboundary.runs import Run


@unless_images_are_missing("bayes-cifar")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Judge the attacks and accuracies on real images by the journal version's."""
    found = bayes_real.analyse(runs, settings)
    measurements, undecided = decide(
        claims(runs, bayes_real.attack_rows(runs, settings["dataset"]))
    )
    return replace(
        found,
        panels=[replace(panel, name=f"cifar-{panel.name}") for panel in found.panels],
        measurements=measurements,
        remarks=[*found.remarks, *undecided],
    )


def claims(runs: Mapping[str, Run], rows: Rows) -> dict[str, Callable[[], Measurement]]:
    """Return what measures each claim."""
    names = names_of(rows)

    def difference(better: str, worse: str) -> Measurement:
        tests = [[f"{name}/{classifier}/test" for classifier in (better, worse)] for name in names]
        return bayes_real.accuracy_difference(runs, tests)

    judged: dict[str, Callable[[], Measurement]] = {
        "B1.14a": lambda: ordering(rows, _in_order),
        "B1.14b": lambda: difference("CNN", "RBF SVM"),
        "B1.14c": lambda: difference("RBF SVM", "linear SVM"),
    }
    for name, paper in bayes_real.real_means(names).items():
        claim = f"B3.12-{name.partition('/')[2]}"
        own = chosen(rows, dataset=name)
        judged[claim] = partial(deviation_from, paper, own, "mean_l2")
    return judged


def _in_order(row: Mapping[str, Row]) -> bool | None:
    """Whether the linear SVM lies under the CNN, and that under the RBF SVM."""
    return all_of([apart(row["linear SVM"], row["CNN"]), apart(row["CNN"], row["RBF SVM"])])


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
