"""The uniform density on a sphere."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.densities import UniformSphere


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 3, 500])
def test_samples_lie_on_the_sphere(dim, dtype, generator):
    density = UniformSphere(dim, radius=1.3)
    x = density.sample((7, 11), generator=generator, dtype=dtype)
    assert x.shape == (7, 11, dim)
    assert x.dtype == dtype
    assert density.support.check(x).all()


@pytest.mark.parametrize(("dim", "area"), [(2, 2 * math.pi), (3, 4 * math.pi)])
def test_log_prob_is_one_over_the_area(dim, area, generator):
    density = UniformSphere(dim, radius=2.0)
    x = density.sample((5,), generator=generator, dtype=torch.float64)
    expected = torch.full((5,), -math.log(area * 2.0 ** (dim - 1)), dtype=torch.float64)
    torch.testing.assert_close(density.log_prob(x), expected)


def test_log_prob_in_high_dimension():
    # Area of the unit sphere in 500 dimensions by the recurrence A_{d+2} = 2 pi A_d / d.
    log_area = math.log(2 * math.pi)
    for d in range(2, 500, 2):
        log_area += math.log(2 * math.pi / d)
    pole = torch.zeros(500, dtype=torch.float64)
    pole[0] = 1.0
    assert UniformSphere(500).log_prob(pole).item() == pytest.approx(-log_area, rel=1e-13)


def test_log_prob_rejects_points_off_the_sphere():
    off = torch.tensor([[1.0, 0.1]])
    with pytest.raises(ValueError, match="within the support"):
        UniformSphere(2).log_prob(off)
    assert UniformSphere(2, validate_args=False).log_prob(off).shape == (1,)


def test_moments_match_within_four_standard_errors(generator):
    n, dim, radius = 20_000, 5, 1.3
    density = UniformSphere(dim, radius)
    x = density.sample((n,), generator=generator, dtype=torch.float64)
    # x_i / radius squared is Beta(1/2, (dim-1)/2): mean 1/dim, variance 2(dim-1)/(dim^2 (dim+2)).
    standard_error = radius**2 * math.sqrt(2 * (dim - 1) / (dim**2 * (dim + 2)) / n)
    assert (x.square().mean(0) - density.variance).abs().max() < 4 * standard_error
    assert (x.mean(0) - density.mean).abs().max() < 4 * radius / math.sqrt(dim * n)


def test_coordinates_in_three_dimensions_are_uniform(generator):
    # Archimedes: each coordinate of a uniform point on the 2-sphere is uniform on [-1, 1].
    n = 20_000
    x = UniformSphere(3).sample((n,), generator=generator, dtype=torch.float64)
    grid = torch.arange(1, n + 1) / n
    for i in range(3):
        empirical = (x[:, i].sort().values + 1) / 2
        assert (empirical - grid).abs().max() < 2.0 / math.sqrt(n)  # Kolmogorov: p = 7e-4


def test_a_zero_draw_still_gives_a_point_on_the_sphere(generator, monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda shape, **kwargs: torch.zeros(shape))
    density = UniformSphere(3, radius=1.3)
    assert density.support.check(density.sample((4,), generator=generator)).all()


@settings(deadline=None, max_examples=20, derandomize=True)
@given(dim=st.integers(2, 30), radius=st.floats(0.01, 100.0), seed=st.integers(0, 2**31))
def test_any_dimension_radius_and_seed(dim, radius, seed):
    density = UniformSphere(dim, radius)
    first, again = (
        density.sample((3,), generator=torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert density.support.check(first).all()


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((1,), ValueError, "dim must be at least 2, got 1"),
        ((2.5,), TypeError, "dim must be an integer, got 2.5"),
        ((True,), TypeError, "dim must be an integer"),
        ((3, 0.0), ValueError, "radius must be a finite number above 0"),
        ((3, math.nan), ValueError, "radius must be a finite number"),
        ((3, "1"), TypeError, "radius must be a real number"),
    ],
)
def test_bad_parameters(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        UniformSphere(*arguments)


def test_bad_draws(generator):
    density = UniformSphere(3)
    with pytest.raises(TypeError, match="needs generator="):
        density.sample((2,))
    with pytest.raises(TypeError, match=r"torch\.float32 or torch\.float64"):
        density.sample((2,), generator=generator, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"cannot draw on cuda|not there"):
        density.sample((2,), generator=generator, device="cuda")
    with pytest.raises(TypeError, match=r"must be a torch\.Generator, got int"):
        density.sample((2,), generator=0)
    with pytest.raises(NotImplementedError, match="use sample"):
        density.rsample((2,))
