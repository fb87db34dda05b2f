"""The minimum-norm attack of Carlini and Wagner (2017), in units of distance."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol, Self, get_args

import torch
from torch import Tensor

from trueboundary.attacks._search import find_crossing
from trueboundary.attacks.base import Attack
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import Box, Domain, Space, dot, norm, per_sample, unit

__all__ = ["CarliniWagnerL2"]

Scale = Literal["distance", "raw"]
Schedule = Literal["constant", "linear"]
BoxVariable = Literal["sin", "tanh"]

_DECAY_MEAN, _DECAY_SQUARE, _ADAM_EPS = 0.9, 0.999, 1e-8  # Adam, as published
_CONST_GROWTH = 10.0  # of a constant under which no error was found
_LARGEST_CONST = 1e10
_N_PLATEAU_CHECKS = 10  # per descent
_PLATEAU = 0.9999  # a descent that kept more than this part of its loss has stopped descending
_FARTHEST_REACH = 10.0  # of a descent, in units of the displacement that is expected
_KICK = 0.01  # of the distance at which an error is expected
_INNERMOST = 1 - 1e-6  # half widths from the middle: where the descent starts from a bound


@dataclass(frozen=True)
class CarliniWagnerL2(Attack):
    r"""Nearest error by descent on the squared distance plus a multiple of the margin.

    For one constant :math:`c` at a time, Adam descends

    .. math:: \|x' - x\|^2 + c \, \max(s(x'), 0),

    where the shortfall :math:`s` is the margin by which :math:`x'` is still classified correctly.
    Each sample searches its own constant: times ten after a descent without an error, by
    bisection once both outcomes were seen. Every descent starts at the sample. The nearest error
    of each is moved back along the straight line to the sample until the boundary, and the nearest
    of those is reported.

    Parameters
    ----------
    n_steps : int
        Largest number of steps of each descent.
    n_binary_search : int
        Number of descents, each with another constant.
    learning_rate : float or None
        Step size of Adam: about how far each entry moves in one step, in units of ``x`` (in a
        box: of the variable whose sine or hyperbolic tangent spans the width of the box). None
        lets each descent reach ten times the displacement that is expected of the entry that
        moves farthest: that of a linear classifier at first, and that of the nearest error known
        later on; ten times farther after a descent without an error. The units of ``x`` then do
        not matter. A given rate that falls linearly is that of the first descent, and of samples
        from which that found an error: for others few steps of it, like 100 of .01, would end
        before an error, whatever the constant, so that they go on as with None. A given rate that
        stays constant is that of all descents, as published.
    initial_const : float or None
        Constant of the first descent. None takes four times the first-order estimate of each
        sample's distance: twice what a linear classifier needs.
    scale : {"distance", "raw"}
        Unit of the shortfall that ``initial_const`` multiplies. ``"distance"`` divides it by the
        norm of its gradient at the sample, so that rescaling the logits changes nothing;
        ``"raw"`` leaves it a difference of logits, as published.
    schedule : {"constant", "linear"}
        Whether the learning rate stays as it is or falls linearly to zero within each descent.
    abort_early : bool
        Whether a sample ends its descent when its loss has not fallen for a tenth of the steps.
        It saves steps and costs precision where the learning rate is large for the distance.
    box_variable : {"sin", "tanh"}
        Function of an unbounded variable that keeps a point in a `Box`. The sine reaches and
        leaves the bounds; the published hyperbolic tangent is nearly flat there, so that entries
        which start on a bound may not move within hundreds of steps.

    Raises
    ------
    ValueError
        When called on a domain other than `Space` and a `Box` with finite bounds.

    Notes
    -----
    The objective is that of Carlini and Wagner (2017), Section V, on the difference of the two
    logits, with confidence 0. In a `Box` the descent runs in the variable w of
    ``x' = middle + half_width * sin(w)``, or tanh(w); entries of a sample that lie on a bound
    start a millionth of the half width inside, while distances are measured from the sample
    itself. Without a box there is no change of variables.

    With the shortfall in units of distance a linear classifier needs a constant of twice its
    distance, whatever its logits. A constant of ``"raw"`` corresponds to that constant times the
    norm of the gradient of the logit difference at the sample: :math:`c = 0.01` is much for a log
    density whose gradient has norm 1e7, and little for a network whose gradient has norm 0.1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import CarliniWagnerL2
    >>> plane = lambda points: 1e7 * (points.sum(1) - 1)
    >>> x, y = torch.zeros(1, 4), torch.tensor([0])
    >>> result = CarliniWagnerL2()(plane, x, y)
    >>> round(result.distance.item(), 3)
    0.5
    """

    n_steps: int = 500
    n_binary_search: int = 3
    learning_rate: float | None = None
    initial_const: float | None = None
    scale: Scale = "distance"
    schedule: Schedule = "linear"
    abort_early: bool = False
    box_variable: BoxVariable = "sin"

    @classmethod
    def paper(cls, *, scale: Scale = "raw") -> Self:
        """Return the attack as set by Richardson and Weiss (2021), Appendix C.1.

        They state 500 iterations, 3 binary searches and a learning rate of 0.01, and leave the
        rest as the CleverHans library has it: initial constant 0.01 on raw differences of logits,
        a constant learning rate, an early end on a plateau, the hyperbolic tangent. Three searches
        from 0.01 reach a constant of at most 1, so the attack fails on a linear classifier where
        twice the distance exceeds the norm of the gradient: its mean over successes is then one
        over easy samples. Three things differ from that library: plateaus and constants are each
        sample's own instead of the batch's, errors are moved back to the boundary, and nothing is
        confined to [0, 1] unless a `Box` says so.

        Parameters
        ----------
        scale : {"raw", "distance"}
            Unit of the constant 0.01; ``"raw"`` is the paper's.
        """
        return cls(
            learning_rate=0.01,
            initial_const=0.01,
            scale=scale,
            schedule="constant",
            abort_early=True,
            box_variable="tanh",
        )

    @classmethod
    def strong(cls) -> Self:
        """Return the attack with 9 descents of 1000 steps each."""
        return cls(n_steps=1000, n_binary_search=9)

    def __post_init__(self) -> None:
        numbers: dict[str, float] = {
            "n_steps": self.n_steps,
            "n_binary_search": self.n_binary_search,
        }
        if self.learning_rate is not None:
            numbers["learning_rate"] = self.learning_rate
        if self.initial_const is not None:
            numbers["initial_const"] = self.initial_const
        for name, value in numbers.items():
            if not 0 < value < math.inf:
                raise ValueError(f"expected {name} to be positive and finite, got {value}")
        for name, words, word in (
            ("scale", get_args(Scale), self.scale),
            ("schedule", get_args(Schedule), self.schedule),
            ("box_variable", get_args(BoxVariable), self.box_variable),
        ):
            if word not in words:
                raise ValueError(f"expected {name} {words[0]!r} or {words[1]!r}, got {word!r}")

    def search(self, target: Target) -> Search:
        """Descend for one constant after another; see the class."""
        variable = _variable(target.domain, target.x, self.box_variable)
        start, value, gradient = self._start(target)
        slope = dot(gradient, unit(gradient))  # the norm, without squaring extreme entries

        status = torch.full_like(target.index, AttackStatus.BUDGET_SPENT.code)
        status[slope == 0] = AttackStatus.GRADIENT_VANISHED.code
        status[~(value.isfinite() & slope.isfinite())] = AttackStatus.NON_FINITE.code
        endpoint = target.x.clone()
        keep = (status == AttackStatus.BUDGET_SPENT.code).nonzero().squeeze(1)
        if keep.numel() > 0:
            part, slope, variable = target.take(keep), slope[keep], variable.take(keep)
            # At a margin of exactly 0 a linear classifier is a rounding of the sample away.
            rounding = torch.finfo(slope.dtype).eps * norm(part.x)
            distance = torch.maximum(-value[keep] / slope, 4 * rounding)
            const = self._first_const(distance, slope)
            objective = _Objective(part, variable, slope, const)
            nearest = per_sample(distance, part.x) * unit(gradient[keep])
            shift = variable.largest_shift(nearest)
            w = variable.encode(start[keep])
            endpoint[keep], status[keep] = self._search(objective, w, shift)
        return Search(endpoint, status)

    def _start(self, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Return the samples, kicked at random where the gradient is zero, and both values."""
        start = target.x.clone()
        value, gradient = target.wrongness_and_gradient(start)
        flat = (gradient.flatten(1) == 0).all(1) & value.isfinite()
        if bool(flat.any()):
            index = flat.nonzero().squeeze(1)
            part = target.take(index)
            rate = _KICK * part.domain.reach(part.x, part.filled(0.0))
            if self.learning_rate is not None:
                rate = torch.full_like(rate, self.learning_rate)
            kick = per_sample(rate, part.x) * part.noise(0)
            start[index] = part.domain.project(part.x + kick)
            value[index], gradient[index] = part.wrongness_and_gradient(start[index])
        return start, value, gradient

    def _first_const(self, distance: Tensor, slope: Tensor) -> Tensor:
        """Return the first constants in units of distance, given first-order distances."""
        if self.initial_const is None:
            const = 4 * distance
        elif self.scale == "distance":
            const = torch.full_like(slope, self.initial_const)
        else:
            const = self.initial_const * slope
        return const.clamp(torch.finfo(const.dtype).tiny, _LARGEST_CONST)

    def _rate(self, shift: Tensor, fell_short: Tensor) -> Tensor:
        """Return the learning rates that let a descent reach some multiple of each shift.

        A given rate stands in for them, unless it falls and ``fell_short (n,)`` before.
        """
        falls = self.schedule == "linear"
        mean_rate = _FARTHEST_REACH * shift / self.n_steps
        rate = 2 * mean_rate if falls else mean_rate
        if self.learning_rate is None:
            return rate
        return torch.where(fell_short & falls, rate, self.learning_rate)

    def _search(self, objective: _Objective, start: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Search the constants; return endpoints and status codes.

        ``shift (n,)`` is by how much the entry that moves farthest is expected to move.
        """
        target, const, variable = objective.target, objective.const, objective.variable
        low, high = torch.zeros_like(const), torch.full_like(const, math.inf)
        shortest = torch.full_like(const, math.inf)
        fell_short = torch.zeros_like(target.index, dtype=torch.bool)
        endpoint = target.x.clone()
        for _ in range(self.n_binary_search):
            shift = shift.clamp(torch.finfo(shift.dtype).tiny, variable.longest_shift)
            rate = self._rate(shift, fell_short)
            nearest, found = self._descend(objective.with_const(const), start, rate)
            fell_short |= ~found & shortest.isinf()
            index = found.nonzero().squeeze(1)
            if index.numel() > 0:
                part = target.take(index)
                nearest[index] = find_crossing(part, part.x, nearest[index])
            distance = target.domain.distance(target.x, nearest)
            better = found & (distance < shortest)
            shortest = torch.where(better, distance, shortest)
            replaced = better | shortest.isinf()
            endpoint = torch.where(per_sample(replaced, endpoint), nearest, endpoint)
            known = (variable.encode(endpoint) - start).flatten(1).abs().amax(1)
            shift = torch.where(shortest.isfinite(), known, _CONST_GROWTH * shift)

            high = torch.where(found, const, high)
            low = torch.where(found, low, const)
            const = torch.where(high.isfinite(), (low + high) / 2, _CONST_GROWTH * const)
        status = torch.full_like(target.index, AttackStatus.BUDGET_SPENT.code)
        status[shortest.isfinite()] = AttackStatus.FOUND.code
        return endpoint, status

    def _descend(self, objective: _Objective, start: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Descend for one constant and rate per sample; return nearest errors, where there are any.

        Where there is none, the last point stands in for it.
        """
        nearest = objective.variable.decode(start)
        shortest = torch.full_like(objective.const, math.inf)
        last_loss = torch.full_like(objective.const, math.inf)
        active = torch.arange(start.shape[0], device=start.device)
        w, mean, square = start, torch.zeros_like(start), torch.zeros_like(start)
        check_every = max(1, self.n_steps // _N_PLATEAU_CHECKS)
        for step in range(self.n_steps):
            here = objective.evaluate(w)
            self._record(here, active, nearest, shortest)

            going = here.loss.isfinite() & here.gradient.flatten(1).isfinite().all(1)
            if self.abort_early and step % check_every == 0:
                going &= here.loss <= _PLATEAU * last_loss
                last_loss = here.loss
            gradient = here.gradient
            if not bool(going.all()):
                keep = going.nonzero().squeeze(1)
                active, objective, gradient = active[keep], objective.take(keep), gradient[keep]
                w, mean, square = w[keep], mean[keep], square[keep]
                last_loss, rate = last_loss[keep], rate[keep]
            if active.numel() == 0:
                return nearest, shortest.isfinite()

            mean = _DECAY_MEAN * mean + (1 - _DECAY_MEAN) * gradient
            square = _DECAY_SQUARE * square + (1 - _DECAY_SQUARE) * gradient**2
            bias_mean = 1 - _DECAY_MEAN ** (step + 1)
            bias_square = 1 - _DECAY_SQUARE ** (step + 1)
            remaining = 1 - step / self.n_steps if self.schedule == "linear" else 1.0
            scaled = (mean / bias_mean) / ((square / bias_square).sqrt() + _ADAM_EPS)
            w = w - per_sample(rate * remaining, w) * scaled
        self._record(objective.evaluate(w), active, nearest, shortest)
        return nearest, shortest.isfinite()

    @staticmethod
    def _record(here: _Evaluation, active: Tensor, nearest: Tensor, shortest: Tensor) -> None:
        """Write errors nearer than those known into ``nearest`` and ``shortest``."""
        closer = here.is_error & (here.distance < shortest[active])
        shortest[active[closer]] = here.distance[closer]
        finite = here.points.flatten(1).isfinite().all(1)
        replaced = closer | (shortest[active].isinf() & finite)
        nearest[active[replaced]] = here.points[replaced]


class _Variable(Protocol):
    """The variable the descent runs in."""

    @property
    def longest_shift(self) -> float:
        """By how much an entry has to move at most."""
        ...

    def take(self, keep: Tensor) -> _Variable:
        """Return the variable of the samples at the positions ``keep``."""
        ...

    def largest_shift(self, step: Tensor) -> Tensor:
        """Return the largest change of an entry when the points move by ``step``, ``(n,)``."""
        ...

    def encode(self, x: Tensor) -> Tensor:
        """Return the variable of points ``(n, *event)``."""
        ...

    def decode(self, w: Tensor) -> Tensor:
        """Return the points of a variable ``(n, *event)``."""
        ...

    def derivative(self, w: Tensor) -> Tensor:
        """Return the derivative of each entry of the points by its variable, up to a factor."""
        ...


@dataclass(frozen=True, eq=False)
class _Free:
    """The displacement from the samples, whose short steps the rounding of the points spares."""

    x: Tensor

    @property
    def longest_shift(self) -> float:
        return float(torch.finfo(self.x.dtype).max ** 0.25)

    def take(self, keep: Tensor) -> _Free:
        return _Free(self.x[keep])

    def largest_shift(self, step: Tensor) -> Tensor:
        return step.flatten(1).abs().amax(1)

    def encode(self, x: Tensor) -> Tensor:
        return x - self.x

    def decode(self, w: Tensor) -> Tensor:
        return self.x + w

    def derivative(self, w: Tensor) -> Tensor:
        return torch.ones_like(w)


@dataclass(frozen=True, eq=False)
class _Boxed(ABC):
    """A position between two bounds, -1 to 1, as a function of an unbounded variable."""

    low: Tensor
    high: Tensor

    @property
    def longest_shift(self) -> float:
        return 2.0  # more than half of the sine's way; the tangent does most of its own on 2

    def take(self, keep: Tensor) -> Self:
        del keep
        return self

    def largest_shift(self, step: Tensor) -> Tensor:
        half = (self.high - self.low) / 2
        change = torch.where(half > 0, step / half, torch.zeros_like(step))
        return change.flatten(1).abs().amax(1)

    @abstractmethod
    def derivative(self, w: Tensor) -> Tensor:
        """Return the derivative of each entry of the points by its variable, up to a factor."""

    @property
    def _weight(self) -> Tensor:
        """Widths in units of the largest, to which Adam's safeguard is blind otherwise."""
        width = self.high - self.low
        largest = width.amax()
        return width / torch.where(largest > 0, largest, torch.ones_like(largest))

    def _position(self, x: Tensor) -> Tensor:
        """Return positions strictly between the bounds; an entry of equal bounds gets 0."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        position = (x - middle) / torch.where(half > 0, half, torch.ones_like(half))
        return position.clamp(-_INNERMOST, _INNERMOST)

    def _point(self, position: Tensor) -> Tensor:
        point = (self.low + self.high) / 2 + (self.high - self.low) / 2 * position
        return torch.minimum(torch.maximum(point, self.low), self.high)


class _Sine(_Boxed):
    """The sine, which reaches the bounds and turns there."""

    def encode(self, x: Tensor) -> Tensor:
        return self._position(x).asin()

    def decode(self, w: Tensor) -> Tensor:
        return self._point(w.sin())

    def derivative(self, w: Tensor) -> Tensor:
        return self._weight * w.cos()


class _Tanh(_Boxed):
    """The hyperbolic tangent, which nears the bounds and stays there."""

    def encode(self, x: Tensor) -> Tensor:
        return self._position(x).atanh()

    def decode(self, w: Tensor) -> Tensor:
        return self._point(w.tanh())

    def derivative(self, w: Tensor) -> Tensor:
        # 1 / cosh^2 keeps its digits near a bound, where 1 - tanh^2 cancels.
        return self._weight / w.clamp(-40, 40).cosh() ** 2


def _variable(domain: Domain, x: Tensor, box_variable: BoxVariable) -> _Variable:
    """Return the variable in which a domain has no edge."""
    if isinstance(domain, Space):
        return _Free(x)
    if isinstance(domain, Box):
        low = torch.as_tensor(domain.low, dtype=x.dtype, device=x.device)
        high = torch.as_tensor(domain.high, dtype=x.dtype, device=x.device)
        if bool((high - low).isfinite().all()):
            return _Sine(low, high) if box_variable == "sin" else _Tanh(low, high)
    raise ValueError(
        f"CarliniWagnerL2 expected Space() or a Box with finite bounds, got {domain.describe()}; "
        "try NearestError, which searches every domain"
    )


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """The objective at one point per sample."""

    points: Tensor
    distance: Tensor
    is_error: Tensor
    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True, eq=False)
class _Objective:
    """Squared distance over the constant plus the shortfall, in units of distance.

    Dividing by the constant leaves the descent as it is, because Adam ignores the scale, but
    keeps the gradient near one, where Adam's own safeguard against division by zero expects it.
    """

    target: Target
    variable: _Variable
    slope: Tensor
    const: Tensor

    def with_const(self, const: Tensor) -> _Objective:
        return _Objective(self.target, self.variable, self.slope, const)

    def take(self, keep: Tensor) -> _Objective:
        return _Objective(
            self.target.take(keep), self.variable.take(keep), self.slope[keep], self.const[keep]
        )

    def evaluate(self, w: Tensor) -> _Evaluation:
        points = self.variable.decode(w)
        step = points - self.target.x
        value, slope = self.target.wrongness_and_gradient(points)
        shortfall = (-value / self.slope).clamp(min=0)
        distance = norm(step)
        pull = per_sample(2 / self.const, step) * step
        push = -slope / per_sample(self.slope, slope)
        gradient = torch.where(per_sample(value > 0, pull), pull, pull + push)
        return _Evaluation(
            points=points,
            distance=distance,
            is_error=value > 0,
            loss=distance**2 / self.const + shortfall,
            gradient=gradient * self.variable.derivative(w),
        )
