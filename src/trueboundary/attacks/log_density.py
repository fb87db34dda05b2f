"""The gradient attack on classifiers whose margin is a ratio of densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from trueboundary.attacks._search import expected_distance, find_crossing, uphill
from trueboundary.attacks.base import Attack
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import dot, norm, per_sample, unit

__all__ = ["ComponentClassifier", "LogDensityGradient"]

Rule = Literal["computed-step", "fixed-step"]
GapOf = Callable[[Target], Target]

_OVERSHOOT = 1e-3  # of the way from the sample: past the boundary in spite of rounding
_N_TRIALS = 60  # of a step's length; enough for any first-order estimate in range of a float
_SLANT = 0.3  # sine of the angle between way and normal: a twentieth too far to first order
_SLANTED = (
    "LogDensityGradient: from some points the way to the error meets the boundary at a slant, so "
    "that nearer errors lie beside it, to first order a twentieth nearer or more; NearestError "
    "slides there."
)
_FIXED_STEP, _KICK = 0.1, 0.01  # of the distance at which an error is expected


@runtime_checkable
class ComponentClassifier(Protocol):
    """A classifier of mixtures that can say how far apart two components are."""

    def component_gap(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log-density gap between two components, ``(n,)``, differentiably.

        The first is the most likely component of the class ``y (n,)``, the second the most likely
        one of all other classes, each at its point of ``x (n, *event)``. A gap below 0 means that
        another class owns the most likely component.
        """
        ...


