"""The optimal classifier against dense densities; its storage, precision and conversions."""

import copy
import json
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from trueboundary.classifiers import BayesOptimal, from_arrays, margin, to_arrays
from trueboundary.densities import (
    DiscreteTable,
    LowRankGaussian,
    MixtureOfFactorAnalyzers,
    UniformSphere,
)


def mixture(seed, n_components=3, dim=5, noise_std=0.3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    return MixtureOfFactorAnalyzers(
        normal(n_components).softmax(0),
        normal(n_components, dim),
        0.5 * normal(n_components, dim, 2),
        noise_std**2,
    )


def gaussian(seed, dim=5):
    return mixture(seed, 1, dim).component(0)


def table(seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    return DiscreteTable(weights / weights.sum())


PAIRS = {
    "mixtures": (mixture(0), mixture(1, n_components=2)),
    "gaussians": (gaussian(2), gaussian(3)),
    "one of each": (gaussian(4), mixture(5)),
    "tables": (table(6), table(7)),
}


def points(n=20, dim=5, seed=8):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_log_joint(density, x):
    parts = [
        MultivariateNormal(density.means[k], density.component(k).covariance_matrix).log_prob(x)
        + density.log_weights[k]
        for k in range(density.n_components)
    ]
    return torch.stack(parts, dim=1)


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_margin_is_the_log_posterior_odds(prior):
    zero, one = PAIRS["mixtures"]
    x = points()
    odds = math.log(prior / (1 - prior))
    joint_0, joint_1 = dense_log_joint(zero, x), dense_log_joint(one, x)
    classifier = BayesOptimal(zero, one, prior=prior)
    expected = joint_1.logsumexp(1) - joint_0.logsumexp(1) + odds
    torch.testing.assert_close(classifier.margin(x), expected, rtol=1e-10, atol=1e-10)
    hardest = BayesOptimal(zero, one, prior=prior, hardest_component=True)
    expected = joint_1.amax(1) - joint_0.amax(1) + odds
    torch.testing.assert_close(hardest.margin(x), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(hardest.margin(x), classifier.margin(x))


def test_component_gap_is_that_of_the_best_components():
    zero, one = PAIRS["mixtures"]
    x, y = points(), torch.arange(20) % 2
    gap = BayesOptimal(zero, one).component_gap(x, y)
    best_0, best_1 = dense_log_joint(zero, x).amax(1), dense_log_joint(one, x).amax(1)
    expected = torch.where(y == 1, best_1 - best_0, best_0 - best_1)
    torch.testing.assert_close(gap, expected, rtol=1e-10, atol=1e-10)


def test_the_gradient_of_the_gap_is_that_of_two_components():
    zero, one = PAIRS["mixtures"]
    x = points(6).requires_grad_()
    gap = BayesOptimal(zero, one).component_gap(x, torch.zeros(6, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(gap.sum(), x)
    with torch.no_grad():
        scores = [
            torch.stack([d.component(int(k)).score(p) for k, p in zip(best, x, strict=True)])
            for d, best in ((zero, zero.map_component(x)), (one, one.map_component(x)))
        ]
    torch.testing.assert_close(gradient, scores[0] - scores[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mixtures", "gaussians", "one of each"])
def test_the_gradient_of_the_margin_is_the_difference_of_scores(name):
    zero, one = PAIRS[name]
    x = points().requires_grad_()
    (gradient,) = torch.autograd.grad(BayesOptimal(zero, one).margin(x).sum(), x)
    expected = one.score(x.detach()) - zero.score(x.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


def test_float32_margins_of_a_million_nats():
    """At a noise of 0.001 margins are huge, and yet they keep their relative accuracy."""
    zero, one = (mixture(s, dim=50, noise_std=1e-3) for s in (0, 1))
    x = zero.sample((10,), generator=torch.Generator().manual_seed(0)).float()
    exact = BayesOptimal(zero, one).margin(x)
    single = BayesOptimal(zero.to(dtype=torch.float32), one.to(dtype=torch.float32)).margin(x)
    assert single.dtype == torch.float32
    assert exact.abs().min() > 1e6
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=0.05)


def test_images_are_flattened():
    zero, one = (mixture(s, dim=12) for s in (0, 1))
    x = points(dim=12)
    classifier = BayesOptimal(zero, one)
    assert torch.equal(classifier.margin(x.reshape(20, 3, 2, 2)), classifier.margin(x))


def test_tables_and_points_that_neither_can_give():
    zero, one = PAIRS["tables"]
    classifier = BayesOptimal(zero, one)
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0], [9.0, 9.0]])
    log_odds = (one.probabilities / zero.probabilities).log()
    expected = torch.stack([log_odds[0, 1], log_odds[2, 3]])
    torch.testing.assert_close(classifier.margin(x)[:2], expected)
    assert classifier.margin(x)[2] == 0


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_storage_round_trip(name, dtype):
    classifier = BayesOptimal(*PAIRS[name], prior=0.3, hardest_component=True).to(dtype)
    spec, arrays = to_arrays(classifier)
    again = from_arrays(json.loads(json.dumps(spec)), arrays)
    assert isinstance(again, BayesOptimal)
    assert (again.prior, again.hardest_component) == (0.3, True)
    x = torch.tensor([[0.0, 1.0]] * 2) if name == "tables" else points().to(dtype)
    assert again.margin(x).dtype == dtype
    torch.testing.assert_close(again.margin(x), classifier.margin(x), rtol=1e-6, atol=1e-6)


def test_conversions_and_copies_keep_the_densities_in_step():
    classifier = BayesOptimal(*PAIRS["mixtures"])
    x = points()
    expected = classifier.margin(x)
    double = copy.deepcopy(classifier)
    classifier.float()
    assert classifier.margin(x.float()).dtype == classifier.densities[0].dtype == torch.float32
    torch.testing.assert_close(
        classifier.margin(x.float()).double(), expected, rtol=1e-4, atol=1e-4
    )
    assert torch.equal(double.margin(x), expected)
    inside = torch.nn.Sequential(copy.deepcopy(double))
    other = BayesOptimal(mixture(11), mixture(12, n_components=2))
    inside.load_state_dict({f"0.{k}": v for k, v in other.state_dict().items()})
    torch.testing.assert_close(margin(inside, x), other.margin(x))


def test_it_is_a_classifier_like_any_other():
    classifier = BayesOptimal(*PAIRS["gaussians"])
    assert not any(p.requires_grad for p in classifier.parameters())
    assert classifier(points()).shape == (20, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((UniformSphere(5), gaussian(0)), {}, TypeError, "density_0 must be a"),
        ((gaussian(0), gaussian(1).to(dtype=torch.float32)), {}, TypeError, "convert one"),
        ((gaussian(0), gaussian(1, dim=4)), {}, ValueError, "do not share a space"),
        ((gaussian(0, dim=2), table(0)), {}, ValueError, "do not share a space"),
        ((table(0), DiscreteTable(torch.ones(1, 1).double())), {}, ValueError, "share a space"),
        (PAIRS["gaussians"], {"prior": 1.0}, ValueError, "prior must lie strictly"),
        (PAIRS["gaussians"], {"prior": 0.0}, ValueError, "prior"),
    ],
)
def test_bad_densities_and_priors_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        BayesOptimal(*arguments, **options)


def test_bad_points_and_labels_are_named():
    classifier = BayesOptimal(*PAIRS["gaussians"])
    with pytest.raises(ValueError, match=r"shape \(..., 5\)"):
        classifier.margin(points(dim=4))
    with pytest.raises(TypeError, match="convert the points"):
        classifier.float().margin(points())
    for y in (torch.zeros(3, dtype=torch.int64), torch.full((20,), 2)):
        with pytest.raises(ValueError, match="20 labels"):
            classifier.component_gap(points().float(), y)


def test_low_rank_gaussians_count_as_one_component():
    zero, one = PAIRS["gaussians"]
    assert isinstance(zero, LowRankGaussian)
    classifier = BayesOptimal(zero, one)
    y = torch.ones(20, dtype=torch.int64)
    assert torch.equal(classifier.component_gap(points(), y), classifier.margin(points()))
