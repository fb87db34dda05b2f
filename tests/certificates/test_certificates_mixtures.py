"""Certified radii of optimal classifiers: never above the truth, near it where they should be."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import optimize

from trueboundary.certificates import LipschitzMixtureCertificate, MixtureCertificate, bracket
from trueboundary.certificates.mixture_bounds import _Prepared, _smallest_variances
from trueboundary.classifiers import BayesOptimal, SphereBayes
from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers
from trueboundary.problems import table_problem

CERTIFICATE = LipschitzMixtureCertificate()


def mixture(seed, *, n_components=3, dim=6, n_factors=2, noise=0.01):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return MixtureOfFactorAnalyzers(
        normal(n_components).softmax(0),
        normal(n_components, dim),
        normal(n_components, dim, n_factors),
        noise,
    )


def test_the_mahalanobis_form_is_a_minimum_over_factors():
    """Q(x) = min_z |mu + A z - x|^2 + sigma^2 |z|^2, by dense least squares."""
    density = mixture(0, noise=0.09)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = _Prepared.build(density, 0.0).at(x).distance ** 2 * 0.09
    for k in range(3):
        mean, loadings = density.means[k].numpy(), density.loadings[k].numpy()
        stacked = np.vstack([loadings, 0.3 * np.eye(2)])
        for row in range(5):
            target = np.concatenate([x[row].numpy() - mean, np.zeros(2)])
            best = np.linalg.lstsq(stacked, target, rcond=None)[0]
            assert found[row, k] == pytest.approx(np.sum((stacked @ best - target) ** 2), rel=1e-9)


def test_its_root_is_lipschitz():
    density = mixture(2, noise=0.04)
    generator = torch.Generator().manual_seed(3)
    x = 2 * torch.randn(2000, 6, generator=generator, dtype=torch.float64)
    step = torch.randn(2000, 6, generator=generator, dtype=torch.float64)
    prepared = _Prepared.build(density, 0.0)
    change = np.abs(prepared.at(x + step).distance - prepared.at(x).distance)
    ratio = change / (prepared.lipschitz * step.norm(dim=1).numpy()[:, None])
    assert 0.5 < ratio.max() <= 1 + 1e-9


@pytest.mark.parametrize("noise", [0.04, "diagonal"])
@pytest.mark.parametrize("n_factors", [2, 6])
def test_smallest_variances_are_those_of_the_dense_covariance(noise, n_factors):
    if noise == "diagonal":
        noise = 0.01 + torch.rand(3, 6, generator=torch.Generator().manual_seed(4)).double()
    density = mixture(5, n_factors=n_factors, noise=noise)
    exact = [
        torch.linalg.eigvalsh(density.component(k).covariance_matrix)[0].item() for k in range(3)
    ]
    np.testing.assert_allclose(_smallest_variances(density), exact, rtol=1e-9)


def test_equal_spherical_gaussians_on_the_axis_are_nearly_exact():
    zero, one = (
        LowRankGaussian(torch.tensor([m, 0.0]).double(), torch.zeros(2, 0).double(), 0.01)
        for m in (-1.0, 1.0)
    )
    x = torch.tensor([[-1.0, 0.0], [-0.5, 0.0], [0.3, 0.0]], dtype=torch.float64)
    result = CERTIFICATE(BayesOptimal(zero, one), x, torch.zeros(3, dtype=torch.int64))
    np.testing.assert_allclose(result.distance, [1.0, 0.5, 0.0], atol=1e-12)
    assert result.exact.tolist() == [False, False, True]
    assert result.nearest[:2].isnan().all()
    assert torch.equal(result.nearest[2], x[2])


@pytest.mark.parametrize("sigma", [1.0, 0.037])
@pytest.mark.parametrize("stds", [0.0, 1e-12, 1e-9, 1e-7, 1e-4, 1.0, 4.9])
def test_next_to_a_mean_no_digit_is_lost_and_nothing_is_rounded_up(stds, sigma):
    """Ten standard deviations apart in 784 dimensions: errors begin at a hyperplane.

    A distance to the mean from a difference of log densities would be off by 1e-7.
    """
    rng = np.random.default_rng(0)
    axis, aside = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 784)))
    zero, one = (
        LowRankGaussian(
            torch.from_numpy(side * 5 * sigma * axis), torch.zeros(784, 0).double(), sigma**2
        )
        for side in (-1, 1)
    )
    classifier = BayesOptimal(zero, one)
    x = zero.mean + stds * sigma * torch.from_numpy(np.stack([axis, -axis, aside]))
    y = torch.zeros(3, dtype=torch.int64)
    with mpmath.workdps(40):
        means = [[mpmath.mpf(v) for v in density.mean.tolist()] for density in (zero, one)]
        normal = [b - a for a, b in zip(*means, strict=True)]
        length = mpmath.sqrt(sum(v * v for v in normal))
        truth = [
            sum(v * ((a + b) / 2 - p) for v, a, b, p in zip(normal, *means, row, strict=True))
            / length
            for row in x.tolist()
        ]
    cheap = CERTIFICATE(classifier, x, y).distance  # loose off the way to the other mean
    assert all(low <= exact for low, exact in zip(cheap.tolist(), truth, strict=True))
    for lower in (
        cheap[:1],
        MixtureCertificate()(classifier, x, y).distance,
        MixtureCertificate(gibbs=True)(classifier, x, y).distance,
        bracket(classifier, x, y).lower,
    ):
        for low, exact in zip(lower.tolist(), truth, strict=False):
            assert exact * (1 - mpmath.mpf(10) ** -12) <= low <= exact


def test_the_limit_of_small_noise_is_half_the_difference_of_subspace_distances():
    """Theorem 2 of the journal version, for a point on its own subspace."""
    means = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]).double()
    lines = torch.tensor([[[1.0], [0.0], [0.0]], [[0.0], [1.0], [0.0]]]).double()
    zero, one = (LowRankGaussian(m, a, 1e-8) for m, a in zip(means, lines, strict=True))
    x = torch.tensor([[0.0, 0.0, 0.0]], dtype=torch.float64)
    found = CERTIFICATE(BayesOptimal(zero, one), x, torch.tensor([0])).distance
    assert found.item() == pytest.approx(1.0, abs=1e-3)


def test_the_prior_moves_the_radius():
    zero, one = mixture(6, noise=0.3), mixture(7, noise=0.3)
    x = zero.sample((30,), generator=torch.Generator().manual_seed(8))
    y = torch.zeros(30, dtype=torch.int64)
    likely, even, rare = (
        CERTIFICATE(BayesOptimal(zero, one, prior=p), x, y).distance for p in (0.1, 0.5, 0.9)
    )
    assert (likely >= even).all()
    assert (even >= rare).all()
    assert (likely > rare).any()


def test_no_nearest_point_is_found_below_the_radius():
    """Against a local search from many starts, in a dimension where rays are too few."""
    zero, one = mixture(9, noise=0.05), mixture(10, noise=0.05)
    classifier = BayesOptimal(zero, one, hardest_component=False)
    x = zero.sample((4,), generator=torch.Generator().manual_seed(11))
    found = CERTIFICATE(classifier, x, torch.zeros(4, dtype=torch.int64)).distance

    def margin_at(p):
        return float(classifier.margin(torch.from_numpy(p)[None])[0])

    def slope_at(p):
        p = torch.from_numpy(p)
        return (one.score(p) - zero.score(p)).numpy()

    rng = np.random.default_rng(12)
    for point, distance in zip(x.numpy(), found.tolist(), strict=True):
        best = math.inf
        for _ in range(4):
            search = optimize.minimize(
                lambda p, c=point: np.sum((p - c) ** 2),
                point + rng.normal(size=6),
                jac=lambda p, c=point: 2 * (p - c),
                constraints={"type": "ineq", "fun": margin_at, "jac": slope_at},
                method="SLSQP",
            )
            if margin_at(search.x) >= -1e-6:
                best = min(best, math.sqrt(search.fun))
        assert 0 < distance <= best < math.inf


def test_other_classifiers_are_refused():
    x, y = torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TypeError, match="BayesOptimal classifier"):
        CERTIFICATE(SphereBayes(6), x, y)
    with pytest.raises(TypeError, match="BayesOptimal classifier"):
        CERTIFICATE(table_problem("c").bayes_classifier(), x[:, :2], y)
