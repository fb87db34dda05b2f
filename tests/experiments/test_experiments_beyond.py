"""The papers' questions for more than two classes: runs, rows, counts and bounds."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from trueboundary.experiments import experiments, read_claims
from trueboundary.experiments.beyond import beyond_ten_digits as ten
from trueboundary.experiments.images.image_plans import image_task, task_of_classes
from trueboundary.experiments.images.orderings import ACCURATE, BRITTLE, ROBUST
from trueboundary.experiments.networks.trained_networks import FINAL, load_model
from trueboundary.experiments.own_findings import read_findings
from trueboundary.runs import Run, Store, execute

EXPERIMENT = experiments()["beyond-ten-digits"]
SETTINGS = EXPERIMENT.settings("smoke")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    store, plan = Store(tmp_path_factory.mktemp("ten")), EXPERIMENT.runs("smoke")
    with ThreadPoolExecutor(1) as executor:
        failures = execute(plan.values(), store, executor)
    assert not failures, failures[0].traceback
    found = {name: store.load(config) for name, config in plan.items()}
    return {name: run for name, run in found.items() if run is not None}


def test_brittle_and_robust_are_what_they_are_for_pairs() -> None:
    claims = {claim.id: claim for claim in read_claims("bayes")}
    assert claims["B1.9a"].value == ROBUST
    assert f"accuracy at least {ACCURATE}" in claims["B1.8"].quantity
    assert "three quarters" in claims["B1.8"].quantity
    assert BRITTLE == 0.75
    beside = {finding.id: finding.beside for finding in read_findings("beyond")}
    assert f"up to {BRITTLE}, with an accuracy of at least {ACCURATE}" in beside["T12"]
    assert f"from {ROBUST}" in beside["T13"]


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ((0.5, 0.4, 0.7), "brittle"),
        ((0.5, 0.4, 0.76), "open"),
        ((0.9, 0.8, 1.0), "robust"),
        ((0.9, 0.79, 1.0), "open"),
        ((0.78, 0.76, 0.79), "between"),
        ((0.5, None, None), "open"),
    ],
)
def test_verdicts(ratio: tuple[float, float | None, float | None], expected: str) -> None:
    assert ten.verdict(ratio) == expected


def test_pairs_are_of_two_classes_alone() -> None:
    settings = {"max_iter": 3, "noise_std": 0.02}
    assert task_of_classes("synthetic/0-1-2", settings, 0).fit.n_classes == 3
    assert task_of_classes("mnist", settings, 0).fit.n_classes == 10
    pair = task_of_classes("mnist/0-6", settings, 0)
    assert pair.fit.digest == image_task("mnist/0-6", settings, 0).fit.digest
    with pytest.raises(ValueError, match="a data set is named like"):
        image_task("mnist", settings, 0)


def test_a_pair_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="three classes or more, got 'mnist/0-6'; bayes"):
        EXPERIMENT.runs("smoke", overrides={"dataset": "mnist/0-6"})
    assert EXPERIMENT.runs("smoke", overrides={"dataset": "mnist/0-1-2"})


def test_every_classifier_tells_all_classes_apart(runs: Mapping[str, Run]) -> None:
    for words in ten.CLASSIFIERS[1:]:
        assert load_model(runs[words], FINAL).n_classes == 3
    for words in (ten.OPTIMAL, ten.RBF):
        test = runs[f"{words}/test"]
        assert test.summary["n_correct"] / test.summary["n_points"] > 0.9


def test_brackets_hold_at_every_point(runs: Mapping[str, Run]) -> None:
    points = runs[f"{ten.OPTIMAL}/nearest"].arrays["label"]
    for words in ten.CLASSIFIERS:
        attacked, proven = runs[f"{words}/nearest"], runs[f"{words}/proven"]
        np.testing.assert_array_equal(attacked.arrays["label"], points)  # the same for all
        lower = proven.arrays["lower"]
        assert (lower <= ten.upper_bounds(runs, words) * (1 + 1e-5)).all()
        has_proof = words in (ten.OPTIMAL, ten.RBF, ten.SOFTMAX)
        assert bool(proven.summary["certificate"]) == has_proof
        assert bool(proven.summary["reason"]) != has_proof
        assert (lower > 0).all() == has_proof
    exact = runs[f"{ten.SOFTMAX}/proven"].arrays
    np.testing.assert_array_equal(exact["lower"], exact["upper"])
    found = runs[f"{ten.SOFTMAX}/nearest"].arrays["distance"]
    np.testing.assert_allclose(found, exact["lower"], rtol=1e-3)


def test_nearest_errors_are_of_other_classes(runs: Mapping[str, Run]) -> None:
    for words in ten.CLASSIFIERS:
        arrays, classes = runs[f"{words}/nearest"].arrays, ten.reached(runs, words)
        assert (classes != arrays["predicted"]).all()
        counts = ten.nearest_classes(runs, words, 3)
        assert counts.sum() == (classes >= 0).sum()
        assert not counts.diagonal().any()
        for own, other in zip(arrays["predicted"], classes, strict=True):
            assert counts[own, other] > 0


def test_error_rates_of_classes(runs: Mapping[str, Run]) -> None:
    test = runs[f"{ten.CNN}/test"]
    rows = ten.class_rows(test)
    assert [row["class"] for row in rows] == [0, 1, 2]
    assert sum(row["n_points"] for row in rows) == test.summary["n_points"]
    wrong = test.summary["n_points"] - test.summary["n_correct"]
    assert sum(row["n_errors"] for row in rows) == wrong
    assert all(row["low"] <= row["rate"] <= row["high"] for row in rows)


def test_the_analysis_says_what_was_found(runs: Mapping[str, Run]) -> None:
    analysis = EXPERIMENT.analyse(runs, SETTINGS)
    assert set(analysis.measurements) == {finding.id for finding in read_findings("beyond")}
    for finding, words in ten._RATIOS.items():
        own, best = (ten.upper_bounds(runs, of).mean() for of in (words, ten.OPTIMAL))
        assert analysis.measurements[finding].number == pytest.approx(own / best)
    assert len(analysis.remarks) == len(ten.CLASSIFIERS)
    assert analysis.remarks[0].startswith("Optimal: accuracy")
    distances, rates = analysis.panels
    assert [row["classifier"] for row in distances.data] == list(ten.CLASSIFIERS)
    assert len(rates.data) == 3 * len(ten.CLASSIFIERS)
