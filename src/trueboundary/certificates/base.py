"""What every certificate returns, and how it is called."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Certificate", "CertificateResult"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CertificateResult:
    """Proven distances to the nearest error, one entry per point, as float64 numpy arrays.

    Attributes
    ----------
    distance : ndarray of shape (n,)
        No error is nearer than this; 0 for points that are errors themselves, infinite where the
        domain holds no error at all. Chords on spheres, Euclidean elsewhere.
    exact : ndarray of bool, shape (n,)
        Whether the distance is attained, so that it is *the* distance and not only a lower bound.
    nearest : ndarray of shape (n, ...)
        The nearest point of the error set's closure (where a bound is not exact, the point that
        gives the bound); NaN where the distance is infinite.
    residual : ndarray of shape (n,)
        Relative violation of the optimality conditions at `nearest`, of the order of 1e-15 for a
        float64 solution; 0 where there was nothing to solve.
    hard : ndarray of bool, shape (n,)
        Whether the nearest error is not unique (the hard case of the projection).

    Examples
    --------
    >>> from trueboundary.certificates import nearest_ellipsoid
    >>> result = nearest_ellipsoid([[0.0, 0.8, 0.6]], [1.5, 0.7, 0.6])
    >>> result.distance.round(6), result.hard
    (array([0.671421]), array([ True]))
    """

    distance: FloatArray
    exact: BoolArray
    nearest: FloatArray
    residual: FloatArray
    hard: BoolArray


class Certificate(Protocol):
    """A callable that proves distances to the nearest error of a classifier."""

    def __call__(
        self, classifier: Any, x: Any, y: Any, *, domain: Any | None = None
    ) -> CertificateResult:
        """Return proven distances for points `x` with labels `y` within `domain`.

        Parameters
        ----------
        classifier : callable
            The classifier.
        x : array or Tensor of shape (n, ...)
            Points.
        y : array or Tensor of shape (n,)
            Labels, 0 or 1.
        domain : Domain, optional
            Where errors count, one of :mod:`trueboundary.attacks.domains`; all of space if None.

        Returns
        -------
        CertificateResult
            One distance per point.
        """
        ...
