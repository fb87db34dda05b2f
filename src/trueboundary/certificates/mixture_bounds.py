r"""Certified radii of the optimal classifier of mixtures, at the cost of a few evaluations.

For a Gaussian with covariance :math:`\Sigma` the Mahalanobis distance
:math:`M(x) = \|\Sigma^{-1/2} (x - \mu)\|` is Lipschitz with constant
:math:`L = \lambda_{\min}(\Sigma)^{-1/2}`, the inverse of its smallest standard deviation. Within
the radius r no joint log density :math:`c_k - M_k^2 / 2` of the own class can therefore fall below
:math:`c_k - (M_k + L_k r)^2 / 2`, and none of another class can rise above
:math:`c_j - ((M_j - L_j r)_+)^2 / 2`. As long as the own class still wins with these against each
other one, no point of the ball is an error. With
:math:`Q = \min_z \|\mu + A z - x\|^2 + \sigma^2 \|z\|^2`, which is :math:`\sigma^2 M^2`, and one
small :math:`\sigma` for all, the radius tends to :math:`(\sqrt{Q_j} - \sqrt{Q_k}) / 2` for the
nearest component of the own and of another class.

All of this is rounded down: own densities are taken as small and others as large as the rounding
errors of float64 leave possible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special

from trueboundary.certificates.base import Certificate, Certified, FloatArray, Subject
from trueboundary.classifiers.bayes import BayesOptimal, told_by_one
from trueboundary.classifiers.integrity import require_agreement, require_kind
from trueboundary.densities import DiscreteTable, LowRankGaussian, MixtureOfFactorAnalyzers

__all__ = ["LipschitzMixtureCertificate"]

# Up to this dimension smallest eigenvalues are computed where no closed form is at hand.
_DENSE_DIM = 1024
_BISECTIONS = 60
_BLOCK = 4096  # points at once
_EPS = float(np.finfo(np.float64).eps)
_SINGLE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class _Components:
    """One class's components at the points: peaks c, distances M (n, K) and constants L (K,).

    `doubt` is by how much rounding may move the log densities, (n, K), and `unshrunk` what the
    distances would be without factors. All log densities are relative to `level`.
    """

    peak: FloatArray
    distance: FloatArray
    lipschitz: FloatArray
    doubt: FloatArray
    unshrunk: FloatArray
    level: float

    def take(self, rows: Any, components: Any = slice(None)) -> "_Components":
        return _Components(
            self.peak[components],
            self.distance[rows][:, components],
            self.lipschitz[components],
            self.doubt[rows][:, components],
            self.unshrunk[rows][:, components],
            self.level,
        )

    @classmethod
    def joined(cls, parts: Sequence["_Components"]) -> "_Components":
        """Return the components of several classes as one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.peak for part in parts]),
            np.concatenate([part.distance for part in parts], axis=1),
            np.concatenate([part.lipschitz for part in parts]),
            np.concatenate([part.doubt for part in parts], axis=1),
            np.concatenate([part.unshrunk for part in parts], axis=1),
            parts[0].level,
        )

    @property
    def joint(self) -> FloatArray:
        """Joint log densities (n, K)."""
        joint: FloatArray = self.peak - 0.5 * self.distance**2
        return joint

    def least(self, radius: FloatArray) -> FloatArray:
        """Return lower bounds (n, K) of the joint log densities in balls of radii (n, 1)."""
        reach = (self.distance + self.lipschitz * radius) * (1 + 2 * _EPS)
        return np.asarray(self.peak - 0.5 * reach**2 - self.doubt)

    def most(self, radius: FloatArray) -> FloatArray:
        """Return upper bounds (n, K) of the joint log densities in balls of radii (n, 1)."""
        reach = np.maximum(self.distance - self.lipschitz * radius * (1 + 2 * _EPS), 0.0)
        return np.asarray(self.peak - 0.5 * reach**2 * (1 - 4 * _EPS) + self.doubt)


