import math

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch.distributions import (
    Categorical,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
)

from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers
from trueboundary.densities import _residual as residual
from trueboundary.testing import check_density


def gaussian(dim, n_factors, seed=0, noise_std=None):
    g = torch.Generator().manual_seed(seed)
    mean = torch.randn(dim, generator=g, dtype=torch.float64)
    loadings = torch.randn(dim, n_factors, generator=g, dtype=torch.float64)
    if noise_std is None:
        return LowRankGaussian(mean, loadings, 0.1 + torch.rand(dim, generator=g).double())
    return LowRankGaussian(mean, loadings, noise_std**2)


def mixture(n_components, dim, n_factors, seed=0):
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(n_components, generator=g).double() + 0.1
    return MixtureOfFactorAnalyzers(
        weights / weights.sum(),
        torch.randn(n_components, dim, generator=g, dtype=torch.float64),
        torch.randn(n_components, dim, n_factors, generator=g, dtype=torch.float64),
        0.1 + torch.rand(n_components, dim, generator=g).double(),
    )


@pytest.mark.parametrize(
    "density",
    [
        gaussian(7, 2),
        gaussian(2, 1),
        gaussian(3, 0),
        mixture(3, 6, 2),
        mixture(3, 2, 1),
        mixture(2, 3, 0),
    ],
    ids=repr,
)
class TestEveryDensity:
    def test_it_does_what_every_density_must(self, density):
        check_density(density)

    def test_bad_points_are_named(self, density):
        dim = density.event_shape[0]
        with pytest.raises(TypeError, match=r"points are torch\.float64 but the density"):
            density.to(dtype=torch.float32).log_prob(torch.zeros(dim, dtype=torch.float64))
        with pytest.raises(ValueError, match="must have shape"):
            density.log_prob(torch.zeros(2, dim + 1, dtype=torch.float64))
        with pytest.raises(ValueError, match="finite"):
            density.log_prob(torch.full((dim,), torch.nan, dtype=torch.float64))
        with pytest.raises(TypeError, match="must be a tensor"):
            density.score([0.0] * dim)
        with pytest.raises(TypeError, match=r"torch\.int64"):
            density.score(torch.zeros(dim, dtype=torch.int64))

    def test_samples_are_seeded_and_not_reparameterised(self, density):
        with pytest.raises(TypeError, match="generator="):
            density.sample((2,))
        with pytest.raises(NotImplementedError, match="use sample"):
            density.rsample((2,))


def dense(density):
    return MultivariateNormal(density.mean, density.covariance_matrix)


