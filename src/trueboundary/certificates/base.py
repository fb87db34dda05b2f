"""What every certificate shares: checked input, errors at distance 0, re-verified results.

A certificate proves how near an error can be. It reads that from the classifier's parameters, so
nobody but the classifier's author can write one; what every one of them must get right stands here.
`Certificate.__call__` evaluates the classifier itself at the points and at each nearest error that
is reported, and keeps nothing as exact that the classifier does not confirm.

A point at which the own logit and that of another class are equal is an error of both here: the
distance to the closure of the errors is the same, and a lower bound must hold whatever such points
are called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_labels, check_samples
from trueboundary.classifiers import (
    Classifier,
    dtype_of,
    evaluated,
    number_of_classes,
    outputs,
    wrongness_of,
)
from trueboundary.domains import Domain, Space, bound_to, norm, per_sample
from trueboundary.plurals import plural
from trueboundary.presentable import Presentable, storable
from trueboundary.theory.intervals import censored_median

__all__ = ["Certificate", "CertificateResult", "Certified", "Subject"]

FloatArray = npt.NDArray[np.float64]
LabelArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: By what share of itself (and of the point's norm) a distance may miss that of its nearest point.
_LENGTH, _OF_NORM = 1e-6, 1e-9
#: How far beyond a nearest point an error must show, as shares of the distance, and in roundings of
#: the point: as far as an attack goes on from an error that it found at the very boundary.
_BEYOND, _ROUNDINGS = (1e-6, 1e-4), 64.0
_UNDECIDED = 1e-4  # share of a point's margin that counts as 0, where errors have no interior
_STRICTLY = 1e-12  # share of its norm by which a nearest point may miss the domain


@dataclass(frozen=True, eq=False)
class Subject:
    """What a certificate is asked about: a classifier in eval mode, checked points, their domain.

    Attributes
    ----------
    classifier : callable
        The classifier.
    x : Tensor of shape ``(n, *event)``
        Points of the domain, float64.
    y : Tensor of shape (n,)
        Their labels, 0 to K - 1, int64.
    n_classes : int
        Number K of the classifier's classes.
    domain : Domain
        Where errors count, bound to the points: one of the certificate's own `domains`.
    """

    classifier: Any
    x: Tensor
    y: Tensor
    domain: Domain
    n_classes: int = 2

    @property
    def points(self) -> FloatArray:
        """The points as rows of an array, (n, d)."""
        rows: FloatArray = self.x.flatten(1).numpy(force=True)
        return rows

    @property
    def labels(self) -> LabelArray:
        """The labels as an array, (n,)."""
        labels: LabelArray = self.y.numpy(force=True)
        return labels


@dataclass(frozen=True, eq=False)
class Certified:
    """What a certificate's own method reports to `Certificate`, as tensors or arrays.

    Attributes
    ----------
    distance : Tensor or ndarray of shape (n,)
        No error of the subject's domain is nearer than this; infinite where there is none at all.
        What is said of points that are errors themselves does not matter.
    exact : Tensor or ndarray of bool, shape (n,)
        Whether the distance is attained. A finite one counts as exact only if `nearest` shows it.
    nearest : Tensor or ndarray of shape ``(n, *event)`` or ``(n, d)``, optional
        The nearest point of the error set's closure (where a bound is not exact, the point that
        gives the bound); NaN where nothing tells.
    """

    distance: Tensor | FloatArray
    exact: Tensor | BoolArray
    nearest: Tensor | FloatArray | None = None


@dataclass(frozen=True, eq=False, repr=False)
class CertificateResult(Presentable):
    """Proven distances to the nearest error, one entry per point, on the device of the points.

    Attributes
    ----------
    distance : Tensor of shape (n,), float64
        No error is nearer than this; 0 for points that are errors themselves, infinite where the
        domain holds no error at all. Chords on spheres, Euclidean elsewhere.
    nearest : Tensor of shape ``(n, *event)``, float64
        The nearest point of the error set's closure (where a bound is not exact, the point that
        gives the bound, if there is one); NaN where nothing tells, or the distance is infinite.
    exact : Tensor of bool, shape (n,)
        Whether the distance is attained, so that it is *the* distance and not only a lower bound.
    warnings : tuple of str
        Reasons for doubt, each a sentence.
    """

    distance: Tensor
    nearest: Tensor
    exact: Tensor
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say how near an error can be in one line, how much of that is exact in another."""
        n = len(self.distance)
        least, middle = self.distance.min().item(), censored_median(self.distance.numpy(force=True))
        n_wrong, n_exact = int((self.distance == 0).sum()), int(self.exact.sum())
        doubts = "".join(f"; warning: {sentence}" for sentence in self.warnings)
        return (
            f"{plural(n, 'point')}: no error nearer than {least:.4g}, median {middle:.4g}\n"
            f"  {n_exact:,} exact, {n - n_exact:,} lower bounds, "
            f"{n_wrong:,} at distance 0{doubts}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return distances, and whether they are exact, as plain values; infinity is None."""
        values: dict[str, Any] = storable({**self.columns(), "warnings": self.warnings})
        return values

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return a row for each point: its proven distance, and whether it is exact."""
        return {"distance": self.distance.tolist(), "exact": self.exact.tolist()}


class Bracket(Protocol):
    """Bounds of distances on both sides: what `Certificate.bracket` returns where it can."""

    @property
    def lower(self) -> Tensor:
        """Proven distances, (n,)."""

    @property
    def upper(self) -> Tensor:
        """Distances of errors that the classifier confirmed, (n,); infinite where none is known."""

    @property
    def exact(self) -> Tensor:
        """Whether `lower` is proven to be the distance, (n,)."""

    @property
    def point(self) -> Tensor:
        """Those errors, (n, d); NaN where none is known."""

    @property
    def other(self) -> Tensor:
        """The class on the other side of that error, (n,) int64; -1 where none is known."""


@dataclass(frozen=True)
class Certificate(ABC):
    """Base of all certificates: settings are fields, calling the object runs it.

    A subclass implements ``certify(subject) -> Certified``, and names in `domains` where else than
    in space it is exact; nothing more. This class checks the
    input, takes points that are errors as their own nearest ones, turns bounds in space into bounds
    within any domain, and re-verifies what is said to be exact. It never changes the mode,
    parameters or gradients of the classifier.
    """

    #: Kinds of domain in which `certify` bounds distances. Errors in a part of space are errors in
    #: space, so that whoever knows `Space` is asked about it for all other domains.
    domains: ClassVar[tuple[type[Domain], ...]] = (Space,)

    @abstractmethod
    def certify(self, subject: Subject) -> Certified:
        """Bound the distances from ``subject.x`` to the nearest errors in ``subject.domain``.

        Whoever reads parameters says so if they are not all that the classifier computes with;
        `trueboundary.classifiers.integrity` holds what to ask.
        """

    def bracket(self, classifier: Any, x: Tensor, y: Tensor) -> Bracket | None:
        """Return bounds with verified errors above, None where the proof leads to none."""
        del classifier, x, y
        return None

    def __call__(
        self,
        classifier: Classifier,
        x: Tensor,
        y: Tensor,
        *,
        domain: Domain | None = None,
        batch_size: int | None = None,
    ) -> CertificateResult:
        """Return proven distances from points to the nearest error, one entry per point.

        Parameters
        ----------
        classifier : callable
            What the certificate can read; see there.
        x : Tensor
            Points ``(n, *event)``, finite, in single or double precision; distances are computed
            in float64. Neither the size nor the order of a batch changes them beyond rounding.
        y : Tensor
            Labels ``(n,)``, 0 to K - 1.
        domain : Domain, optional
            Where errors count, all of space if None. A distance that is exact in space is so in
            a part of it only if the nearest error lies there.
        batch_size : int, optional
            Points to be certified at a time, where memory is short; all of them by default.

        Raises
        ------
        TypeError
            If the classifier is none that the certificate can read, or may compute something else
            than what it reads; or if it knows nothing of such a domain.
        ValueError
            If points are not finite or not in the domain, labels are not of its classes, or the
            classifier's margins are not those of what was read.
        ArithmeticError
            If the certificate contradicts the classifier: a bug, to be reported.
        """
        name = type(self).__name__
        if not callable(classifier):
            raise TypeError(f"{name} needs a classifier, got {type(classifier).__name__}.")
        check_samples(x, y, n_classes=None)
        if batch_size is not None and check_integer("batch_size", batch_size, minimum=1) < len(x):
            return self._in_batches(classifier, x, y, domain or Space(), batch_size)
        with evaluated(classifier) as doubts, torch.no_grad():
            x = x.detach().double()
            y = y.to(x.device).long()
            domain = bound_to(Space() if domain is None else domain, x)
            searched = domain if type(domain) in self.domains else Space()
            if type(searched) not in self.domains:
                known = " and ".join(kind.__name__ for kind in self.domains)
                raise TypeError(f"{name} proves distances on {known}, got {domain.describe()}.")
            # The certificate gets a copy: it may work in place, and these are the user's points.
            judge = _Judge(classifier, x, y, searched)
            n_classes = number_of_classes(judge.outputs(x[:1]))
            check_labels(y, n_classes)
            found = self.certify(Subject(classifier, x.clone(), y.clone(), searched, n_classes))
            claim = _Claim.of(found, x, name)
            error = judge.wrongness(x) >= 0
            claimed = claim.exact & claim.distance.isfinite() & ~error
            confirmed = claimed & judge.confirmed(claim, ~error, name)
        exact = error | confirmed | (claim.exact & claim.distance.isinf())
        distance = torch.where(error, 0.0, claim.distance)
        nearest = torch.where(per_sample(distance.isinf(), x), torch.nan, claim.nearest)
        nearest = torch.where(per_sample(error, x), x, nearest)
        if searched is not domain:
            inside = norm(nearest - domain.project(nearest)) <= _STRICTLY * norm(nearest)
            exact &= error | distance.isinf() | inside
        n_refused = int((claimed & ~confirmed).sum())
        if n_refused:
            doubts += (
                f"{name} calls the distance of {n_refused} of {len(x)} points exact, but names no "
                "nearest error there, or one that the classifier does not confirm at that "
                "distance; these distances count as lower bounds",
            )
        return CertificateResult(distance, nearest, exact, doubts)

    def _in_batches(
        self, classifier: Classifier, x: Tensor, y: Tensor, domain: Domain, size: int
    ) -> CertificateResult:
        """Certify some points at a time, and put the results together."""
        parts = [
            self(classifier, x[rows], y[rows], domain=domain.take(rows))
            for rows in (slice(first, first + size) for first in range(0, len(x), size))
        ]
        distance, nearest, exact = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("distance", "nearest", "exact")
        )
        doubts = tuple(dict.fromkeys(doubt for part in parts for doubt in part.warnings))
        return CertificateResult(distance, nearest, exact, doubts)


@dataclass(frozen=True, eq=False)
class _Claim:
    """What a certificate reported, as tensors of the right shape, NaN where it named no point."""

    distance: Tensor
    nearest: Tensor
    exact: Tensor

    @classmethod
    def of(cls, found: Certified, x: Tensor, name: str) -> _Claim:
        if not isinstance(found, Certified):
            raise TypeError(
                f"expected {name}.certify to return Certified, got {type(found).__name__}."
            )
        distance = torch.as_tensor(found.distance).to(x)
        exact = torch.as_tensor(found.exact).to(x.device, torch.bool)
        if distance.shape != x.shape[:1] or exact.shape != x.shape[:1]:
            raise ArithmeticError(
                f"{name} must report one distance for each of {len(x)} points and whether it is "
                f"exact, got shapes {tuple(distance.shape)} and {tuple(exact.shape)}."
            )
        if not bool((distance >= 0).all()):  # also false for NaN
            raise ArithmeticError(f"{name} reported a distance that is NaN or negative.")
        nearest = torch.full_like(x, torch.nan)
        if found.nearest is not None:
            nearest = torch.as_tensor(found.nearest).to(x)
            if nearest.numel() != x.numel():
                raise ArithmeticError(
                    f"{name} must name one nearest error for each point, in shape "
                    f"{tuple(x.shape)}, got {tuple(nearest.shape)}."
                )
            nearest = nearest.reshape(x.shape)
        return cls(distance, nearest, exact)


@dataclass(frozen=True, eq=False)
class _Judge:
    """The classifier's own word on points, and on what was reported of them."""

    classifier: Classifier
    x: Tensor
    y: Tensor
    domain: Domain

    def wrongness(self, points: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return how wrong points are (n,): errors are where that is at least 0."""
        return wrongness_of(self.outputs(points), self.y[rows])

    def outputs(self, points: Tensor) -> Tensor:
        """Return what the classifier says of points, in its own precision, as float64."""
        dtype = dtype_of(self.classifier, default=torch.float64)
        return outputs(self.classifier, points.to(dtype)).detach().to(self.x)

    def confirmed(self, claim: _Claim, right: Tensor, name: str) -> Tensor:
        """Say of which points (n,) the nearest error that is named is one, and at its distance.

        Errors without an interior have no point beyond: a margin that is next to nothing, beside
        that of the point itself, has to do there.
        """
        confirmed = torch.zeros_like(right)
        rows = (right & claim.nearest.flatten(1).isfinite().all(1)).nonzero().squeeze(1)
        if len(rows) == 0:
            return confirmed
        domain, end, distance = self.domain.take(rows), claim.nearest[rows], claim.distance[rows]
        start = domain.project(self.x[rows])
        length = domain.distance(start, end)
        slack = _LENGTH * length + _OF_NORM * norm(end)
        value = self.wrongness(end, rows)
        contradiction = (value > 0) & (length < distance - slack)
        if bool(contradiction.any()):
            at = contradiction.nonzero()[0, 0]
            raise ArithmeticError(
                f"{name} excludes errors within {distance[at]:.9g} of point {rows[at]}, but names "
                f"one at {length[at]:.9g}: a bug of {name}; please report it to its author."
            )
        is_error = (value >= 0) | (value.abs() <= _UNDECIDED * self.wrongness(start, rows).abs())
        rounding = torch.finfo(dtype_of(self.classifier, default=torch.float64)).eps * norm(end)
        for beyond in _BEYOND:
            fraction = 1 + beyond + _ROUNDINGS * rounding / torch.where(length > 0, length, 1.0)
            is_error |= self.wrongness(domain.interpolate(start, end, fraction), rows) >= 0
        attained = (length - distance).abs() <= slack
        confirmed[rows] = attained & is_error & domain.contains(end)
        return confirmed
