"""What users ask of a classifier: how often it is wrong, and how near its errors are.

Every answer says how it was found. Error rates are exact where the classifier and the problem allow
it and sampled otherwise; distances are brackets, from a certificate below and an attack above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from trueboundary.attacks import Attack, ManifoldAttack
from trueboundary.attacks.domains import Domain
from trueboundary.certificates import Certificate, EllipsoidCertificate
from trueboundary.classifiers import Classifier, QuadraticNetwork, margin
from trueboundary.problems import ConcentricSpheres, Problem
from trueboundary.theory.intervals import clopper_pearson, t_interval
from trueboundary.theory.quadratic_forms import Tail, ellipsoid_weights, log_tail

__all__ = ["Distances", "ErrorRate", "distances", "error_rate"]

Method = Literal["exact", "sampling"]
Floats = npt.NDArray[np.float64]

_SPHERES: tuple[Literal["inner", "outer"], ...] = ("inner", "outer")


@dataclass(frozen=True)
class ErrorRate:
    """The probability that a random point of one class is misclassified.

    Attributes
    ----------
    label : int
        The class, 0 or 1.
    value : float
        The error rate; 0 where it is below the smallest float64 (see `log10`).
    low, high : float
        95 % interval (Clopper-Pearson), or `value` twice where it is exact.
    log10 : float
        Base-10 logarithm of the error rate, right far below 1e-308; minus infinity for 0.
    method : {"exact", "sampling"}
        How it was found.
    reason : str
        Why that method.
    n_points : int
        Random points behind the value, 0 where it is exact.
    n_errors : int
        Errors among them.
    """

    label: int
    value: float
    low: float
    high: float
    log10: float
    method: Method
    reason: str
    n_points: int = 0
    n_errors: int = 0

    def __str__(self) -> str:
        """Say the error rate in one line."""
        if self.method == "exact":
            size = "0" if self.log10 == -math.inf else f"10^{self.log10:.4f}"
            return f"class {self.label}: {size} (exact)"
        return (
            f"class {self.label}: {self.value:.3g} [{self.low:.3g}, {self.high:.3g}] "
            f"({self.n_errors:,} errors in {self.n_points:,} points)"
        )


@dataclass(frozen=True)
class Distances:
    """Brackets of the distance from random points of one class to the nearest error.

    Attributes
    ----------
    label : int
        The class, 0 or 1.
    lower, upper : ndarray of shape (n,)
        Proven lower bounds (0 where there is no certificate) and distances at which an error was
        found (infinite where none was). 0 for points that are errors themselves.
    exact : ndarray of bool, shape (n,)
        Where `lower` is the distance itself.
    """

    label: int
    lower: Floats
    upper: Floats
    exact: npt.NDArray[np.bool_]

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.upper)

    @property
    def n_failed(self) -> int:
        """Number of points from which no error was found."""
        return int(np.isinf(self.upper).sum())

    @property
    def mean(self) -> float:
        """Mean of `upper` over the points with an error found, NaN if there is none.

        This is the papers' convention. Points without an error found are farther away, so the
        mean over all points is larger: read it beside `n_failed`.
        """
        found = self.upper[np.isfinite(self.upper)]
        return float(found.mean()) if len(found) else math.nan

    @property
    def mean_interval(self) -> tuple[float, float]:
        """95 % interval of `mean` (Student's t), NaN for fewer than two points."""
        found = self.upper[np.isfinite(self.upper)]
        return t_interval(found) if len(found) > 1 else (math.nan, math.nan)

    @property
    def median(self) -> float:
        """Median of `upper` over all points, those without an error found counted as infinite."""
        # An average of two middle values would be NaN between infinities: take the upper one.
        return float(np.sort(self.upper)[self.n // 2])

    def __str__(self) -> str:
        """Say the distances in one line."""
        low, high = self.mean_interval
        return (
            f"class {self.label}: mean {self.mean:.4g} [{low:.4g}, {high:.4g}] over "
            f"{self.n - self.n_failed} of {self.n} points, median {self.median:.4g}, "
            f"mean lower bound {float(self.lower.mean()):.4g}"
        )


def error_rate(
    classifier: Classifier,
    problem: Problem,
    *,
    n_points: int = 100_000,
    seed: int = 0,
    method: Method | None = None,
    device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> tuple[ErrorRate, ErrorRate]:
    """Return the error rate of a classifier on each class of a problem.

    Parameters
    ----------
    classifier : callable
        Maps points ``(n, *event)`` to ``(n,)``, ``(n, 1)`` or ``(n, 2)`` logits. Modules are used
        in the mode they are in: call ``.eval()`` first where that matters.
    problem : Problem
        What the points are drawn from.
    n_points : int
        Random points per class when sampling; they are streamed, never held together.
    seed : int
        Seed of the points.
    method : {"exact", "sampling"}, optional
        Exact where possible by default: for a `QuadraticNetwork` on `ConcentricSpheres`.
    device : str
        Where to draw the points; must be the classifier's.
    progress : callable, optional
        ``progress(fraction)`` while sampling.

    Returns
    -------
    tuple of ErrorRate
        For class 0 and class 1.

    Raises
    ------
    ValueError
        If the method is unknown or not available for this classifier, its dimension is not the
        problem's, or `n_points` is below 1.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> problem = tb.ConcentricSpheres(dim=100)
    >>> network = tb.QuadraticNetwork(100, 200, generator=torch.Generator().manual_seed(0))
    >>> inner, outer = tb.error_rate(network, problem)
    >>> print(inner.method, f"{inner.log10:.2f}")
    exact -1.93
    >>> sampled, _ = tb.error_rate(network, problem, method="sampling", n_points=20_000)
    >>> sampled.low <= inner.value <= sampled.high
    True
    """
    if method not in (None, "exact", "sampling"):
        raise ValueError(f"expected method 'exact' or 'sampling', got {method!r}.")
    possible = isinstance(classifier, QuadraticNetwork) and isinstance(problem, ConcentricSpheres)
    if method == "exact" and not possible:
        raise ValueError(
            "exact error rates are known for a QuadraticNetwork on ConcentricSpheres, got "
            f"{type(classifier).__name__} on {type(problem).__name__}; use method='sampling'."
        )
    if possible and method != "sampling":
        return _exact_error_rate(classifier, problem)  # type: ignore[arg-type]
    reason = "asked for" if possible else "no exact form is known for this classifier"
    zero, one = (
        _sampled_error_rate(
            classifier, problem, label, reason, n_points, seed, device, progress or (lambda _: None)
        )
        for label in (0, 1)
    )
    return zero, one


def _exact_error_rate(
    network: QuadraticNetwork, problem: ConcentricSpheres
) -> tuple[ErrorRate, ErrorRate]:
    if network.dim != problem.dim:
        raise ValueError(
            f"the network takes points of {network.dim} dimensions, but the problem's have "
            f"{problem.dim}."
        )
    ellipsoid = network.ellipsoid()
    # Turned signs exchange inside and outside: exactly the points right before are wrong then. A
    # tail of its own keeps the digits that the complement of the other one would lose.
    tail: Tail = "lower" if ellipsoid.is_inverted else "upper"
    reason = "the error set is an ellipsoid's, whose measure is a Gaussian quadratic form's tail"
    found = []
    for label, sphere in enumerate(_SPHERES):
        weights = ellipsoid_weights(ellipsoid.alphas, sphere=sphere, radius=problem.radius)
        log_error = float(log_tail(weights, tail=tail))
        value = math.exp(log_error)
        log10 = log_error / math.log(10)
        found.append(ErrorRate(label, value, value, value, log10, "exact", reason))
    return found[0], found[1]


def _sampled_error_rate(
    classifier: Classifier,
    problem: Problem,
    label: int,
    reason: str,
    n_points: int,
    seed: int,
    device: str,
    progress: Callable[[float], None],
) -> ErrorRate:
    n_errors = n_seen = 0
    for x, _ in problem.blocks(n_points, seed=seed, label=label, device=device):
        with torch.no_grad():
            margins = margin(classifier, x)
        n_errors += int((margins >= 0 if label == 0 else margins <= 0).sum())
        n_seen += len(x)
        progress((label + n_seen / n_points) / 2)
    low, high = clopper_pearson(n_errors, n_points)
    value = n_errors / n_points
    log10 = math.log10(value) if value > 0 else -math.inf
    return ErrorRate(label, value, low, high, log10, "sampling", reason, n_points, n_errors)


def distances(
    classifier: Classifier,
    problem: Problem,
    *,
    n_points: int = 100,
    attack: Attack | None = None,
    certificate: Certificate | None = None,
    domain: Domain | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[Distances, Distances]:
    """Bracket the distance from random points of each class to the nearest error.

    Parameters
    ----------
    classifier : callable
        As for `error_rate`.
    problem : Problem
        What the points are drawn from.
    n_points : int
        Random points per class.
    attack : Attack, optional
        Gives the upper bounds; `ManifoldAttack` in its refined nearest mode by default.
    certificate : Certificate, optional
        Gives the lower bounds; `EllipsoidCertificate` for a `QuadraticNetwork` by default, none
        (lower bounds of 0) for other classifiers.
    domain : Domain, optional
        Where errors count; by default the set on which the class lives.
    seed : int
        Seed of the points and of the attack.
    device : str
        Where to draw the points; must be the classifier's.
    dtype : torch.dtype, optional
        Of the points; that of the classifier's first parameter by default, else float32.

    Returns
    -------
    tuple of Distances
        For class 0 and class 1.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> problem = tb.ConcentricSpheres(dim=20)
    >>> network = tb.QuadraticNetwork(
    ...     20, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ... )
    >>> inner, outer = tb.distances(network, problem, n_points=20)
    >>> inner.n, inner.n_failed, bool((inner.lower <= inner.upper * (1 + 1e-9)).all())
    (20, 0, True)
    """
    attack = attack or ManifoldAttack(refine_steps=20)
    if certificate is None and isinstance(classifier, QuadraticNetwork):
        certificate = EllipsoidCertificate()
    found = [
        _class_distances(
            classifier,
            problem,
            label,
            n_points,
            attack,
            certificate,
            domain or problem.domain(label),
            seed,
            device,
            dtype or _dtype_of(classifier),
        )
        for label in (0, 1)
    ]
    return found[0], found[1]


def _class_distances(
    classifier: Classifier,
    problem: Problem,
    label: int,
    n_points: int,
    attack: Attack,
    certificate: Certificate | None,
    domain: Domain,
    seed: int,
    device: str,
    dtype: torch.dtype,
) -> Distances:
    x, y = next(
        problem.blocks(
            n_points,
            seed=seed,
            block_size=n_points,
            label=label,
            dtype=dtype,
            device=device,
            purpose="distances",
        )
    )
    generator = torch.Generator(device).manual_seed(seed)
    result = attack(classifier, x, y, domain=domain, generator=generator)
    upper = result.distance.double().cpu().numpy()
    lower, exact = np.zeros(n_points), np.zeros(n_points, dtype=np.bool_)
    if certificate is not None:
        proven: Any = certificate(classifier, x, y, domain=domain)
        lower, exact = proven.distance, proven.exact
    return Distances(label, lower, upper, exact)


def _dtype_of(classifier: Classifier) -> torch.dtype:
    if isinstance(classifier, torch.nn.Module):
        parameter = next(classifier.parameters(), None)
        if parameter is not None:
            return parameter.dtype
    return torch.float32
