r"""Exact distances of linear classifiers: a margin, or softmax regression with K logits.

An error of class y has some other logit at least as large as the own one: it lies behind one of the
hyperplanes :math:`f_j = f_y`, and the nearest of them is the distance,

.. math:: \min_{j \ne y} \frac{f_y(x) - f_j(x)}{\|w_y - w_j\|},

whichever class wins there. On a sphere of radius r what lies behind a hyperplane is a cap around
its unit normal u. With the angles A between u and x, and B of the cap, the nearest point is at the
angle A - B, and since cos B - cos A is the distance to the hyperplane over r, the chord
2 r sin((A - B) / 2) is that distance over sin((A + B) / 2), which keeps the digits of small ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trueboundary.certificates.base import Certificate, Certified, FloatArray, Subject
from trueboundary.certificates.relaxation import (
    Layer,
    classes_of,
    led_by,
    points_beside,
    prepare,
)
from trueboundary.domains import Domain, Space, Sphere

__all__ = ["LinearCertificate", "signed_distances"]


@dataclass(frozen=True)
class LinearCertificate(Certificate):
    """Certify linear classifiers of any number of classes, exactly, in space and on spheres.

    They are ``Linear`` layers, a ``Sequential`` of one with or without a ``Flatten`` before it, and
    all whose ``folded()`` gives a single layer, as softmax regression. The distances are
    exact up to float64 rounding; infinite where the own logit leads everywhere.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import LinearCertificate
    >>> layer = torch.nn.Linear(2, 3).requires_grad_(False)
    >>> layer.weight[:] = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    >>> layer.bias[:] = torch.tensor([0.0, -5.0, -2.0])
    >>> result = LinearCertificate()(layer, torch.zeros(1, 2), torch.tensor([0]))
    >>> result.distance.tolist(), result.exact.tolist()
    ([1.0], [True])
    """

    domains: ClassVar[tuple[type[Domain], ...]] = (Space, Sphere)

    def certify(self, subject: Subject) -> Certified:
        """Project the points onto the hyperplanes at which another logit draws level."""
        layers = prepare(subject.classifier)
        if len(layers) > 1:
            raise TypeError(
                f"LinearCertificate needs a single linear layer, got {len(layers)} with ReLUs "
                "between them; RelaxationCertificate bounds those."
            )
        projected = subject.domain.project(subject.x)
        points = points_beside(projected, layers, subject.classifier).numpy(force=True)
        on_sphere = isinstance(subject.domain, Sphere)
        distance, nearest = np.full(len(points), np.inf), np.full_like(points, np.nan)
        for label in np.unique(subject.labels).tolist():
            rows = np.flatnonzero(subject.labels == label)
            weight, bias = _leads(layers, label)
            x = points[rows]
            away, unit = signed_distances(x @ weight.T + bias, weight)
            if on_sphere:
                distance[rows], nearest[rows] = _on_sphere(x, away, unit)
            else:
                distance[rows], nearest[rows] = _in_space(x, away, unit)
        return Certified(distance, np.ones(len(points), dtype=bool), nearest)


def signed_distances(values: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far points lie before hyperplanes, and the hyperplanes' unit normals.

    Parameters
    ----------
    values : ndarray of shape (n, m)
        Values of m linear functions at the points.
    weight : ndarray of shape (m, d)
        Their gradients.

    Returns
    -------
    away : ndarray of shape (n, m)
        Signed distances; infinite, with the sign of the value, for a constant.
    unit : ndarray of shape (m, d)
        Directions in which the functions grow; 0 for a constant.
    """
    away, unit = np.copysign(np.full_like(values, np.inf), values), np.zeros_like(weight)
    for row, normal in enumerate(weight):
        peak = np.abs(normal).max()  # else squares of small weights would vanish
        if peak > 0:
            scaled = normal / peak
            length = np.linalg.norm(scaled)
            away[:, row], unit[row] = values[:, row] / peak / length, scaled / length
    return away, unit


def _leads(layers: list[Layer], label: int) -> tuple[FloatArray, FloatArray]:
    """Return the weights (m, d) and biases (m,) of a class's leads over the others."""
    if classes_of(layers) == 2:
        weight, bias = layers[0].weight, layers[0].bias
        if label == 0:
            weight, bias = -weight, -bias
    else:
        weight, bias = led_by(layers, label)[0].weight, led_by(layers, label)[0].bias
    return weight.numpy(force=True), bias.numpy(force=True)


def _in_space(x: FloatArray, away: FloatArray, unit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return distances and nearest points behind any of the hyperplanes; away > 0 is before it."""
    first = away.argmin(axis=1)
    step = away[np.arange(len(x)), first]
    nearest = np.full_like(x, np.nan)
    finite = np.isfinite(step)
    nearest[finite] = x[finite] - step[finite, None] * unit[first[finite]]
    return np.maximum(step, 0.0), nearest


def _on_sphere(x: FloatArray, away: FloatArray, unit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return chords and nearest points of the spheres through the points, as `_in_space`."""
    radius = np.linalg.norm(x, axis=1)
    distance, nearest = np.full(len(x), np.inf), np.full_like(x, np.nan)
    for before, growing in zip(away.T, unit, strict=True):
        u = -growing  # into the errors
        along = x @ u / radius
        beside = x / radius[:, None] - along[:, None] * u
        across = np.linalg.norm(beside, axis=1)
        cosine = along + before / radius
        rows = np.flatnonzero((np.abs(cosine) <= 1) & (before > 0))
        if x.shape[1] == 1:
            chord, ends = 2 * radius[rows], -x[rows]
        else:
            sideways = beside[rows]
            polar = across[rows] == 0  # opposite to the cap, from where all ways are as short
            sideways[polar] = _orthogonal(u)
            sideways /= np.linalg.norm(sideways, axis=1, keepdims=True)
            own = np.arctan2(across[rows], along[rows])
            cap = np.arccos(cosine[rows])
            chord = before[rows] / np.sin(0.5 * (own + cap))
            ends = np.cos(cap)[:, None] * u + np.sin(cap)[:, None] * sideways
            ends *= radius[rows, None]
        nearer = chord < distance[rows]
        distance[rows[nearer]], nearest[rows[nearer]] = chord[nearer], ends[nearer]
    return distance, nearest


def _orthogonal(u: FloatArray) -> FloatArray:
    """Return a vector orthogonal to a unit vector of at least two coordinates."""
    axis = np.zeros_like(u)
    axis[np.abs(u).argmin()] = 1.0
    return np.asarray(axis - (axis @ u) * u)
