"""Fitted scikit-learn classifiers as exact modules, or by their labels where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueboundary.classifiers.adapters import as_classifier
from trueboundary.classifiers.base import ClassifierModule
from trueboundary.classifiers.bayes import BayesOptimal
from trueboundary.classifiers.labels_alone import LabelsAlone, labels_of_sklearn
from trueboundary.classifiers.softmax import SoftmaxRegression
from trueboundary.classifiers.svm import (
    RBFSVM,
    LinearSVM,
    OneAgainstRestSVM,
    as_matrix,
    check_agreement,
    decisions_of,
    not_a_module,
    svm_from_sklearn,
)
from trueboundary.densities.low_rank import LowRankGaussian

__all__ = ["from_sklearn"]

Array = np.ndarray[Any, np.dtype[Any]]


def from_sklearn(estimator: Any, x_check: Array | Tensor) -> ClassifierModule:
    """Turn a fitted scikit-learn classifier into an exact module, differentiable but for votes.

    Parameters
    ----------
    estimator : object
        A fitted linear classifier with ``coef_`` and ``intercept_`` (LinearSVC,
        LogisticRegression, LinearDiscriminantAnalysis, ...), an SVC or NuSVC with kernel "rbf" or
        "linear", a OneVsRestClassifier of these, a GaussianNB, a QuadraticDiscriminantAnalysis; or
        a Pipeline of scalers (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler) that ends
        in one of these. Class k is ``classes_[k]``.
    x_check : Tensor or ndarray
        Points ``(n, *event)`` at which the module must agree with ``decision_function``, or where
        there is none with ``predict_log_proba``.

    Returns
    -------
    ClassifierModule
        With float64 parameters that need no gradient, in eval mode. `LinearSVM` or
        `SoftmaxRegression` for linear logits; `RBFSVM` or `OneAgainstRestSVM` for Gaussian
        kernels; `BayesOptimal` for Gaussian classes. An SVC or NuSVC of more than two classes votes
        one against one: it is taken by its labels, as a `LabelsAlone`. What scalers do is part of
        the module; where they stretch the axes of a Gaussian kernel unequally, the machine is
        wrapped in an adapter, which no certificate reads.

    Raises
    ------
    TypeError
        If the estimator is of a kind that has no such module; see `labels_of_sklearn`.
    ValueError
        If it is not fitted, or the module does not agree with it to 1e-6, absolutely or relative to
        its size.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.svm import SVC
    >>> from trueboundary.classifiers import from_sklearn
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> y = np.linalg.norm(x, axis=1) > 1
    >>> svm = from_sklearn(SVC(gamma=0.5).fit(x, y), x)
    >>> type(svm).__name__, svm.gamma
    ('RBFSVM', 0.5)
    >>> type(from_sklearn(GaussianNB().fit(x, y), x)).__name__
    'BayesOptimal'
    """
    estimator = getattr(estimator, "best_estimator_", estimator)  # what a search has chosen
    steps = getattr(estimator, "steps", None)
    if steps is not None and hasattr(estimator, "named_steps"):
        return _of_pipeline(estimator, [step for _, step in steps], as_matrix("x_check", x_check))
    gaussians = _gaussians(estimator)
    if gaussians is None:
        return svm_from_sklearn(estimator, x_check)
    points = as_matrix("x_check", x_check)
    module = BayesOptimal(*gaussians[0], prior=gaussians[1]).eval()
    _check_posteriors(estimator, module, points)
    return module


def _gaussians(estimator: Any) -> tuple[list[LowRankGaussian], Sequence[float]] | None:
    """Return the densities and priors of Gaussian classes, None of another kind of classifier."""
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis  # slow to import
    from sklearn.naive_bayes import GaussianNB

    if not hasattr(estimator, "classes_"):
        return None
    if isinstance(estimator, GaussianNB):
        nothing = torch.zeros(estimator.theta_.shape[1], 0, dtype=torch.float64)
        rows = zip(_tensor(estimator.theta_), _tensor(estimator.var_), strict=True)
        densities = [LowRankGaussian(mean, nothing, variance) for mean, variance in rows]
        return densities, estimator.class_prior_.tolist()
    if isinstance(estimator, QuadraticDiscriminantAnalysis):
        parts = zip(estimator.means_, estimator.rotations_, estimator.scalings_, strict=True)
        return [_of_axes(*map(_tensor, part)) for part in parts], estimator.priors_.tolist()
    return None


def _of_axes(mean: Tensor, axes: Tensor, variances: Tensor) -> LowRankGaussian:
    """Return the Gaussian with these variances along the columns of an orthogonal matrix."""
    # The smallest of all is along every axis; the rest is what the factors add.
    noise = variances.min()
    return LowRankGaussian(mean, axes * (variances - noise).sqrt(), float(noise))


def _check_posteriors(estimator: Any, module: ClassifierModule, points: Array) -> None:
    """Check log posteriors, of which a constant for all classes says nothing."""
    kind = "decision_function" if hasattr(estimator, "decision_function") else "predict_log_proba"
    expected = np.asarray(getattr(estimator, kind)(points), dtype=np.float64)
    if expected.ndim == 2:
        expected = expected - expected.max(axis=1, keepdims=True)
        if module.n_classes == 2:
            expected = expected[:, 1] - expected[:, 0]
    check_agreement(type(estimator).__name__, module.outputs, points, expected)


def _of_pipeline(pipeline: Any, steps: list[Any], points: Array) -> ClassifierModule:
    """Return the last step's module with the scalers before it taken in."""
    *scalers, last = steps
    scale, shift = np.ones(points.shape[1]), np.zeros(points.shape[1])
    for scaler in scalers:
        a, b = _affine(scaler)
        scale, shift = a * scale, a * shift + b
    module = _with_affine(from_sklearn(last, points * scale + shift), scale, shift)
    if isinstance(module, LabelsAlone):
        return labels_of_sklearn(pipeline, module.why)
    if isinstance(module, BayesOptimal):
        _check_posteriors(pipeline, module, points)
    elif isinstance(module, LinearSVM | SoftmaxRegression | RBFSVM | OneAgainstRestSVM):
        expected = pipeline.decision_function(points)
        check_agreement(type(pipeline).__name__, decisions_of(module), points, expected)
    return module  # of an adapter the machine within agreed with the last step


