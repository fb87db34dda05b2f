"""Support vector machines as exact, differentiable modules.

scikit-learn fits them; what it fitted is carried over without approximation, and every module
made here was compared with the ``decision_function`` that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer, check_real
from trueboundary.classifiers.base import BinaryClassifier, ClassifierModule, predicted
from trueboundary.classifiers.labels_alone import LabelsAlone, labels_of_sklearn
from trueboundary.classifiers.softmax import SoftmaxRegression
from trueboundary.classifiers.stored_classifiers import register
from trueboundary.plurals import plural
from trueboundary.presentable import PresentableFields

Array = np.ndarray[Any, np.dtype[Any]]

_CHUNK = 2048  # support vectors (or points) whose kernel values are held at a time
_MOST_KERNEL_VALUES = 1 << 22  # of several machines that are held at a time, for 32 MB
_TOLERANCE = 1e-6  # of the agreement with scikit-learn
_N_CHECKED = 100  # training points at which a newly fitted machine is compared
_CACHE_MIB = 500  # kernel values kept while fitting; scikit-learn's 200 slow down large sets
# Points, at most, whose squared distances are one matrix product, of 1.1 GB in float64, before the
# fit. scikit-learn takes an inner product at a time.
_MOST_IN_PRODUCT = 12_000
# A gamma is sought in steps of a factor of 4, then in fourth roots of that, and at most 4 of the
# former away from where the search begins.
_COARSE, _N_FINE, _FARTHEST = 4.0, 4, 4


class _OfAnyShape(ClassifierModule):
    """What all kinds share; points may have any event shape of `dim` numbers in all."""

    dim: int

    def _flat(self, x: Tensor) -> Tensor:
        flat = x.flatten(1) if x.ndim > 2 else x
        self._check_points(flat, self.dim)
        return flat


@register
class LinearSVM(_OfAnyShape, BinaryClassifier):
    """A linear classifier, ``f(x) = w @ x + b``.

    Parameters
    ----------
    weight : Tensor
        The normal w, shape ``(dim,)``.
    bias : float
        The intercept b.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import LinearSVM
    >>> svm = LinearSVM(torch.tensor([3.0, 4.0]), bias=-5.0)
    >>> svm.margin(torch.zeros(1, 2, dtype=torch.float64)), svm.squared_norm()
    (tensor([-5.], dtype=torch.float64), 25.0)
    """

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        if weight.ndim != 1 or len(weight) == 0:
            raise ValueError(f"weight must have shape (dim,), got {tuple(weight.shape)}.")
        self.dim = len(weight)
        self.weight = _frozen(weight)
        self.bias = _frozen(torch.tensor(bias, dtype=torch.float64))

    def margin(self, x: Tensor) -> Tensor:
        """Return ``w . x + b``, shape ``(n,)``."""
        return self._flat(x) @ self.weight + self.bias

    def decision_function(self, x: Tensor) -> Tensor:
        """Return the same as `margin`, under the name that scikit-learn gives it."""
        return self.margin(x)

    def squared_norm(self) -> float:
        """Return ``||w||**2``; the distance to the boundary is ``|f(x)|`` over its root."""
        return float(self.weight @ self.weight)

    def arguments(self) -> dict[str, Any]:
        """Return the dimension of the points."""
        return {"dim": self.dim}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a classifier of the given dimension, with w = 0."""
        return cls(torch.zeros(arguments["dim"]), 0.0)