@dataclass(frozen=True)
class LogDensityGradient(Attack):
    r"""Steps along the gradient of the log-density gap until the decision boundary is crossed.

    For a classifier with a method ``component_gap`` (see `ComponentClassifier`) the gap is that
    between the most likely components of the own class and of all others, chosen anew at every
    step; for any other it is the wrongness. Once across, the straight line back to the sample is
    followed to the boundary.

    Parameters
    ----------
    rule : {"computed-step", "fixed-step"}
        ``"computed-step"`` solves for the length that closes the gap; ``"fixed-step"`` takes
        steps of length ``step_size``.
    n_steps : int
        Largest number of steps; computed steps rarely need more than three.
    step_size : float or None
        Length of a fixed step (L2, in units of ``x``). Under both rules it is also the length of
        the random step away from a point where the gradient is exactly zero. None takes a tenth
        of the first-order distance from each sample (a hundredth of the sample's norm where there
        is no gradient), so that the units of ``x`` do not matter.
    doubts : bool
        Whether to look at the gradient once more, at each error, and to say in the result's
        warnings where to distrust the distances; see the notes.

    Notes
    -----
    It goes straight on from the sample, and does not slide along the boundary. Optimal classifiers
    of Gaussians of one covariance need none of that; on needle-like ellipsoids it ends several
    times too far. At a nearest error the way from the sample is perpendicular to the boundary. At
    an angle :math:`\theta` to the normal there are errors, to first order, in
    :math:`\cos \theta` times the distance; the result warns where that is less than .95.

    The gap between two Gaussians is quadratic along any line. Its value and slope at one end and
    its value at another give that quadratic, hence the length that closes it, exactly; Gaussians
    of one spherical covariance are crossed in one step, at the nearest error. Where the quadratic
    stays short of zero the step leads to its highest point.

    Computed steps are those of Richardson and Weiss (2021) in the manuscript's Appendix C.2, which
    reports typically three of them; fixed steps are those of the published version.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import LogDensityGradient
    >>> gap = lambda points: (points**2).sum(1) / 2e-6 - ((points - 1) ** 2).sum(1) / 2e-6
    >>> x, y = torch.zeros(1, 4), torch.tensor([0])
    >>> result = LogDensityGradient()(gap, x, y)  # one step, and a look at the slant
    >>> round(result.distance.item(), 4), result.n_backward.item(), result.warnings
    (1.0, 2, ())
    """

    rule: Rule = "computed-step"
    n_steps: int = 100
    step_size: float | None = None
    doubts: bool = True

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ValueError(f"expected rule 'computed-step' or 'fixed-step', got {self.rule!r}")
        for name, value in (("n_steps", self.n_steps), ("step_size", self.step_size)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"expected {name} to be positive and finite, got {value}")

    def search(self, target: Target) -> Search:
        """Step until the gap is closed, then go back to the boundary."""
        reached = target.x.clone()
        status = torch.full_like(target.index, AttackStatus.BUDGET_SPENT.code)
        # The most likely components may change places a little before the classes do: the last
        # stretch then follows the margin.
        has_components = isinstance(target.classifier, ComponentClassifier)
        for gap_of in (_component_gap, _margin_gap) if has_components else (_margin_gap,):
            rest = (status == AttackStatus.BUDGET_SPENT.code).nonzero().squeeze(1)
            if rest.numel() > 0:
                walked = self._walk(target.take(rest), reached[rest], gap_of)
                reached[rest], status[rest] = walked
        found = (status == AttackStatus.FOUND.code).nonzero().squeeze(1)
        if found.numel() > 0:
            part = target.take(found)
            reached[found] = find_crossing(part, part.x, reached[found])
            if self.doubts and bool((_slant(part, reached[found]) > _SLANT).any()):
                return Search(reached, status, doubts=(_SLANTED,))
        return Search(reached, status)

    def _walk(self, target: Target, start: Tensor, gap_of: GapOf) -> tuple[Tensor, Tensor]:
        """Step until an error or until the gap is closed; return points and status codes."""
        reached = start.clone()
        status = torch.full_like(target.index, AttackStatus.BUDGET_SPENT.code)
        was_kicked = torch.zeros_like(target.index, dtype=torch.bool)
        lengths = target.filled(math.nan if self.step_size is None else self.step_size)
        active, part = torch.arange(start.shape[0], device=start.device), target
        for _ in range(self.n_steps):
            points = reached[active]
            value, gradient = gap_of(part).wrongness_and_gradient(points)
            direction = unit(part.domain.tangent(points, gradient))
            finite = value.isfinite() & gradient.flatten(1).isfinite().all(1)
            flat = finite & (direction.flatten(1) == 0).all(1)
            stuck = flat & was_kicked[active]
            vanished = stuck & (gradient.flatten(1) == 0).all(1)
            status[active[stuck]] = AttackStatus.CONVERGED.code
            status[active[vanished]] = AttackStatus.GRADIENT_VANISHED.code
            status[active[~finite]] = AttackStatus.NON_FINITE.code
            was_kicked[active] |= flat
            closed = value >= 0  # of a gap between components: the margin goes on from here
            if gap_of is _margin_gap:  # rounded otherwise than in the batch of the last step
                closed = value > 0
                status[active[closed]] = AttackStatus.FOUND.code

            keep = (finite & ~stuck & ~closed).nonzero().squeeze(1)
            if keep.numel() == 0:
                break
            active, part, points = active[keep], part.take(keep), points[keep]
            value, gradient, direction = value[keep], gradient[keep], direction[keep]
            length = lengths[active]
            if self.step_size is None:
                expected = expected_distance(part, points, value, gradient)
                length = torch.where(length.isnan(), _FIXED_STEP * expected, length)
                sloped = ~flat[keep]
                lengths[active[sloped]] = length[sloped]
                length = torch.where(sloped, length, _KICK * expected)
            points = self._step(part, gap_of, points, direction, value, gradient, length)
            reached[active] = points
            error = part.wrongness(points) > 0
            status[active[error]] = AttackStatus.FOUND.code
            keep = (~error).nonzero().squeeze(1)
            active, part = active[keep], part.take(keep)
            if active.numel() == 0:
                break
        return reached, status

    def _step(
        self,
        target: Target,
        gap_of: GapOf,
        points: Tensor,
        direction: Tensor,
        value: Tensor,
        gradient: Tensor,
        length: Tensor,
    ) -> Tensor:
        """Move points by the rule along their direction, or at random where it is zero."""
        flat = (direction.flatten(1) == 0).all(1)
        if bool(flat.any()):
            kick = unit(target.domain.tangent(points, target.noise(0)))
            direction = torch.where(per_sample(flat, points), kick, direction)
        sloped = (~flat).nonzero().squeeze(1)
        if self.rule == "computed-step" and sloped.numel() > 0:
            length[sloped] = _closing_length(
                target.take(sloped),
                gap_of,
                points[sloped],
                direction[sloped],
                value[sloped],
                dot(gradient[sloped], direction[sloped]),
            )
        return target.domain.move(points, direction, length)


