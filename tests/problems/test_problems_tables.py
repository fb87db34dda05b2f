"""Problems on a grid: everything is exact, and found again by looking at every point."""

import json
import math

import numpy as np
import pytest
import torch

from trueboundary.densities import DiscreteTable, LowRankGaussian
from trueboundary.problems import TableProblem, table_problem
from trueboundary.theory.gaussian_pairs import flip_mass, flip_mass_bound


def small_problem(prior=0.5):
    rng = np.random.default_rng(0)
    tables = rng.dirichlet(np.full(56, 0.5), size=2).reshape(2, 7, 8)
    return TableProblem(*(DiscreteTable(torch.from_numpy(t)) for t in tables), prior=prior)


def grid(rows, columns):
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()


@pytest.mark.parametrize("prior", [0.5, 0.2])
def test_errors_are_those_of_the_classifier(prior):
    problem = small_problem(prior)
    predicted = problem.bayes_classifier(dtype=torch.float64).predict(grid(7, 8)).numpy()
    for label in (0, 1):
        np.testing.assert_array_equal(problem.errors(label).ravel(), predicted != label)
        tables = (problem.density_0, problem.density_1)
        expected = tables[label].probabilities.numpy().ravel()[predicted != label].sum()
        assert problem.error_rate(label) == pytest.approx(expected)


@pytest.mark.parametrize("prior", [None, (0.2, 0.5, 0.3)])
def test_three_classes_against_every_point(prior):
    rng = np.random.default_rng(1)
    tables = rng.dirichlet(np.full(56, 0.5), size=3).reshape(3, 7, 8)
    problem = TableProblem(*(DiscreteTable(torch.from_numpy(t)) for t in tables), prior=prior)
    priors = np.full(3, 1 / 3) if prior is None else np.array(prior)
    predicted = (priors[:, None, None] * tables).argmax(0)
    optimal = problem.bayes_classifier().predict(grid(7, 8).float())
    np.testing.assert_array_equal(optimal.reshape(7, 8), predicted)
    points = grid(7, 8)
    for label in range(3):
        np.testing.assert_array_equal(problem.errors(label), predicted != label)
        rate = tables[label][predicted != label].sum()
        assert problem.error_rate(label) == pytest.approx(rate)
        errors = points[torch.from_numpy((predicted != label).ravel())]
        expected = torch.cdist(points, errors).amin(1).reshape(7, 8)
        np.testing.assert_allclose(problem.distance_table(label), expected)
    description = problem.describe()
    assert json.loads(json.dumps(description)) == description
    with pytest.raises(ValueError, match="label must be between 0 and 2, got 3"):
        problem.errors(3)


def test_ties_are_errors_of_every_class_that_shares_them():
    same = DiscreteTable(torch.full((2, 2), 0.25).double())
    problem = TableProblem(same, same, same)
    assert all(problem.errors(label).all() for label in range(3))


def test_the_three_tables_meet_each_other():
    problem = table_problem("three", size=50)
    x = grid(50, 50)
    predicted = problem.bayes_classifier().predict(x)
    for label in range(3):
        assert 1e-4 < problem.error_rate(label) < 0.1
        assert (predicted == label).any()


def test_error_rates_agree_with_sampling():
    problem = small_problem()
    for label, rate in enumerate(map(problem.error_rate, (0, 1))):
        x, _ = next(problem.blocks(8192, seed=0, label=label))
        sampled = (problem.bayes_classifier().predict(x) != label).double().mean().item()
        assert sampled == pytest.approx(rate, abs=4 * (rate / 8192) ** 0.5)


def test_distances_by_looking_at_every_pair():
    problem = small_problem()
    points = grid(7, 8)
    for label in (0, 1):
        errors = points[torch.from_numpy(problem.errors(label).ravel())]
        expected = torch.cdist(points, errors).amin(1).reshape(7, 8)
        np.testing.assert_allclose(problem.distance_table(label), expected)


def test_a_problem_without_errors_is_infinitely_far():
    zero = DiscreteTable(torch.tensor([[0.5, 0.5], [0.0, 0.0]]).double())
    problem = TableProblem(zero, DiscreteTable(torch.full((2, 2), 0.25).double()), prior=1e-9)
    one = TableProblem(zero, DiscreteTable(zero.probabilities.flip(0)))
    assert (problem.distance_table(1)[0] == 0).all()
    assert one.error_rate(0) == one.error_rate(1) == 0
    sure = TableProblem(
        DiscreteTable(torch.full((1, 2), 0.5).double()),
        DiscreteTable(torch.full((1, 2), 0.5).double()),
        prior=0.1,
    )
    assert (sure.distance_table(0) == math.inf).all()


class TestFigure2:
    def test_the_tables_have_ten_thousand_entries(self):
        for panel in "cg":
            assert table_problem(panel).density_0.probabilities.numel() == 10_000

    def test_the_upper_panel_is_symmetric_and_robust(self):
        problem = table_problem("c")
        smallest = [d.probabilities.min().item() for d in (problem.density_0, problem.density_1)]
        assert smallest[0] == pytest.approx(smallest[1], rel=0.01)
        for label in (0, 1):
            assert problem.error_rate(label) < 0.01
            assert problem.distance_share(label, 3.0) < 0.02

    def test_in_the_lower_panel_one_step_suffices_and_accuracy_stays_high(self):
        problem = table_problem("g")
        assert problem.error_rate(0) < 1e-8
        assert problem.error_rate(1) < 0.01
        assert problem.distance_share(0, 1.0) > 1 - 1e-8
        assert problem.distance_share(1, 1.0) < 0.01

    def test_it_is_observation_3(self):
        problem = table_problem("g")
        tables = [d.probabilities.numpy() for d in (problem.density_0, problem.density_1)]
        assert flip_mass_bound(*tables) > 1 - 1e-8
        assert flip_mass(*tables) >= flip_mass_bound(*tables) - 1e-12
        # Before the leak falls below the other class's smallest probability, nothing is promised.
        leaky = table_problem("g", leak=1e-2)
        tables = [d.probabilities.numpy() for d in (leaky.density_0, leaky.density_1)]
        assert flip_mass_bound(*tables) == 0


def test_description_and_samples(generator):
    problem = table_problem("c", size=20)
    assert json.loads(json.dumps(problem.describe())) == problem.describe()
    assert problem.describe() != table_problem("g", size=20).describe()
    x, y = problem.sample(50, generator=generator, dtype=torch.float64)
    assert x.dtype == torch.float64
    assert torch.equal(x, x.floor())
    assert set(y.tolist()) == {0, 1}
    assert problem.domain(0).contains(x).all()


def test_bad_parameters_are_named():
    gaussian = LowRankGaussian(torch.zeros(2), torch.zeros(2, 0), 1.0)
    table = DiscreteTable(torch.full((2, 2), 0.25))
    with pytest.raises(TypeError, match="density_1 must be a DiscreteTable"):
        TableProblem(table, gaussian)
    with pytest.raises(ValueError, match="do not share a space"):
        TableProblem(table, DiscreteTable(torch.full((1, 4), 0.25)))
    with pytest.raises(ValueError, match="panel must be c, g or three"):
        table_problem("a")
    with pytest.raises(ValueError, match="leak"):
        table_problem("g", leak=0.0)
    with pytest.raises(ValueError, match="size"):
        table_problem("g", size=3)
