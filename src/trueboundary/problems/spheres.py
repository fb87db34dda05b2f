"""Two concentric spheres, the problem of Gilmer et al. (2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trueboundary._checks import check_integer, check_real
from trueboundary._tensors import generator_of
from trueboundary.classifiers.sphere_rules import SphereBayes
from trueboundary.densities import UniformSphere
from trueboundary.problems.base import Problem, check_label

if TYPE_CHECKING:
    from trueboundary.domains import Sphere


@dataclass(frozen=True)
class ConcentricSpheres(Problem):
    """Class 0 is uniform on the unit sphere, class 1 on a larger sphere; equal priors.

    The supports are disjoint, so a classifier without any error exists; the one with the largest
    margin separates at norm ``(1 + radius) / 2``.

    Parameters
    ----------
    dim : int
        Dimension of the space, at least 2.
    radius : float
        Radius of the outer sphere, above 1.

    References
    ----------
    Gilmer et al. (2018), *Adversarial Spheres*, Section 2.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.problems import ConcentricSpheres
    >>> problem = ConcentricSpheres(dim=500)
    >>> x, y = problem.sample(8, generator=torch.Generator().manual_seed(0))
    >>> x.shape, problem.radii
    (torch.Size([8, 500]), (1.0, 1.3))
    >>> bool((problem.bayes_classifier().predict(x) == y).all())
    True
    """

    dim: int
    radius: float = 1.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", check_integer("dim", self.dim, minimum=2))
        object.__setattr__(self, "radius", check_real("radius", self.radius, above=1.0))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one point, ``(dim,)``."""
        return (self.dim,)

    @property
    def radii(self) -> tuple[float, float]:
        """Radius of each class's sphere."""
        return (1.0, self.radius)

    @property
    def max_margin_radius(self) -> float:
        """Norm of the points that lie halfway between the spheres."""
        return (1.0 + self.radius) / 2

    def density(self, label: int) -> UniformSphere:
        """Return the density of class `label`."""
        return UniformSphere(self.dim, self.radii[check_label(label)])

    def sample_class(
        self,
        n: int,
        label: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw points ``(n, dim)`` uniformly on the sphere of class `label`, 0 for the inner."""
        n = check_integer("n", n, minimum=1)
        density = self.density(label)
        generator = generator_of(generator, seed, device)
        return density.sample((n,), generator=generator, dtype=dtype, device=device)

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw labelled points; see `Problem.sample`."""
        n = check_integer("n", n, minimum=1)
        generator = generator_of(generator, seed, device)
        y = self._sample_labels(n, generator=generator, device=device)
        # One draw of directions for both classes is faster than gathering each class's rows.
        x = self.sample_class(n, 0, generator=generator, dtype=dtype)
        # The radii come as numbers, not as a tensor: copying one to a card would wait for it.
        radii = x.new_full((n, 1), self.radii[0]).masked_fill_(y.bool().unsqueeze(1), self.radii[1])
        return x.mul_(radii), y

    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> SphereBayes:
        """Return the classifier that separates halfway between the spheres.

        Every threshold strictly between the radii is Bayes-optimal, with no error at all; this
        one also has the largest margin.
        """
        return SphereBayes(self.dim, self.radius, dtype=dtype)

    def domain(self, label: int) -> Sphere:
        """Return the sphere of class `label`, for attacks that must stay on it."""
        # Attacks stand above problems; only this convenience reaches up, and only when asked.
        from trueboundary.domains import Sphere

        return Sphere(self.radii[check_label(label)])

    def describe(self) -> dict[str, Any]:
        """Return the parameters as plain values."""
        return {"problem": "ConcentricSpheres", "dim": self.dim, "radius": self.radius}
