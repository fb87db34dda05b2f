r"""Exact nearest errors of a classifier whose decision surface is an ellipsoid.

Off the sphere the errors are one side of the quadric sum_i alpha_i z_i^2 = 1. On a sphere of radius
r they are the directions in the cone sum_i (alpha_i - 1/r^2) z_i^2 >= 0 (or <= 0), and the nearest
one is the direction of the Euclidean projection onto that cone: no second constraint is needed,
because a cone contains every multiple of its points. Error sets are closed: a sum of exactly 1 is
an error for either class, also where such points have no interior (where no alpha exceeds 1 but
some are 1, the errors of the unit sphere are a great circle, or all of it).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from trueboundary._checks import choice, finite_array, outer_radius
from trueboundary.certificates.base import BoolArray, Certificate, Certified, FloatArray, Subject
from trueboundary.certificates.quadric import NearestErrors, project_quadric, proven_length
from trueboundary.classifiers import SphereBayes
from trueboundary.classifiers.integrity import require_agreement, require_own
from trueboundary.domains import Domain, Space, Sphere
from trueboundary.theory.quadratic_forms import above_inverse_square

__all__ = ["EllipsoidCertificate", "nearest_ellipsoid", "nearest_ellipsoid_error"]

_ON_SPHERE = 1e-4  # relative error of a norm that still counts as lying on the sphere
_RADII = (1e-60, 1e60)  # of spheres; their squares and those of their inverses are float64
# What rounding may have done to the alphas of a network, as a share of the largest one, and how
# much of a distance (or of the nearest point's norm) that may change for it to count as exact.
_ROUNDING = 8 * float(np.finfo(np.float64).eps)
_EXACT, _EXACT_NORM = 1e-9, 1e-12


def nearest_ellipsoid_error(
    x: npt.ArrayLike,
    alphas: npt.ArrayLike,
    *,
    sphere: Literal["inner", "outer"] = "inner",
    radius: float = 1.3,
    on_sphere: bool = True,
) -> FloatArray:
    """Return the exact distance from each point to the nearest error of an ellipsoid classifier.

    Parameters
    ----------
    x : array_like of shape (n, d)
        Points in the ellipsoid's eigenbasis: of the unit sphere (`sphere` is "inner") or of the
        sphere of radius `radius` ("outer").
    alphas : array_like of shape (d,)
        Coefficients of the decision surface sum_i alpha_i z_i^2 = 1; inside is the inner class.
    sphere : {"inner", "outer"}
        The class of the points: errors are where the sum is at least 1, or at most 1.
    radius : float
        Radius of the outer sphere, above 1.
    on_sphere : bool
        Whether only errors on the point's own sphere count (distances are chords), or errors
        anywhere in space (Euclidean distances).

    Returns
    -------
    ndarray of shape (n,)
        Distances; 0 for errors, infinite where there is no error to be found. Alphas and radius
        are taken as they are: where alphas are close to 1/radius^2, the rounding of that number
        does not count.

    Raises
    ------
    ArithmeticError
        If alphas differ by more than some 100 orders of magnitude.

    Examples
    --------
    >>> nearest_ellipsoid_error([[0.0, 0.8, 0.6]], [1.5, 0.7, 0.6]).round(6)
    array([0.671421])
    """
    return nearest_ellipsoid(x, alphas, sphere=sphere, radius=radius, on_sphere=on_sphere).distance


def nearest_ellipsoid(
    x: npt.ArrayLike,
    alphas: npt.ArrayLike,
    *,
    sphere: Literal["inner", "outer"] = "inner",
    radius: float = 1.3,
    on_sphere: bool = True,
) -> NearestErrors:
    """Return what `nearest_ellipsoid_error` does, with nearest errors in the eigenbasis.

    Examples
    --------
    >>> result = nearest_ellipsoid([[0.6, 0.8]], [1.5, 0.7], on_sphere=False)
    >>> round(float((result.nearest**2 @ [1.5, 0.7]).item()), 12)  # on the decision surface
    1.0
    """
    choice("sphere", sphere, ("inner", "outer"))
    radius = outer_radius(radius)
    points, coefficients = _points_and_alphas(x, alphas)
    outside = np.full(len(points), sphere == "inner")
    if not on_sphere:
        return _InSpace.of(points, outside).nearest(coefficients)[0]
    radii = np.full(len(points), 1.0 if sphere == "inner" else radius)
    return _OnSphere.of(points, outside, radii).nearest(coefficients)[0]


@dataclass(frozen=True)
class EllipsoidCertificate(Certificate):
    """Exact nearest errors of a quadratic classifier, on a sphere and in all of space.

    It reads classifiers whose class has a method ``ellipsoid()``, such as `QuadraticNetwork`: their
    margin has the sign of scale (sum_i alpha_i z_i^2 - 1) with z = axes^T x; a negative scale
    (which exchanges the two classes) is handled. On `Sphere` distances are chords. They are lower
    bounds where the rounding of the alphas could matter, as for alphas that differ from 1/radius^2
    by little more than their rounding.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.domains import Sphere
    >>> from trueboundary.classifiers import QuadraticNetwork
    >>> network = QuadraticNetwork.perfect(dim=3, width=6)
    >>> x, y = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
    >>> EllipsoidCertificate()(network, x, y, domain=Sphere()).distance  # perfect: no errors
    tensor([inf], dtype=torch.float64)
    >>> round(EllipsoidCertificate()(network, x, y).distance.item(), 6)  # the sphere of radius 1.15
    0.15
    """

    domains: ClassVar[tuple[type[Domain], ...]] = (Space, Sphere)

    def certify(self, subject: Subject) -> Certified:
        """Project the points onto the ellipsoid, or their directions onto the cone of errors."""
        classifier, points = subject.classifier, subject.points
        if not hasattr(classifier, "ellipsoid"):
            raise TypeError(
                "EllipsoidCertificate needs a classifier with a method ellipsoid(), such as "
                f"QuadraticNetwork, got {type(classifier).__name__}."
            )
        require_own(classifier, "ellipsoid", "EllipsoidCertificate")
        ellipsoid = classifier.ellipsoid()
        axes, scale = finite_array("axes", ellipsoid.axes), float(ellipsoid.scale)
        points, alphas = _points_and_alphas(points, ellipsoid.alphas)
        if scale == 0 or not np.isfinite(scale):
            raise ValueError(f"The margin's scale must be finite and not 0, got {scale}.")
        require_margins(classifier, ellipsoid, points, "EllipsoidCertificate")
        outside = (subject.labels == 0) == (scale > 0)
        radii = None
        if isinstance(subject.domain, Sphere):  # bound, so that each point has its radius
            radii = np.asarray(torch.as_tensor(subject.domain.radius).double().numpy(force=True))
        found, exact = _allowing_for_rounding(points @ axes, alphas, outside, radii)
        return Certified(found.distance, exact, found.nearest @ axes.T)


def require_margins(classifier: Any, ellipsoid: Any, x: FloatArray, who: str) -> None:
    """Raise unless a classifier's margins at points are those of its ellipsoid."""
    squares = (x @ ellipsoid.axes) ** 2
    form = squares @ np.abs(ellipsoid.alphas)
    # No unit's squared weights exceed the sum of alphas, nor does a product with x its length.
    largest = float(np.abs(ellipsoid.alphas).sum()) * (x**2).sum(axis=1)
    units = np.sqrt(x.shape[1]) * np.sqrt(form * largest) + largest + 1
    scale = float(ellipsoid.scale)
    margins, rounding = scale * (squares @ ellipsoid.alphas - 1), abs(scale) * units
    if isinstance(classifier, SphereBayes):  # which says norms where the ellipsoid says squares
        boundary, sizes = classifier.boundary.item(), np.linalg.norm(x, axis=1)
        margins, rounding = sizes - boundary, np.sqrt(x.shape[1]) * sizes + boundary
    require_agreement(classifier, x, margins, rounding, who)


