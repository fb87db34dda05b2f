"""A density and a problem made of it: a class in the midst of a wider one."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from outsider.octahedron import Octahedron
from trueboundary.domains import Space
from trueboundary.measure import ExactRates, register_exact_rate
from trueboundary.problems import Problem


class Laplace:
    """Independent Laplace coordinates around 0, all of one scale."""

    def __init__(self, dim: int, scale: float, dtype: torch.dtype = torch.float64) -> None:
        self.event_shape, self.scale, self.dtype = torch.Size((dim,)), scale, dtype
        self.mean = torch.zeros(dim, dtype=dtype)
        self.variance = torch.full((dim,), 2 * scale**2, dtype=dtype)

    def to(self, *, dtype: torch.dtype | None = None) -> "Laplace":
        return Laplace(self.event_shape[0], self.scale, dtype or self.dtype)

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator) -> Tensor:
        shape = (2, *sample_shape, *self.event_shape)
        draws = torch.empty(shape, dtype=self.dtype, device=generator.device)
        one, other = draws.exponential_(generator=generator)
        return self.scale * (one - other)

    def log_prob(self, value: Tensor) -> Tensor:
        log_density: Tensor = -self._checked(value).abs() / self.scale - math.log(2 * self.scale)
        return log_density.sum(-1)

    def score(self, value: Tensor) -> Tensor:
        return -self._checked(value).sign() / self.scale

    def _checked(self, value: Tensor) -> Tensor:
        is_floating = isinstance(value, Tensor) and value.is_floating_point()
        if not is_floating or torch.promote_types(value.dtype, self.dtype) != self.dtype:
            raise TypeError(f"points must be floating, with no more digits than {self.dtype}")
        if value.shape[-1:] != self.event_shape or not value.isfinite().all():
            raise ValueError(f"points must be finite, of shape (..., {self.event_shape[0]})")
        return value.to(self.dtype)


@dataclass(frozen=True)
class TwoScales(Problem):
    """Laplace densities of scale 1 (class 0) and 2 (class 1)."""

    dim: int = 3
    prior: float = 0.4

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def density(self, label: int, dtype: torch.dtype = torch.float64) -> Laplace:
        return Laplace(self.dim, (1.0, 2.0)[label], dtype)

    def sample_class(
        self,
        n: int,
        label: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> Tensor:
        return self.density(label, dtype).sample((n,), generator=generator)

    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> Octahedron:
        # log p1 - log p0 = |x|_1 / 2 - dim log 2, and the log odds are added.
        return Octahedron(2 * (self.dim * math.log(2) + math.log(1 / self.prior - 1)), dtype)

    def domain(self, label: int) -> Space:
        return Space()

    def describe(self) -> dict[str, Any]:
        return {"problem": "TwoScales", "dim": self.dim, "prior": self.prior}


@register_exact_rate(Octahedron, TwoScales)
def error_rates(classifier: Octahedron, problem: TwoScales) -> ExactRates:
    """Return the tails of the Gamma law of the sum of absolute values."""
    dim, radius = torch.tensor(float(problem.dim)).double(), classifier.radius.double()
    zero = torch.special.gammaincc(dim, radius).log().item()
    one = torch.special.gammainc(dim, radius / 2).log().item()
    return ExactRates((zero, one), "the sum of absolute values has a Gamma law")
