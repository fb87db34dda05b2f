"""What every certificate returns, how it is called, and what it asks of its input."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Certificate", "CertificateResult", "check_labels", "check_points"]

FloatArray = npt.NDArray[np.float64]
LabelArray = npt.NDArray[np.int64]
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
            Where errors count, one of :mod:`trueboundary.domains`; all of space if None.

        Returns
        -------
        CertificateResult
            One distance per point.
        """
        ...


def check_points(x: Any, dim: int | None = None) -> FloatArray:
    """Return points as finite float64 rows (n, dim), or say what is wrong with them.

    Parameters
    ----------
    x : array or Tensor of shape (n, *event)
        Points, each of `dim` numbers in all.
    dim : int, optional
        Numbers per point; any if None.

    Raises
    ------
    TypeError
        If `x` is not an array of real numbers.
    ValueError
        If its shape does not fit, or a point is not finite.

    Examples
    --------
    >>> check_points([[0, 3], [4, 0]])
    array([[0., 3.],
           [4., 0.]])
    """
    array = _real_array("x", x)
    expected = f"x must hold finite points of shape (n, {'d' if dim is None else dim})"
    if array.ndim < 2:
        raise ValueError(f"{expected}, got shape {array.shape}.")
    points = array.reshape(len(array), int(np.prod(array.shape[1:])))
    if points.shape[1] == 0 or dim not in (None, points.shape[1]):
        raise ValueError(f"{expected}, got shape {array.shape}.")
    wrong = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if wrong.size:
        raise ValueError(
            f"{expected}, got NaN or infinite numbers in {wrong.size} of {len(points)} points, "
            f"the first in point {wrong[0]}; leave such points out."
        )
    return points


def check_labels(y: Any, n: int) -> LabelArray:
    """Return n labels 0 or 1 as integers, or say what is wrong with them.

    Raises
    ------
    TypeError
        If `y` is not an array of real numbers.
    ValueError
        If there are more or fewer than n of them, or one is neither 0 nor 1.

    Examples
    --------
    >>> check_labels([True, False], 2)
    array([1, 0])
    """
    labels = _real_array("y", y)
    if labels.shape != (n,):
        raise ValueError(f"y must hold {n} labels, each 0 or 1, got shape {labels.shape}.")
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if wrong.size:
        raise ValueError(
            f"y must hold {n} labels, each 0 or 1, got {labels[wrong[0]]:g} for point {wrong[0]}."
        )
    return labels.astype(np.int64)


def _real_array(name: str, values: Any) -> FloatArray:
    """Return values, which may be a tensor on any device, as a float64 array of their own shape."""
    try:
        # torch comes in with tensors: it is not needed here.
        if hasattr(values, "detach") and not values.is_complex():
            values = values.detach().to_dense().double().numpy(force=True)
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"its type is {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be an array of real numbers ({error}).") from error
