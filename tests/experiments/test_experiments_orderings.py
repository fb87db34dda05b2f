"""Orderings of measured values are decided by their intervals, in one way for all experiments."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trueboundary.experiments.base import Measurement
from trueboundary.experiments.bayes import bayes_cifar, bayes_trades
from trueboundary.experiments.bayes.four_classifiers import claims_on_four
from trueboundary.experiments.images.attack_tables import attack_rows, distance_row, share
from trueboundary.experiments.images.drawn_rows import draw_groups, draw_line
from trueboundary.experiments.images.image_plans import CLASSIFIERS
from trueboundary.experiments.images.orderings import (
    NoIntervalError,
    accurate_and_brittle,
    apart,
    decide,
    extreme_share,
    ordering,
    smallest,
)
from trueboundary.figures import new_figure
from trueboundary.runs import Run, RunResult
from trueboundary.theory.intervals import clopper_pearson

NAME = "mnist/0-6"


def row(value: float, low: float | None, high: float | None, **labels: Any) -> dict[str, Any]:
    own = {"dataset": NAME, "classifier": "CNN", "n_points": 9, "n_test": 90}
    return own | labels | {"mean_l2": value, "mean_l2_low": low, "mean_l2_high": high}


def attacked(distance: Any) -> Run:
    values = np.asarray(distance, dtype=float)
    arrays = {"distance": values, "correct": np.ones(len(values), bool)}
    return Run({}, RunResult({"available": True}, arrays), {}, Path("made"))


def attacks(means: dict[str, Any]) -> dict[str, Run]:
    """Return the attacks and tests of classifiers, with a spread of a tenth where there is one."""
    tested = Run({}, RunResult({"n_correct": 99, "n_points": 100}), {}, Path("made"))
    runs = {}
    for name, distance in means.items():
        runs |= {f"{NAME}/{name}/gradient": attacked(distance), f"{NAME}/{name}/test": tested}
    return runs


def rows_of(runs: dict[str, Run]) -> list[dict[str, Any]]:
    return attack_rows(runs, [NAME], "{}", classifier=CLASSIFIERS)


@pytest.mark.parametrize(
    ("below", "above", "factor", "answer"),
    [
        ((1.0, 0.9, 1.1), (2.0, 1.9, 2.1), 1.0, True),
        ((1.0, 0.9, 1.1), (1.15, 1.05, 1.25), 1.0, None),
        ((2.0, 1.9, 2.1), (1.0, 0.9, 1.1), 1.0, False),
        ((1.0, 0.9, 1.1), (2.0, 1.9, 2.1), 2.0, None),
        ((1.0, 0.9, 1.1), (1.15, 1.05, 1.25), 2.0, False),
        ((1.0, 0.9, 1.1), (3.0, 2.9, 3.1), 2.0, True),
        ((-0.1, -0.2, 0.0), (0.2, 0.1, 0.3), 1.0, True),  # an end of 0 is an end
        ((0.2, 0.1, 0.3), (0.5, 0.0, 1.0), 1.0, None),
    ],
)
def test_apart_is_decided_by_the_ends(
    below: tuple[float, ...], above: tuple[float, ...], factor: float, answer: bool | None
) -> None:
    assert apart(row(*below), row(*above), factor=factor) is answer


def test_one_that_lies_above_decides_whatever_the_others_leave_open() -> None:
    first, over, near, under = (
        row(*ends) for ends in ((1.0, 0.9, 1.1), (2.0, 1.9, 2.1), (1.1, 1.0, 1.2), (0.5, 0.4, 0.6))
    )
    assert apart(first, over, near) is None
    assert apart(first, over, near, under) is False


def test_two_bare_means_are_not_apart_but_undecided() -> None:
    bare, others = row(1.0, None, None), (row(1.01, None, None), row(2.0, 1.9, 2.1))
    with pytest.raises(NoIntervalError, match=f"^{NAME}, CNN: mean_l2 has no interval$"):
        apart(bare, others[0])
    for first, *rest in ((bare, others[1]), (others[1], bare), (others[1], others[1], bare)):
        with pytest.raises(NoIntervalError):
            apart(first, *rest)


def test_single_successes_decide_no_ordering_of_any_experiment() -> None:
    """Means of 1.00 and 1.01 from one point each were in order for faces and not for digits."""
    few = {name: [1.0 + 0.01 * i, math.inf] for i, name in enumerate(CLASSIFIERS)}
    runs = attacks(few)
    rows = rows_of(runs)
    assert [r["mean_l2_low"] for r in rows] == [None] * 4
    found, remarks = decide(claims_on_four(runs, rows, brittle=0.5))
    assert not {"B1.8", "B1.9b", "B1.9c"} & set(found)
    assert {"B1.6", "B1.9a", "B2.5"} <= set(found)
    assert len(remarks) == 3
    real = [r for r in rows if r["classifier"] != "optimal"]
    tests = {f"{NAME}/{r['classifier']}/test": attacked([1.0, 1.0]) for r in real}
    found, remarks = decide(bayes_cifar.claims(tests, real))
    assert "B1.14a" not in found
    assert remarks == [f"B1.14a is not decided: {NAME}, linear SVM: mean_l2 has no interval."]
    trained = [r | {"beta": beta} for beta, r in enumerate(rows[:2])]
    found, remarks = decide(bayes_trades.claims(trained, [rows[2]]))
    assert not found
    assert len(remarks) == 2


def test_the_four_classifiers_are_ordered_as_their_attacks_are() -> None:
    spread = np.linspace(0.95, 1.05, 20)
    papers = dict(zip(CLASSIFIERS, (3.0, 1.2, 0.5, 2.8), strict=True))
    runs = attacks({name: mean * spread for name, mean in papers.items()})
    found, _ = decide(claims_on_four(runs, rows_of(runs), brittle=0.5))
    values = {claim: m.value for claim, m in found.items()}
    assert values["B1.9a"] == pytest.approx(2.8 / 3.0)
    assert (values["B1.9b"], values["B1.9c"]) == (True, True)
    assert values["B1.8"] is None  # 99 of 100 leave open whether the accuracy is 0.98
    assert values["B1.6"] == 0.99
    other = attacks({name: mean * spread for name, mean in (papers | {"CNN": 0.4}).items()})
    found, _ = decide(claims_on_four(other, rows_of(other), brittle=0.5))
    assert (found["B1.9b"].value, found["B1.9c"].value) == (False, False)
    near = attacks({name: mean * spread for name, mean in (papers | {"CNN": 0.51}).items()})
    found, _ = decide(claims_on_four(near, rows_of(near), brittle=0.5))
    assert (found["B1.9b"].value, found["B1.9c"].value) == (None, None)


def test_orderings_must_hold_on_every_data_set() -> None:
    rows = [
        row(1.0, 0.9, 1.1),
        row(2.0, 1.9, 2.1, classifier="RBF SVM"),
        row(1.0, 0.9, 1.1, dataset="mnist/2-7"),
        row(1.1, 1.0, 1.2, dataset="mnist/2-7", classifier="RBF SVM"),
    ]
    found = ordering(rows, lambda own: apart(own["CNN"], own["RBF SVM"]))
    assert found.value is None
    assert found.note == "Intervals apart, by data set: MNIST 0/6 yes, MNIST 2/7 open."
    found = ordering(rows, lambda own: apart(own["RBF SVM"], own["CNN"]))
    assert found.value is False
    assert found.note == "Intervals apart, by data set: MNIST 0/6 no, MNIST 2/7 open."
    assert ordering(rows[:2], lambda own: apart(own["CNN"], own["RBF SVM"])).value is True


@pytest.mark.parametrize(
    ("accuracy_low", "accuracy_high", "ratio_high", "answer"),
    [
        (0.98, 1.0, 0.5, True),
        (0.97, 1.0, 0.5, None),
        (0.9, 0.97, 0.5, False),
        (0.98, 1.0, 0.51, None),
        (0.98, 1.0, 0.71, False),
        (0.97, 1.0, 0.71, False),
        (0.98, 1.0, 0.0, True),
    ],
)
def test_brittle_is_both_accurate_and_easily_attacked(
    accuracy_low: float, accuracy_high: float, ratio_high: float, answer: bool | None
) -> None:
    ends = {"accuracy_low": accuracy_low, "accuracy_high": accuracy_high}
    one = row(1.0, 0.9, 1.1, accuracy=accuracy_low, **ends)
    ratio = (ratio_high - 0.1, ratio_high - 0.2, ratio_high)
    assert accurate_and_brittle([one], [ratio], accurate=0.98, brittle=0.5).value is answer
    with pytest.raises(NoIntervalError, match="ratio has no interval"):
        accurate_and_brittle([one], [(0.4, None, None)], accurate=0.98, brittle=0.5)


def test_any_ratio_may_be_the_smallest_within_its_interval() -> None:
    ratios = {"mnist/0-6": (0.9, 0.8, 1.0), "mnist/2-7": (0.7, 0.0, 1.4)}
    found = smallest(ratios, 9, "Same points")
    assert (found.value, found.low, found.high, found.n) == (0.7, 0.0, 1.0, 9)
    assert found.note == "Same points: MNIST 0/6 0.90, MNIST 2/7 0.70."
    for name in ratios:
        assert math.isnan(smallest(ratios | {name: (math.nan, None, None)}, 9, "").value)


def test_extreme_shares_are_of_what_was_tested() -> None:
    shares = [(0.9, 1 / 3), (0.8, 2 / 3)]
    rows = [
        row(1.0, 0.9, 1.1)
        | share("accuracy", round(90 * a), 90)
        | share("accuracy_under_attack", round(9 * u), 9)
        for a, u in shares
    ]
    clean, attacked = (
        extreme_share(rows, "accuracy", min),
        extreme_share(rows, "accuracy_under_attack", max),
    )
    assert (clean.value, clean.n) == (0.8, 90)
    assert (attacked.value, attacked.n) == (pytest.approx(2 / 3), 9)
    assert (clean.low, clean.high) == clopper_pearson(72, 90)


def test_decide_leaves_out_what_is_no_number() -> None:
    claims = {"a": lambda: Measurement(math.nan), "b": lambda: Measurement(False)}
    assert decide(claims) == ({"b": Measurement(False)}, [])


def test_an_error_bar_that_ends_at_zero_is_drawn() -> None:
    rows = [row(0.5, 0.0, 1.0), row(2.0, None, None)]
    _, (axes,) = new_figure()
    draw_line(axes, [r | {"x": x} for x, r in enumerate(rows)], "x")
    draw_groups(axes, rows, {"CNN": "black"}, group="dataset", series="classifier")
    for container in axes.containers:
        (_, _, (bars,)) = container
        assert bars.get_segments()[0][:, 1] == pytest.approx([0.0, 1.0])


def test_a_row_of_distances_counts_its_failures() -> None:
    found = distance_row(np.array([1.0, 3.0, math.inf]), of="x")
    assert (found["mean_l2"], found["median_l2"], found["n_failed"]) == (2.0, 3.0, 1)
    assert distance_row(np.array([1.0, math.inf]))["mean_l2_low"] is None
