"""How near a classifier's errors are: proven bounds below, found errors above."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks import Attack, NearestError
from trueboundary.certificates import Certificate
from trueboundary.certificates.relaxation import Unreadable
from trueboundary.classifiers import Classifier, dtype_of, evaluated
from trueboundary.classifiers.integrity import Disagreement
from trueboundary.devices import check_device
from trueboundary.domains import Domain, Space, per_sample
from trueboundary.measure._inputs import check_inputs
from trueboundary.measure.exact import table_classes
from trueboundary.measure.plain_values import distance_values
from trueboundary.measure.proofs import Proof, default_proof, recorded_proof
from trueboundary.plurals import plural
from trueboundary.presentable import ByClass, Presentable, storable
from trueboundary.problems import (
    Problem,
    TableProblem,
    check_number_of_classes,
    output_doubts,
)
from trueboundary.progress_bars import shown_progress
from trueboundary.theory.intervals import censored_median, t_interval

__all__ = ["Distances", "distances", "distances_from"]

_LOG = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Progress = Callable[[float], None]


@dataclass(frozen=True, repr=False)
class Distances(Presentable):
    """Brackets of the distance from random points of one class to the nearest error.

    Attributes
    ----------
    label : int
        The class, 0 to K - 1.
    lower, upper : ndarray of shape (n,)
        Proven lower bounds (0 where there is no certificate) and distances at which an error was
        found (infinite where none was). 0 for points that are errors themselves.
    exact : ndarray of bool, shape (n,)
        Where `lower` is the distance itself.
    method : str
        Where the two come from.
    reasons : tuple of str
        For each point why no error was found from it, empty where one was.
    warnings : tuple of str
        Reasons for doubt, each a sentence.
    other : ndarray of int, shape (n,)
        The class on the other side of the error that was found, -1 where none was or nothing tells.
    nearest : ndarray of shape ``(n, *event)`` or None
        The errors at `upper`, NaN where none was found; None where they were not kept (tables).
    """

    label: int
    lower: Floats
    upper: Floats
    exact: npt.NDArray[np.bool_]
    method: str = ""
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    other: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    nearest: Floats | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not len(self.other):
            object.__setattr__(self, "other", np.full(len(self.upper), -1))

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.upper)

    @property
    def n_failed(self) -> int:
        """Number of points from which no error was found."""
        return int(np.isinf(self.upper).sum())

    @property
    def distance(self) -> Floats:
        """The distance where it is known, else that of the error found, shape (n,)."""
        return np.where(self.exact, self.lower, self.upper)

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
        return censored_median(self.upper)

    @property
    def relative_width(self) -> Floats:
        """(upper - lower) / upper of each point, shape (n,): 0 where exact, 1 where unknown."""
        width = np.ones(self.n)
        known = np.isfinite(self.upper) & (self.upper > 0)
        width[known] = np.maximum(self.upper[known] - self.lower[known], 0) / self.upper[known]
        width[self.exact | (self.upper == 0) | np.isinf(self.lower)] = 0
        return width

    @property
    def median_relative_width(self) -> float:
        """Median of `relative_width`."""
        return float(np.median(self.relative_width))

    def to_dict(self) -> dict[str, Any]:
        """Return what the brackets come to, and the brackets, as plain values for JSON.

        Infinity and NaN are None; the errors themselves, `nearest`, are left out.
        """
        values: dict[str, Any] = storable(
            distance_values(self)
            | {name: getattr(self, name) for name in ("lower", "upper", "exact", "other")}
        )
        return values

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return a row for each point: its bracket, the class beyond, and why none was found."""
        columns: dict[str, Any] = {
            "label": np.full(self.n, self.label),
            "lower": self.lower,
            "upper": self.upper,
            "exact": self.exact,
        }
        if len(self.other) == self.n:
            columns["other"] = self.other
        if len(self.reasons) == self.n:
            columns["reason"] = self.reasons
        return columns

    def __str__(self) -> str:
        """Say the distances in one line, and where they come from in another."""
        if self.n_failed == self.n:
            found = f"no error was found from any of {plural(self.n, 'point')}"
        else:
            low, high = self.mean_interval
            found = (
                f"mean {self.mean:.4g} [{low:.4g}, {high:.4g}] over {self.n - self.n_failed} of "
                f"{plural(self.n, 'point')}, median {self.median:.4g}"
            )
        failed = Counter(reason for reason in self.reasons if reason)
        doubts = "".join(f"; {n} without an error: {reason}" for reason, n in failed.items())
        doubts += "".join(f"; warning: {sentence}" for sentence in self.warnings)
        return (
            f"class {self.label}: {found}, mean lower bound {float(self.lower.mean()):.4g}, "
            f"median relative width {self.median_relative_width:.2g}\n"
            f"  {self.method or 'of unknown origin'}{doubts}"
        )


