"""Bounds of any recorded network, backward through its operations.

See `trueboundary.certificates.relaxation` for the method. The input of each nonlinear operation is
bounded in turn: by the bounds of the nonlinear outputs that it is made of, and by linear functions
that go on backward, through as many relaxations as a limit of work allows, to the points
themselves if it can be. Where they stop, the bounds that are known of the outputs there stand in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary.certificates._operations import (
    Affine,
    Convolution,
    Dense,
    Nonlinear,
    Operation,
    Part,
    joined,
    units,
)
from trueboundary.certificates._recording import record
from trueboundary.certificates._regions import BallsOrCaps
from trueboundary.certificates._tangents import Tangents, affordable_depth
from trueboundary.classifiers.integrity import require_agreement

__all__ = ["Network", "largest_balls", "network_of"]

_ENTRIES = 1 << 21  # coefficients that are held at a time, about
_COARSE, _FINE = 2.0, 1.08  # from one size that is tried with a large network to the next
_MOST_ROUNDS = 8
_SEARCH = 10.0  # sizes that are tried with a small network, about
_WORK = 1e10  # multiplications for bounding layers around one point that are worth while
_CONVOLUTION = 4.0  # times as dear is one of a convolution as one of a matrix


def network_of(classifier: Any, x: Tensor) -> Network:
    """Return a classifier's operations, which must give its own outputs at points x.

    Raises
    ------
    Unreadable
        If it computes what no relaxation is known for.
    Disagreement
        If its outputs are others than those of its operations.
    """
    network = Network(record(classifier, x))
    network.require_same_outputs(classifier, x)
    return network


@dataclass(frozen=True, eq=False)
class Network:
    """A network's operations: the points first, its margins (1,) or logits (K,) last."""

    operations: Sequence[Operation]

    @cached_property
    def levels(self) -> list[int]:
        """How many nonlinear operations lie behind each operation's outputs, at most."""
        levels: list[int] = []
        for operation in self.operations:
            behind = max((levels[source] for source in operation.sources), default=0)
            levels.append(behind + isinstance(operation, Nonlinear))
        return levels

    @cached_property
    def is_small(self) -> bool:
        """Whether all layers can be followed to the points at every size that is tried."""
        return self._whole <= _WORK

    @cached_property
    def work(self) -> float:
        """About how many multiplications the largest ball around one point takes."""
        if self.is_small:
            return _SEARCH * self._whole
        forward = sum(
            operation.weight[0].numel() * math.prod(operation.shape)
            for operation in self.operations
            if isinstance(operation, (Convolution, Dense))
        )
        sweeps = sum(
            math.prod(self.operations[target].shape)
            * self.effort(target, affordable_depth(self, target))[1]
            for target in self._targets
        )
        return 2.0 * (math.prod(self.operations[0].shape) * forward + sweeps)

    @cached_property
    def _targets(self) -> set[int]:
        """Operations whose outputs nonlinear ones take."""
        return {o.sources[0] for o in self.operations if isinstance(o, Nonlinear)}

    @cached_property
    def _whole(self) -> float:
        """How many multiplications it takes to follow all layers to one point."""
        return sum(
            math.prod(self.operations[target].shape) * self.effort(target, math.inf)[1]
            for target in self._targets
        )

    @property
    def n_classes(self) -> int:
        """Number of classes; one output is a margin of two."""
        return max(2, self.operations[-1].shape[0])

    @torch.no_grad()
    def values(self, points: Tensor) -> list[Tensor]:
        """Return the outputs of every operation at points (n, *event), float64."""
        found: list[Tensor] = []
        for operation in self.operations:
            given = [found[source] for source in operation.sources] if found else [points]
            found.append(operation.value(*given))
        return found

    @torch.no_grad()
    def require_same_outputs(self, classifier: Any, x: Tensor) -> None:
        """Raise if a classifier's outputs at points are others than those of the operations."""
        for rows in torch.split(torch.arange(len(x), device=x.device), 64):
            points = x[rows].detach().double()
            values = self.values(points)
            noises: list[Tensor] = []
            for operation in self.operations:
                given = [values[source] for source in operation.sources] or [points]
                before = [noises[source] for source in operation.sources]
                noises.append(operation.noise(given, before))
            found, noise = values[-1], noises[-1].sqrt()
            if self.n_classes == 2:
                found, noise = found.squeeze(1), noise.squeeze(1)
            require_agreement(
                classifier,
                points.numpy(force=True),
                found.numpy(force=True),
                noise.numpy(force=True),
                "a proof of a network's operations",
            )

    @torch.no_grad()
    def leads(
        self, regions: BallsOrCaps, labels: Tensor, *, relaxed: bool = True, both: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Bound the smallest lead of the own class over another, (n,) each.

        Without `relaxed` by interval arithmetic; without `both` from below alone.
        """
        if relaxed and not self.is_small and regions.kind == "ball":
            return self._leads_by_tangents(regions, labels)
        lower, upper = torch.empty_like(regions.size), torch.full_like(regions.size, torch.inf)
        at_once = max(1, int(_ENTRIES // max(math.prod(o.shape) for o in self.operations)))
        for rows in torch.split(torch.arange(len(labels)), at_once):
            bounds = _Bounds(self, regions.take(rows), relaxed)
            start = self._own_leads(labels[rows], regions.size)
            start = start.both() if both else start
            low = bounds.below(len(self.operations) - 1, start, 0)
            if relaxed:  # mostly tighter, but not always; both hold
                low = torch.maximum(low, bounds.below(len(self.operations) - 1, start))
            found = low.squeeze(1)
            if both:
                found, high = found.chunk(2, dim=1)
                upper[rows] = -high.max(dim=1).values
            lower[rows] = found.min(dim=1).values
        return lower, upper

    def _leads_by_tangents(self, regions: BallsOrCaps, labels: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for row in torch.split(torch.arange(len(labels)), 1):
            one = regions.take(row)
            boxes = Tangents(self, one.centre).boxes(one.size)
            found.append(self.leads_within(boxes, one, labels[row]))
        lower, upper = (torch.cat(parts) for parts in zip(*found, strict=True))
        return lower, upper

    @torch.no_grad()
    def leads_within(
        self,
        boxes: dict[int, tuple[Tensor, Tensor]],
        regions: BallsOrCaps,
        labels: Tensor,
        *,
        both: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Bound the smallest lead of the own class, given bounds of all nonlinear inputs."""
        bounds = _Bounds(self, regions, relaxed=False, compute=False)
        for number, box in boxes.items():
            operation = self.operations[number]
            assert isinstance(operation, Nonlinear)
            bounds.lines[number] = operation.lines(*box)
        start = self._own_leads(labels, regions.size)
        low = bounds.below(len(self.operations) - 1, start.both() if both else start).squeeze(1)
        if not both:
            return low.min(dim=1).values, torch.full_like(regions.size, torch.inf)
        low, high = low.chunk(2, dim=1)
        return low.min(dim=1).values, -high.max(dim=1).values

    @torch.no_grad()
    def slopes(self, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smallest lead (n,) at points, and where it would end if all were linear."""
        values = self.values(points)
        zero = BallsOrCaps(points, torch.zeros(len(points)).to(points), "ball")
        bounds = _Bounds(self, zero, relaxed=False, compute=False)
        for number, operation in enumerate(self.operations):
            if isinstance(operation, Nonlinear):
                at = values[operation.sources[0]]
                bounds.lines[number] = operation.lines(at, at)
        start = self._own_leads(labels, points)
        leads = start.times(values[-1])[:, 0]
        lengths = bounds.gradients(len(self.operations) - 1, start)
        return leads.min(1).values, (leads / lengths.clamp(min=1e-300)).min(1).values

    def _own_leads(self, labels: Tensor, like: Tensor) -> Part:
        """Return the leads of points' own classes, as functions of the outputs."""
        if self.n_classes == 2:
            return Part((2.0 * labels.to(like) - 1)[:, None, None, None])
        unit = torch.eye(self.n_classes).to(like)
        others = torch.stack(
            [
                torch.cat([torch.arange(own), torch.arange(own + 1, self.n_classes)])
                for own in labels.tolist()
            ]
        )
        return Part((unit[labels.cpu()][:, None] - unit[others])[:, None])

    def ends(
        self,
        target: int,
        start: Part,
        depth: float,
        through: Callable[[int, Part], tuple[Part, Part | Tensor]],
    ) -> Iterator[tuple[int, Part | Tensor | float]]:
        """Yield what functions of outputs are made of: constants, and functions that go no further.

        Those are of the points, and of the outputs of operations at which `depth` ends. What goes
        `through` a nonlinear operation leaves something, which is yielded.
        """
        stop = self.levels[target] - depth
        pending = {target: start}
        for number in range(target, -1, -1):
            part = pending.pop(number, None)
            if part is None:
                continue
            operation = self.operations[number]
            below: list[Part]
            if number == 0 or (isinstance(operation, Nonlinear) and self.levels[number] <= stop):
                yield number, part
                continue
            if isinstance(operation, Nonlinear):
                only, rest = through(number, part)
                below = [only]
                yield number, rest
            else:
                assert isinstance(operation, Affine)
                below = operation.adjoint(part)
                yield number, operation.constant(part)
            for source, more in zip(operation.sources, below, strict=True):
                shape = self.operations[source].shape
                more = more.within(shape)
                held = pending.get(source)
                pending[source] = more if held is None else joined(held, more, shape)

    def affordable(self, target: int, work: float) -> float:
        """Return through how many levels an operation's outputs are worth being followed."""
        rows = math.prod(self.operations[target].shape)
        for depth in range(self.levels[target], 0, -1):
            if rows * self.effort(target, depth)[1] <= work:
                return float(depth)
        return 0.0

    def effort(self, target: int, depth: float) -> tuple[int, float]:
        """Return the most coefficients of one output on its way back, and the multiplications."""
        stop = self.levels[target] - depth
        shape = self.operations[target].shape
        pending: dict[int, tuple[int, ...]] = {target: (1, 1) if len(shape) == 3 else ()}
        most, work = 1, 0.0
        for number in range(target, -1, -1):
            if number not in pending:
                continue
            operation, window = self.operations[number], pending.pop(number)
            shape = operation.shape
            if len(shape) == 3:
                window = window or shape[1:]
                window = (min(window[0], shape[1]), min(window[1], shape[2]))
                n_entries = shape[0] * window[0] * window[1]
            else:
                n_entries = math.prod(shape)
            if number != target:  # which is a single output
                most = max(most, n_entries)
            if isinstance(operation, Nonlinear) and self.levels[number] <= stop:
                continue
            if isinstance(operation, (Convolution, Dense)):
                price = _CONVOLUTION if isinstance(operation, Convolution) else 1.0
                work += price * n_entries * operation.weight[0].numel()
            work += n_entries
            reach = operation.reach((window[0], window[1])) if len(shape) == 3 else None
            for source in operation.sources:
                held = pending.get(source, ())
                if reach is None:
                    pending[source] = ()
                elif source not in pending:
                    pending[source] = reach
                elif held:
                    pending[source] = (max(held[0], reach[0]), max(held[1], reach[1]))
        return most, work


@torch.no_grad()
def largest_balls(network: Network, points: Tensor, labels: Tensor) -> npt.NDArray[np.float64]:
    """Return radii (n,) of balls without an error, by linear networks near a large one.

    Several sizes are tried at once, which costs little more than one: coarsely with the network's
    tangent, then finely with the chords of what was proven. What is returned was proven; how much
    larger the next size is, which was not, is `_FINE`.
    """
    margins, guesses = network.slopes(points, labels)
    radii = np.zeros(len(points))
    for index in torch.nonzero(margins > 0).flatten().tolist():
        row = slice(index, index + 1)
        point, label = points[row], labels[row]
        tangents = Tangents(network, point)
        unit = guesses[index].item()
        for _ in range(_MOST_ROUNDS):
            sizes = unit * _COARSE ** torch.arange(-7.0, 1.0, dtype=torch.float64)
            radius, boxes = _largest(network, tangents, sizes.to(points), label)
            if 0 < radius < sizes[-1]:
                break
            unit = sizes[-1].item() / _COARSE**-6 if radius > 0 else sizes[0].item()
        if 0 < radius < sizes[-1]:
            chords = Tangents(network, point, boxes)
            sizes = radius * _FINE ** torch.arange(1.0, 13.0, dtype=torch.float64)
            radius = max(radius, _largest(network, chords, sizes.to(points), label)[0])
        radii[index] = radius
    return radii


def _largest(
    network: Network, tangents: Tangents, sizes: Tensor, label: Tensor
) -> tuple[float, dict[int, tuple[Tensor, Tensor]]]:
    """Return the last of growing sizes up to which there is a proof of each, and the bounds there.

    Without any it is 0.
    """
    centre = tangents.values[0].expand(len(sizes), *tangents.values[0].shape[1:])
    regions = BallsOrCaps.build(centre, sizes, "ball")
    boxes = tangents.boxes(sizes)
    found, _ = network.leads_within(boxes, regions, label.expand(len(sizes)), both=False)
    n_proven = int((found > 0).long().cumprod(0).sum())
    last = slice(n_proven - 1, n_proven)
    within = {number: (low[last], high[last]) for number, (low, high) in boxes.items()}
    return (sizes[n_proven - 1].item() if n_proven else 0.0), within


class _Bounds:
    """Bounds of every nonlinear operation of a network, on regions around points."""

    def __init__(
        self, network: Network, regions: BallsOrCaps, relaxed: bool, compute: bool = True
    ) -> None:
        self.network, self.operations = network, network.operations
        self.regions = regions
        self.lines: dict[int, tuple[Tensor, ...]] = {}
        self.boxes: dict[int, tuple[Tensor, Tensor]] = {}  # of nonlinear outputs
        inputs: dict[int, tuple[Tensor, Tensor]] = {}
        for number, operation in enumerate(self.operations):
            if isinstance(operation, Nonlinear) and compute:
                (source,) = operation.sources
                if source not in inputs:
                    inputs[source] = self.boxes.get(source) or self._of(source, relaxed)
                self.boxes[number] = operation.bounds(*inputs[source])
                self.lines[number] = operation.lines(*inputs[source])

    def below(self, target: int, start: Part, depth: float = math.inf) -> Tensor:
        """Return lower bounds (n, p, m) of functions of an operation's outputs.

        They go through `depth` levels of relaxations, and end at the bounds of the next.
        """
        total: Tensor | float = 0.0
        for number, part in self.network.ends(target, start, depth, self._relaxed):
            total = total + (self._least(number, part) if isinstance(part, Part) else part)
        assert isinstance(total, Tensor)
        lower: Tensor = total.expand(len(self.regions.size), *total.shape[1:])
        return lower

    def _relaxed(self, number: int, part: Part) -> tuple[Part, Tensor]:
        operation = self.operations[number]
        assert isinstance(operation, Nonlinear)
        return operation.relaxed(part, self.lines[number])

    def gradients(self, target: int, start: Part) -> Tensor:
        """Return the lengths (n, m) of the gradients of functions, where lines are exact."""
        for number, part in self.network.ends(target, start, math.inf, self._relaxed):
            if isinstance(part, Part) and number == 0:
                lengths: Tensor = torch.linalg.vector_norm(part.values.flatten(3), dim=3)
                return lengths[:, 0]
        return start.values.new_zeros(len(start.values), start.values.shape[2])

    def _least(self, number: int, part: Part) -> Tensor:
        """Return the least that functions (n, p, m) can be: of the points, or within bounds."""
        if number == 0:
            return self.regions.least(part, self.operations[0].shape)
        low, high = self.boxes[number]
        middle, spread = 0.5 * (low + high), 0.5 * (high - low)
        size = Part(part.values.abs(), part.rows, part.columns)
        return part.times(middle) - size.times(spread)

    def _of(self, target: int, relaxed: bool) -> tuple[Tensor, Tensor]:
        """Return bounds (n, *shape) of an operation's outputs."""
        shape = self.operations[target].shape
        image = len(shape) == 3
        depths = {0.0, self.network.affordable(target, _WORK) if relaxed else 0.0}
        n_places = math.prod(shape[1:]) if image else math.prod(shape)
        rows_each = shape[0] if image else 1
        found: tuple[Tensor, Tensor] | None = None
        for depth in sorted(depths):
            entries, _ = self.network.effort(target, depth)
            at_once = int(_ENTRIES // (2 * rows_each * entries * len(self.regions.size)))
            lows, highs = [], []
            for places in torch.split(torch.arange(n_places), max(1, at_once)):
                start = units(shape, places, self.regions.centre).both()
                low, high = self.below(target, start, depth).chunk(2, dim=2)
                if image:  # (n, p, c)
                    low, high = low.movedim(1, 2), high.movedim(1, 2)
                lows.append(low)
                highs.append(-high)
            lower, upper = (torch.cat(parts, dim=2).reshape(-1, *shape) for parts in (lows, highs))
            if found is not None:
                lower, upper = torch.maximum(lower, found[0]), torch.minimum(upper, found[1])
            found = lower, upper
        assert found is not None
        return found