@register
class RBFSVM(_OfAnyShape, BinaryClassifier):
    """A support vector machine with a Gaussian kernel, and a margin that attacks can climb.

    Its decision function is

        ``f(x) = b + sum_i a_i exp(-gamma ||x - s_i||**2) = b + S+(x) - S-(x)``,

    with S+ and -S- the sums of the terms with positive and with negative coefficients. Far from
    all support vectors both vanish to below what floating point can hold, and f becomes the
    constant b without a gradient. `margin` is therefore

        ``g(x) = log(S+(x) + max(b, 0)) - log(S-(x) + max(-b, 0))``,

    computed from logarithms throughout: it has the sign and the zeros of f, and a gradient
    at any distance. `decision_function` is f itself.

    Squared distances are expanded into inner products of what is left after the mean support
    vector is subtracted: where the data lie does not matter, only how wide they are spread. That
    loses digits in float32 when gamma is large; the parameters are float64 unless converted. The
    memory needed for n points is that
    of n times 2,048 numbers, or of n times the number of support vectors under autograd; nothing
    of size n times support vectors times dimensions is made.

    Parameters
    ----------
    support_vectors : Tensor
        The s_i, shape ``(n_support, dim)``.
    dual_coef : Tensor
        The a_i, shape ``(n_support,)``, at least one positive and one negative, none of them 0.
    bias : float
        The intercept b.
    gamma : float
        Inverse squared width of the kernel, positive; ``1 / (2 sigma**2)``.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import RBFSVM
    >>> support = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> svm = RBFSVM(support, torch.tensor([-1.0, 1.0]), bias=0.0, gamma=100.0)
    >>> x = torch.tensor([[20.0, 0.0]], dtype=torch.float64)
    >>> svm.decision_function(x), svm.margin(x)
    (tensor([0.], dtype=torch.float64), tensor([3900.], dtype=torch.float64))
    """

    def __init__(
        self, support_vectors: Tensor, dual_coef: Tensor, bias: float, gamma: float
    ) -> None:
        super().__init__()
        if support_vectors.ndim != 2 or dual_coef.shape != support_vectors.shape[:1]:
            raise ValueError(
                "support_vectors must have shape (n_support, dim) and dual_coef (n_support,), got "
                f"{tuple(support_vectors.shape)} and {tuple(dual_coef.shape)}."
            )
        positive, negative = dual_coef > 0, dual_coef < 0
        n_positive, n_negative = int(positive.sum()), int(negative.sum())
        if not (n_positive and n_negative and n_positive + n_negative == len(dual_coef)):
            raise ValueError(
                "dual_coef must hold positive and negative numbers and nothing else, got "
                f"{n_positive} positive and {n_negative} negative of {len(dual_coef)}."
            )
        self.gamma = check_real("gamma", gamma, above=0.0)
        self.dim = support_vectors.shape[1]
        self.n_positive, self.n_negative = n_positive, n_negative
        # Positive coefficients come first, so that the two sums are over two slices.
        order = torch.cat([positive.nonzero(), negative.nonzero()]).squeeze(1)
        self.support_vectors = _frozen(support_vectors[order])
        self.dual_coef = _frozen(dual_coef[order])
        self.bias = _frozen(torch.tensor(bias, dtype=torch.float64))

    def margin(self, x: Tensor) -> Tensor:
        """Return the scale-free surrogate g, shape ``(n,)``, with the sign and zeros of f."""
        log_positive, log_negative = self._log_sums(x)
        log_positive = torch.logaddexp(log_positive, self.bias.clamp(min=0).log())
        log_negative = torch.logaddexp(log_negative, (-self.bias).clamp(min=0).log())
        return log_positive - log_negative

    def decision_function(self, x: Tensor) -> Tensor:
        """Return f itself, shape ``(n,)``, as scikit-learn's function of that name does."""
        log_positive, log_negative = self._log_sums(x)
        return log_positive.exp() - log_negative.exp() + self.bias

    @torch.no_grad()
    def squared_norm(self) -> float:
        """Return ``||w||**2`` in the kernel's feature space, ``a.T @ K @ a``.

        With it f changes by at most ``||w|| sqrt(2 - 2 exp(-gamma distance**2))`` between two
        points at a distance.
        """
        kernel_sums = [
            self.decision_function(chunk) - self.bias
            for chunk in torch.split(self.support_vectors, _CHUNK)
        ]
        return float(self.dual_coef @ torch.cat(kernel_sums))

    def arguments(self) -> dict[str, Any]:
        """Return the numbers that fix the shape, and gamma."""
        return {
            "dim": self.dim,
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
            "gamma": self.gamma,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a machine of the given shape, with arbitrary support vectors."""
        positive, negative = arguments["n_positive"], arguments["n_negative"]
        coefficients = torch.cat([torch.ones(positive), -torch.ones(negative)])
        support = torch.zeros(positive + negative, arguments["dim"])
        return cls(support, coefficients, 0.0, arguments["gamma"])

    def _log_sums(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``log S+`` and ``log S-``, each of shape ``(n,)``."""
        # Only differences of points matter. Far from the origin, where their squares are large,
        # the next line's expansion would lose the digits of them.
        centre = self.support_vectors.mean(dim=0)
        x = self._flat(x) - centre
        # ||x - s||^2 = ||x||^2 - 2 x.s + ||s||^2, whose first term all summands share.
        shared = self.gamma * x.square().sum(1)
        sizes = [self.n_positive, self.n_negative]
        log_positive, log_negative = (
            self._log_sum(x, support, coef, centre)
            for support, coef in zip(
                torch.split(self.support_vectors, sizes),
                torch.split(self.dual_coef, sizes),
                strict=True,
            )
        )
        return log_positive - shared, log_negative - shared

    def _log_sum(self, x: Tensor, support: Tensor, coef: Tensor, centre: Tensor) -> Tensor:
        """Return ``log sum_i |a_i| exp(gamma (2 x . s_i - ||s_i||**2))``, shape ``(n,)``.

        The x are relative to the centre already, the s_i are not.
        """
        parts = []
        for rows, a in zip(torch.split(support, _CHUNK), torch.split(coef, _CHUNK), strict=True):
            rows = rows - centre
            squares = torch.linalg.vector_norm(rows, dim=1).square()
            constant = a.abs().log() - self.gamma * squares
            terms = torch.addmm(constant, x, rows.T, alpha=2 * self.gamma)
            parts.append(terms.logsumexp(1))
        return torch.stack(parts).logsumexp(0)


@register
class OneAgainstRestSVM(_OfAnyShape):
    """Gaussian-kernel machines of K >= 3 classes, each trained to tell one class from the rest.

    The class whose machine has the largest decision function,

        ``f_k(x) = b_k + sum_i a_ki exp(-gamma ||x - s_i||**2)``,

    wins, as with scikit-learn's OneVsRestClassifier. All machines have one gamma, and one list of
    support vectors with a coefficient for each machine, 0 where it is none of its own: every
    kernel value is computed once. Between two classes the sign of an `RBFSVM` decides; see `pair`.

    As those of an `RBFSVM`, the logits are not the f_k themselves, which attacks climb badly and
    which have no gradient far from all support vectors. That of the class w which wins is 0, and
    that of any other class k is the margin of ``pair(w, k)``,

        ``log(S+(x) + max(b, 0)) - log(S-(x) + max(-b, 0))``

    with the coefficients ``a_k - a_w`` and the bias ``b = b_k - b_w``. So logits can be compared at
    one point alone; `decision_function` gives the f_k.

    Parameters
    ----------
    support_vectors : Tensor
        The s_i, shape ``(n_support, dim)``.
    dual_coef : Tensor
        The a_ki, shape ``(n_classes, n_support)``.
    bias : Tensor
        The b_k, shape ``(n_classes,)``.
    gamma : float
        Inverse squared width of the kernel, positive.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import OneAgainstRestSVM
    >>> svm = OneAgainstRestSVM(torch.eye(3), 2 * torch.eye(3) - 1, torch.zeros(3), gamma=1.0)
    >>> svm.predict(torch.eye(3, dtype=torch.float64))
    tensor([0, 1, 2])
    >>> svm.pair(0, 2).predict(torch.eye(3, dtype=torch.float64)[[0, 2]])
    tensor([0, 1])
    """

    def __init__(
        self, support_vectors: Tensor, dual_coef: Tensor, bias: Tensor, gamma: float
    ) -> None:
        super().__init__()
        shape = (len(bias), len(support_vectors))
        if support_vectors.ndim != 2 or bias.ndim != 1 or dual_coef.shape != shape:
            raise ValueError(
                "expected support_vectors (n_support, dim), dual_coef (n_classes, n_support) and "
                f"bias (n_classes,), got {tuple(support_vectors.shape)}, {tuple(dual_coef.shape)} "
                f"and {tuple(bias.shape)}."
            )
        if len(bias) < 3:
            raise ValueError(f"expected 3 classes or more, got {len(bias)}; two are an RBFSVM.")
        self.gamma = check_real("gamma", gamma, above=0.0)
        self.dim = support_vectors.shape[1]
        self.support_vectors = _frozen(support_vectors)
        self.dual_coef = _frozen(dual_coef)
        self.bias = _frozen(bias)
        self._kept: tuple[Any, ...] | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.bias)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the logits, shape ``(n, K)``: 0 for the class that wins, at most 0 for others."""
        return torch.cat([self._logits(exponents) for exponents in self._exponents(x)])

    def decision_function(self, x: Tensor) -> Tensor:
        """Return the f_k, shape ``(n, K)``, as scikit-learn's function of that name does."""
        return torch.cat(
            [exponents.exp() @ self.dual_coef.T + self.bias for exponents in self._exponents(x)]
        )

    def pair(self, own: int, other: int) -> RBFSVM:
        """Return what decides between two classes, 0 for `own` and 1 for `other`.

        Its decision function is ``f_other - f_own``.

        Raises
        ------
        ValueError
            If the two differ by coefficients of one sign alone, or by none, so that they are no
            machine of two classes.
        """
        coef = (self.dual_coef[other] - self.dual_coef[own]).detach()
        bias = float(self.bias[other] - self.bias[own])
        kept = coef != 0
        return RBFSVM(self.support_vectors[kept], coef[kept], bias, self.gamma).eval()

    def arguments(self) -> dict[str, Any]:
        """Return the numbers that fix the shape, and gamma."""
        n_classes, n_support = self.dual_coef.shape
        return {
            "dim": self.dim,
            "n_support": n_support,
            "n_classes": n_classes,
            "gamma": self.gamma,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build machines of the given shape, with coefficients 0."""
        n_classes, n_support = arguments["n_classes"], arguments["n_support"]
        support = torch.zeros(n_support, arguments["dim"])
        coef = torch.zeros(n_classes, n_support)
        return cls(support, coef, torch.zeros(n_classes), arguments["gamma"])

    def _exponents(self, x: Tensor) -> Iterator[Tensor]:
        """Yield ``-gamma ||x - s_i||**2``, shape ``(n, n_support)``, some points at a time."""
        centre, support, constant = self._centred()
        for rows in torch.split(self._flat(x), max(1, _MOST_KERNEL_VALUES // len(support))):
            points = rows - centre
            shared = self.gamma * points.square().sum(1, keepdim=True)
            yield torch.addmm(constant, points, support.T, alpha=2 * self.gamma) - shared

    def _centred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean support vector, all relative to it, and what of exponents is theirs.

        As in `RBFSVM`, but kept: an attack asks about few points at a time, for which all this
        would take longer than the rest.
        """
        own = self.support_vectors
        state = (own._version, own.dtype, own.device)
        if self._kept is None or self._kept[0] is not own or self._kept[1] != state:
            with torch.inference_mode(False), torch.no_grad():
                centre = own.mean(dim=0)
                support = own - centre
                constant = -self.gamma * support.square().sum(1)
            self._kept = own, state, (centre, support, constant)
        parts: tuple[Tensor, Tensor, Tensor] = self._kept[2]
        return parts

    def _logits(self, exponents: Tensor) -> Tensor:
        """Return the logits of points, given the exponents of their kernel values."""
        top = exponents.detach().amax(dim=1, keepdim=True)
        kernel = (exponents - top).exp()  # the nearest support vector has 1, however far it is
        tiny = torch.finfo(kernel.dtype).tiny
        with torch.no_grad():
            # All f_k times one factor, which is as large as their biases allow.
            factor = (-top).clamp(max=-0.9 * math.log(tiny))
            decision = (kernel * (top + factor).exp()) @ self.dual_coef.T + self.bias * factor.exp()
            winner = decision.argmax(dim=1)
        logits = kernel.new_zeros(len(kernel), self.n_classes)
        for label in sorted(set(winner.tolist())):
            at = (winner == label).nonzero().squeeze(1)
            coef, bias = self.dual_coef - self.dual_coef[label], self.bias - self.bias[label]
            log_sums = [
                torch.logaddexp(
                    (kernel[at] @ (sign * coef).clamp(min=0).T).clamp(min=tiny).log() + top[at],
                    (sign * bias).clamp(min=0).log(),
                )
                for sign in (1, -1)
            ]
            logits[at] = log_sums[0] - log_sums[1]
        return logits


FromSklearn = LinearSVM | RBFSVM | SoftmaxRegression | OneAgainstRestSVM | LabelsAlone


def svm_from_sklearn(estimator: Any, x_check: Array | Tensor) -> FromSklearn:
    """Turn a linear classifier or a machine with a Gaussian kernel into a module.

    See `trueboundary.classifiers.from_sklearn`, which has the other kinds, too.
    """
    name = type(estimator).__name__
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise ValueError(
            f"expected a fitted classifier, got a {name} without classes_; fit it, or fit a "
            "classifier instead if it is none."
        )
    points = as_matrix("x_check", x_check)
    machines = _one_against_rest(estimator)
    if machines is not None and len(machines) == 1:
        return svm_from_sklearn(machines[0], points)
    if len(classes) > 2:
        return _of_many_from_sklearn(estimator, machines, points)
    kernel = getattr(estimator, "kernel", "linear")
    if kernel == "rbf" and hasattr(estimator, "dual_coef_"):
        return _rbf_from_sklearn(estimator, points)
    if kernel == "linear" and hasattr(estimator, "coef_"):
        return _linear_from_sklearn(estimator, points)
    raise not_a_module(estimator)


def fit_linear_svm(
    x: Array | Tensor,
    y: Array | Tensor,
    *,
    C: float = 1.0,
    max_iter: int = 10_000,
    random_state: int,
) -> LinearSVM | SoftmaxRegression:
    """Fit scikit-learn's LinearSVC and return it as a module.

    Of more than two classes each is told from the rest.

    Parameters
    ----------
    x : Tensor or ndarray
        Points, shape ``(n, *event)``.
    y : Tensor or ndarray
        Labels 0 to K - 1, shape ``(n,)``, all present.
    C : float
        Weight of the training errors, positive.
    max_iter : int
        Largest number of iterations; scikit-learn's 1,000 are often too few for images.
    random_state : int
        Seed of the order in which the dual solver visits the points.

    Returns
    -------
    LinearSVM or SoftmaxRegression
        The fitted classifier, of two classes or of more: then one linear logit per class.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If `max_iter` is too small.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import fit_linear_svm
    >>> x, y = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> fit_linear_svm(x, y, random_state=0).predict(torch.tensor([[3.0]]).double())
    tensor([1])
    """
    from sklearn.svm import LinearSVC  # slow to import, and only fitting needs it

    points, labels = _training_set(x, y)
    estimator = LinearSVC(
        C=check_real("C", C, above=0.0),
        max_iter=check_integer("max_iter", max_iter, minimum=1),
        random_state=check_integer("random_state", random_state, minimum=0),
    )
    estimator.fit(points, labels)
    if labels.max() > 1:
        return _logits_from_sklearn(estimator, [estimator], points[:_N_CHECKED])
    return _linear_from_sklearn(estimator, points[:_N_CHECKED])


def fit_rbf_svm(
    x: Array | Tensor, y: Array | Tensor, *, gamma: float, C: float = 1.0
) -> RBFSVM | OneAgainstRestSVM:
    """Fit scikit-learn's SVC with a Gaussian kernel and return it as a module.

    Of more than two classes each is told from the rest. Nothing about it is random.

    Parameters
    ----------
    x : Tensor or ndarray
        Points, shape ``(n, *event)``.
    y : Tensor or ndarray
        Labels 0 to K - 1, shape ``(n,)``, all present.
    gamma : float
        Inverse squared width of the kernel, positive; see `choose_gamma`.
    C : float
        Weight of the training errors, positive.

    Returns
    -------
    RBFSVM or OneAgainstRestSVM
        The fitted classifier, of two classes or of more.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import fit_rbf_svm
    >>> x, y = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([1, 0, 1])
    >>> fit_rbf_svm(x, y, gamma=1.0, C=10.0).predict(x.double())
    tensor([1, 0, 1])
    """
    return next(fit_rbf_path(x, y, gammas=[gamma], C=C))


def fit_rbf_path(
    x: Array | Tensor, y: Array | Tensor, *, gammas: Iterable[float], C: float = 1.0
) -> Iterator[RBFSVM | OneAgainstRestSVM]:
    """Fit one machine after the other as `fit_rbf_svm` does, in less time than one by one.

    Parameters
    ----------
    x, y, C
        As for `fit_rbf_svm`.
    gammas : iterable of float
        Inverse squared widths of the kernels, positive.

    Returns
    -------
    iterator of RBFSVM or OneAgainstRestSVM
        The machines in the order of `gammas`, each fitted when it is asked for.

    Notes
    -----
    The fits share the squared distances of the points, a matrix of n times n numbers beside the
    kernel's. More than 12,000 points have neither, which bounds the two at 2.3 GB.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import fit_rbf_path
    >>> x, y = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([1, 0, 1])
    >>> [svm.gamma for svm in fit_rbf_path(x, y, gammas=[0.5, 2.0])]
    [0.5, 2.0]
    """
    points, labels = _training_set(x, y)
    grid = [check_real("gamma", gamma, above=0.0) for gamma in gammas]
    fits = _Fits(points, labels, check_real("C", C, above=0.0), is_one=len(grid) == 1)
    return (fits.fit(gamma).machine(points) for gamma in grid)


@dataclass(frozen=True, eq=False, repr=False)
class GammaPath(PresentableFields):
    """The accuracy of RBF SVMs from wide to narrow kernels, and the gamma chosen.

    Attributes
    ----------
    gammas : ndarray
        Values tried, in increasing order, shape ``(k,)``.
    train_accuracy, validation_accuracy : ndarray
        Fractions of points classified correctly, shape ``(k,)``.
    n_support : ndarray
        Numbers of support vectors, int64, shape ``(k,)``.
    threshold : float
        Validation accuracy that the chosen gamma had to reach.
    chosen : int
        Its index.
    svm : RBFSVM or OneAgainstRestSVM
        Its machine, the one that `fit_rbf_svm` gives.
    """

    gammas: Array
    train_accuracy: Array
    validation_accuracy: Array
    n_support: Array
    threshold: float
    chosen: int
    svm: RBFSVM | OneAgainstRestSVM

    def __str__(self) -> str:
        """Say which gamma was chosen in one line, among which in another."""
        accuracy = self.validation_accuracy[self.chosen]
        return (
            f"gamma {self.gamma:.4g}: accuracy {accuracy:.2%}, {self.threshold:.2%} needed\n"
            f"  the narrowest of {plural(len(self.gammas), 'kernel')} from {self.gammas[0]:.4g} to "
            f"{self.gammas[-1]:.4g} that reaches it"
        )

    def _fields(self) -> dict[str, Any]:
        return {name: value for name, value in super()._fields().items() if name != "svm"}

    @property
    def gamma(self) -> float:
        """The chosen gamma."""
        return float(self.gammas[self.chosen])

    @property
    def is_accurate(self) -> bool:
        """Whether the chosen gamma reaches the required accuracy."""
        return bool(self.validation_accuracy[self.chosen] >= self.threshold)


def choose_gamma(
    x: Array | Tensor,
    y: Array | Tensor,
    x_validation: Array | Tensor,
    y_validation: Array | Tensor,
    *,
    gammas: Sequence[float] | Array | None = None,
    min_accuracy: float = 0.95,
    max_loss: float = 0.02,
    C: float = 1.0,
) -> GammaPath:
    """Find the narrowest kernel that is still accurate, and keep the whole path.

    The largest gamma is chosen whose validation accuracy is at least `min_accuracy` and within
    `max_loss` of the best. Where none reaches `min_accuracy`, it is the largest within `max_loss`
    of the best, and ``is_accurate`` is False.

    Unless `gammas` are given, the search begins at ``1 / (dim * variance of x)``, scikit-learn's
    ``gamma="scale"``, and goes in steps of a factor of 4, at most four to either side: to narrower
    kernels until more than `max_loss` is lost, and to wider ones as long as the best accuracy may
    lie there. What lies between the last accurate gamma and the next is then halved until they are
    a factor of the root of 2 apart. Accuracy is taken to rise once along the path and to fall once.

    More points stand closer together and allow narrower kernels: a gamma is chosen for the number
    of points that it is chosen with, and the machine fitted to these comes with the path.

    Parameters
    ----------
    x, y : Tensor or ndarray
        Training points ``(n, *event)`` and labels 0 to K - 1.
    x_validation, y_validation : Tensor or ndarray
        Points and labels to choose by.
    gammas : sequence of float, optional
        Values to try, all of them.
    min_accuracy, max_loss : float
        Fractions, see above.
    C : float
        Weight of the training errors, positive.

    Returns
    -------
    GammaPath
        Accuracies by gamma, the choice and its machine.

    Notes
    -----
    As in `fit_rbf_path`, with a row of the matrices for each point to choose by as well.

    References
    ----------
    Richardson & Weiss (2021), who choose "the highest gamma value that still provides a high
    classification accuracy"; the two thresholds are choices made here.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import choose_gamma
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 2, generator=generator)
    >>> y = (x[:, 0] > 0).long()
    >>> path = choose_gamma(x[:100], y[:100], x[100:], y[100:], gammas=[0.1, 1000.0])
    >>> path.gamma, path.is_accurate
    (0.1, True)
    """
    points, labels = _training_set(x, y)
    points_validation, labels_validation = _training_set(x_validation, y_validation)
    if labels.max() != labels_validation.max():
        raise ValueError(
            f"expected the same classes in y and y_validation, got {labels.max() + 1} and "
            f"{labels_validation.max() + 1}."
        )
    C = check_real("C", C, above=0.0)
    if gammas is None:
        variance = float(points.var())
        if variance == 0:
            raise ValueError("all coordinates of x are equal, so there is no scale; give gammas.")
        places = np.arange(-_FARTHEST * _N_FINE, _FARTHEST * _N_FINE + 1)
        grid = _COARSE ** (places / _N_FINE) / (points.shape[1] * variance)
    else:
        grid = np.unique([check_real("gamma", gamma, above=0.0) for gamma in gammas])
        if len(grid) == 0:
            raise ValueError("gammas is empty; give at least one value.")
    fits = _Fits(points, labels, C, others=points_validation)
    tried: dict[int, tuple[_Fit, float, float]] = {}

    def accuracy(index: int) -> float:
        """Return the validation accuracy at one of the grid, which is fitted once."""
        if index not in tried:
            fit = fits.fit(float(grid[index]))
            right = fits.decided(fit) == np.concatenate([labels, labels_validation])
            train, validation = right[: len(labels)].mean(), right[len(labels) :].mean()
            tried[index] = fit, float(train), float(validation)
        return tried[index][2]

    def needed(accuracies: Iterable[float]) -> float:
        """Return the least accuracy that is within the loss of the best, and enough if that is."""
        best = max(accuracies)
        # Accuracies are multiples of 1/n, and a difference of two may miss max_loss by rounding.
        near_best = best - max_loss - 1e-12
        return max(min_accuracy, near_best) if best >= min_accuracy else near_best

    if gammas is None:
        _search(accuracy, len(grid), needed)
    else:
        for index in range(len(grid)):
            accuracy(index)
    indices = sorted(tried)
    path, train, validation = zip(*(tried[index] for index in indices), strict=True)
    chosen = max(place for place, found in enumerate(validation) if found >= needed(validation))
    return GammaPath(
        gammas=grid[indices],
        train_accuracy=np.array(train),
        validation_accuracy=np.array(validation),
        n_support=np.array([np.count_nonzero(fit.is_support) for fit in path], dtype=np.int64),
        threshold=max(min_accuracy, needed(validation)),
        chosen=chosen,
        svm=path[chosen].machine(points),
    )


def _search(
    accuracy: Callable[[int], float], n: int, needed: Callable[[Iterable[float]], float]
) -> None:
    """Ask for the accuracies of places 0 to n - 1 that `choose_gamma` describes."""
    found: dict[int, float] = {}

    def at(place: int) -> float:
        found[place] = accuracy(place)
        return found[place]

    for place in range(n // 2, n, _N_FINE):
        if at(place) < needed(found.values()):
            break
    for place in range(n // 2, -1, -_N_FINE):
        # Where the best is already, nothing wider can raise what is needed.
        if at(place) < max(found.values()) or found[place] == 1:
            break
    good = max(place for place in found if found[place] >= needed(found.values()))
    bad = good + _N_FINE
    while bad < n and bad - good > 1:
        middle = (good + bad) // 2
        if at(middle) >= needed(found.values()):
            good = middle
        else:
            bad = middle


class _Fit(NamedTuple):
    """What a fit found, without the support vectors, of which a path would hold too many.

    There is one machine for two classes, and one for each of more.
    """

    gamma: float
    coef: Array  # of every point, 0 where it is no support vector; (n,) or (K, n)
    bias: Array  # () or (K,)
    checks: Array  # what scikit-learn decides at the first points

    @property
    def is_support(self) -> Array:
        """Whether points are support vectors, shape ``(n,)``."""
        return np.asarray(np.atleast_2d(self.coef != 0).any(axis=0))

    def machine(self, points: Array) -> RBFSVM | OneAgainstRestSVM:
        """Return the machine, compared with scikit-learn's."""
        kept = self.is_support
        support, coef = (torch.from_numpy(part) for part in (points[kept], self.coef[..., kept]))
        svm: RBFSVM | OneAgainstRestSVM
        if coef.ndim == 1:
            svm = RBFSVM(support, coef, float(self.bias), self.gamma)
        else:
            svm = OneAgainstRestSVM(support, coef, torch.from_numpy(self.bias), self.gamma)
        check_agreement("SVC", svm.decision_function, points[: len(self.checks)], self.checks)
        return svm.eval()


class _Fits:
    """Fits to the same points by scikit-learn, and what they decide there and at `others`.

    Squared distances are kept from one gamma to the next, unless there `is_one`.
    """

    def __init__(
        self,
        points: Array,
        labels: Array,
        C: float,
        *,
        others: Array | None = None,
        is_one: bool = False,
    ) -> None:
        self._labels, self._C = labels, C
        self._all = points if others is None else np.concatenate([points, others])
        self._squares = self._kernel = None
        if len(points) <= _MOST_IN_PRODUCT:
            self._squares = _squared_distances(self._all, len(points))
            # New memory for every kernel would take longer than all else that it needs.
            self._kernel = self._squares if is_one else torch.empty_like(self._squares)

    def fit(self, gamma: float) -> _Fit:
        """Return the fit for one gamma."""
        from sklearn.svm import SVC  # slow to import, and only fitting needs it

        kernel, rows = "rbf", self._all
        if self._squares is not None:
            kernel = "precomputed"
            rows = torch.mul(self._squares, -gamma, out=self._kernel).exp_().numpy()
        n, n_classes = len(self._labels), int(self._labels.max()) + 1
        # What one machine tells from the rest: class 1 of two, and each of more.
        machines = []
        for label in [1] if n_classes == 2 else range(n_classes):
            machine = SVC(kernel=kernel, C=self._C, gamma=gamma, cache_size=_CACHE_MIB)
            machine.fit(rows[:n], (self._labels == label).astype(np.int64))
            coef = np.zeros(n)
            coef[machine.support_] = machine.dual_coef_[0]
            checks = machine.decision_function(rows[: min(n, _N_CHECKED)])
            machines.append((coef, np.array(_intercept(machine)), checks))
        if n_classes == 2:
            return _Fit(gamma, *machines[0])
        coefs, biases, checks = map(np.stack, zip(*machines, strict=True))
        return _Fit(gamma, coefs, biases, checks.T)

    @torch.no_grad()
    def decided(self, fit: _Fit) -> Array:
        """Return the classes that the latest fit gives all points, those to fit to first."""
        if self._kernel is not None:
            found = torch.from_numpy(self._kernel.numpy() @ fit.coef.T + fit.bias)
        else:
            svm = fit.machine(self._all[: len(self._labels)])
            chunks = torch.split(torch.from_numpy(self._all), _CHUNK)
            found = torch.cat([svm.outputs(chunk) for chunk in chunks])
        decided: Array = predicted(found).numpy()
        return decided


def _squared_distances(points: Array, n: int) -> Tensor:
    """Return the squared distances ``(len(points), n)`` of points from the first `n` of them.

    They are right to about an ulp of the points' squared spread: the points are centred first, and
    one lies at 0 from itself.
    """
    centred = torch.from_numpy(points - points[:n].mean(axis=0))
    norms = centred.square().sum(1)
    squares = (centred @ centred[:n].T).mul_(-2).add_(norms[:n]).add_(norms[:, None])
    squares[:n].fill_diagonal_(0.0)
    return squares.clamp_(min=0.0)


def _linear_from_sklearn(estimator: Any, x_check: Array) -> LinearSVM:
    weight = _dense(estimator.coef_).reshape(-1)
    svm = LinearSVM(weight, _intercept(estimator))
    _check_decisions(estimator, svm, x_check)
    return svm.eval()


def _rbf_from_sklearn(estimator: Any, x_check: Array) -> RBFSVM:
    support, coef = _dense(estimator.support_vectors_), _dense(estimator.dual_coef_)
    # Where gamma is "scale" or "auto", its value is kept under this private name alone.
    gamma = float(estimator._gamma)
    svm = RBFSVM(support, coef.squeeze(0), _intercept(estimator), gamma)
    _check_decisions(estimator, svm, x_check)
    return svm.eval()


def _one_against_rest(estimator: Any) -> list[Any] | None:
    """Return the machines of a OneVsRestClassifier, None of anything else."""
    from sklearn.multiclass import OneVsRestClassifier  # slow to import

    if not isinstance(estimator, OneVsRestClassifier) or estimator.multilabel_:
        return None
    return list(estimator.estimators_)


def _of_many_from_sklearn(
    estimator: Any, machines: list[Any] | None, x_check: Array
) -> SoftmaxRegression | OneAgainstRestSVM | LabelsAlone:
    """Turn a classifier of three classes or more into a module, given its machines if it has."""
    if machines is None:
        if hasattr(estimator, "n_support_"):  # pairs of classes vote
            why = "votes one against one, so that it is taken by its labels alone"
            return labels_of_sklearn(estimator, why)
        machines = [estimator]
    if all(hasattr(machine, "coef_") for machine in machines):
        return _logits_from_sklearn(estimator, machines, x_check)
    for machine in machines:
        if getattr(machine, "kernel", None) != "rbf" or not hasattr(machine, "dual_coef_"):
            raise not_a_module(machine)
    gammas = {float(machine._gamma) for machine in machines}
    if len(gammas) > 1:
        raise ValueError(f"expected machines of one gamma, got {sorted(gammas)}.")
    # All are fitted to the same points, which they number alike.
    used = np.unique(np.concatenate([machine.support_ for machine in machines]))
    support = torch.zeros(len(used), machines[0].n_features_in_, dtype=torch.float64)
    coef = torch.zeros(len(machines), len(used), dtype=torch.float64)
    for row, machine in zip(coef, machines, strict=True):
        at = torch.from_numpy(np.searchsorted(used, machine.support_))
        support[at], row[at] = (
            _dense(part) for part in (machine.support_vectors_, machine.dual_coef_[0])
        )
    bias = torch.tensor([_intercept(machine) for machine in machines], dtype=torch.float64)
    svm = OneAgainstRestSVM(support, coef, bias, gammas.pop())
    _check_decisions(estimator, svm, x_check)
    return svm.eval()


def _logits_from_sklearn(
    estimator: Any, machines: Sequence[Any], x_check: Array
) -> SoftmaxRegression:
    """Return the linear logits of three classes or more, of one estimator or one for each class."""
    weight = torch.cat([_dense(machine.coef_) for machine in machines])
    bias = np.concatenate([np.atleast_1d(machine.intercept_) for machine in machines])
    n_classes = len(estimator.classes_)
    if len(weight) != n_classes:
        raise not_a_module(estimator)
    model = SoftmaxRegression(weight.shape[1], n_classes, dtype=torch.float64)
    offsets = torch.from_numpy(np.broadcast_to(bias, n_classes).astype(np.float64))
    model.load_state_dict({"weight": weight, "bias": offsets})
    _check_decisions(estimator, model, x_check)
    return model.requires_grad_(False).eval()


def not_a_module(estimator: Any) -> TypeError:
    """Return the error that says of which classifiers no module can be made."""
    name = type(estimator).__name__
    what = f"{name} with kernel {estimator.kernel!r}" if hasattr(estimator, "kernel") else name
    return TypeError(
        f"cannot turn a {what} into a differentiable module, only linear classifiers, SVC with "
        "kernel 'rbf' or 'linear', Gaussian classes (GaussianNB, "
        "QuadraticDiscriminantAnalysis) and these after scalers; labels_of_sklearn takes any by "
        "its labels alone."
    )


def _intercept(estimator: Any) -> float:
    """Return the intercept, of which scikit-learn makes a number where none was fitted."""
    return float(np.asarray(estimator.intercept_).reshape(-1)[0])


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().to(torch.float64, copy=True), requires_grad=False)


def _dense(array: Any) -> Tensor:
    """Return an array, sparse if the estimator was fitted on sparse points, as float64."""
    dense = array.toarray() if hasattr(array, "toarray") else array
    return torch.from_numpy(np.array(dense, dtype=np.float64))


def as_matrix(name: str, x: Array | Tensor) -> Array:
    """Return points of any event shape as a float64 matrix."""
    dense = x.toarray() if hasattr(x, "toarray") else x  # a sparse matrix of scipy's
    array = dense.detach().cpu().numpy() if isinstance(dense, Tensor) else np.asarray(dense)
    if array.ndim < 2 or array.size == 0:
        raise ValueError(f"{name} must have shape (n, *event) with n > 0, got {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but some of its values are not.")
    return array.reshape(len(array), -1).astype(np.float64)


def _training_set(x: Array | Tensor, y: Array | Tensor) -> tuple[Array, Array]:
    points = as_matrix("x", x)
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    present = np.unique(labels).tolist()
    if labels.shape != (len(points),) or present != list(range(max(2, len(present)))):
        raise ValueError(
            "y must hold labels 0 to K - 1, at least 0 and 1 and all present, one for each of "
            f"{len(points)} points, got {present} of shape {labels.shape}."
        )
    return points, labels.astype(np.int64)


def _check_decisions(estimator: Any, svm: FromSklearn, x: Array) -> None:
    """Check a module against the machine that it stands for."""
    name, expected = type(estimator).__name__, np.asarray(estimator.decision_function(x))
    if isinstance(svm, LinearSVM | RBFSVM) and expected.shape != (len(x),):
        raise ValueError(
            f"{name}.decision_function returns shape {expected.shape} for {len(x)} points, so that "
            "it has no single margin; use the estimator of one class."
        )
    check_agreement(name, decisions_of(svm), x, expected)


def decisions_of(svm: FromSklearn) -> Callable[[Tensor], Tensor]:
    """Return what of a module stands for scikit-learn's ``decision_function``."""
    return (
        svm.outputs if isinstance(svm, SoftmaxRegression | LabelsAlone) else svm.decision_function
    )


@torch.no_grad()
def check_agreement(name: str, own: Callable[[Tensor], Tensor], x: Array, decisions: Any) -> None:
    """Check what a module says at the points `x` against what the estimator called `name` does."""
    expected = np.asarray(decisions, dtype=np.float64)
    difference = np.abs(own(torch.from_numpy(x)).numpy() - expected)
    worst = float((difference / np.maximum(1.0, np.abs(expected))).max())
    if not worst <= _TOLERANCE:  # a NaN is not
        raise ValueError(
            f"the module differs from {name}.decision_function by {worst:.2g} "
            f"at the points given, more than {_TOLERANCE:g}: either the estimator decides by more "
            f"than its coefficients, or the points' coordinates, up to {np.abs(x).max():.3g}, are "
            "too large beside the differences that it tells apart; scale the points before it is "
            "fitted."
        )