def distances(
    classifier: Classifier,
    problem: Problem,
    *,
    n_points: int = 100,
    attack: Attack | None = None,
    certificate: Certificate | None = None,
    domain: Domain | None = None,
    target: Literal["each"] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool | Progress | None = None,
    batch_size: int | None = None,
) -> ByClass[Distances]:
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
        Gives the upper bounds. By default what the certificate itself leads to where there is such
        a way (`Certificate.bracket`, in space, as for the optimal classifier of Gaussians and
        mixtures), and `NearestError` everywhere else.
    certificate : Certificate, optional
        Gives the lower bounds. By default the one that
        `trueboundary.measure.register_certificate` knows for the classifier: of ours
        `EllipsoidCertificate` for quadratic ones, `LinearCertificate` for a `SoftmaxRegression` and
        a ``Linear`` layer, `SVMCertificate` for SVMs and `MixtureCertificate` for the optimal
        classifier of Gaussians and mixtures; and `RelaxationCertificate` for networks and all
        other modules that it can read, with what hangs on them or is wrapped around them. Where
        there is none the lower bounds are 0, and `Distances.method` says why.
    domain : Domain, optional
        Where errors count; by default the set on which the class lives.
    target : "each", optional
        Let the attack follow the way into every other class to its end and keep the nearest error:
        K - 1 searches. By default one, in which any other class counts.
    seed : int
        Seed of the points and of the attack.
    device : str
        Where to draw the points; must be the classifier's.
    progress : bool or callable, optional
        True for a bar on standard error, or ``progress(fraction)`` after each batch of points.
    batch_size : int, optional
        Points that are proven and attacked at a time, where memory is short; all of a class by
        default. The distances are the same, but for the rounding of the classifier.

    Returns
    -------
    tuple of Distances
        One for each class. On a `TableProblem` both bounds are exact.

    Raises
    ------
    ArithmeticError
        If a proven lower bound exceeds the distance of an error that was found: one of the two is
        wrong.

    Warns
    -----
    ClassifierWarning
        If the classifier seems to return probabilities, not logits.

    Notes
    -----
    With a default certificate the classifier is evaluated in float64, as a copy where it is of
    another dtype: the certificate speaks of its stored parameters, and rounding would blur how
    near the attack has come.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> problem = tb.ConcentricSpheres(dim=20)
    >>> network = tb.QuadraticNetwork(20, 40, generator=torch.Generator().manual_seed(0))
    >>> inner, outer = tb.distances(network, problem, n_points=20)
    >>> inner.n, inner.n_failed, bool((inner.relative_width < 0.01).all())
    (20, 0, True)
    """
    check_inputs(classifier, problem)
    check_device(device)
    n_points = check_integer("n_points", n_points, minimum=1)
    _check_target(target)
    if batch_size is not None:
        check_integer("batch_size", batch_size, minimum=1)
    with (
        shown_progress(progress, lambda bar: bar.update) as say,
        evaluated(classifier) as sentences,
    ):
        dtype = dtype_of(classifier)
        check_number_of_classes(classifier, problem, dtype=dtype, device=device)
        doubts = sentences + output_doubts(classifier, problem, dtype=dtype, device=device)
        measured = _measured(
            classifier,
            problem,
            n_points,
            attack,
            certificate,
            domain,
            target,
            seed,
            device,
            batch_size,
            say,
        )
    return ByClass(
        replace(found, warnings=tuple(dict.fromkeys(doubts + found.warnings))) for found in measured
    )


def _measured(
    classifier: Classifier,
    problem: Problem,
    n_points: int,
    attack: Attack | None,
    certificate: Certificate | None,
    domain: Domain | None,
    target: Literal["each"] | None,
    seed: int,
    device: str,
    batch_size: int | None,
    say: Progress,
) -> tuple[Distances, ...]:
    labels = range(problem.n_classes)
    if isinstance(problem, TableProblem) and attack is None and certificate is None:
        if domain is not None and not isinstance(domain, Space):
            raise ValueError(
                f"tables have all their points in space, got the domain {domain.describe()}; "
                "leave it out."
            )
        return tuple(_on_table(classifier, problem, label, n_points, seed) for label in labels)
    return tuple(
        _proven_and_found(
            classifier,
            partial(_drawn, problem, label, n_points, seed, device),
            label,
            attack=attack,
            certificate=certificate,
            domain=problem.domain(label) if domain is None else domain,
            target=target,
            seed=seed,
            batch_size=batch_size,
            say=partial(_tell_share, say, label, len(labels)),
        )
        for label in labels
    )


def _tell_share(say: Progress, label: int, n_classes: int, fraction: float) -> None:
    say((label + fraction) / n_classes)


def _drawn(
    problem: Problem, label: int, n_points: int, seed: int, device: str, classifier: Classifier
) -> Tensor:
    return problem.block(
        0,
        seed=seed,
        block_size=n_points,
        label=label,
        dtype=dtype_of(classifier),
        device=device,
        purpose="distances",
    )[0]


def distances_from(
    classifier: Classifier,
    x: Tensor,
    label: int,
    *,
    attack: Attack | None = None,
    certificate: Certificate | None = None,
    domain: Domain | None = None,
    target: Literal["each"] | None = None,
    seed: int = 0,
    progress: bool | Progress | None = None,
    batch_size: int | None = None,
) -> Distances:
    """Bracket the distance from given points of one class to the nearest error.

    Parameters
    ----------
    classifier, attack, certificate
        As for `distances`.
    x : Tensor
        Points ``(n, *event)``, in the classifier's dtype.
    label : int
        Their class.
    domain : Domain, optional
        Where errors count; all of space if None.
    target : "each", optional
        As for `distances`.
    seed : int
        Seed of the attack.
    progress, batch_size
        As for `distances`.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.measure import distances_from
    >>> from trueboundary.problems import planar_problem
    >>> optimal = planar_problem("a").bayes_classifier(dtype=torch.float64)
    >>> x = torch.tensor([[-2.0, 0.3]], dtype=torch.float64)
    >>> distances_from(optimal, x, 0).distance.round(6)
    array([2.])
    """
    label = check_integer("label", label, minimum=0)
    _check_target(target)
    if batch_size is not None:
        check_integer("batch_size", batch_size, minimum=1)

    def in_its_dtype(asked: Classifier) -> Tensor:
        # A proof may ask a copy in double precision, to which no point is lost.
        return x.double() if dtype_of(asked, default=x.dtype) == torch.float64 else x

    with (
        shown_progress(progress, lambda bar: bar.update) as say,
        evaluated(classifier) as doubts,
    ):
        found = _proven_and_found(
            classifier,
            in_its_dtype,
            label,
            certificate=certificate,
            attack=attack,
            domain=Space() if domain is None else domain,
            target=target,
            seed=seed,
            batch_size=batch_size,
            say=say,
        )
    return replace(found, warnings=doubts + found.warnings)


def _check_target(target: object) -> None:
    """Raise unless any error is asked for: those of one class have no proof here."""
    if target is not None and not (isinstance(target, str) and target == "each"):
        raise ValueError(
            f"expected target 'each' or None, got {target!r}; an attack itself takes one class."
        )


def _proven_and_found(
    classifier: Classifier,
    points: Callable[[Classifier], Tensor],
    label: int,
    *,
    certificate: Certificate | None,
    **settings: Any,
) -> Distances:
    """Bracket one class's distances, without a proof where none is to be had by default."""
    if certificate is not None:
        proof = Proof(certificate, classifier, classifier)
        return _bracket(classifier, points(classifier), label, proof=proof, **settings)
    default, why_not = default_proof(classifier)
    if default is not None:
        twin = default.in_float64()
        try:
            return _bracket(twin, points(twin), label, proof=default, **settings)
        except Disagreement as error:
            why_not = str(error).rstrip(".")
            _LOG.info("%s is not used: %s", default.name, why_not)
    recorded = recorded_proof(classifier)
    if recorded is not None:
        # Of anybody's module, which is measured as it is, in its own precision.
        try:
            return _bracket(classifier, points(classifier), label, proof=recorded, **settings)
        except (Disagreement, Unreadable) as error:
            reason = str(error).rstrip(".")
            why_not = why_not or f"no lower bound, because {reason}"
            _LOG.info("%s is not used: %s", recorded.name, reason)
    _LOG.info("class %d has no proof: %s", label, why_not or "none is registered for its class")
    return _bracket(classifier, points(classifier), label, proof=None, why_not=why_not, **settings)