def _allowing_for_rounding(
    x: FloatArray, alphas: FloatArray, outside: BoolArray, radii: FloatArray | None
) -> tuple[NearestErrors, BoolArray]:
    """Return nearest errors, lower bounds where the rounding of the alphas could matter, and which.

    The lower bound is the distance to the errors of alphas that rounding may have turned into
    these, whichever they are.
    """
    slack = np.full(len(x), _ROUNDING * np.abs(alphas).max(initial=0.0))
    if radii is not None:
        slack += _ROUNDING * np.reciprocal(radii**2, where=radii > 0, out=np.zeros_like(radii))
    problem = _InSpace.of(x, outside) if radii is None else _OnSphere.of(x, outside, radii)
    found, multiplier = problem.nearest(alphas)
    nearer_alphas = alphas + np.where(outside, slack, -slack)[:, None]
    rest = _EXACT_NORM * np.linalg.norm(x, axis=1)
    enough = found.distance * (1 - _EXACT) - rest
    # The multiplier that is best for one of the two is nearly so for the other, and any of them
    # bounds the distance from below. Only where that does not suffice is the other solved.
    exact = problem.at_least(nearer_alphas, multiplier) >= enough
    if not exact.all():
        open_rows = np.flatnonzero(~exact)
        nearer = problem.take(open_rows).nearest(nearer_alphas[open_rows])[0]
        exact[open_rows] = nearer.distance >= enough[open_rows]
        for one, two in zip(vars(found).values(), vars(nearer).values(), strict=True):
            one[open_rows[~exact[open_rows]]] = two[~exact[open_rows]]
    return found, exact


