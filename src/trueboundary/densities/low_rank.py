"""The Gaussian whose covariance is low-rank plus diagonal."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from trueboundary._tensors import check_floating, drawing_device, generator_of
from trueboundary.densities._parameters import (
    check_alike,
    check_noise,
    check_points,
    check_tensor,
)
from trueboundary.densities._residual import ResidualForm, component_log_prob, weighted_score


class LowRankGaussian(Distribution):
    r"""Gaussian with covariance :math:`A A^\top + D`, one factor analyzer.

    A point is :math:`x = \mu + A z + D^{1/2} \varepsilon` with standard normal factors
    :math:`z \in R^l` and noise :math:`\varepsilon \in R^d`. The log density is computed in
    residual form,

    .. math::
       \log p(x) = -\tfrac12 \min_z \left\{\|D^{-1/2}(x - \mu - A z)\|^2 + \|z\|^2\right\}
                   - \tfrac12 \log \det 2 \pi (A A^\top + D),

    which holds its accuracy in float32 where the matrix inversion lemma loses tens of nats.

    Parameters
    ----------
    mean : Tensor
        Mean, shape ``(d,)``, float32 or float64; its dtype and device are the density's.
    loadings : Tensor
        Factor loadings A, shape ``(d, l)``; ``l = 0`` gives a Gaussian of diagonal covariance.
    noise_variance : Tensor or float
        Diagonal of D, shape ``(d,)`` or a single number, positive.
    validate_args : bool, optional
        Whether `log_prob` and `score` refuse points that are not finite (by default, yes).

    Notes
    -----
    Densities are differentiable with respect to points, once and twice; their parameters are
    constants.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import LowRankGaussian
    >>> density = LowRankGaussian(torch.zeros(2), torch.tensor([[1.0], [0.0]]), 0.25)
    >>> density.log_prob(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    tensor([-1.2563, -3.2563])
    >>> density.score(torch.tensor([1.0, 1.0]))
    tensor([-0.8000, -4.0000])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real_vector

    def __init__(
        self,
        mean: Tensor,
        loadings: Tensor,
        noise_variance: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc = check_tensor("mean", mean, 1, "(d,)")
        self.loadings = check_tensor("loadings", loadings, 2, "(d, l)")
        dim = mean.shape[0]
        if dim == 0 or loadings.shape[0] != dim:
            raise ValueError(
                f"loadings must have shape ({dim}, l) to fit the mean, with at least one "
                f"dimension, got {tuple(loadings.shape)}."
            )
        noise = check_noise(noise_variance, [(dim,), ()], mean)
        check_alike(mean, loadings=loadings, noise_variance=noise)
        self.noise_variance = noise.expand(dim)
        self._form = ResidualForm.build(self.loc, self.loadings, self.noise_variance)
        super().__init__(
            batch_shape=torch.Size(), event_shape=torch.Size((dim,)), validate_args=validate_args
        )

    def __repr__(self) -> str:
        dim, n_factors = self.loadings.shape
        return f"LowRankGaussian(dim={dim}, n_factors={n_factors}, dtype={self.dtype})"

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters and of all results."""
        return self.loc.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters and of all results."""
        return self.loc.device

    @property
    def n_factors(self) -> int:
        """Number of factors l."""
        return self.loadings.shape[1]

    @property
    def mean(self) -> Tensor:
        """Mean, shape ``(d,)``."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """Mode, which is the mean, shape ``(d,)``."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape ``(d,)``."""
        return self.loadings.square().sum(dim=1) + self.noise_variance

    @property
    def covariance_matrix(self) -> Tensor:
        """Covariance matrix, shape ``(d, d)``; meant for small dimensions."""
        return self.loadings @ self.loadings.T + torch.diag(self.noise_variance)

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> LowRankGaussian:
        """Return the same density in another dtype or on another device; this one is unchanged.

        Parameters
        ----------
        dtype : torch.dtype, optional
            float32 or float64. A density once rounded to float32 stays so rounded.
        device : torch.device, optional
            Where the new density is to live.

        Returns
        -------
        LowRankGaussian
            A new density, or this one where nothing changes.
        """
        dtype = self.dtype if dtype is None else check_floating(dtype)
        device = self.device if device is None else torch.device(device)
        if (dtype, device) == (self.dtype, self.device):
            return self  # nothing changes a density, so that it can be shared
        return LowRankGaussian(
            self.loc.to(device, dtype),
            self.loadings.to(device, dtype),
            self.noise_variance.to(device, dtype),
            validate_args=self._validate_args,
        )

    def sample(
        self,
        sample_shape: _size = torch.Size(),  # noqa: B008  (the base class's own default)
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Draw points, noise included.

        Parameters
        ----------
        sample_shape : torch.Size
            Shape of the batch of points.
        generator : torch.Generator
            Source of the random numbers, on the density's device; it or a seed is required, since
            nothing here uses torch's global state.
        seed : int, optional
            In place of a generator: the numbers of one on the density's device with this seed.

        Returns
        -------
        Tensor
            Points, shape ``sample_shape + (d,)``, in the density's dtype.
        """
        count = math.prod(sample_shape)
        draws = generator_of(generator, seed, self.loadings.device)
        factors, points = draw_normals(self.loadings, count, draws)
        points.mul_(self.noise_variance.sqrt()).add_(self.loc).addmm_(factors, self.loadings.T)
        return points.reshape(*sample_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, in nats.

        Parameters
        ----------
        value : Tensor
            Points, shape ``(..., d)``. Points in float32 may be given to a density in float64,
            not the reverse.

        Returns
        -------
        Tensor
            Log densities, shape ``value.shape[:-1]``, in the density's dtype.
        """
        points = check_points(value, self.loc, finite=self._validate_args)
        flat = points.reshape(-1, self.loc.shape[0])
        return component_log_prob(flat, (self._form,)).reshape(points.shape[:-1])

    def score(self, value: Tensor) -> Tensor:
        r"""Gradient of the log density, :math:`-(A A^\top + D)^{-1} (x - \mu)`.

        Parameters
        ----------
        value : Tensor
            Points, shape ``(..., d)``.

        Returns
        -------
        Tensor
            Gradients, of the shape of the points, in the density's dtype.
        """
        points = check_points(value, self.loc, finite=self._validate_args)
        flat = points.reshape(-1, self.loc.shape[0])
        return weighted_score(flat, (self._form,), flat.new_ones(len(flat), 1)).reshape(
            points.shape
        )

    def rsample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Raise: the parameters are constants."""
        raise NotImplementedError("LowRankGaussian has no reparameterised sample; use sample.")


def draw_normals(loadings: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw standard normal factors ``(count, l)`` and noise ``(count, d)`` like `loadings`."""
    device = drawing_device(generator, loadings.device)
    dim, n_factors = loadings.shape[-2:]
    factors, noise = (
        torch.randn(count, size, generator=generator, dtype=loadings.dtype, device=device)
        for size in (n_factors, dim)
    )
    return factors, noise