def _bracket(
    classifier: Classifier,
    x: Tensor,
    label: int,
    *,
    domain: Domain,
    batch_size: int | None,
    say: Progress,
    **settings: Any,
) -> Distances:
    """Bracket the distances from some points at a time, and put the batches together."""
    size = batch_size or max(len(x), 1)
    parts = []
    for first in range(0, max(len(x), 1), size):
        rows = slice(first, first + size)
        part = domain.take(rows) if size < len(x) else domain
        parts.append(_bracket_batch(classifier, x[rows], label, first, domain=part, **settings))
        say(min(1.0, (first + size) / max(len(x), 1)))
    if len(parts) == 1:
        return parts[0]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("lower", "upper", "exact", "other", "nearest")
    }
    return Distances(
        label,
        method=parts[0].method,
        reasons=tuple(reason for part in parts for reason in part.reasons),
        warnings=tuple(dict.fromkeys(doubt for part in parts for doubt in part.warnings)),
        **columns,
    )


def _bracket_batch(
    classifier: Classifier,
    x: Tensor,
    label: int,
    first: int,
    *,
    attack: Attack | None,
    proof: Proof | None,
    domain: Domain,
    target: Literal["each"] | None,
    seed: int,
    why_not: str = "",
) -> Distances:
    y = torch.full((len(x),), label, device=x.device)
    if proof is not None and attack is None and isinstance(domain, Space):
        both = proof.certificate.bracket(classifier, x, y)
        if both is not None:
            lower, upper, exact = (
                part.numpy(force=True) for part in (both.lower, both.upper, both.exact)
            )
            _check_order(lower, upper, x, proof.name, "a ray", first)
            method = f"{proof.name} below, rays above"
            other = both.other.numpy(force=True)
            nearest = both.point.reshape(x.shape).numpy(force=True)
            return Distances(label, lower, upper, exact, method, other=other, nearest=nearest)
    lower, exact = np.zeros(len(x)), np.zeros(len(x), dtype=np.bool_)
    below = f"no certificate ({why_not})" if why_not else "no certificate"
    doubts: tuple[str, ...] = ()
    if proof is not None:
        proven = proof(x, y, domain)
        lower, exact = proven.distance.numpy(force=True), proven.exact.numpy(force=True)
        below, doubts = proof.name, proven.warnings
    if attack is None:
        attack = NearestError()
    generator = torch.Generator(x.device).manual_seed(seed)
    result = attack(classifier, x, y, domain=domain, target=target, generator=generator)
    upper = result.distance.double().numpy(force=True)
    if proof is not None:
        _check_order(lower, upper, x, proof.name, type(attack).__name__, first)
    reasons = tuple(
        "" if found else reason
        for found, reason in zip(result.success.tolist(), result.messages(), strict=True)
    )
    method = f"{below} below, {type(attack).__name__} above"
    other = torch.where(result.success, result.predicted, -1).numpy(force=True)
    doubts += result.warnings
    errors = torch.where(per_sample(result.success, x), result.x_adv, torch.nan)
    return Distances(
        label,
        lower,
        upper,
        exact,
        method,
        reasons,
        doubts,
        other,
        errors.double().numpy(force=True),
    )


