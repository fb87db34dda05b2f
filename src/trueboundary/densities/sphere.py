"""The uniform density on a sphere."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from trueboundary._checks import check_integer, check_real
from trueboundary._tensors import check_floating, drawing_device, generator_of


class SphereConstraint(constraints.Constraint):
    """Vectors whose norm is `radius`, up to the rounding of their dtype.

    Parameters
    ----------
    radius : float
        Norm of the allowed vectors.
    """

    event_dim = 1
    is_discrete = False

    def __init__(self, radius: float) -> None:
        self.radius = radius
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Say which of the vectors lie on the sphere, shape ``value.shape[:-1]``."""
        norm: Tensor = torch.linalg.vector_norm(value, dim=-1)
        # Normalising and taking the norm again each cost a few units of rounding.
        tolerance = 100 * torch.finfo(value.dtype).eps * self.radius
        return (norm - self.radius).abs() <= tolerance


class UniformSphere(Distribution):
    """Uniform density on the sphere of a given radius in ``dim`` dimensions.

    Shaped like a `torch.distributions.Distribution`; in addition `sample` takes an explicit
    generator, a dtype and a device.

    Parameters
    ----------
    dim : int
        Dimension of the space that the sphere lies in, at least 2.
    radius : float
        Radius of the sphere, positive.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import UniformSphere
    >>> density = UniformSphere(3, radius=2.0)
    >>> x = density.sample((4,), generator=torch.Generator().manual_seed(0))
    >>> x.shape
    torch.Size([4, 3])
    >>> torch.allclose(x.norm(dim=1), torch.tensor(2.0))
    True
    >>> round(density.log_prob(x)[0].exp().item() * 16 * torch.pi, 5)  # 1 / area
    1.0
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, dim: int, radius: float = 1.0, *, validate_args: bool | None = None) -> None:
        self.dim = check_integer("dim", dim, minimum=2)
        self.radius = check_real("radius", radius, above=0.0)
        super().__init__(
            batch_shape=torch.Size(),
            event_shape=torch.Size((self.dim,)),
            validate_args=validate_args,
        )

    def __repr__(self) -> str:
        return f"UniformSphere(dim={self.dim}, radius={self.radius})"

    @property
    def support(self) -> constraints.Constraint:
        """The sphere itself."""
        return SphereConstraint(self.radius)

    @property
    def mean(self) -> Tensor:
        """Mean of the density, the origin, shape ``(dim,)``."""
        return torch.zeros(self.dim)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, ``radius**2 / dim``, shape ``(dim,)``."""
        return torch.full((self.dim,), self.radius**2 / self.dim)

    def sample(
        self,
        sample_shape: _size = torch.Size(),  # noqa: B008  (the base class's own default)
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw points uniformly on the sphere: Gaussian vectors, normalised.

        Parameters
        ----------
        sample_shape : torch.Size
            Shape of the batch of points.
        generator : torch.Generator
            Source of the random numbers; it or a seed is required, since nothing here uses torch's
            global state.
        seed : int, optional
            In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.
        dtype : torch.dtype
            float32 or float64.
        device : torch.device, optional
            Where to draw; the generator's device, and nothing else, is possible.

        Returns
        -------
        Tensor
            Points, shape ``sample_shape + (dim,)``.
        """
        generator = generator_of(generator, seed, device)
        z = torch.randn(
            (*sample_shape, self.dim),
            generator=generator,
            dtype=check_floating(dtype),
            device=drawing_device(generator, device),
        )
        norm = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
        # A draw of exactly zero has no direction. Its probability is below 1e-12 even for
        # dim = 2, so any fixed direction will do, and no loop of redrawing is needed.
        is_zero = norm == 0
        z[..., :1].masked_fill_(is_zero, 1.0)
        norm.masked_fill_(is_zero, 1.0)
        return z.mul_(self.radius / norm)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log density with respect to the surface measure of the sphere.

        It is the constant :math:`-\log\{2 \pi^{d/2} r^{d-1} / \Gamma(d/2)\}`.

        Parameters
        ----------
        value : Tensor
            Points on the sphere, shape ``(..., dim)``.

        Returns
        -------
        Tensor
            Log densities in nats, shape ``value.shape[:-1]``.

        Raises
        ------
        ValueError
            If a point is not on the sphere (unless validation is switched off).
        """
        if self._validate_args:
            self._validate_sample(value)
        half = self.dim / 2
        log_area = (
            math.log(2)
            + half * math.log(math.pi)
            - math.lgamma(half)
            + (self.dim - 1) * math.log(self.radius)
        )
        return value.new_full(value.shape[:-1], -log_area)

    def rsample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Raise: the density has no parameters to differentiate with respect to."""
        raise NotImplementedError("UniformSphere has no reparameterised sample; use sample.")
