"""Mixtures of factor analyzers."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, generator_of
from trueboundary.densities._parameters import (
    check_alike,
    check_noise,
    check_points,
    check_tensor,
)
from trueboundary.densities._residual import (
    ResidualForm,
    Screen,
    component_distances,
    component_log_prob,
    weighted_score,
)
from trueboundary.densities.low_rank import LowRankGaussian, draw_normals

# How far given weights may be from adding up to one before they are taken for a mistake.
_WEIGHT_TOLERANCE = 1e-4
# From how many components on it pays, on a processor, to look first at which of them matter.
_SCREENED = 4


class MixtureOfFactorAnalyzers(Distribution):
    r"""Mixture of Gaussians with low-rank-plus-diagonal covariances.

    .. math:: p(x) = \sum_k \pi_k N(x; \mu_k, A_k A_k^\top + D_k)

    Components are evaluated one after the other in residual form, as in `LowRankGaussian`; no
    array of points x components x dimensions is ever built, neither for the value nor for the
    gradient. For the log density, on a processor, components that are 60 nats behind are left out;
    products of float64 matrices, with a bound of their rounding, show which.

    Parameters
    ----------
    weights : Tensor or None
        Mixing weights, shape ``(K,)``, not negative, adding up to one; None where `log_weights`
        is given.
    means : Tensor
        Means, shape ``(K, d)``, float32 or float64; their dtype and device are the density's.
    loadings : Tensor
        Factor loadings, shape ``(K, d, l)``. Components of fewer factors are padded by columns
        of zeros, which leave their density unchanged: a spherical component among others has
        all its columns zero. ``l = 0`` is allowed.
    noise_variance : Tensor or float
        Noise variances, positive: shape ``(K, d)`` (one for each coordinate), ``(K,)`` (one for
        each component) or a single number.
    log_weights : Tensor, optional
        Logarithms of the weights, shape ``(K,)``; minus infinity stands for a weight of zero.
    validate_args : bool, optional
        Whether points that are not finite are refused (by default, yes).

    Raises
    ------
    ValueError
        If weights do not add up to one within 1e-4 (they are then normalised exactly).

    References
    ----------
    Ghahramani and Hinton (1996), The EM algorithm for mixtures of factor analyzers;
    Richardson and Weiss (2018), On GANs and GMMs.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import MixtureOfFactorAnalyzers
    >>> density = MixtureOfFactorAnalyzers(
    ...     weights=torch.tensor([0.5, 0.5]),
    ...     means=torch.tensor([[-1.0, 0.0], [1.0, 0.0]]),
    ...     loadings=torch.tensor([[[0.0], [1.0]], [[0.0], [1.0]]]),
    ...     noise_variance=0.25,
    ... )
    >>> x = density.sample((3,), generator=torch.Generator().manual_seed(0))
    >>> x.shape, density.log_prob(x).shape
    (torch.Size([3, 2]), torch.Size([3]))
    >>> density.responsibilities(torch.tensor([0.0, 3.0]))
    tensor([0.5000, 0.5000])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real_vector

    def __init__(
        self,
        weights: Tensor | None,
        means: Tensor,
        loadings: Tensor,
        noise_variance: Tensor | float,
        *,
        log_weights: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.means = check_tensor("means", means, 2, "(K, d)")
        self.loadings = check_tensor("loadings", loadings, 3, "(K, d, l)")
        n_components, dim = means.shape
        if 0 in means.shape or loadings.shape[:2] != means.shape:
            raise ValueError(
                f"loadings must have shape ({n_components}, {dim}, l) to fit the means, with at "
                f"least one component and dimension, got {tuple(loadings.shape)}."
            )
        noise = check_noise(noise_variance, [(n_components, dim), (n_components,), ()], means)
        if noise.ndim == 1:
            noise = noise[:, None]
        self.noise_variance = noise.expand(n_components, dim)
        self.log_weights = _normalised_log_weights(weights, log_weights, means)
        check_alike(means, loadings=loadings, noise_variance=noise, weights=self.log_weights)
        self._forms = tuple(map(ResidualForm.build, self.means, self.loadings, self.noise_variance))
        super().__init__(
            batch_shape=torch.Size(), event_shape=torch.Size((dim,)), validate_args=validate_args
        )

    def __repr__(self) -> str:
        n_components, dim, n_factors = self.loadings.shape
        return (
            f"MixtureOfFactorAnalyzers(n_components={n_components}, dim={dim}, "
            f"n_factors={n_factors}, dtype={self.dtype})"
        )

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters and of all results."""
        return self.means.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters and of all results."""
        return self.means.device

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return self.means.shape[0]

    @property
    def n_factors(self) -> int:
        """Number of factors l, the same for all components."""
        return self.loadings.shape[2]

    @property
    def weights(self) -> Tensor:
        """Mixing weights, shape ``(K,)``."""
        return self.log_weights.exp()

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, shape ``(d,)``."""
        return self.weights @ self.means

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape ``(d,)``."""
        within = self.loadings.square().sum(dim=2) + self.noise_variance
        return self.weights @ (within + (self.means - self.mean).square())

    def component(self, index: int) -> LowRankGaussian:
        """Return component number `index` as a density of its own, without its weight."""
        if check_integer("index", index, minimum=0) >= self.n_components:
            raise ValueError(f"index must be below {self.n_components}, got {index}.")
        return LowRankGaussian(
            self.means[index],
            self.loadings[index],
            self.noise_variance[index],
            validate_args=self._validate_args,
        )

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> MixtureOfFactorAnalyzers:
        """Return the density in another dtype or on another device; see `LowRankGaussian.to`."""
        dtype = self.dtype if dtype is None else check_floating(dtype)
        device = self.device if device is None else torch.device(device)
        if (dtype, device) == (self.dtype, self.device):
            return self  # nothing changes a density, so that it can be shared
        return MixtureOfFactorAnalyzers(
            None,
            self.means.to(device, dtype),
            self.loadings.to(device, dtype),
            self.noise_variance.to(device, dtype),
            log_weights=self.log_weights.to(device, dtype),
            validate_args=self._validate_args,
        )

    def sample(
        self,
        sample_shape: _size = torch.Size(),  # noqa: B008  (the base class's own default)
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Draw points, noise included; each from its own component only.

        As in `LowRankGaussian.sample`, `generator` or `seed` is required, and shapes are
        ``sample_shape + (d,)``.
        """
        return self.sample_labelled(sample_shape, generator=generator, seed=seed)[0]

    def sample_labelled(
        self,
        sample_shape: _size = torch.Size(),  # noqa: B008  (the base class's own default)
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw points as `sample` does, and return them with their components, int64."""
        count = math.prod(sample_shape)
        generator = generator_of(generator, seed, self.device)
        factors, points = draw_normals(self.loadings, count, generator)
        if count == 0:
            labels = torch.zeros(0, dtype=torch.int64, device=self.device)
        else:
            labels = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        for k in sorted(set(labels.tolist())):
            rows = (labels == k).nonzero().squeeze(1)
            drawn = points[rows].mul_(self.noise_variance[k].sqrt()).add_(self.means[k])
            points[rows] = drawn.addmm_(factors[rows], self.loadings[k].T)
        return points.reshape(*sample_shape, *self.event_shape), labels.reshape(sample_shape)

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Log density of each component by itself, without its weight, shape ``(..., K)``."""
        points = check_points(value, self.means, finite=self._validate_args)
        flat = points.reshape(-1, self.means.shape[1])
        return component_log_prob(flat, self._forms).reshape(*points.shape[:-1], self.n_components)

    def component_distances(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Mahalanobis distance to each component's mean, to full relative accuracy.

        Near a mean, a difference of log densities would lose half of its digits.

        Returns
        -------
        tuple of Tensor
            Distances, shape ``(..., K)``, and what they would be (at most) without the factors:
            the larger the second beside the first, the more digits the factors cost.
        """
        points = check_points(value, self.means, finite=self._validate_args)
        flat = points.reshape(-1, self.means.shape[1])
        shape = (*points.shape[:-1], self.n_components)
        distance, unshrunk = component_distances(flat, self._forms)
        return distance.reshape(shape), unshrunk.reshape(shape)

    def log_prob(self, value: Tensor, *, hardest_component: bool = False) -> Tensor:
        r"""Log density, in nats.

        Parameters
        ----------
        value : Tensor
            Points, shape ``(..., d)``. Points in float32 may be given to a density in float64,
            not the reverse.
        hardest_component : bool
            Take :math:`\max_k \log \pi_k p_k(x)`, the term of the most likely component, in
            place of the sum over components. This is the rule that Richardson and Weiss (2021)
            classify by; it is not a normalised density and lies below the true one by at most
            ``log(K)``.

        Returns
        -------
        Tensor
            Log densities, shape ``value.shape[:-1]``, in the density's dtype.
        """
        joint = self._joint_log_prob(value, screened=True)
        return joint.amax(dim=-1) if hardest_component else joint.logsumexp(dim=-1)

    def responsibilities(self, value: Tensor) -> Tensor:
        """Posterior probability of each component at points ``(..., d)``, shape ``(..., K)``."""
        return self._joint_log_prob(value).softmax(dim=-1)

    def map_component(self, value: Tensor) -> Tensor:
        """Return the component of the largest posterior probability, int64, one for each point."""
        return self._joint_log_prob(value).argmax(dim=-1)

    def score(self, value: Tensor) -> Tensor:
        r"""Gradient of the log density at points ``(..., d)``, of their shape.

        It is :math:`-\sum_k r_k(x) (A_k A_k^\top + D_k)^{-1} (x - \mu_k)` with the
        responsibilities :math:`r_k`.
        """
        points = check_points(value, self.means, finite=self._validate_args)
        flat = points.reshape(-1, self.means.shape[1])
        responsibilities = self._joint_log_prob(flat, screened=True).softmax(dim=-1)
        return weighted_score(flat, self._forms, responsibilities).reshape(points.shape)

    def rsample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Raise: the parameters are constants."""
        raise NotImplementedError(
            "MixtureOfFactorAnalyzers has no reparameterised sample; use sample."
        )

    def _joint_log_prob(self, value: Tensor, *, screened: bool = False) -> Tensor:
        """Return joint log densities; screened, -inf where they cannot matter to a sum."""
        if not screened or self.n_components < _SCREENED or self.device.type != "cpu":
            return self.component_log_prob(value) + self.log_weights
        points = check_points(value, self.means, finite=self._validate_args)
        flat = points.reshape(-1, self.means.shape[1])
        chosen = self._screen.matters(flat.detach())
        logs = component_log_prob(flat, self._forms, chosen) + self.log_weights
        return logs.reshape(*points.shape[:-1], self.n_components)

    @functools.cached_property
    def _screen(self) -> Screen:
        return Screen.of(self._forms, self.log_weights)


def _normalised_log_weights(
    weights: Tensor | None, log_weights: Tensor | None, means: Tensor
) -> Tensor:
    """Return log weights that add up to one, from exactly one of the two ways to give them."""
    if weights is not None and log_weights is None:
        # A negative weight becomes NaN here, and is found by the sum below.
        log_weights = check_tensor("weights", weights, 1, "(K,)").log()
    elif log_weights is not None and weights is None:
        # Checked after exp, since minus infinity is a legitimate log weight.
        check_tensor("exp(log_weights)", log_weights.exp(), 1, "(K,)")
    else:
        raise ValueError("give either weights or log_weights, and not both.")
    n_components = means.shape[0]
    if log_weights.shape != (n_components,):
        raise ValueError(
            f"weights must have shape ({n_components},) to fit the means, got "
            f"{tuple(log_weights.shape)}."
        )
    exact = log_weights.double()
    total = exact.logsumexp(dim=0)
    if not float(total.expm1().abs()) <= _WEIGHT_TOLERANCE:
        raise ValueError(
            "weights must not be negative and must add up to one, got a sum of "
            f"{float(total.exp())!r}."
        )
    return (exact - total).to(log_weights.dtype)
