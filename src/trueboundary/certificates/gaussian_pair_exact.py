"""Exact distances to the boundary between two Gaussians.

Where one class is a single Gaussian and so is the other, errors are where a quadratic function is
not positive. `trueboundary.theory.log_ratios` writes it in a few coordinates, and `project_quadric`
gives the nearest point.
"""

import numpy.typing as npt

from trueboundary._checks import finite_array
from trueboundary.certificates.quadric import NearestErrors, project_quadric
from trueboundary.theory.log_ratios import LogRatio

__all__ = ["nearest_pair_error"]


def nearest_pair_error(x: npt.ArrayLike, ratio: LogRatio) -> NearestErrors:
    """Return exact distances from points to where a log ratio of Gaussians is not positive.

    Parameters
    ----------
    x : array_like of shape (n, d)
        Points.
    ratio : LogRatio
        The log posterior odds of the points' own class, made by `log_ratio`.

    Returns
    -------
    NearestErrors
        Distances in all of space, all exact; infinite where the own class wins everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from trueboundary.theory.log_ratios import LowRankNormal, log_ratio
    >>> narrow = LowRankNormal(np.zeros(3), np.zeros((3, 0)), 1.0)
    >>> broad = LowRankNormal(np.zeros(3), np.zeros((3, 0)), 4.0)
    >>> result = nearest_pair_error(np.zeros((1, 3)), log_ratio([narrow, broad]))
    >>> result.distance.round(6), result.hard  # the square root of 8 log 2, in every direction
    (array([2.35482]), array([ True]))
    """
    points = finite_array("x", x)
    if points.ndim != 2 or points.shape[1] != ratio.anchor.size:
        raise ValueError(f"x must have shape (n, {ratio.anchor.size}), got {points.shape}.")
    curvature, gradient = ratio.expand(points)
    found = project_quadric(curvature, gradient, ratio.value(points))
    nearest = ratio.move(points, found.displacement)
    return NearestErrors(found.distance, nearest, found.residual, found.hard)