@pytest.mark.parametrize(("dim", "n_factors"), [(1, 0), (1, 1), (3, 5), (9, 3)])
def test_gaussian_agrees_with_dense_and_with_torch(dim, n_factors, generator):
    density = gaussian(dim, n_factors)
    x = 3 * torch.randn(20, dim, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(density.log_prob(x), dense(density).log_prob(x))
    if n_factors > 0:  # torch's own needs a factor
        peer = LowRankMultivariateNormal(density.mean, density.loadings, density.noise_variance)
        torch.testing.assert_close(density.log_prob(x), peer.log_prob(x))
        torch.testing.assert_close(density.variance, peer.variance)


def test_gaussian_score_solves_the_dense_system(generator):
    density = gaussian(9, 3)
    x = torch.randn(20, 9, generator=generator, dtype=torch.float64)
    expected = -torch.linalg.solve(density.covariance_matrix, (x - density.mean).T).T
    torch.testing.assert_close(density.score(x), expected)


def test_mixture_agrees_with_torch(generator):
    density = mixture(4, 5, 2)
    components = LowRankMultivariateNormal(density.means, density.loadings, density.noise_variance)
    peer = MixtureSameFamily(Categorical(density.weights), components)
    x = 2 * torch.randn(20, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(density.log_prob(x), peer.log_prob(x))
    torch.testing.assert_close(density.component_log_prob(x), components.log_prob(x[:, None]))
    torch.testing.assert_close(density.mean, peer.mean)
    torch.testing.assert_close(density.variance, peer.variance)
    joint = components.log_prob(x[:, None]) + density.log_weights
    torch.testing.assert_close(density.responsibilities(x), joint.softmax(1))
    assert torch.equal(density.map_component(x), joint.argmax(1))
    torch.testing.assert_close(density.log_prob(x, hardest_component=True), joint.amax(1))


def test_component_is_a_gaussian_of_its_own(generator):
    density = mixture(3, 5, 2)
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    expected = density.component_log_prob(x)
    for k in range(3):
        torch.testing.assert_close(density.component(k).log_prob(x), expected[:, k])
    with pytest.raises(ValueError, match="below 3"):
        density.component(3)


def test_hardest_component_lies_below_by_at_most_log_of_their_number(generator):
    density = mixture(4, 2, 1)
    x = density.sample((200,), generator=generator)
    gap = density.log_prob(x) - density.log_prob(x, hardest_component=True)
    assert (gap >= 0).all()
    assert (gap <= math.log(4)).all()
    assert gap.max() > 0.1


def test_gradient_of_the_hardest_component(generator):
    density = mixture(3, 4, 2)
    x = density.sample((10,), generator=generator).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(x, hardest_component=True).sum(), x)
    hardest = density.map_component(x.detach()).tolist()
    expected = [density.component(k).score(p) for k, p in zip(hardest, x.detach(), strict=True)]
    torch.testing.assert_close(gradient, torch.stack(expected))


@pytest.mark.parametrize("noise_std", [0.001, 0.01, 0.05])
@pytest.mark.parametrize(("dim", "n_factors"), [(784, 6), (12_288, 10), (12_288, 0)])
def test_float32_holds_at_small_noise_and_in_many_dimensions(dim, n_factors, noise_std, generator):
    g = torch.Generator().manual_seed(3)
    exact = LowRankGaussian(
        torch.rand(dim, generator=g, dtype=torch.float64),
        0.1 * torch.randn(dim, n_factors, generator=g, dtype=torch.float64),
        noise_std**2,
    )
    single = exact.to(dtype=torch.float32)
    on_model = exact.sample((8,), generator=generator).float()
    for offset in (0.0, 0.05, 1.0):  # on the model, off it by a shade of grey, and far away
        x = on_model + offset * torch.randn(on_model.shape, generator=generator)
        truth = exact.log_prob(x)
        error = (single.log_prob(x).double() - truth).abs()
        assert (error <= 0.05 + 1e-6 * truth.abs()).all()
        gradient = exact.score(x)
        relative = (single.score(x).double() - gradient).norm(dim=1) / gradient.norm(dim=1)
        assert (relative < 1e-3).all()


def test_the_matrix_inversion_lemma_would_not_hold():
    """The bound of the test above has teeth: torch's own density misses it by far."""
    g = torch.Generator().manual_seed(3)
    mean = torch.rand(784, generator=g)
    loadings = 0.1 * torch.randn(784, 6, generator=g)
    peer = LowRankMultivariateNormal(mean, loadings, torch.full((784,), 1e-6))
    exact = LowRankGaussian(mean.double(), loadings.double(), 1e-6)
    x = exact.sample((8,), generator=g).float()
    assert (peer.log_prob(x).double() - exact.log_prob(x)).abs().max() > 1.0


def test_large_dimension_against_the_closed_form():
    """One factor along an axis: a product of independent normals, whatever the dimension."""
    dim, noise_std = 12_288, 0.001
    loadings = torch.zeros(dim, 1, dtype=torch.float64)
    loadings[0] = 2.0
    density = LowRankGaussian(torch.zeros(dim, dtype=torch.float64), loadings, noise_std**2)
    x = torch.full((dim,), 0.002, dtype=torch.float64)
    x[0] = 1.0
    variance = torch.full((dim,), noise_std**2, dtype=torch.float64)
    variance[0] += 4.0
    expected = torch.distributions.Normal(0.0, variance.sqrt()).log_prob(x).sum()
    torch.testing.assert_close(density.log_prob(x), expected, rtol=1e-12, atol=0)


def test_padding_with_zero_columns_changes_nothing(generator):
    density = mixture(2, 4, 2)
    padded = MixtureOfFactorAnalyzers(
        density.weights,
        density.means,
        torch.cat([density.loadings, torch.zeros(2, 4, 3, dtype=torch.float64)], dim=2),
        density.noise_variance,
    )
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(padded.log_prob(x), density.log_prob(x))
    torch.testing.assert_close(padded.score(x), density.score(x))


def test_outlier_component_of_weight_zero_is_harmless(generator):
    density = MixtureOfFactorAnalyzers(
        torch.tensor([1.0, 0.0]), torch.zeros(2, 3), torch.zeros(2, 3, 1), torch.tensor([1.0, 9.0])
    )
    x = density.sample((50,), generator=generator)
    torch.testing.assert_close(density.log_prob(x), density.component(0).log_prob(x))
    torch.testing.assert_close(density.score(x), -x)


def test_labels_name_the_component_that_was_drawn(generator):
    means = torch.tensor([[-50.0, 0.0], [0.0, 0.0], [50.0, 0.0]])
    weights = torch.tensor([0.2, 0.5, 0.3])
    density = MixtureOfFactorAnalyzers(weights, means, torch.zeros(3, 2, 0), 1.0)
    x, labels = density.sample_labelled((2, 5000), generator=generator)
    assert labels.shape == (2, 5000)
    assert torch.equal(density.map_component(x), labels)
    share = torch.bincount(labels.flatten(), minlength=3) / 10_000
    assert ((share - weights).abs() < 6 * (weights * (1 - weights) / 10_000).sqrt()).all()


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(
    seed=st.integers(0, 10**6),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
)
def test_scaling_and_shifting_space(seed, scale, shift):
    density = mixture(3, 4, 2, seed=seed)
    moved = MixtureOfFactorAnalyzers(
        density.weights,
        density.means * scale + shift,
        density.loadings * scale,
        density.noise_variance * scale**2,
    )
    x = density.sample((5,), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        moved.log_prob(x * scale + shift) + 4 * math.log(scale),
        density.log_prob(x),
        rtol=1e-6,
        atol=1e-6,
    )


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(seed=st.integers(0, 10**6))
def test_rotating_the_factors_changes_nothing(seed):
    density = gaussian(6, 3, seed=seed)
    g = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))
    rotated = LowRankGaussian(density.mean, density.loadings @ rotation, density.noise_variance)
    x = density.sample((5,), generator=g)
    torch.testing.assert_close(rotated.log_prob(x), density.log_prob(x), rtol=1e-9, atol=1e-9)


