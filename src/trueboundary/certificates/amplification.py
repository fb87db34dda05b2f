r"""From certified radii at random points to a bound on the error rate of the whole sphere.

If errors were not rare, their neighbourhood of angle t would be large (isoperimetry), and random
points would often lie in it. Points that are certified at t lie outside it, and counting them
bounds its measure, and with it the measure of the errors; see
`trueboundary.theory.caps.amplified_error_bound`. The angle must be fixed before the points that are
counted are drawn: it is chosen on separate pilot points.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trueboundary import _checks
from trueboundary.certificates.base import FloatArray
from trueboundary.presentable import PresentableFields
from trueboundary.theory.caps import log_amplified_error_bound

__all__ = ["ProvenErrorBound", "angles_of_chords", "choose_angle", "proven_error_bound"]


@dataclass(frozen=True, repr=False)
class ProvenErrorBound(PresentableFields):
    """An upper limit of an error rate on a sphere, with stated confidence.

    Attributes
    ----------
    angle : float
        The angle at which points were to be certified, in radians.
    n_points : int
        Points tested.
    n_exceptions : int
        Points among them that were not certified at that angle.
    confidence : float
        Probability, over the draw of the points, with which the limit holds.
    log_error_rate : float
        Natural logarithm of the limit; minus infinity if the error set must be empty, and 0 where
        nothing follows because every point is an exception.
    """

    angle: float
    n_points: int
    n_exceptions: int
    confidence: float
    log_error_rate: float

    @property
    def error_rate(self) -> float:
        """The limit itself, 0 where it is below the smallest float64."""
        return math.exp(self.log_error_rate)

    @property
    def log10(self) -> float:
        """Base-10 logarithm of the limit."""
        return self.log_error_rate / math.log(10)

    def __str__(self) -> str:
        """Say the result in one sentence."""
        points = (
            f"{self.n_points - self.n_exceptions:,} of {self.n_points:,} random points are "
            f"certified at {self.angle:.4g} radians."
        )
        if self.log_error_rate >= 0:
            return f"Nothing is proven about the error rate: {points}"
        limit = "is 0" if self.log_error_rate == -math.inf else f"is at most 10^{self.log10:.2f}"
        return f"With confidence {self.confidence:g} the error rate {limit}: {points}"


def proven_error_bound(
    certified_angles: npt.ArrayLike, dim: int, angle: float, *, confidence: float = 0.99
) -> ProvenErrorBound:
    """Bound an error rate from the certified radii of independent random points.

    Parameters
    ----------
    certified_angles : array_like of shape (n,)
        For each test point an angle in radians within which no error lies, 0 for errors; at most
        pi, or infinite where there is no error at all. Only whether it reaches `angle` matters.
        The points must be drawn independently and uniformly from the sphere, after `angle` was
        fixed.
    dim : int
        Dimension of the space, at least 2.
    angle : float
        The angle that counts as certified, from separate points: see `choose_angle`.
    confidence : float
        Confidence of the bound, strictly between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from trueboundary.certificates import choose_angle, proven_error_bound
    >>> pilot, test = np.full(200, 0.1), np.full(10_000, 0.1)
    >>> angle = choose_angle(pilot, 500, n_points=10_000)
    >>> print(proven_error_bound(test, 500, angle))  # doctest: +NORMALIZE_WHITESPACE
    With confidence 0.99 the error rate is at most 10^-7.89:
    10,000 of 10,000 random points are certified at 0.1 radians.
    """
    angles = _angles("certified_angles", certified_angles)
    angle = _checks.between("angle", angle, 0.0, math.pi, " radians")
    # A certified angle of 0 is that of an error, an exception at every angle, 0 included.
    n_exceptions = int(((angles < angle) | (angles == 0)).sum())
    log_error_rate = log_amplified_error_bound(
        dim, len(angles), angle, n_exceptions=n_exceptions, confidence=confidence
    )
    return ProvenErrorBound(angle, len(angles), n_exceptions, float(confidence), log_error_rate)


def choose_angle(
    pilot_angles: npt.ArrayLike, dim: int, *, n_points: int, confidence: float = 0.99
) -> float:
    """Choose the angle at which to test, from certified radii of pilot points.

    Each pilot angle is tried: at the share of exceptions seen among the pilot points (one more
    than seen, so that the smallest one is not taken for granted), which angle gives the smallest
    bound? A larger angle amplifies more but has more exceptions. The choice affects how small the
    bound becomes, never whether it holds.

    Parameters
    ----------
    pilot_angles : array_like of shape (n_pilot,)
        Certified angles of points that are not used in the test.
    dim : int
        Dimension of the space, at least 2.
    n_points : int
        Number of points that the test will have.
    confidence : float
        Confidence that the test will have.

    Returns
    -------
    float
        An angle in radians, one of the pilot angles (pi for an infinite one).

    Examples
    --------
    >>> from trueboundary.certificates import choose_angle
    >>> choose_angle([0.0, 0.1, 0.1, 0.1, 0.11], 500, n_points=1000)
    0.1
    """
    angles = np.sort(np.minimum(_angles("pilot_angles", pilot_angles), math.pi))
    n_points = _checks.check_integer("n_points", n_points, minimum=1)
    n_pilot = len(angles)
    candidates, seen = np.unique(angles, return_index=True)  # as many angles are smaller
    limits = []
    for candidate, n_below in zip(candidates, seen, strict=True):
        share = (n_below + 1) / (n_pilot + 1)
        limits.append(
            log_amplified_error_bound(
                dim,
                n_points,
                float(candidate),
                n_exceptions=min(n_points, math.ceil(share * n_points)),
                confidence=confidence,
            )
        )
    # Of equal bounds (all 1, or all 0) the smallest angle has the fewest exceptions. Where as many
    # exceptions are expected as there are points, the bound is 1, and no other is worse.
    return float(candidates[int(np.argmin(limits))])


def angles_of_chords(chords: npt.ArrayLike, radius: float) -> FloatArray:
    """Return the angles of chords of a sphere, 2 arcsin(chord / (2 radius)).

    Parameters
    ----------
    chords : array_like of shape (n,)
        Distances as certificates give them on a sphere, at most its diameter or infinite.
    radius : float
        The sphere's radius.

    Returns
    -------
    ndarray of shape (n,)
        Angles in radians; pi for infinite chords.

    Examples
    --------
    >>> from trueboundary.certificates import angles_of_chords
    >>> angles_of_chords([2.0, float("inf")], 1.0)
    array([3.14159265, 3.14159265])
    """
    radius = _checks.positive("radius", radius)
    values = _checks.real_array("chords", chords)
    with np.errstate(over="ignore"):
        half = np.where(np.isposinf(values), 1.0, 0.5 * (values / radius))
    if not ((half >= 0) & (half <= 1 + 1e-12)).all():
        raise ValueError(
            "chords must lie between 0 and the diameter of a sphere of radius "
            f"{radius:g}, or be infinite."
        )
    return np.asarray(2 * np.arcsin(np.minimum(half, 1.0)))


def _angles(name: str, values: npt.ArrayLike) -> FloatArray:
    """Return angles (n,), at least 0, or say what is wrong with them."""
    angles = _checks.real_array(name, values)
    if angles.ndim != 1 or angles.size == 0:
        raise ValueError(f"{name} must have shape (n,) with n > 0, got {angles.shape}.")
    if not (angles >= 0).all():  # also false for NaN
        raise ValueError(f"{name} must be angles of at least 0, got NaN or negative ones.")
    return angles