def _check_order(
    lower: Floats, upper: Floats, x: Tensor, proof: str, attack: str, first: int = 0
) -> None:
    """Raise if a proven bound exceeds the distance of an error that was found."""
    # Either is right up to the rounding of margins, which moves a boundary by a little.
    tolerance = max(1e-6, math.sqrt(torch.finfo(x.dtype).eps))
    rounding = 0.01 * tolerance * x.flatten(1).norm(dim=1).double().numpy(force=True)
    wrong = np.flatnonzero(lower > upper * (1 + tolerance) + rounding)
    if len(wrong):
        point = wrong[0]
        raise ArithmeticError(
            f"{proof} excludes errors within {lower[point]:.9g} of point {first + point}, but "
            f"{attack} found one at {upper[point]:.9g} ({len(wrong)} of {plural(len(x), 'point')} "
            "contradict each other): one of the two is wrong, which is a bug; please report it to "
            "its author."
        )


def _on_table(
    classifier: Classifier, problem: TableProblem, label: int, n_points: int, seed: int
) -> Distances:
    classes = table_classes(classifier, problem)
    nearest, other = np.full(classes.shape, np.inf), np.full(classes.shape, -1)
    if (classes != label).any():
        nearest, place = distance_transform_edt(classes == label, return_indices=True)
        other = classes[tuple(place)]
    x, _ = problem.block(0, seed=seed, block_size=n_points, label=label, purpose="distances")
    row, column = x.long().numpy().T
    found = nearest[row, column]
    return Distances(
        label,
        found,
        found,
        np.ones(n_points, dtype=np.bool_),
        "every point of the table",
        other=other[row, column],
    )
