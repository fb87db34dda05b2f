r"""Certified radii of support vector machines.

The linear one is exact: the boundary is a hyperplane at the distance |f| / |w|.

For a Gaussian kernel k(x, z) = exp(-gamma |x - z|^2), f(x) = b + <w, phi(x)> with unit vectors
phi(x) whose inner products are the kernel's values. Let A be the angle between w and phi(x) and B
the angle at which f would be 0, cos A = (f(x) - b) / |w| and cos B = -b / |w|. On the unit sphere
of feature space, phi has to move by at least |A - B| before f can be 0, and a step of length r in
input space moves it by exactly arccos(exp(-gamma r^2)). So no error is nearer than

    r = sqrt(-log(cos |A - B|) / gamma),

and none exists at all if |A - B| >= pi/2 or |b| > |w|. Measuring chords instead of angles gives the
simpler bound r = sqrt(-log(1 - f^2 / (2 |w|^2)) / gamma), which is never larger.

Of K classes told one against rest the difference of any two decision functions is again such an f,
with the coefficients subtracted. An error of class y has some f_y - f_j at most 0, so that none is
nearer than the smallest r over the other classes j.

|A - B| grows with |f| and falls with |w|, so that r is rounded down by taking the smallest |f| and
the largest |w| that rounding errors leave possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.spatial.distance import cdist

from trueboundary.certificates.base import Certificate, Certified, FloatArray, Subject
from trueboundary.certificates.linear_exact import signed_distances
from trueboundary.classifiers.integrity import require_agreement, require_kind
from trueboundary.classifiers.svm import RBFSVM, LinearSVM, OneAgainstRestSVM

__all__ = ["SVMCertificate"]

_EPS = float(np.finfo(np.float64).eps)
_BLOCK = 1 << 22  # kernel values at once
_WIDE = 100.0  # exponents up to which squared distances may be expanded into inner products


@dataclass(frozen=True)
class SVMCertificate(Certificate):
    """Certify `LinearSVM` (exactly, in space), `RBFSVM` and `OneAgainstRestSVM` (lower bounds).

    The distances are proven up to float64 rounding. `nearest` is the nearest point of a linear
    machine's hyperplane; nothing tells where machines with a Gaussian kernel err.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import SVMCertificate
    >>> from trueboundary.classifiers import LinearSVM
    >>> svm = LinearSVM(torch.tensor([3.0, 4.0]), bias=-5.0)
    >>> x = torch.zeros(2, 2, dtype=torch.float64)
    >>> result = SVMCertificate()(svm, x, torch.tensor([0, 1]))  # the second is an error
    >>> result.distance.tolist(), result.exact.tolist()
    ([1.0, 0.0], [True, True])
    """

    def certify(self, subject: Subject) -> Certified:
        """Bound distances in input space by angles in feature space."""
        classifier, x = subject.classifier, subject.points
        require_kind(
            classifier,
            (LinearSVM, RBFSVM, OneAgainstRestSVM),
            "SVMCertificate",
            "make one of a fitted scikit-learn classifier with from_sklearn",
        )
        if isinstance(classifier, OneAgainstRestSVM):
            distance = _OneAgainstRest.of(classifier).distances(classifier, x, subject.labels)
            return Certified(distance, np.isinf(distance))
        kind = _Linear if type(classifier) is LinearSVM else _Gaussian
        machine = kind.of(classifier)
        values, off, margins, rounding = machine.values(x)
        require_agreement(classifier, x, margins, rounding, "SVMCertificate")
        right = np.where(subject.labels == 1, values, -values) > 0
        if isinstance(machine, _Linear):
            distance, nearest = machine.project(x, values)
            return Certified(np.where(right, distance, 0.0), np.ones_like(right), nearest)
        least = np.sign(values) * np.maximum(np.abs(values) - off, 0.0)
        distance = np.where(right, machine.radius(least), 0.0)
        return Certified(distance, np.isinf(distance))


@dataclass(frozen=True, eq=False)
class _Linear:
    """A linear machine in float64."""

    weight: FloatArray
    bias: float

    @classmethod
    def of(cls, svm: Any) -> _Linear:
        return cls(_float64(svm.weight), svm.bias.item())

    def values(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return f, by how much it may be off, the margin, and the units of its rounding."""
        f = x @ self.weight + self.bias
        size = np.sqrt(len(self.weight)) * (np.abs(x) @ np.abs(self.weight) + abs(self.bias))
        return f, _EPS * size, f, size

    def project(self, x: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return distances to the hyperplane, and its points nearest to x."""
        away, unit = signed_distances(values[:, None], self.weight[None])
        with np.errstate(invalid="ignore"):  # one class everywhere
            return np.abs(away[:, 0]), x - away * unit


@dataclass(frozen=True, eq=False)
class _Kernel:
    """A Gaussian kernel at support vectors, which are relative to their mean, in float64."""

    centre: FloatArray
    support: FloatArray
    gamma: float

    @classmethod
    def of(cls, svm: Any) -> _Kernel:
        support = _float64(svm.support_vectors)
        centre = support.mean(axis=0)
        return cls(centre, support - centre, float(svm.gamma))

    def spread(self, x: FloatArray) -> FloatArray:
        """Return units of rounding (n,) of the exponents that a module computes at points."""
        reach = np.linalg.norm(x - self.centre, axis=1) + np.sqrt(
            (self.support**2).sum(axis=1).max()
        )
        far = np.linalg.norm(x, axis=1) + np.linalg.norm(self.centre)
        units: FloatArray = 4 * self.gamma * reach * (reach + far)
        return units

    def blocks(self, y: FloatArray) -> Iterator[tuple[slice, FloatArray, FloatArray, FloatArray]]:
        """Yield kernel values, their logarithms, and the units of rounding in sums of them."""
        squares = (self.support**2).sum(axis=1)
        at_once = max(1, _BLOCK // len(squares))
        of_sums = 2 + 0.5 * np.sqrt(len(squares))
        for start in range(0, len(y), at_once):
            rows = slice(start, start + at_once)
            own = (y[rows] ** 2).sum(axis=1)
            width = self.gamma * (own[:, None] + squares)
            if width.max() <= _WIDE:
                apart = own[:, None] + squares - 2 * (y[rows] @ self.support.T)
            else:  # slower, and without the rounding errors of large squares
                apart = cdist(y[rows], self.support, "sqeuclidean")
                width = np.sqrt(y.shape[1]) * self.gamma * apart
            exponent = -self.gamma * np.maximum(apart, 0.0)
            kernel = np.exp(exponent)
            yield rows, kernel, exponent, (of_sums + width) * kernel


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """A machine of two classes with a Gaussian kernel, in float64."""

    kernel: _Kernel
    coef: FloatArray
    bias: float

    @classmethod
    def of(cls, svm: Any) -> _Gaussian:
        return cls(_Kernel.of(svm), _float64(svm.dual_coef), svm.bias.item())

    def values(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return f, by how much it may be off, the margin, and the units of its rounding."""
        positive = self.coef > 0
        f, off, margins, units = (np.empty(len(x)) for _ in range(4))
        log_size = np.log(np.abs(self.coef))
        with np.errstate(divide="ignore"):
            log_bias = np.log(np.maximum([self.bias, -self.bias], 0.0))
        for rows, kernel, exponent, shaky in self.kernel.blocks(x - self.kernel.centre):
            f[rows] = kernel @ self.coef + self.bias
            off[rows] = _EPS * (shaky @ np.abs(self.coef) + 2 * abs(self.bias))
            logs = exponent + log_size
            log_sums = [
                np.logaddexp(special.logsumexp(logs[:, side], axis=1), log)
                for side, log in zip((positive, ~positive), log_bias, strict=True)
            ]
            margins[rows] = log_sums[0] - log_sums[1]
            units[rows] = 10 + np.abs(log_sums).sum(axis=0)
        return f, off, margins, units + self.kernel.spread(x)

    def radius(self, values: FloatArray) -> FloatArray:
        """Return how far no point can have f = 0, where f has these values."""
        squared = allowance = 0.0
        for rows, kernel, _, shaky in self.kernel.blocks(self.kernel.support):
            squared += float(self.coef[rows] @ (kernel @ self.coef))
            allowance += float(np.abs(self.coef[rows]) @ (shaky @ np.abs(self.coef)))
        norm = np.sqrt(max(squared, 0.0) + _EPS * allowance) * (1 + 4 * _EPS)
        return _rbf_radius(values, self.bias, float(norm), self.kernel.gamma)


@dataclass(frozen=True, eq=False)
class _OneAgainstRest:
    """Machines of K classes with the same kernel and support vectors, in float64."""

    kernel: _Kernel
    coef: FloatArray
    bias: FloatArray

    @classmethod
    def of(cls, svm: Any) -> _OneAgainstRest:
        return cls(_Kernel.of(svm), _float64(svm.dual_coef), _float64(svm.bias))

    def distances(
        self, classifier: Any, x: FloatArray, labels: npt.NDArray[np.int64]
    ) -> FloatArray:
        """Return how far no point can be an error, 0 for errors."""
        size = np.abs(self.coef)
        n_classes = len(self.bias)
        f, off, logits, units = (np.empty((len(x), n_classes)) for _ in range(4))
        for rows, kernel, exponent, shaky in self.kernel.blocks(x - self.kernel.centre):
            f[rows] = kernel @ self.coef.T + self.bias
            off[rows] = _EPS * (shaky @ size.T + 2 * np.abs(self.bias))
            logits[rows], units[rows] = self._logits(exponent, f[rows].argmax(axis=1))
        units += self.kernel.spread(x)[:, None]
        # Where rounding decides which class wins, it decides what the logits are relative to.
        first, second = np.sort(np.argsort(f, axis=1)[:, -2:], axis=1).T
        each = np.arange(len(x))
        apart = np.abs(f[each, first] - f[each, second])
        clear = apart > 4 * (off[each, first] + off[each, second])
        require_agreement(classifier, x[clear], logits[clear], units[clear], "SVMCertificate")
        image, allowance = (np.empty((self.coef.shape[1], n_classes)) for _ in range(2))
        for rows, kernel, _, shaky in self.kernel.blocks(self.kernel.support):
            image[rows], allowance[rows] = kernel @ self.coef.T, shaky @ size.T
        distance = np.full(len(x), np.inf)
        for own in np.unique(labels).tolist():
            at = np.flatnonzero(labels == own)
            for other in set(range(n_classes)) - {own}:
                lead = f[at, own] - f[at, other]
                least = np.maximum(lead - off[at, own] - off[at, other], 0.0)
                coef = self.coef[own] - self.coef[other]
                squared = coef @ (image[:, own] - image[:, other])
                slack = _EPS * np.abs(coef) @ (allowance[:, own] + allowance[:, other])
                norm = np.sqrt(max(squared, 0.0) + slack) * (1 + 4 * _EPS)
                bias = self.bias[own] - self.bias[other]
                radius = _rbf_radius(least, float(bias), float(norm), self.kernel.gamma)
                distance[at] = np.minimum(distance[at], np.where(least > 0, radius, 0.0))
        return distance

    def _logits(
        self, exponent: FloatArray, winner: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the logits of the module, given which class wins, and units of their rounding."""
        logits, units = (np.empty((len(winner), len(self.bias))) for _ in range(2))
        nothing = exponent.max(axis=1) + np.log(np.finfo(np.float64).tiny)  # stands for log 0
        for label in np.unique(winner).tolist():
            at = np.flatnonzero(winner == label)
            for other in range(len(self.bias)):
                coef = self.coef[other] - self.coef[label]
                bias = self.bias[other] - self.bias[label]
                log_sums = []
                for sign in (1, -1):
                    side = sign * coef > 0
                    terms = exponent[at][:, side] + np.log(sign * coef[side])
                    found = special.logsumexp(terms, axis=1) if side.any() else -np.inf
                    with np.errstate(divide="ignore"):
                        log_bias = np.log(max(sign * bias, 0.0))
                    log_sums.append(np.logaddexp(np.maximum(found, nothing[at]), log_bias))
                logits[at, other] = log_sums[0] - log_sums[1]
                units[at, other] = 10 + np.abs(log_sums).sum(axis=0)
        return logits, units


def _rbf_radius(values: FloatArray, bias: float, norm: float, gamma: float) -> FloatArray:
    """Return how far no point can have f = 0, where f has these values."""
    if abs(bias) > norm or norm == 0:
        return np.full_like(values, np.inf)
    lowest, highest = (
        0.5 * (_angle((values - bias) / norm, up) + _angle(np.asarray(-bias / norm), up))
        for up in (False, True)
    )
    # cos A - cos B = f / |w| = 2 sin((A + B) / 2) sin((B - A) / 2); the difference of two arc
    # cosines would lose small values of f.
    beside = (lowest < 0.5 * np.pi) & (highest > 0.5 * np.pi)
    mean_sine = np.where(beside, 1.0, np.maximum(np.sin(lowest), np.sin(highest)))
    half_sine = np.abs(values) / (2 * norm * np.where(values == 0, 1.0, mean_sine))
    apart = 2 * np.arcsin(np.minimum(half_sine, 1.0)) * (1 - 16 * _EPS)
    step = np.minimum(apart, 0.5 * np.pi)
    # -log(cos t) = -log1p(-sin(t)^2) / 2 keeps the digits of small angles, and loses those of
    # angles near pi/2, where the cosine has them.
    with np.errstate(divide="ignore"):
        small, large = -0.5 * np.log1p(-(np.sin(step) ** 2)), -np.log(np.cos(step))
    radius = np.sqrt(np.where(step < 0.25 * np.pi, small, large) / gamma) * (1 - 8 * _EPS)
    return np.where(apart >= 0.5 * np.pi, np.inf, radius)


def _angle(cosine: FloatArray, up: bool) -> FloatArray:
    """Return the largest or smallest angle whose cosine rounding cannot tell from this one."""
    shift = -4 * _EPS if up else 4 * _EPS
    return np.arccos(np.clip(cosine + shift, -1.0, 1.0))


def _float64(parameter: Any) -> FloatArray:
    array: FloatArray = parameter.detach().double().numpy(force=True)
    return array
