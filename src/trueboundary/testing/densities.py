"""What every continuous density must do, whoever wrote it."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from trueboundary.testing import _expect as expect

__all__ = ["ContinuousDensity", "check_density"]

_N = 20_000  # points of the checks that compare means
_SIX = 6.0  # standard errors: one false alarm in 5e8 numbers compared
_STEP = 1e-5  # of central differences in float64: error of order step**2 and of rounding / step
_VAGUE = 0.1  # standard error of a total probability above which it says nothing


class ContinuousDensity(Protocol):
    """What is asked of a density on ``R^d``; `torch.distributions` names most of it."""

    @property
    def event_shape(self) -> torch.Size:
        """``(d,)``."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64, of the parameters and of all results."""
        ...

    @property
    def mean(self) -> Tensor:
        """Mean, shape ``(d,)``."""
        ...

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape ``(d,)``."""
        ...

    def to(self, *, dtype: torch.dtype | None = None) -> Any:
        """Return the same density in another dtype; this one stays as it is."""
        ...

    def sample(self, sample_shape: Any = ..., *, generator: torch.Generator) -> Tensor:
        """Draw points, shape ``(*sample_shape, d)``."""
        ...

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density at points ``(..., d)``, twice differentiable."""
        ...

    def score(self, value: Tensor) -> Tensor:
        """Return the gradient of the log density at points ``(..., d)``."""
        ...


def check_density(density: ContinuousDensity, *, seed: int = 0) -> None:
    """Check that samples, moments, log density and its gradient belong to one another.

    Parameters
    ----------
    density : ContinuousDensity
        The density, in float64; see `ContinuousDensity`.
    seed : int
        Seed of the samples.

    Notes
    -----
    Samples belong to a log density that fulfils Stein's identity,
    ``E[score(x) (x - mean)^T] = -I``, which only knows it up to a factor. The factor is checked by
    importance sampling from a Gaussian of twice the covariance, where that tells: in up to about
    20 dimensions, for densities that are not made of far narrower parts.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import LowRankGaussian
    >>> from trueboundary.testing import check_density
    >>> check_density(LowRankGaussian(torch.zeros(2).double(), torch.ones(2, 1).double(), 0.1))
    """
    expect.that(
        density.dtype == torch.float64, f"expected a density in float64, got {density.dtype}."
    )
    with expect.untouched_state("the density"):
        generator = torch.Generator().manual_seed(seed)
        x = density.sample((12,), generator=generator)
        expect.that(
            x.shape == (12, *density.event_shape) and x.ndim == 2,
            f"12 samples: expected shape (12, d) with the event shape (d,), got {tuple(x.shape)} "
            f"with {tuple(density.event_shape)}.",
        )
        # Points of the density and points far from it.
        x[6:] += torch.randn(6, x.shape[1], generator=generator, dtype=x.dtype)
        _shapes_and_dtypes(density, generator)
        _precisions(density, x)
        _seeds(density)
        _moments(density, generator)
        _samples_follow_the_score(density, generator)
        _total_probability(density, generator)
        _derivatives(density, x, generator)
        _rows_stay_apart(density, x)
        _bad_points(density)


def _shapes_and_dtypes(density: ContinuousDensity, generator: torch.Generator) -> None:
    for dtype in (torch.float64, torch.float32):
        converted = density.to(dtype=dtype)
        for shape in ((), (0,), (3,), (2, 3)):
            x = converted.sample(shape, generator=generator)
            expect.form(x, (*shape, *density.event_shape), dtype, f"a sample of shape {shape}")
            expect.form(converted.log_prob(x), shape, dtype, f"log_prob of points {shape}")
            expect.form(converted.score(x), tuple(x.shape), dtype, f"score of points {shape}")
    expect.that(density.dtype == torch.float64, "`to` changed the density that it was called on.")


def _precisions(density: ContinuousDensity, x: Tensor) -> None:
    exact = density.log_prob(x.float().double())
    expect.equal(density.log_prob(x.float()), exact, "log_prob of float32 points in float64")
    single = density.to(dtype=torch.float32)
    expect.near(
        single.log_prob(x.float()).double(),
        exact,
        "log_prob in float32 against float64",
        rtol=1e-6,
        atol=0.05,
    )
    expect.raises(
        TypeError, lambda: single.log_prob(x), "float64 points, which float32 would round"
    )