def _affine(scaler: Any) -> tuple[Any, Any]:
    """Return a and b of a scaler ``a x + b``, or say that it is none."""
    from sklearn import preprocessing

    if scaler is None or (isinstance(scaler, str) and scaler == "passthrough"):
        return 1.0, 0.0
    kind = type(scaler)
    if kind is preprocessing.StandardScaler:
        scale, centre = scaler.scale_, scaler.mean_ if scaler.with_mean else None
    elif kind is preprocessing.RobustScaler:
        scale, centre = scaler.scale_, scaler.center_
    elif kind is preprocessing.MaxAbsScaler:
        scale, centre = scaler.scale_, None
    elif kind is preprocessing.MinMaxScaler and not scaler.clip:
        return scaler.scale_, scaler.min_
    else:
        raise not_a_module(scaler)
    a = 1.0 if scale is None else 1.0 / np.asarray(scale)
    return a, 0.0 if centre is None else -a * np.asarray(centre)


def _with_affine(module: ClassifierModule, scale: Array, shift: Array) -> ClassifierModule:
    """Return the classifier of x that gives ``module`` the points ``scale x + shift``."""
    a, b = _tensor(scale), _tensor(shift)
    if isinstance(module, LinearSVM):
        return LinearSVM(module.weight * a, float(module.bias + module.weight @ b)).eval()
    if isinstance(module, SoftmaxRegression):
        linear = SoftmaxRegression(module.dim, module.n_classes, dtype=torch.float64)
        bias = module.bias + module.weight @ b
        linear.load_state_dict({"weight": module.weight * a, "bias": bias})
        return linear.requires_grad_(False).eval()
    if isinstance(module, BayesOptimal):
        densities = [_stretched(density, a, b) for density in module.densities]
        return BayesOptimal(*densities, prior=module.priors).eval()
    if isinstance(module, (RBFSVM, OneAgainstRestSVM)) and bool((a == a[0]).all()):
        support = (module.support_vectors - b) / a
        gamma = float(module.gamma * a[0] ** 2)
        if isinstance(module, RBFSVM):
            return RBFSVM(support, module.dual_coef, float(module.bias), gamma).eval()
        return OneAgainstRestSVM(support, module.dual_coef, module.bias, gamma).eval()
    if isinstance(module, LabelsAlone):
        return module
    return as_classifier(module, preprocess=(-b / a, 1 / a)).eval()


def _stretched(density: Any, a: Tensor, b: Tensor) -> LowRankGaussian:
    """Return the density of x where ``a x + b`` has this one."""
    assert isinstance(density, LowRankGaussian)
    return LowRankGaussian(
        (density.loc - b) / a, density.loadings / a[:, None], density.noise_variance / a**2
    )


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))
