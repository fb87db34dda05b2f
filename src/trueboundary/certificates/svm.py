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
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trueboundary.certificates.base import BoolArray, CertificateResult, FloatArray

__all__ = ["SVMCertificate"]


class SVMCertificate:
    """Certify `LinearSVM` (exactly, in all of space) and `RBFSVM` (a lower bound).

    The distances are proven up to float64 rounding. They hold for errors in all of space, and so in
    every part of it: within another domain than `Space` they are lower bounds.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import SVMCertificate
    >>> from trueboundary.classifiers import LinearSVM
    >>> svm = LinearSVM(torch.tensor([3.0, 4.0]), bias=-5.0)
    >>> x = torch.zeros(2, 2, dtype=torch.float64)
    >>> result = SVMCertificate()(svm, x, torch.tensor([0, 1]))  # the second is an error
    >>> result.distance, result.exact
    (array([1., 0.]), array([ True,  True]))
    """

    def __call__(
        self, classifier: Any, x: Any, y: Any, *, domain: Any | None = None
    ) -> CertificateResult:
        """Return a lower bound of the distance from each point to the nearest error.

        Parameters
        ----------
        classifier : LinearSVM or RBFSVM
            The classifier.
        x : Tensor of shape (n, d) or (n, ...)
            Points.
        y : Tensor or array of shape (n,)
            Labels, 0 or 1.
        domain : Domain, optional
            Where errors count; all of space if None.

        Returns
        -------
        CertificateResult
            Distances; for `LinearSVM`, `nearest` is the point of the hyperplane nearest to each
            point, flattened; for `RBFSVM` it is NaN except for errors.

        Raises
        ------
        TypeError
            If the classifier is another one.
        ValueError
            If shapes or labels do not fit.
        """
        # torch comes in with the classifiers: it is not needed to import this module.
        import torch

        from trueboundary.attacks.domains import Space
        from trueboundary.classifiers.svm import RBFSVM, LinearSVM

        if not isinstance(classifier, (LinearSVM, RBFSVM)):
            raise TypeError(
                f"SVMCertificate needs a LinearSVM or RBFSVM, got {type(classifier).__name__}; "
                "make one of a fitted scikit-learn classifier with from_sklearn."
            )
        points = torch.as_tensor(x).detach().flatten(1).to(classifier.bias)
        with torch.no_grad():
            values = classifier.decision_function(points).double().numpy(force=True)
        labels = _labels(y, len(points))
        flat = points.double().numpy(force=True)
        own = np.where(labels == 1, values, -values)
        error = ~(own > 0)
        if isinstance(classifier, LinearSVM):
            weight = classifier.weight.detach().double().numpy(force=True)
            length = np.linalg.norm(weight)
            with np.errstate(divide="ignore", invalid="ignore"):
                distance = np.abs(values) / length  # infinite for w = 0: one class everywhere
                nearest = flat - (values / length)[:, None] * (weight / length)
            nearest = np.where(np.isinf(distance)[:, None], np.nan, nearest)
            everywhere = domain is None or isinstance(domain, Space)
            exact = error | everywhere | np.isinf(distance)
        else:
            norm = np.sqrt(classifier.squared_norm())
            distance = _rbf_radius(values, float(classifier.bias), float(norm), classifier.gamma)
            nearest = np.full_like(flat, np.nan)
            exact = error | np.isinf(distance)
        return _result(np.where(error, 0.0, distance), exact, nearest, error, flat)


def _rbf_radius(values: FloatArray, bias: float, norm: float, gamma: float) -> FloatArray:
    """Return how far no point can have f = 0, where f has these values."""
    if abs(bias) > norm:
        return np.full_like(values, np.inf)
    angle = np.arccos(np.clip((values - bias) / norm, -1.0, 1.0))
    mean = 0.5 * (angle + np.arccos(-bias / norm))
    # cos A - cos B = f / |w| = 2 sin((A + B) / 2) sin((B - A) / 2); the difference of two arc
    # cosines would lose small values of f.
    with np.errstate(divide="ignore", invalid="ignore"):
        half_sine = np.abs(values) / (2 * norm * np.sin(mean))
    apart = 2 * np.arcsin(np.clip(half_sine, 0.0, 1.0))
    # -log(cos t) = -log1p(-sin(t)^2) / 2 keeps the digits of small angles.
    sine = np.sin(np.minimum(apart, 0.5 * np.pi))
    with np.errstate(divide="ignore"):
        radius = np.sqrt(-0.5 * np.log1p(-(sine**2)) / gamma)
    return np.where(apart >= 0.5 * np.pi, np.inf, radius)


def _result(
    distance: FloatArray,
    exact: BoolArray,
    nearest: FloatArray,
    error: BoolArray,
    points: FloatArray,
) -> CertificateResult:
    """Return the result, errors being their own nearest errors."""
    zeros = np.zeros(len(points))
    nearest = np.where(error[:, None], points, nearest)
    return CertificateResult(distance, exact, nearest, zeros, np.zeros(len(points), dtype=bool))


def _labels(y: Any, n: int) -> npt.NDArray[np.int64]:
    """Return labels 0 and 1 of shape (n,), or say what is wrong with them."""
    import torch

    labels = torch.as_tensor(y).numpy(force=True)
    if labels.shape != (n,) or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"y must hold {n} labels, each 0 or 1, got shape {labels.shape}.")
    return labels.astype(np.int64)