def _slant(target: Target, error: Tensor) -> Tensor:
    """Return the sine of the angle between the way from each sample and the normal, ``(n,)``.

    It is 0 where the gradient vanishes, which tells no normal.
    """
    _, gradient = target.wrongness_and_gradient(error)
    normal = uphill(target, error, gradient)
    back = unit(target.domain.log(error, target.x))
    along = back - per_sample(dot(back, normal), back) * normal
    sine = norm(target.domain.tangent(error, along))
    return torch.where(norm(normal) > 0, sine, 0.0)


def _margin_gap(target: Target) -> Target:
    return target


@dataclass(frozen=True, eq=False)
class _Components(Target):
    """A target whose wrongness is minus the gap between components, on the same counters."""

    def lead(self, points: Tensor) -> Tensor:
        """Return minus the gap of each sample's class, or the gap of that it is to be taken into.

        Its own component leads over those of all others where the gap is above 0.
        """
        classifier: Any = self.classifier
        if self.goal is None:
            return -classifier.component_gap(points, self.y)  # type: ignore[no-any-return]
        return classifier.component_gap(points, self.goal)  # type: ignore[no-any-return]


def _component_gap(target: Target) -> Target:
    return _Components(**{f.name: getattr(target, f.name) for f in fields(target)})


def _closing_length(
    target: Target, gap_of: GapOf, points: Tensor, direction: Tensor, value: Tensor, slope: Tensor
) -> Tensor:
    """Return how far along ``direction`` the wrongness rises to zero, or is highest, ``(n,)``.

    The wrongness along the direction is taken as the quadratic through ``value`` and ``slope``
    at the points and one more evaluation, at the length of a first-order step. Where the outcome
    lowers the wrongness, the function was no quadratic, and the first of ever shorter steps that
    raises it is taken; where it changes nothing, the first of ever longer ones.
    """
    trial = (-value / slope).clamp(max=torch.finfo(slope.dtype).max ** 0.25)
    trial_value = gap_of(target).wrongness(target.domain.move(points, direction, trial))
    curvature = (trial_value - value - slope * trial) / trial**2
    discriminant = slope**2 - 4 * curvature * value
    root = -2 * value / (slope + discriminant.clamp(min=0).sqrt())
    length = torch.where(discriminant >= 0, root, -slope / (2 * curvature))
    length = torch.where(length.isfinite(), length, trial)
    length = length + _OVERSHOOT * (norm(points - target.x) + length)
    # At a margin of exactly 0 nothing is left to close: past it by a rounding of the point.
    length = length.clamp(min=torch.finfo(length.dtype).tiny)
    length = torch.maximum(length, torch.finfo(length.dtype).eps * norm(points))

    active, part = torch.arange(value.shape[0], device=value.device), target
    shortened = torch.zeros_like(active, dtype=torch.bool)
    for _ in range(_N_TRIALS):
        moved = part.domain.move(points[active], direction[active], length[active])
        change = gap_of(part).wrongness(moved) - value[active]
        # What a shorter step does not resolve after a longer one led down stays unresolved.
        longer = (change == 0) & ~shortened[active]
        shorter = ~(change > 0) & ~longer
        shortened[active[shorter]] = True
        length[active] *= torch.where(longer, 4.0, torch.where(shorter, 0.25, 1.0)).to(length)
        keep = (longer | (shorter & ~(change == 0))).nonzero().squeeze(1)
        if keep.numel() == 0:
            break
        active, part = active[keep], part.take(keep)
    return length
