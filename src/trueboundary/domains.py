"""Where errors count: in all of space, a box, on a sphere, or in the shell between two spheres.

Every domain answers the same questions, so that one search serves them all: is a point inside
(`contains`), which inside point is nearest (`project`), which part of a vector stays inside to
first order (`tangent`), where does a path of given length lead (`move`), what lies between two
points (`interpolate`), how far apart they are (`distance`, Euclidean on every domain), how far
apart two points can be (`span`), and how far away an error is to be expected (`reach`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Box", "Domain", "Shell", "Space", "Sphere", "bound_to"]

_TOLERANCE = 1e-5  # relative; wide enough for points that were normalised in single precision
_NOISE = 16.0  # a tangent part below this many roundings of the vector is rounding, not direction


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape ``(n,)`` values so that they broadcast against ``(n, *event)``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of each pair of samples, ``(n, *event) -> (n,)``."""
    return (first * second).flatten(1).sum(1)


def norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm of each sample, ``(n, *event) -> (n,)``."""
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length


def unit(x: Tensor) -> Tensor:
    """Scale each sample to norm one; a sample that is exactly zero stays zero.

    The largest entry is divided out first, so that a gradient of 1e-30 or 1e+30 loses nothing to
    underflow or overflow of its squares.
    """
    largest = per_sample(x.flatten(1).abs().amax(1), x)
    x = x / torch.where(largest > 0, largest, torch.ones_like(largest))
    length = per_sample(norm(x), x)
    return x / torch.where(length > 0, length, torch.ones_like(length))


@dataclass(frozen=True, eq=False)
class Domain(ABC):
    """The set an attack may move in. All points are ``(n, *event)`` floating-point tensors."""

    @abstractmethod
    def contains(self, x: Tensor) -> Tensor:
        """Say for each point whether it lies in the domain, to a relative 1e-5: ``(n,)`` bool."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Return the point of the domain nearest to each point."""

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the part of ``v`` along which a point ``x`` of the domain can start to move."""
        del x
        return v

    def move(self, x: Tensor, direction: Tensor, length: Tensor) -> Tensor:
        """Follow unit tangent vectors ``direction`` from ``x`` for path lengths ``length (n,)``."""
        return self.project(x + per_sample(length, x) * direction)

    def interpolate(self, start: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
        """Return the point at ``fraction (n,)`` of the way; a fraction above 1 goes beyond."""
        return self.project(start + per_sample(fraction, start) * (end - start))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the vector at ``x`` that points along the path to ``y``, as long as that path."""
        return y - x

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the Euclidean distance of each pair of points, ``(n,)``, 0 for equal ones only."""
        step = x - y
        length, limits = norm(step), torch.finfo(x.dtype)
        squares_fit = (length > limits.tiny**0.5 / limits.eps) & length.isfinite()
        return torch.where(squares_fit, length, dot(step, unit(step)))

    def span(self, x: Tensor) -> Tensor:
        """Return the largest distance between two points of the domain, ``(n,)``, or infinity."""
        return torch.full_like(x.flatten(1)[:, 0], torch.inf)

    def reach(self, x: Tensor, first_order: Tensor) -> Tensor:
        """Return the order of magnitude of the distance to an error, ``(n,)``, to scale steps by.

        ``first_order (n,)`` is where the margin would change its sign if it were linear. A domain
        with a size of its own limits it, or says better. Where it is zero or not finite, which
        says nothing, the size of the domain or of the point itself stands in for it. All of these
        grow with the problem: what is measured in units of them does not depend on the units of
        the points.
        """
        span, size = self.span(x), norm(x)
        size = torch.where(size > 0, size, torch.ones_like(size))
        size = torch.where(span.isfinite(), span, size)
        known = first_order.isfinite() & (first_order > 0)
        return torch.where(known, torch.minimum(first_order, span), size)

    def bind(self, x: Tensor) -> Domain:
        """Return the same domain with everything that depends on the start points fixed."""
        del x
        return self

    def take(self, index: Tensor | slice) -> Domain:
        """Return the domain of the samples at ``index``."""
        del index
        return self

    def describe(self) -> str:
        """Return the words an error message uses for this domain."""
        return repr(self)


def bound_to(domain: Domain, x: Tensor) -> Domain:
    """Return a domain bound to start points, or say how many of them do not lie in it."""
    if not isinstance(domain, Domain):
        raise TypeError(f"expected a domain such as Sphere() or Box(), got {type(domain).__name__}")
    bound = domain.bind(x)
    outside = ~bound.contains(x)
    if bool(outside.any()):
        raise ValueError(
            f"expected every sample inside {bound.describe()}, but {int(outside.sum())} of "
            f"{x.shape[0]} lie outside; try domain.project(x)"
        )
    return bound


@dataclass(frozen=True, eq=False)
class Space(Domain):
    """All of space: nothing is excluded.

    Examples
    --------
    >>> import torch
    >>> Space().contains(torch.zeros(2, 3)).tolist()
    [True, True]
    """

    def contains(self, x: Tensor) -> Tensor:
        """Say for each point whether all its entries are finite: ``(n,)`` bool."""
        return x.flatten(1).isfinite().all(1)

    def project(self, x: Tensor) -> Tensor:
        """Return ``x`` unchanged."""
        return x


@dataclass(frozen=True, eq=False)
class Box(Domain):
    """All points with ``low <= x <= high``, entry by entry.

    Parameters
    ----------
    low, high : float or Tensor
        Bounds, numbers or tensors that broadcast against one event; infinite bounds are allowed.

    Raises
    ------
    ValueError
        If a lower bound exceeds its upper bound, or is not a number.

    Examples
    --------
    >>> import torch
    >>> Box(0.0, 1.0).project(torch.tensor([[-0.5, 0.25, 2.0]])).tolist()
    [[0.0, 0.25, 1.0]]
    """

    low: float | Tensor
    high: float | Tensor

    def __post_init__(self) -> None:
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        if not bool((low <= high).all()):
            raise ValueError(
                f"expected low <= high in every entry of a box, got low={self.low} and "
                f"high={self.high}; swap them?"
            )

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.as_tensor(self.low, dtype=x.dtype, device=x.device)
        high = torch.as_tensor(self.high, dtype=x.dtype, device=x.device)
        return low, high

    def contains(self, x: Tensor) -> Tensor:
        """Say for each point whether it lies in the box, to 1e-5 of its width: ``(n,)`` bool."""
        low, high = self._bounds(x)
        width = high - low
        slack = _TOLERANCE * torch.where(width.isfinite(), width, torch.ones_like(width))
        return ((x >= low - slack) & (x <= high + slack)).flatten(1).all(1)

    def project(self, x: Tensor) -> Tensor:
        """Clip each entry to its bounds."""
        low, high = self._bounds(x)
        return torch.minimum(torch.maximum(x, low), high)

    def span(self, x: Tensor) -> Tensor:
        """Return the length of the diagonal, ``(n,)``."""
        low, high = self._bounds(x)
        return norm((high - low).expand_as(x))

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Drop the entries of ``v`` that push an entry of ``x`` through the bound it lies on."""
        low, high = self._bounds(x)
        blocked = ((x <= low) & (v < 0)) | ((x >= high) & (v > 0))
        return torch.where(blocked, torch.zeros_like(v), v)


