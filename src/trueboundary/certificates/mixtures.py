r"""Certified radii of the optimal classifier of two mixtures, at the cost of a few evaluations.

For a Gaussian with covariance :math:`\Sigma` the Mahalanobis distance
:math:`M(x) = \|\Sigma^{-1/2} (x - \mu)\|` is Lipschitz with constant
:math:`L = \lambda_{\min}(\Sigma)^{-1/2}`, the inverse of its smallest standard deviation. Within
the radius r no joint log density :math:`c_k - M_k^2 / 2` of the own class can therefore fall below
:math:`c_k - (M_k + L_k r)^2 / 2`, and none of the other class can rise above
:math:`c_j - ((M_j - L_j r)_+)^2 / 2`. As long as the own class still wins with these, no point of
the ball is an error. With :math:`Q = \min_z \|\mu + A z - x\|^2 + \sigma^2 \|z\|^2`, which is
:math:`\sigma^2 M^2`, and one small :math:`\sigma` for all, the radius tends to
:math:`(\sqrt{Q_j} - \sqrt{Q_k}) / 2` for the nearest components of both classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from trueboundary.certificates.base import CertificateResult, FloatArray

__all__ = ["LipschitzMixtureCertificate"]

# Up to this dimension smallest eigenvalues are computed where no closed form is at hand.
_DENSE_DIM = 1024
_BISECTIONS = 60
_BLOCK = 4096  # points at once


@dataclass(frozen=True)
class _Components:
    """One class's components at the points: peaks c, distances M (n, K) and constants L (K,)."""

    peak: FloatArray
    distance: FloatArray
    lipschitz: FloatArray

    def take(self, rows: Any) -> "_Components":
        return _Components(self.peak, self.distance[rows], self.lipschitz)


@dataclass(frozen=True)
class LipschitzMixtureCertificate:
    """Certify `BayesOptimal` classifiers of Gaussians and mixtures of factor analyzers.

    The distances are lower bounds for the classifier that evaluates its (possibly rounded)
    densities in exact arithmetic; they are computed in float64. All weights, spectra and diagonal
    noises are allowed. They hold in all of space, and so within every domain.

    Both rules are covered: the sum over components and the most likely component alone.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import LipschitzMixtureCertificate
    >>> from trueboundary.problems import planar_problem
    >>> classifier = planar_problem("a").bayes_classifier(dtype=torch.float64)
    >>> x, y = torch.tensor([[-2.0, 0.3]], dtype=torch.float64), torch.tensor([0])
    >>> LipschitzMixtureCertificate()(classifier, x, y).distance.round(2)  # the truth is 2
    array([1.86])
    """

    def __call__(
        self, classifier: Any, x: Any, y: Any, *, domain: Any | None = None
    ) -> CertificateResult:
        """Return a lower bound of the distance from each point to the nearest error.

        Parameters
        ----------
        classifier : BayesOptimal
            The optimal classifier of two Gaussians or mixtures.
        x : Tensor of shape (n, d)
            Points; images are flattened.
        y : Tensor of shape (n,)
            Labels, 0 or 1.
        domain : Domain, optional
            Where errors count; bounds in all of space hold in every part of it.

        Returns
        -------
        CertificateResult
            Bounds; `nearest` is NaN where the point is no error itself, since nothing tells where
            the nearest error lies.

        Raises
        ------
        TypeError
            If the classifier is another one, or one of tables.
        ValueError
            If shapes or labels do not fit.
        """
        import torch

        from trueboundary.classifiers.bayes import BayesOptimal
        from trueboundary.densities import DiscreteTable

        del domain
        if not isinstance(classifier, BayesOptimal) or isinstance(
            classifier.densities[0], DiscreteTable
        ):
            raise TypeError(
                "LipschitzMixtureCertificate needs a BayesOptimal classifier of Gaussians or "
                f"mixtures, got {type(classifier).__name__}."
            )
        points = torch.as_tensor(x)
        points = points.flatten(1).to(device="cpu", dtype=torch.float64)
        labels = np.asarray(torch.as_tensor(y).cpu())
        if labels.shape != points.shape[:1] or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"y must hold {len(points)} labels, each 0 or 1, got shape {labels.shape}."
            )
        log_priors = (np.log1p(-classifier.prior), np.log(classifier.prior))
        sides = [
            _Prepared.build(density, log_prior)
            for density, log_prior in zip(classifier.densities, log_priors, strict=True)
        ]
        distance = np.zeros(len(points))
        for start in range(0, len(points), _BLOCK):
            rows = slice(start, start + _BLOCK)
            both = [side.at(points[rows]) for side in sides]
            for label in (0, 1):
                own = np.flatnonzero(labels[rows] == label)
                distance[start + own] = _radius(
                    both[label].take(own), both[1 - label].take(own), classifier.hardest_component
                )
        error = distance == 0
        nearest = np.where(error[:, None], points.numpy(), np.nan)
        zeros = np.zeros(len(points))
        return CertificateResult(distance, error, nearest, zeros, np.zeros(len(points), dtype=bool))