@dataclass(frozen=True)
class LipschitzMixtureCertificate(Certificate):
    """Certify `BayesOptimal` classifiers of Gaussians and mixtures of factor analyzers, cheaply.

    `MixtureCertificate` proves more, never less; this is what to hold it against, or to take where
    its time does not suffice. The distances are lower bounds for the classifier that evaluates its
    (possibly rounded) densities in exact arithmetic. All weights, spectra and diagonal noises are
    allowed, and both rules: the sum over components and the most likely component alone. Nothing
    tells where the nearest error lies.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import LipschitzMixtureCertificate
    >>> from trueboundary.problems import planar_problem
    >>> classifier = planar_problem("a").bayes_classifier(dtype=torch.float64)
    >>> x, y = torch.tensor([[-2.0, 0.3]], dtype=torch.float64), torch.tensor([0])
    >>> round(LipschitzMixtureCertificate()(classifier, x, y).distance.item(), 2)  # the truth is 2
    1.86
    """

    def certify(self, subject: Subject) -> Certified:
        """Let own densities fall and others rise as fast as they can."""
        classifier, points, name = subject.classifier, subject.points, type(self).__name__
        require_mixtures(classifier, name)
        sides = prepare(classifier)
        distance = np.zeros(len(points))
        for start in range(0, len(points), _BLOCK):
            rows = slice(start, start + _BLOCK)
            classes = [side.at(points[rows]) for side in sides]
            require_same_odds(classifier, points[rows], classes, name)
            for label, own in enumerate(classes):
                of_class = np.flatnonzero(subject.labels[rows] == label)
                others = [side.take(of_class) for side in (*classes[:label], *classes[label + 1 :])]
                distance[start + of_class] = smallest_radius(
                    own.take(of_class), others, classifier.hardest_component
                )
        return Certified(distance, np.isinf(distance))


def require_mixtures(classifier: Any, who: str) -> None:
    """Raise unless a classifier is an optimal one of Gaussians or mixtures, and nothing else."""
    advice = f"{who} needs a BayesOptimal classifier of Gaussians or mixtures"
    require_kind(classifier, (BayesOptimal,), who, advice)
    if isinstance(classifier.densities[0], DiscreteTable):
        raise TypeError(f"{advice}, got one of tables.")


def require_same_odds(
    classifier: Any, points: FloatArray, classes: Sequence[_Components], who: str
) -> None:
    """Raise if a classifier's outputs are not those of the components of its classes."""
    combine = _largest if classifier.hardest_component else log_sum_exp
    # In single precision the factors' basis is rounded too, and errors enter squared.
    rounding = [
        (
            special.softmax(side.joint, axis=1) * (side.doubt / _EPS + _SINGLE * side.unshrunk**2)
        ).sum(1)
        + abs(side.level)  # which the classifier's own log densities contain
        for side in classes
    ]
    logs = [combine(side.joint) for side in classes]
    if len(classes) == 2:
        odds = logs[1] - logs[0]
        require_agreement(classifier, points, odds, rounding[0] + rounding[1], who)
        return
    logits, units = np.column_stack(logs), np.column_stack(rounding)
    first = logits.argmax(axis=1)[:, None]
    expected = logits - np.take_along_axis(logits, first, axis=1)
    units = units + np.take_along_axis(units, first, axis=1)
    require_agreement(classifier, points, expected, units, who)


def require_own_odds(classifier: Any, points: FloatArray, who: str) -> None:
    """Raise if an optimal classifier's outputs at points are not those of its densities."""
    require_same_odds(classifier, points, [side.at(points) for side in prepare(classifier)], who)


def prepare(classifier: Any) -> tuple["_Prepared", ...]:
    """Return all classes of an optimal classifier in float64."""
    if told_by_one(classifier.priors):
        log_priors = [np.log1p(-classifier.prior), np.log(classifier.prior)]
    else:
        log_priors = [np.log(prior) for prior in classifier.priors]
    classes = [
        _Prepared.build(_without_empty(density), float(log_prior))
        for density, log_prior in zip(classifier.densities, log_priors, strict=True)
    ]
    level = float(max(side.centre.max() for side in classes))
    return tuple(side.relative_to(level) for side in classes)


def _without_empty(density: Any) -> Any:
    """Return a density without components of weight zero."""
    if not isinstance(density, MixtureOfFactorAnalyzers) or not density.log_weights.isinf().any():
        return density
    full = density.log_weights.isfinite()
    return MixtureOfFactorAnalyzers(
        None,
        density.means[full],
        density.loadings[full],
        density.noise_variance[full],
        log_weights=density.log_weights[full],
    )


