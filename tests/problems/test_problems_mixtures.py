"""Problems made of two known densities."""

import json
import pickle

import numpy as np
import pytest
import torch

from trueboundary.attacks import Space
from trueboundary.densities import DiscreteTable, LowRankGaussian, MixtureOfFactorAnalyzers
from trueboundary.measure import error_rate
from trueboundary.problems import (
    MixtureProblem,
    OnlineStream,
    other_subspace_distance,
    planar_problem,
    subspace_distances,
)


def mixture(seed, dim=5):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return MixtureOfFactorAnalyzers(normal(3).softmax(0), normal(3, dim), normal(3, dim, 2), 0.09)


@pytest.fixture
def problem():
    return MixtureProblem(mixture(0), mixture(1), prior=0.3)


def test_samples_follow_their_densities(problem, generator):
    for label in (0, 1):
        x = problem.sample_class(20_000, label, generator=generator, dtype=torch.float64)
        density = problem.density(label)
        error = 6 * density.variance.sqrt() / len(x) ** 0.5
        assert ((x.mean(0) - density.mean).abs() < error).all()


def test_blocks_do_not_depend_on_how_many_are_asked_for(problem):
    short, long = (
        torch.cat([x for x, _ in problem.blocks(n, seed=1, block_size=50)]) for n in (70, 300)
    )
    assert torch.equal(short, long[:70])


def test_no_classifier_beats_the_optimal_one(problem):
    x, y = next(problem.blocks(8192, seed=0, dtype=torch.float64))
    log_odds = problem.bayes_classifier(dtype=torch.float64).margin(x)
    error = ((log_odds > 0) != y).double().mean()
    for shift in (-1.0, 1.0):
        assert error < ((log_odds > shift) != y).double().mean()
    # The margin is calibrated: the mean error is the mean of the smaller posterior.
    expected = torch.sigmoid(-log_odds.abs())
    assert abs(error - expected.mean()) < 4 * (expected.mean() / len(x)) ** 0.5


def test_the_error_rate_of_spherical_gaussians_is_known():
    zero, one = (
        LowRankGaussian(torch.tensor([m, 0.0, 0.0]), torch.zeros(3, 0), 1.0) for m in (-1.0, 1.0)
    )
    problem = MixtureProblem(zero, one)
    optimal = problem.bayes_classifier()
    for rate in error_rate(optimal, problem, n_points=20_000, method="sampling"):
        assert rate.low < 0.158655 < rate.high


def test_densities_are_converted_once(problem):
    assert problem.density(0) is problem.density_0
    single = problem.density(1, dtype=torch.float32)
    assert single is problem.density(1, dtype=torch.float32)
    assert single.dtype == torch.float32


def test_the_rule_of_the_paper_is_an_option(problem):
    x = problem.sample(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[0]
    rule = problem.bayes_classifier(dtype=torch.float64, hardest_component=True)
    y = torch.ones(50, dtype=torch.int64)
    assert torch.equal(rule.margin(x), rule.component_gap(x, y))


def test_description_and_storage(problem):
    spec, arrays = problem.to_arrays()
    again = MixtureProblem.from_arrays(json.loads(json.dumps(spec)), arrays)
    assert again.describe() == problem.describe()
    assert again.describe() != MixtureProblem(mixture(0), mixture(2), prior=0.3).describe()
    assert problem.describe()["n_components"] == [3, 3]
    with pytest.raises(ValueError, match="not the description of a MixtureProblem"):
        MixtureProblem.from_arrays({"class": "Other"}, arrays)


def test_streams_and_processes_take_it(problem):
    copied = pickle.loads(pickle.dumps(problem))
    first, second = (OnlineStream(p, 10, seed=0).batch(3)[0] for p in (problem, copied))
    assert torch.equal(first, second)
    assert isinstance(problem.domain(0), Space)


def test_subspace_distances_against_least_squares(problem, generator):
    density = problem.density_0
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    found = subspace_distances(density, x)
    for k in range(3):
        loadings = density.loadings[k].numpy()
        target = (x - density.means[k]).numpy().T
        fitted = loadings @ np.linalg.lstsq(loadings, target, rcond=None)[0]
        np.testing.assert_allclose(found[:, k], np.linalg.norm(target - fitted, axis=0))
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    nearest = other_subspace_distance(problem, x, y)
    # Equal up to rounding: half a batch is another matrix product than the whole.
    other = subspace_distances(problem.density_1, x)
    torch.testing.assert_close(nearest[1::2], found.amin(1)[1::2], rtol=1e-12, atol=0)
    torch.testing.assert_close(nearest[::2], other.amin(1)[::2], rtol=1e-12, atol=0)


def test_three_classes(generator):
    problem = MixtureProblem(*map(mixture, range(3)), prior=(0.2, 0.5, 0.3))
    assert (problem.n_classes, problem.priors) == (3, (0.2, 0.5, 0.3))
    spec, arrays = problem.to_arrays()
    again = MixtureProblem.from_arrays(json.loads(json.dumps(spec)), arrays)
    assert again.priors == problem.priors
    assert problem.describe()["prior"] == [0.2, 0.5, 0.3]
    x = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    y = torch.arange(9) % 3
    nearest = other_subspace_distance(problem, x, y)
    for label in range(3):
        log_prob = again.density(label).log_prob(x)
        torch.testing.assert_close(log_prob, problem.density(label).log_prob(x))
    for row, label in enumerate(y.tolist()):
        others = [
            subspace_distances(problem.density(k), x[row : row + 1]).min()
            for k in range(3)
            if k != label
        ]
        torch.testing.assert_close(nearest[row], min(others), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="expected two classes, got 3"):
        problem.prior  # noqa: B018
    with pytest.raises(ValueError, match="label must be between 0 and 2, got 3"):
        problem.density(3)


def test_a_component_without_factors_is_a_point():
    outlier = MixtureOfFactorAnalyzers(
        torch.ones(1), torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2, 2), 0.25
    )
    assert subspace_distances(outlier, torch.zeros(1, 2)).item() == pytest.approx(5.0)


def test_bad_densities_are_named():
    table = DiscreteTable(torch.full((2, 2), 0.25))
    with pytest.raises(TypeError, match="density_0 must be a LowRankGaussian"):
        MixtureProblem(table, table)
    with pytest.raises(ValueError, match="do not share a space"):
        MixtureProblem(mixture(0), mixture(1, dim=4))
    with pytest.raises(ValueError, match="prior must lie strictly"):
        MixtureProblem(mixture(0), mixture(1), prior=1.5)
    with pytest.raises(ValueError, match="label must be 0 or 1"):
        planar_problem("a").sample_class(3, 2, generator=torch.Generator())