@dataclass(frozen=True, eq=False)
class Sphere(Domain):
    """All points of one norm; paths are great circles, distances are chords.

    Parameters
    ----------
    radius : float, Tensor or None
        Radius of the sphere, a tensor ``(n,)`` of one radius per sample, or ``None`` for each
        point's own norm.

    Raises
    ------
    ValueError
        If a radius is not positive and finite.

    Notes
    -----
    With radius ``r`` and chord ``c`` the path length is ``2 r asin(c / (2 r))``, which keeps all
    digits of short distances; an arc cosine of the inner product would lose half of them.

    Examples
    --------
    >>> import torch
    >>> sphere = Sphere()
    >>> north, east = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    >>> round(sphere.distance(north, east).item(), 4), round(sphere.geodesic(north, east).item(), 4)
    (2.8284, 3.1416)
    """

    radius: float | Tensor | None = None

    def __post_init__(self) -> None:
        if self.radius is None:
            return
        radius = torch.as_tensor(self.radius)
        if not bool(((radius > 0) & radius.isfinite()).all()):
            raise ValueError(
                f"expected the radius of a sphere to be positive and finite, got {self.radius}; "
                "use radius=None for each point's own norm"
            )

    def _radius(self, x: Tensor) -> Tensor:
        if self.radius is None:
            return norm(x)
        radius = torch.as_tensor(self.radius, dtype=x.dtype, device=x.device)
        return radius.expand(x.shape[0])

    def contains(self, x: Tensor) -> Tensor:
        """Say for each point whether its norm is the radius, to a relative 1e-5: ``(n,)`` bool."""
        radius = self._radius(x)
        return ((norm(x) - radius).abs() <= _TOLERANCE * radius) & (radius > 0)

    def project(self, x: Tensor) -> Tensor:
        """Rescale each point to the radius; the origin, which has no nearest point, stays."""
        return per_sample(self._radius(x), x) * unit(x)

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Remove the radial part of ``v``; what is left within rounding of zero becomes zero."""
        normal = unit(x)
        part = v - per_sample(dot(v, normal), v) * normal
        # A purely radial gradient leaves rounding behind, and normalised rounding would look
        # like a direction to follow.
        rounding = _NOISE * torch.finfo(v.dtype).eps * norm(v)
        part = torch.where(per_sample(norm(part) <= rounding, v), torch.zeros_like(part), part)
        return part - per_sample(dot(part, normal), v) * normal

    def move(self, x: Tensor, direction: Tensor, length: Tensor) -> Tensor:
        """Follow great circles from ``x`` along unit tangent vectors for arc lengths ``length``."""
        radius = self._radius(x)
        angle = length / radius
        point = per_sample(angle.cos(), x) * x + per_sample(radius * angle.sin(), x) * direction
        return per_sample(radius, x) * unit(point)

    def interpolate(self, start: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
        """Return the point at ``fraction (n,)`` of the great-circle arc from start to end."""
        path = self.log(start, end)
        return self.move(start, unit(path), fraction * norm(path))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the tangent vector at ``x`` whose great circle reaches ``y``, as long as the arc.

        Antipodal points have no unique arc; they give the zero vector.
        """
        difference = y - x
        normal = unit(x)
        direction = unit(difference - per_sample(dot(difference, normal), x) * normal)
        return per_sample(self.geodesic(x, y), x) * direction

    def geodesic(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the length of the shorter great-circle arc, ``2 r asin(|x - y| / (2 r))``."""
        radius = self._radius(x)
        return 2 * radius * torch.asin((norm(x - y) / (2 * radius)).clamp(max=1))

    def span(self, x: Tensor) -> Tensor:
        """Return the diameter, ``(n,)``."""
        return 2 * self._radius(x)

    def reach(self, x: Tensor, first_order: Tensor) -> Tensor:
        """Return a tenth of the radius, ``(n,)``: the geometry is known, whatever the margin."""
        del first_order
        return self._radius(x) / 10

    def bind(self, x: Tensor) -> Sphere:
        """Return the sphere with one fixed radius per sample, ``x``'s own where none was given."""
        return Sphere(self._radius(x))

    def take(self, index: Tensor | slice) -> Sphere:
        """Return the sphere of the samples at ``index``."""
        if isinstance(self.radius, Tensor) and self.radius.ndim > 0:
            return Sphere(self.radius[index])
        return self

    def describe(self) -> str:
        """Return the words an error message uses for this domain."""
        if isinstance(self.radius, Tensor):
            return "the sphere of each sample's radius"
        return f"the sphere of radius {self.radius if self.radius is not None else 'of each point'}"


@dataclass(frozen=True, eq=False)
class Shell(Domain):
    """All points with ``inner <= norm <= outer``: the space between two concentric spheres.

    Parameters
    ----------
    inner, outer : float
        Smallest and largest norm, ``0 <= inner <= outer``.

    Raises
    ------
    ValueError
        If the two norms are not in order.

    Examples
    --------
    >>> import torch
    >>> Shell(1.0, 1.3).project(torch.tensor([[0.0, 0.5], [0.0, 2.0]])).tolist()
    [[0.0, 1.0], [0.0, 1.2999999523162842]]
    """

    inner: float
    outer: float

    def __post_init__(self) -> None:
        if not 0 <= self.inner <= self.outer or self.outer == 0:
            raise ValueError(
                "expected the norms of a shell in the order 0 <= inner <= outer with outer > 0, "
                f"got inner={self.inner} and outer={self.outer}"
            )

    def contains(self, x: Tensor) -> Tensor:
        """Say for each point whether its norm is in range, to a relative 1e-5: ``(n,)`` bool."""
        size = norm(x)
        return (size >= self.inner * (1 - _TOLERANCE)) & (size <= self.outer * (1 + _TOLERANCE))

    def project(self, x: Tensor) -> Tensor:
        """Rescale each point whose norm is out of range to the nearer of the two spheres."""
        size = norm(x)
        inside = (size >= self.inner) & (size <= self.outer)
        rescaled = per_sample(size.clamp(self.inner, self.outer), x) * unit(x)
        return torch.where(per_sample(inside, x), x, rescaled)

    def span(self, x: Tensor) -> Tensor:
        """Return the diameter of the outer sphere, ``(n,)``."""
        return torch.full_like(norm(x), 2 * self.outer)

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Remove the radial part of ``v`` where it points out of the shell."""
        size, normal = norm(x), unit(x)
        radial = dot(v, normal)
        edge = 4 * torch.finfo(x.dtype).eps
        blocked = ((size <= self.inner * (1 + edge)) & (radial < 0)) | (
            (size >= self.outer * (1 - edge)) & (radial > 0)
        )
        return v - per_sample(torch.where(blocked, radial, torch.zeros_like(radial)), v) * normal