@dataclass(frozen=True)
class _Prepared:
    """One class's density in float64, with what does not depend on the points."""

    density: Any
    centre: FloatArray
    peak: FloatArray
    lipschitz: FloatArray

    @classmethod
    def build(cls, density: Any, log_prior: float) -> "_Prepared":
        """Prepare a LowRankGaussian or a MixtureOfFactorAnalyzers."""
        import torch

        from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers

        if isinstance(density, LowRankGaussian):
            density = MixtureOfFactorAnalyzers(
                None,
                density.mean[None],
                density.loadings[None],
                density.noise_variance[None],
                log_weights=density.mean.new_zeros(1),
            )
        exact = density.to(dtype=torch.float64, device="cpu")
        centres = [exact.component(k).log_prob(mean) for k, mean in enumerate(exact.means)]
        centre = torch.stack(centres).numpy()
        peak = centre + exact.log_weights.numpy() + log_prior
        return cls(exact, centre, peak, 1 / np.sqrt(_smallest_variances(exact)))

    def at(self, points: Any) -> _Components:
        """Return the components at points (n, d)."""
        squares = 2 * (self.centre - self.density.component_log_prob(points).numpy())
        return _Components(self.peak, np.sqrt(np.maximum(squares, 0.0)), self.lipschitz)


def _smallest_variances(density: Any) -> FloatArray:
    """Return a lower bound, mostly exact, of each component's smallest variance, shape (K,)."""
    noise, loadings = density.noise_variance.numpy(), density.loadings.numpy()
    dim, n_factors = loadings.shape[1:]
    floor: FloatArray = noise.min(axis=1)
    isotropic = (noise == noise[:, :1]).all(axis=1)
    for k in range(len(floor)):
        if dim > _DENSE_DIM or (isotropic[k] and n_factors < dim):
            continue  # the noise alone: exact where it is isotropic, a lower bound elsewhere
        covariance = loadings[k] @ loadings[k].T + np.diag(noise[k])
        spectrum = np.linalg.eigvalsh(covariance)
        floor[k] = max(floor[k], spectrum[0] - 1e-12 * spectrum[-1])
    return floor


def _radius(own: _Components, other: _Components, hardest_component: bool) -> FloatArray:
    """Return the largest radii at which the own class is proven to win, by bisection."""
    combine = _largest if hardest_component else _log_sum_exp

    def lead(radius: FloatArray) -> FloatArray:
        # Decreasing in the radius: own densities fall at least so fast, others rise at most so.
        own_reach = own.distance + own.lipschitz * radius[:, None]
        other_reach = np.maximum(other.distance - other.lipschitz * radius[:, None], 0.0)
        return combine(own.peak - 0.5 * own_reach**2) - combine(other.peak - 0.5 * other_reach**2)

    low = np.zeros(len(own.distance))
    certified = lead(low) > 0
    # Here every other density has reached its peak, and only the own ones still move.
    high = (other.distance / other.lipschitz).max(axis=1, initial=1e-300)
    while (still := certified & (lead(high) > 0)).any():
        high = np.where(still, 2 * high, high)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        proven = lead(middle) > 0
        low, high = np.where(proven, middle, low), np.where(proven, high, middle)
    return np.where(certified, low, 0.0)


def _log_sum_exp(values: FloatArray) -> FloatArray:
    return np.asarray(special.logsumexp(values, axis=1))


def _largest(values: FloatArray) -> FloatArray:
    return np.asarray(values.max(axis=1))
