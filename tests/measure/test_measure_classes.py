"""Rates and brackets of three classes, against a grid."""

import math

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.classifiers import as_classifier
from trueboundary.measure import distance_values, distances_from, rate_values
from trueboundary.problems import MixtureProblem, TableProblem, planar_problem, table_problem

STEP = 0.02


@pytest.fixture(scope="module")
def three():
    """A planar problem of three classes, its optimal classifier, and its classes on a grid."""
    problem = planar_problem("three")
    optimal = problem.bayes_classifier(dtype=torch.float64)
    axis = torch.arange(-8, 8, STEP, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    logs = [density.log_prob(grid) + math.log(prior)
            for density, prior in zip(problem.densities, problem.priors, strict=True)]  # fmt: skip
    return problem, optimal, grid, torch.stack(logs, dim=1).argmax(1)


def test_brackets_of_the_optimal_classifier_hold_the_truth(three):
    problem, optimal, grid, winner = three
    found = tb.distances(optimal, problem, n_points=20)
    assert [each.label for each in found] == [0, 1, 2]
    for each in found:
        x, _ = problem.block(
            0, seed=0, block_size=20, label=each.label, dtype=torch.float64, purpose="distances"
        )
        errors = grid[winner != each.label]
        gaps = torch.cdist(x, errors)
        truth = gaps.amin(1).numpy()
        assert (each.lower <= truth + 1e-9).all()
        inside = (x.abs() < 6).all(1).numpy()
        # The nearest error of the grid is within its diagonal of the nearest of all.
        assert (each.upper[inside] >= truth[inside] - STEP).all()
        assert each.median_relative_width < 0.02
        right = each.upper > 0
        there = winner[winner != each.label][gaps.argmin(1)].numpy()
        # The classes of nearest errors differ only where two are equally near.
        assert (each.other[right & inside] == there[right & inside]).mean() > 0.8
        assert distance_values(each)["n"] == 20


def test_an_attack_on_any_three_logits_finds_what_the_bracket_holds(three):
    problem, optimal, _, _ = three
    bracketed = tb.distances(optimal, problem, n_points=20)
    mine = lambda x: 1e6 * optimal(x.double()).float()  # noqa: E731
    attacked = tb.distances(mine, problem, n_points=20)
    aimed = tb.distances(mine, problem, n_points=20, target="each")
    for proven, found, nearer in zip(bracketed, attacked, aimed, strict=True):
        assert found.method.startswith("no certificate below, NearestError above")
        for each in (found, nearer):
            assert (each.upper >= proven.lower - 1e-4).all()
            assert np.allclose(each.upper, proven.upper, rtol=1e-3, atol=1e-4)


def test_ten_logits_of_a_users_network_are_measured_on_a_pair_of_them(three):
    problem, optimal, _, _ = three
    chosen = (2, 0)
    pair = MixtureProblem(*(problem.densities[label] for label in chosen))
    logits = lambda x: torch.cat([optimal(x), torch.full((len(x), 7), -1e9).to(x)], 1)  # noqa: E731
    mine = as_classifier(logits, classes=chosen)
    best = pair.bayes_classifier(dtype=torch.float64)
    # Priors of the pair are equal; the restriction keeps those of the whole.
    offset = math.log(problem.priors[0] / problem.priors[2])
    x, _ = pair.sample(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(mine.margin(x), best.margin(x) + offset)
    zero, _ = tb.error_rate(mine, pair, n_points=20_000, method="sampling")
    assert zero.into == ()
    assert "into" not in rate_values(zero)


def test_everything_about_three_tables_is_exact():
    tables = [table.probabilities for table in table_problem("c").densities]
    densities = [*table_problem("c").densities, type(table_problem("c").densities[0])(
        (tables[0].T + tables[1].T) / 2)]  # fmt: skip
    problem = TableProblem(*densities, prior=(0.25, 0.25, 0.5))
    optimal = problem.bayes_classifier(dtype=torch.float64)
    pairs = zip(problem.priors, densities, strict=True)
    joint = np.stack([prior * density.probabilities.numpy() for prior, density in pairs])
    winner = joint.argmax(0)
    rates = tb.error_rate(optimal, problem)
    found = tb.distances(optimal, problem, n_points=30)
    for label, (rate, each) in enumerate(zip(rates, found, strict=True)):
        truth = (joint[label] / joint[label].sum())[winner != label].sum()
        assert rate.method == "exact"
        assert math.isclose(rate.value, truth, rel_tol=1e-12)
        x, _ = problem.block(0, seed=0, block_size=30, label=label, purpose="distances")
        errors = np.argwhere(winner != label)
        for point, distance, other in zip(x.numpy(), each.lower, each.other, strict=True):
            gaps = np.linalg.norm(errors - point, axis=1)
            assert math.isclose(distance, gaps.min(), rel_tol=1e-6)
            nearest = errors[np.isclose(gaps, gaps.min())]
            assert other in winner[tuple(nearest.T)]


def test_distances_from_points_of_any_class(three):
    problem, optimal, _, _ = three
    x = problem.sample_class(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = distances_from(optimal, x, 2)
    assert found.label == 2
    assert (found.lower > 0).any()
    with pytest.raises(ValueError, match="labels from 0 to 2"):
        distances_from(optimal, x, 3)


@pytest.mark.parametrize("target", ["all", 1, torch.tensor(1)])
def test_targets_that_no_proof_speaks_of_are_refused(three, target):
    """Brackets without an attack would have passed over them."""
    problem, optimal, _, _ = three
    tables = table_problem("three")
    x = problem.block(0, seed=0, label=0, dtype=torch.float64)[0][:2]
    with pytest.raises(ValueError, match="expected target 'each' or None, got"):
        tb.distances(optimal, problem, n_points=2, target=target)
    with pytest.raises(ValueError, match="expected target 'each' or None, got"):
        tb.distances(tables.bayes_classifier(), tables, n_points=2, target=target)
    with pytest.raises(ValueError, match="expected target 'each' or None, got"):
        distances_from(optimal, x, 0, target=target)