def test_many_rows_span_blocks(monkeypatch, generator):
    density = mixture(3, 5, 2)
    x = density.sample((23,), generator=generator)
    log_prob, score = density.log_prob(x), density.score(x)
    monkeypatch.setattr(residual, "_BLOCK_NUMBERS", 35)
    torch.testing.assert_close(density.log_prob(x), log_prob, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(density.score(x), score, rtol=1e-12, atol=1e-12)


def test_backward_keeps_no_array_of_points_by_components_by_dimensions(generator):
    density = mixture(8, 50, 2)
    x = density.sample((40,), generator=generator).requires_grad_()
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        density.log_prob(x).sum().backward()
    assert x.numel() <= sum(kept) < 3 * x.numel()  # 8 * x.numel() with the residuals of each


def test_evaluation_without_validation_lets_nan_through():
    density = LowRankGaussian(torch.zeros(2), torch.ones(2, 1), 1.0, validate_args=False)
    assert density.log_prob(torch.tensor([torch.nan, 0.0])).isnan()


ZERO, ONES = torch.zeros(2), torch.ones(2, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.0], ONES, 1.0), TypeError, "mean must be a tensor"),
        ((torch.zeros(2, dtype=torch.int64), ONES, 1.0), TypeError, "float32 or float64"),
        ((ZERO, torch.ones(3, 1), 1.0), ValueError, "to fit the mean"),
        ((ZERO, torch.ones(2), 1.0), ValueError, "loadings must have shape"),
        ((ZERO, ONES, 0.0), ValueError, "positive"),
        ((ZERO, ONES, torch.tensor([1.0, -1.0])), ValueError, "positive"),
        ((ZERO, ONES, torch.ones(3)), ValueError, "noise_variance must have shape"),
        ((ZERO, ONES, torch.tensor([1.0, math.inf])), ValueError, "finite"),
        ((ZERO, ONES.double(), 1.0), TypeError, "convert one of them"),
        ((torch.zeros(2, requires_grad=True), ONES, 1.0), ValueError, "detached"),
    ],
)
def test_bad_gaussians(arguments, error, message):
    with pytest.raises(error, match=message):
        LowRankGaussian(*arguments)


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ([0.5, 0.6], {}, "add up to one"),
        ([1.5, -0.5], {}, "add up to one"),
        ([1.0], {}, "weights must have shape"),
        (None, {}, "either weights or log_weights"),
        ([0.5, 0.5], {"log_weights": torch.zeros(2)}, "not both"),
    ],
)
def test_bad_weights(weights, options, message):
    weights = None if weights is None else torch.tensor(weights)
    with pytest.raises(ValueError, match=message):
        MixtureOfFactorAnalyzers(weights, torch.zeros(2, 3), torch.zeros(2, 3, 1), 1.0, **options)