@dataclass(frozen=True)
class _Prepared:
    """One class's density in float64, with what does not depend on the points.

    Peaks and log densities at the centres are relative to `level`, since constants that all
    components share would only cost digits.
    """

    density: Any
    centre: FloatArray
    peak: FloatArray
    lipschitz: FloatArray
    level: float = 0.0

    @classmethod
    def build(cls, density: Any, log_prior: float) -> "_Prepared":
        """Prepare a LowRankGaussian or a MixtureOfFactorAnalyzers."""
        if isinstance(density, LowRankGaussian):
            density = MixtureOfFactorAnalyzers(
                None,
                density.mean[None],
                density.loadings[None],
                density.noise_variance[None],
                log_weights=density.mean.new_zeros(1),
            )
        exact = density.to(dtype=torch.float64, device="cpu")
        centre = exact.component_log_prob(exact.means).diagonal().numpy()
        peak = centre + exact.log_weights.numpy() + log_prior
        return cls(exact, centre, peak, (1 + 4 * _EPS) / np.sqrt(_smallest_variances(exact)))

    def relative_to(self, level: float) -> "_Prepared":
        """Return the same with all log densities relative to a level."""
        offset = self.peak - self.centre
        centre = self.centre - level
        return _Prepared(self.density, centre, centre + offset, self.lipschitz, level)

    def at(self, points: FloatArray) -> _Components:
        """Return the components at points (n, d)."""
        x = torch.from_numpy(np.ascontiguousarray(points))
        distance, unshrunk = (part.numpy() for part in self.density.component_distances(x))
        # Components with the same peak have the same rounding error in it, which cancels.
        constant = np.abs(self.peak) + np.where(self.centre == 0, 0.0, np.abs(self.level))
        units = 2 * constant + 2 * distance * (distance + unshrunk)
        return _Components(self.peak, distance, self.lipschitz, _EPS * units, unshrunk, self.level)


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


def smallest_radius(
    own: _Components, others: Sequence[_Components], hardest_component: bool
) -> FloatArray:
    """Return the largest radii at which the own class is proven to win against each other one."""
    if hardest_component:
        return _radius(own, _Components.joined(others), _largest)
    return np.asarray(class_radii(own, others).min(axis=1))


def class_radii(own: _Components, others: Sequence[_Components]) -> FloatArray:
    """Return the largest radii (n, classes) at which the own sum is proven to beat each other."""
    return np.column_stack([_radius(own, other, log_sum_exp) for other in others])


def _radius(
    own: _Components, other: _Components, combine: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Return the largest radii at which one class is proven to win against one, by bisection."""

    def lead(radius: FloatArray) -> FloatArray:
        return combine(own.least(radius[:, None])) - combine(other.most(radius[:, None]))

    # Here every other density has reached its peak, and only the own ones still move.
    return _last_lead(lead, (other.distance / other.lipschitz).max(axis=1, initial=1e-300))


def pairwise_radius(
    own: _Components, other: _Components, first: npt.NDArray[np.intp]
) -> FloatArray:
    """Return radii (n, K) at which own component `first` (n,) is proven to beat each other one."""
    rows = np.arange(len(first))
    mine = _Components(
        own.peak[first][:, None],
        own.distance[rows, first][:, None],
        own.lipschitz[first][:, None],
        own.doubt[rows, first][:, None],
        own.unshrunk[rows, first][:, None],
        own.level,
    )
    start = np.maximum(other.distance / other.lipschitz, 1e-300)
    return _last_lead(lambda radius: mine.least(radius) - other.most(radius), start)


def _last_lead(lead: Callable[[FloatArray], FloatArray], high: FloatArray) -> FloatArray:
    """Return the largest radii at which `lead` is positive, up to rounding; 0 where it never is.

    It decreases in the radius: own densities fall at least so fast, others rise at most so.
    """
    low = np.zeros_like(high)
    certified = lead(low) > 0
    while (still := certified & (lead(high) > 0)).any():
        high = np.where(still, 2 * high, high)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        proven = lead(middle) > 0
        low, high = np.where(proven, middle, low), np.where(proven, high, middle)
    return np.where(certified, low, 0.0)


def log_sum_exp(values: FloatArray) -> FloatArray:
    """Return log sum exp along the last axis, of finite values (SciPy's takes 10 times as long)."""
    largest = values.max(axis=-1, keepdims=True)
    total: FloatArray = np.log(np.exp(values - largest).sum(axis=-1)) + largest[..., 0]
    return total


def _largest(values: FloatArray) -> FloatArray:
    return np.asarray(values.max(axis=1))