@dataclass(frozen=True, eq=False)
class _InSpace:
    """Projections onto {sum alpha z^2 >= 1} (where `outside`) or {sum alpha z^2 <= 1}.

    The alphas may be the same for all points, (d,), or not, (n, d). Lengths are in units of each
    point's, a power of two, so that no square leaves the range; errors are where
    sign (sum - 1) <= 0.
    """

    z: FloatArray
    unit: npt.NDArray[np.intp]
    sign: FloatArray

    @classmethod
    def of(cls, x: FloatArray, outside: BoolArray) -> "_InSpace":
        unit = np.frexp(np.abs(x).max(axis=1, initial=0.0))[1][:, None]
        return cls(np.ldexp(x, -unit), unit, np.where(outside, -1.0, 1.0)[:, None])

    def take(self, rows: npt.NDArray[np.intp]) -> "_InSpace":
        return _InSpace(self.z[rows], self.unit[rows], self.sign[rows])

    def quadratic(self, alphas: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return curvatures and values."""
        with np.errstate(over="ignore"):
            curvature = self.sign * np.ldexp(alphas, 2 * self.unit)
        if not np.isfinite(curvature).all():
            raise ValueError("alphas times squares of x must be float64, got larger numbers.")
        return curvature, 0.5 * ((curvature * self.z**2).sum(axis=1) - self.sign[:, 0])

    def nearest(self, alphas: FloatArray) -> tuple[NearestErrors, FloatArray]:
        """Return nearest errors, and multipliers."""
        curvature, value = self.quadratic(alphas)
        centre = -0.5 * self.sign[:, 0]
        solution = project_quadric(curvature, curvature * self.z, value, centre_value=centre)
        found = NearestErrors(
            np.ldexp(solution.distance, self.unit[:, 0]),
            np.ldexp(self.z + solution.displacement, self.unit),
            solution.residual,
            solution.hard,
        )
        return found, solution.multiplier

    def at_least(self, alphas: FloatArray, multiplier: FloatArray) -> FloatArray:
        """Return what multipliers prove of the distances."""
        curvature, value = self.quadratic(alphas)
        length = proven_length(curvature, curvature * self.z, value, multiplier)
        return np.asarray(np.ldexp(length, self.unit[:, 0]))


@dataclass(frozen=True, eq=False)
class _OnSphere:
    """Projections of directions onto the error cone; the angle to the projection is the distance.

    The alphas may be the same for all points, (d,), or not, (n, d).
    """

    unit: FloatArray
    outside: BoolArray
    radii: FloatArray

    @classmethod
    def of(cls, x: FloatArray, outside: BoolArray, radii: FloatArray) -> "_OnSphere":
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(x, axis=1)
        if not (np.abs(norms - radii) <= _ON_SPHERE * radii).all() or (norms == 0).any():
            worst = float(norms[np.argmax(np.abs(norms - radii))])
            raise ValueError(
                f"Points must lie on their sphere, got one of norm {worst:.6g}; "
                "rescale them, or ask for the distance off the sphere."
            )
        if not ((radii >= _RADII[0]) & (radii <= _RADII[1])).all():
            raise ValueError(f"The radius of a sphere must lie in [{_RADII[0]:g}, {_RADII[1]:g}].")
        return cls(x / norms[:, None], outside, radii)

    def take(self, rows: npt.NDArray[np.intp]) -> "_OnSphere":
        return _OnSphere(self.unit[rows], self.outside[rows], self.radii[rows])

    def weights(self, alphas: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the weights of the form that is not negative in the cone, and the largest."""
        radii = self.radii[:1] if (self.radii == self.radii[:1]).all() else self.radii
        above = above_inverse_square(alphas, radii[:, None])
        weights = np.where(self.outside, 1.0, -1.0)[:, None] * above
        return weights, weights.max(axis=1)

    def value(self, weights: FloatArray, highest: FloatArray) -> FloatArray:
        """Return values at the points, 0 where every direction has a negative sum: no errors."""
        value = -0.5 * (self.unit**2 * weights).sum(axis=1)
        return np.where(highest < 0, 0.0, value)

    def chord(self, angle: FloatArray) -> FloatArray:
        return np.asarray(2 * self.radii * np.sin(0.5 * angle))

    def nearest(self, alphas: FloatArray) -> tuple[NearestErrors, FloatArray]:
        """Return nearest errors, and multipliers."""
        weights, highest = self.weights(alphas)
        empty, value = highest < 0, self.value(weights, highest)
        centre = np.zeros(len(value))
        solution = project_quadric(-weights, -weights * self.unit, value, centre_value=centre)
        cone_point = self.unit + solution.displacement
        # Where no weight is positive the cone is the subspace of those that are 0.
        flat = (highest == 0) & (value > 0)
        if flat.any():
            cone_point[flat] = np.where(weights[flat] < 0, 0.0, cone_point[flat])
        # The projection onto a cone is orthogonal to the step: sine and cosine of the angle.
        cosine = np.linalg.norm(cone_point, axis=1)
        aside = cosine == 0  # orthogonal to that subspace, so that all its directions are as near
        cone_point[aside, weights.argmax(axis=1)[aside]] = 1.0
        distance = np.where(empty, np.inf, self.chord(np.arctan2(solution.distance, cosine)))
        nearest = (self.radii / np.where(aside, 1.0, cosine))[:, None] * cone_point
        nearest[empty] = np.nan
        found = NearestErrors(distance, nearest, solution.residual, solution.hard | aside)
        return found, solution.multiplier

    def at_least(self, alphas: FloatArray, multiplier: FloatArray) -> FloatArray:
        """Return what multipliers prove of the distances."""
        weights, highest = self.weights(alphas)
        value = self.value(weights, highest)
        sine = proven_length(-weights, -weights * self.unit, value, multiplier)
        chord = self.chord(np.arcsin(np.minimum(sine, 1.0)))
        return np.where(highest < 0, np.inf, chord)


def _points_and_alphas(x: npt.ArrayLike, alphas: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return points (n, d) and coefficients (d,), or say why they do not fit."""
    points, coefficients = finite_array("x", x), finite_array("alphas", alphas)
    if coefficients.ndim != 1 or points.ndim != 2 or points.shape[1:] != coefficients.shape:
        raise ValueError(
            f"x must have shape (n, d) and alphas (d,), got {points.shape} and "
            f"{coefficients.shape}."
        )
    return points, coefficients
