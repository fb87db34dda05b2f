"""Checks that every continuous density must pass, shared by the tests of each.

A test module subclasses `DensityConformance`, names its densities in `make` and inherits the
checks; names of test classes there start with `Test`.
"""

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution


class DensityConformance:
    """Subclass and override `make`, which returns a density in float64."""

    def make(self) -> Distribution:
        raise NotImplementedError

    @pytest.fixture
    def density(self) -> Distribution:
        return self.make()

    @pytest.fixture
    def points(self, density: Distribution, generator: torch.Generator) -> Tensor:
        """Points of the density and points far from it."""
        x = density.sample((12,), generator=generator)
        x[6:] += torch.randn(6, x.shape[1], generator=generator, dtype=x.dtype)
        return x

    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
    def test_shapes_and_dtype(self, density, generator, shape):
        for dtype in (torch.float64, torch.float32):
            converted = density.to(dtype=dtype)
            x = converted.sample(shape, generator=generator)
            assert x.shape == (*shape, *density.event_shape)
            assert x.dtype == converted.log_prob(x).dtype == converted.score(x).dtype == dtype
            assert converted.log_prob(x).shape == shape
            assert converted.score(x).shape == x.shape
        assert density.dtype == torch.float64, "`to` changed the density that it was called on"

    def test_float32_points_are_scored_in_float64_and_not_the_reverse(self, density, points):
        expected = density.log_prob(points.float().double())
        assert torch.equal(density.log_prob(points.float()), expected)
        with pytest.raises(TypeError, match=r"points are torch\.float64 but the density"):
            density.to(dtype=torch.float32).log_prob(points)

    def test_float32_agrees_with_float64(self, density, points):
        single = density.to(dtype=torch.float32)
        exact = density.log_prob(points.float())
        error = (single.log_prob(points.float()).double() - exact).abs()
        assert (error <= 0.05 + 1e-6 * exact.abs()).all()

    def test_samples_are_reproducible(self, density):
        first, second, other = (
            density.sample((5,), generator=torch.Generator().manual_seed(seed))
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, other)

    def test_sampling_needs_a_generator(self, density):
        with pytest.raises(TypeError, match="generator="):
            density.sample((2,))

    def test_samples_have_the_stated_moments(self, density, generator):
        n = 20_000
        x = density.sample((n,), generator=generator)
        spread = density.variance.sqrt()
        # Six standard errors; the fourth moment of a mixture is bounded through the sample's.
        error = 6 * spread / n**0.5
        assert ((x.mean(dim=0) - density.mean).abs() < error).all()
        deviation = (x - density.mean).square()
        error = 6 * deviation.std(dim=0) / n**0.5
        assert ((deviation.mean(dim=0) - density.variance).abs() < error).all()

    def test_samples_follow_the_score(self, density, generator):
        """Stein's identity: E[score_i(x) (x - mean)_j] is -1 for i = j and 0 for other i, j."""
        n = 20_000
        x = density.sample((n,), generator=generator)
        products = density.score(x)[:, :, None] * (x - density.mean)[:, None, :]
        expected = -torch.eye(x.shape[1], dtype=x.dtype)
        error = 6 * products.std(dim=0) / n**0.5
        assert ((products.mean(dim=0) - expected).abs() < error).all()

    def test_score_is_the_gradient(self, density, points):
        x = points.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
        torch.testing.assert_close(gradient, density.score(points), rtol=1e-9, atol=1e-9)

    def test_score_matches_finite_differences(self, density, points, generator):
        direction = torch.randn(points.shape, generator=generator, dtype=points.dtype)
        direction /= direction.norm(dim=1, keepdim=True)
        step = 1e-5
        # Central differences in float64: error of order step**2 and of rounding / step.
        ahead, behind = (density.log_prob(points + s * direction) for s in (step, -step))
        slope = (density.score(points) * direction).sum(dim=1)
        torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=1e-4, atol=1e-4)

    def test_gradient_of_the_gradient(self, density, points, generator):
        x = points.clone().requires_grad_()
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad((gradient * direction).sum(), x)
        step = 1e-5
        ahead, behind = (density.score(points + s * direction) for s in (step, -step))
        torch.testing.assert_close((ahead - behind) / (2 * step), curvature, rtol=1e-4, atol=1e-4)

    def test_rows_do_not_influence_each_other(self, density, points):
        alone = torch.stack([density.log_prob(x) for x in points])
        torch.testing.assert_close(alone, density.log_prob(points), rtol=1e-12, atol=1e-10)

    def test_bad_points(self, density):
        dim = density.event_shape[0]
        with pytest.raises(ValueError, match="must have shape"):
            density.log_prob(torch.zeros(2, dim + 1, dtype=torch.float64))
        with pytest.raises(ValueError, match="finite"):
            density.log_prob(torch.full((dim,), torch.nan, dtype=torch.float64))
        with pytest.raises(TypeError, match="must be a tensor"):
            density.score([0.0] * dim)
        with pytest.raises(TypeError, match=r"torch\.int64"):
            density.score(torch.zeros(dim, dtype=torch.int64))

    def test_no_reparameterised_sample(self, density):
        with pytest.raises(NotImplementedError, match="use sample"):
            density.rsample((2,))
