"""Moves must leave their density unchanged: all of splitting rests on it."""

import math

import pytest
import torch
from scipy import stats

from trueboundary.densities import (
    DiscreteTable,
    LowRankGaussian,
    MixtureOfFactorAnalyzers,
    UniformSphere,
)
from trueboundary.problems import ConcentricSpheres, MixtureProblem, table_problem
from trueboundary.rare_events import (
    GaussianMove,
    InvariantMove,
    MixtureMove,
    SphereMove,
    TableMove,
    move_for,
)

FALSE_ALARM = 1e-6


def gaussian(dim=4):
    draw = torch.Generator().manual_seed(1)
    mean, loadings = torch.randn(dim, generator=draw), torch.randn(dim, 2, generator=draw)
    return LowRankGaussian(mean.double(), loadings.double(), 0.09)


def mixture():
    draw = torch.Generator().manual_seed(2)
    return MixtureOfFactorAnalyzers(
        torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
        3 * torch.randn(3, 4, generator=draw, dtype=torch.float64),
        torch.randn(3, 4, 2, generator=draw, dtype=torch.float64),
        torch.tensor([0.01, 0.04, 0.09], dtype=torch.float64),
    )


def table():
    draw = torch.Generator().manual_seed(3)
    weights = torch.rand(3, 4, generator=draw, dtype=torch.float64)
    weights[0, 1:3] = 0
    return DiscreteTable(weights / weights.sum())


DENSITIES = {
    "sphere": lambda: UniformSphere(4, radius=1.3),
    "gaussian": gaussian,
    "mixture": mixture,
    "table": table,
}


@pytest.mark.parametrize("step", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("name", DENSITIES)
def test_moved_points_have_the_same_distribution(name, step, generator):
    density = DENSITIES[name]()
    move = move_for(density, 0)
    state = move.sample(20_000, generator)
    for _ in range(3):
        state = move.propose(state, step, generator)
    points = move.points(state)
    fresh = density.sample((20_000,), generator=generator)
    directions = torch.randn(points.shape[1], 3, generator=generator, dtype=torch.float64)
    for one, other in zip((points @ directions).T, (fresh.double() @ directions).T, strict=True):
        assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > FALSE_ALARM


@pytest.mark.parametrize("name", DENSITIES)
def test_moves_are_reversible(name, generator):
    # Under the density, (before, after) and (after, before) must have the same distribution. An
    # antisymmetric function of the pair then has mean zero, whatever the function.
    move = move_for(DENSITIES[name](), 0)
    before = move.sample(40_000, generator)
    after = move.propose(before, 0.5, generator)
    a, b = move.points(before), move.points(after)
    functions = (
        lambda x, y: x[:, 0] * y[:, 1],
        lambda x, y: x[:, 0] ** 2 * y[:, 0],
        lambda x, y: x[:, 1].tanh() * y[:, 0] ** 2,
    )
    for function in functions:
        difference = function(a, b) - function(b, a)
        assert stats.ttest_1samp(difference.numpy(), 0.0).pvalue > FALSE_ALARM


@pytest.mark.parametrize("name", ["sphere", "gaussian", "mixture"])
def test_small_steps_go_a_short_way(name, generator):
    move = move_for(DENSITIES[name](), 0)
    if isinstance(move, MixtureMove):
        move.refresh = 0.0
    state = move.sample(1000, generator)
    lengths = [
        (move.points(move.propose(state, step, generator)) - move.points(state)).norm(dim=1)
        for step in (1e-3, 1e-2)
    ]
    assert lengths[0].mean() < 0.02
    assert float(lengths[1].mean() / lengths[0].mean()) == pytest.approx(10, rel=0.2)


def test_sphere_moves_keep_the_radius(generator):
    move = SphereMove(UniformSphere(50, radius=1.3))
    state = move.sample(100, generator)
    for _ in range(200):
        state = move.propose(state, 0.3, generator)
    assert float((state.norm(dim=1) - 1.3).abs().max()) < 1e-14


@pytest.mark.parametrize("name", DENSITIES)
def test_states_of_points_lead_back_to_them(name, generator):
    move = move_for(DENSITIES[name](), 0)
    points = move.points(move.sample(50, generator))
    assert torch.allclose(move.points(move.states(points)), points, rtol=1e-12, atol=1e-12)


def test_the_state_of_a_point_is_its_likeliest():
    density = gaussian()
    move = GaussianMove(density)
    points = move.points(move.sample(5, torch.Generator().manual_seed(0)))
    state = move.states(points)
    # The least |z|^2 + |eps|^2 is the Mahalanobis distance.
    centred = points - density.mean
    expected = (centred * torch.linalg.solve(density.covariance_matrix, centred.T).T).sum(1)
    assert torch.allclose(state.square().sum(1), expected)


def test_mixture_moves_change_component_at_the_weights(generator):
    move = MixtureMove(mixture())
    state = move.sample(20_000, generator)
    state[:, 0] = 0
    for _ in range(60):
        state = move.propose(state, 0.1, generator)
    counts = torch.bincount(state[:, 0].long(), minlength=3).numpy()
    expected = 20_000 * move.density.weights.numpy()
    assert stats.chisquare(counts, expected).pvalue > FALSE_ALARM


def test_table_moves_never_reach_empty_cells(generator):
    move = TableMove(table())
    state = move.sample(2000, generator)
    for _ in range(5):
        state = move.propose(state, 1.0, generator)
    assert bool((move.density.log_prob(state) > -math.inf).all())


def test_problems_know_their_moves():
    spheres = ConcentricSpheres(dim=5)
    assert move_for(spheres, 0).density.radius == 1.0
    assert move_for(spheres, 1).density.radius == 1.3
    pair = MixtureProblem(gaussian(), mixture())
    assert isinstance(move_for(pair, 0), GaussianMove)
    assert isinstance(move_for(pair, 1), MixtureMove)
    assert isinstance(move_for(table_problem("c", size=10), 1), TableMove)
    assert move_for(pair, 1, dtype=torch.float32).density.dtype == torch.float32
    own = SphereMove(UniformSphere(3))
    assert move_for(own, 0) is own


def test_unknown_densities_ask_for_a_move():
    with pytest.raises(TypeError, match="pass an InvariantMove of your own"):
        move_for(torch.distributions.Normal(0.0, 1.0), 0)
    with pytest.raises(ValueError, match="label must be 0 or 1"):
        move_for(ConcentricSpheres(3), 2)
    with pytest.raises(ValueError, match="label must be at least 0"):
        move_for(UniformSphere(3), -1)


def test_moves_without_states_say_so(generator):
    class Doubled(InvariantMove):
        def sample(self, n, generator):
            return torch.rand(n, 1, generator=generator)

        def propose(self, state, step, generator):
            return self.sample(len(state), generator)

        def points(self, state):
            return 2 * state

    with pytest.raises(NotImplementedError, match=r"write its states\(points\)"):
        Doubled().states(torch.zeros(1, 1))
