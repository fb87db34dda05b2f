"""`check_density` fails for every way in which a density of somebody else may go wrong."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trueboundary.densities import LowRankGaussian
from trueboundary.testing import check_density


class Logistic:
    """A sound density that is no Gaussian: independent standard logistic coordinates."""

    def __init__(self, dim: int = 2, dtype: torch.dtype = torch.float64) -> None:
        self.event_shape, self.dtype = torch.Size((dim,)), dtype

    @property
    def mean(self) -> Tensor:
        return torch.zeros(self.event_shape, dtype=self.dtype)

    @property
    def variance(self) -> Tensor:
        return torch.full(self.event_shape, math.pi**2 / 3, dtype=self.dtype)

    def to(self, *, dtype: torch.dtype | None = None) -> "Logistic":
        return type(self)(self.event_shape[0], dtype or self.dtype)

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        uniform = torch.rand((*sample_shape, *self.event_shape), generator=generator).double()
        return torch.logit(uniform.clamp(1e-7, 1 - 1e-7)).to(self.dtype)

    def points(self, value: Tensor) -> Tensor:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError("points must be a floating tensor")
        if torch.promote_types(value.dtype, self.dtype) != self.dtype:
            raise TypeError("points are of a higher precision")
        if value.shape[-1:] != self.event_shape or not value.isfinite().all():
            raise ValueError("points must be finite and have shape (..., d)")
        return value.to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        x = self.points(value)
        return (torch.nn.functional.logsigmoid(x) + torch.nn.functional.logsigmoid(-x)).sum(-1)

    def score(self, value: Tensor) -> Tensor:
        x = self.points(value)
        return torch.sigmoid(-x) - torch.sigmoid(x)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dim", [1, 2, 8])
def test_a_sound_density_passes(dim: int, seed: int) -> None:
    check_density(Logistic(dim), seed=seed)


class SamplesAnotherLaw(Logistic):
    """Of the same mean and variance."""

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        shape = (*sample_shape, *self.event_shape)
        return (math.pi / 3**0.5 * torch.randn(shape, generator=generator).double()).to(self.dtype)


class SamplesTooWide(Logistic):
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        return 1.1 * super().sample(sample_shape, generator=generator)


class SamplesOffCentre(Logistic):
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        return 0.1 + super().sample(sample_shape, generator=generator)


class IsNotNormalised(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.1


class IsFarTooLarge(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 50


class HasAWrongScore(Logistic):
    def score(self, value: Tensor) -> Tensor:
        return 1.01 * super().score(value)


class HasAWrongGradient(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        right = super().log_prob(value)
        return right.detach() + 0.5 * (right - right.detach())


class IsNotTwiceDifferentiable(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        x = self.points(value)
        line = (super().score(x.detach()) * x).sum(-1)
        return super().log_prob(x.detach()) + line - line.detach() + 0 * (x**2).sum(-1)


class LooksAtTheBatch(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 1e-8 * len(value)


class DrawsFromTorch(Logistic):
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        return super().sample(sample_shape, generator=generator) + 0 * torch.rand(1)


class IgnoresTheSeed(Logistic):
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        return super().sample(sample_shape, generator=torch.Generator().manual_seed(0))


class NeedsNoGenerator(Logistic):
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        generator = generator or torch.Generator().manual_seed(0)
        return super().sample(sample_shape, generator=generator)


class SamplesInDoublePrecisionOnly(Logistic):
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        return super().sample(sample_shape, generator=generator).double()


class ChangesItself(Logistic):
    def to(self, *, dtype: torch.dtype | None = None) -> Logistic:
        self.dtype = dtype or self.dtype
        return Logistic(self.event_shape[0], self.dtype)


class RoundsSilently(Logistic):
    def points(self, value: Tensor) -> Tensor:
        return super().points(value.to(self.dtype) if isinstance(value, Tensor) else value)


class TakesNaN(Logistic):
    def points(self, value: Tensor) -> Tensor:
        is_nan = isinstance(value, Tensor) and bool(value.isnan().any())
        return value.to(self.dtype) if is_nan else super().points(value)


class LosesAllInSinglePrecision(Logistic):
    def log_prob(self, value: Tensor) -> Tensor:
        right = super().log_prob(value)
        return right + 1e8 - 1e8 if self.dtype == torch.float32 else right


BROKEN = {
    SamplesAnotherLaw: "Stein",
    SamplesTooWide: "variance of samples",
    SamplesOffCentre: "mean of samples",
    IsNotNormalised: "total probability: expected 1, got 1.098",
    IsFarTooLarge: "total probability",
    HasAWrongScore: "gradient of log_prob|Stein",
    HasAWrongGradient: "gradient of log_prob",
    IsNotTwiceDifferentiable: "finite differences of the score",
    LooksAtTheBatch: "single points",
    DrawsFromTorch: "global random state",
    IgnoresTheSeed: "another seed",
    NeedsNoGenerator: "without a generator",
    SamplesInDoublePrecisionOnly: r"a sample of shape \(\): expected .*float32",
    ChangesItself: "changed the density",
    RoundsSilently: "float64 points",
    TakesNaN: "points that are NaN",
    LosesAllInSinglePrecision: "float32 against float64",
}


@pytest.mark.parametrize(
    ("broken", "message"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", "")
)
def test_a_broken_density_is_told(broken: type[Logistic], message: str) -> None:
    with torch.random.fork_rng(), pytest.raises(AssertionError, match=message):
        check_density(broken())


def test_a_density_in_single_precision_is_told() -> None:
    with pytest.raises(AssertionError, match=r"in float64, got torch\.float32"):
        check_density(LowRankGaussian(torch.zeros(2), torch.zeros(2, 0), 1.0))