def _seeds(density: ContinuousDensity) -> None:
    first, second, other = (
        density.sample((5,), generator=torch.Generator().manual_seed(number))
        for number in (1, 1, 2)
    )
    expect.equal(second, first, "a second sample with the same seed")
    expect.that(not torch.equal(first, other), "expected another seed to give another sample.")
    unseeded: Any = density.sample
    expect.raises(TypeError, lambda: unseeded((2,)), "sampling without a generator")


def _moments(density: ContinuousDensity, generator: torch.Generator) -> None:
    x = density.sample((_N,), generator=generator)
    _expect_mean(x, density.mean, "the mean of samples")
    _expect_mean((x - density.mean) ** 2, density.variance, "the variance of samples")


def _samples_follow_the_score(density: ContinuousDensity, generator: torch.Generator) -> None:
    """Stein's identity: E[score_i(x) (x - mean)_j] is -1 for i = j and 0 for other i, j."""
    x = density.sample((_N,), generator=generator)
    products = density.score(x)[:, :, None] * (x - density.mean)[:, None, :]  # (n, d, d)
    _expect_mean(products, -torch.eye(x.shape[1]).to(x), "samples against the score (Stein)")


def _expect_mean(values: Tensor, expected: Tensor, what: str) -> None:
    """Expect the mean over the first dimension within six standard errors."""
    error = _SIX * values.std(dim=0) / len(values) ** 0.5
    gap = (values.mean(dim=0) - expected).abs()
    expect.that(
        (gap <= error).all(),
        f"{what}: expected the mean within {_SIX:g} standard errors of what the density says, got "
        f"one that is {float((gap / error).nan_to_num(math.inf).max()) * _SIX:.3g} away.",
    )


def _total_probability(density: ContinuousDensity, generator: torch.Generator) -> None:
    x = density.sample((_N,), generator=generator)
    root = torch.linalg.cholesky(2 * torch.cov(x.T).reshape(x.shape[1], -1))  # (d, d)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    wide = density.mean + noise @ root.T
    log_wide = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(dim=1) - root.diag().log().sum()
    ratio = (density.log_prob(wide) - log_wide).exp()  # (n,), of mean 1
    error = float(ratio.std()) / _N**0.5
    total = float(ratio.mean())
    # A density that is far too large everywhere has a large error, too.
    expect.that(
        error > _VAGUE * max(total, 1.0) or abs(total - 1) <= _SIX * error,
        f"the total probability: expected 1, got {total:.4g} with a standard error of {error:.2g}.",
    )


def _derivatives(density: ContinuousDensity, points: Tensor, generator: torch.Generator) -> None:
    x = points.clone().requires_grad_()
    score = density.score(points)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x, create_graph=True)
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        direction /= direction.norm(dim=1, keepdim=True)
        (curvature,) = torch.autograd.grad((gradient * direction).sum(), x)
    expect.near(gradient.detach(), score, "the gradient of log_prob", rtol=1e-9, atol=1e-9)
    ahead, behind = points + _STEP * direction, points - _STEP * direction
    slope = (density.log_prob(ahead) - density.log_prob(behind)) / (2 * _STEP)
    along = (score * direction).sum(dim=1)
    expect.near(slope, along, "finite differences of log_prob", rtol=1e-4, atol=1e-4)
    change = (density.score(ahead) - density.score(behind)) / (2 * _STEP)
    expect.near(change, curvature, "finite differences of the score", rtol=1e-4, atol=1e-4)


def _rows_stay_apart(density: ContinuousDensity, x: Tensor) -> None:
    alone = torch.stack([density.log_prob(point) for point in x])
    expect.near(alone, density.log_prob(x), "log_prob of single points", rtol=1e-12, atol=1e-10)


def _bad_points(density: ContinuousDensity) -> None:
    dim = density.event_shape[0]
    either = (TypeError, ValueError)
    no_tensor: Any = [0.0] * dim
    for points, words in (
        (torch.zeros(2, dim + 1, dtype=torch.float64), "points of another dimension"),
        (torch.full((dim,), math.nan, dtype=torch.float64), "points that are NaN"),
        (torch.zeros(dim, dtype=torch.int64), "integers for points"),
        (no_tensor, "a list for points"),
    ):
        expect.raises(either, lambda x=points: density.log_prob(x), words)  # type: ignore[misc]
        expect.raises(either, lambda x=points: density.score(x), words)  # type: ignore[misc]