def test_log_weights_are_weights(generator):
    density = mixture(3, 4, 2)
    same = MixtureOfFactorAnalyzers(
        None,
        density.means,
        density.loadings,
        density.noise_variance,
        log_weights=density.weights.log(),
    )
    x = density.sample((5,), generator=generator)
    torch.testing.assert_close(same.log_prob(x), density.log_prob(x))


def test_generator_of_another_device_is_refused():
    density = gaussian(2, 1)
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        density.sample((1,), generator=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(generator):
    density = mixture(4, 20, 3)
    x = density.sample((30,), generator=generator)
    moved = density.to(device="cuda")
    torch.testing.assert_close(moved.log_prob(x.cuda()).cpu(), density.log_prob(x))
    torch.testing.assert_close(moved.score(x.cuda()).cpu(), density.score(x))
    drawn = moved.sample((5,), generator=torch.Generator("cuda").manual_seed(0))
    assert drawn.device.type == "cuda"


def many_components(dtype, *, spread=1.0, noise="isotropic", dim=9, n_components=8):
    """Return a mixture of more components than are evaluated without looking, and points."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    variance = torch.full((n_components, dim), 0.05, dtype=dtype)
    if noise == "diagonal":
        variance = variance * (1 + normal(n_components, dim).square())
    density = MixtureOfFactorAnalyzers(
        normal(n_components).softmax(0),
        spread * normal(n_components, dim),
        0.5 * normal(n_components, dim, 2),
        variance,
    )
    return density, density.sample((200,), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_components_that_cannot_matter_are_left_out_unseen(dtype, noise, spread):
    density, x = many_components(dtype, spread=spread, noise=noise)
    x = torch.cat([x, 1e3 * x, density.means]).requires_grad_()
    joint = density.component_log_prob(x) + density.log_weights
    tolerance = 4 * torch.finfo(dtype).eps
    for hardest in (False, True):
        full = joint.amax(1) if hardest else joint.logsumexp(1)
        seen = density.log_prob(x, hardest_component=hardest)
        torch.testing.assert_close(seen, full, rtol=tolerance, atol=tolerance)
        ours, wanted = (
            torch.autograd.grad(total.sum(), x, retain_graph=True)[0] for total in (seen, full)
        )
        away = (ours - wanted).norm(dim=1)
        assert (away <= 1e3 * tolerance * (1 + wanted.norm(dim=1))).all()
    if spread == 30.0:  # most are left out, so that the comparison means something
        assert density._screen.matters(x.detach()).double().mean() < 0.5


def test_leaving_out_components_keeps_second_derivatives():
    density, x = many_components(torch.float64, spread=3.0, dim=3)
    x = x[:4].requires_grad_()
    level = density.component_log_prob(x).detach()

    def distance(points):
        # Each component's weight in the gradient is 0 at x, but changes with the point.
        return (density.component_log_prob(points) - level).square().sum(1)

    with torch.random.fork_rng():  # which the checks draw directions from
        for function in (density.log_prob, distance):
            assert torch.autograd.gradcheck(function, x)
            assert torch.autograd.gradgradcheck(function, x)


def test_points_that_are_not_finite_stay_so_where_they_are_let_in():
    density, x = many_components(torch.float64)
    density._validate_args = False
    x[0, 0] = math.nan
    found = density.log_prob(x)
    assert found[0].isnan()
    assert found[1:].isfinite().all()
