r"""Bounds of the inner layers of large networks: a linear network near it, and a remainder.

Where relaxing every layer back to the points is too dear, its units are bounded by less. With the
slopes of all nonlinear operations fixed, the network's changes from a point on are those of a
linear one, up to what each nonlinear output changes more than its own linear map: something in an
interval [r, s] that follows from the bounds of its input. Hence on a ball of radius e a unit lies
within

.. math:: z_0 \pm e |J| + \sum_i c_i [r_i, s_i]

with J its gradient in the linear network, and c_i its derivative by the output i. Neither J nor c
depends on e, so that one sweep bounds the layers at many radii. The gradients' lengths are found
forward, all units at once; the sum goes backward through as many layers as a limit of work allows,
and the intervals in which whole remainders lie stand in for the layers before. Slopes are those at
the point at first (remainders are 0 as long as no kink is in reach), and then chords within the
bounds of a first search, which halve the remainders of units whose kink is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trueboundary.certificates._operations import Affine, Nonlinear, Part, units

if TYPE_CHECKING:
    from trueboundary.certificates._network import Network

__all__ = ["Tangents", "affordable_depth"]

_ENTRIES = 1 << 18
_WORK = 1.6e9


class Tangents:
    """A linear network near a network, at one point.

    Parameters
    ----------
    network : Network
        The network.
    point : Tensor of shape ``(1, *event)``
        The point, float64.
    boxes : dict, optional
        Bounds of the nonlinear operations' inputs, within which it shall be near; by default it is
        the tangent.
    """

    def __init__(
        self, network: Network, point: Tensor, boxes: dict[int, tuple[Tensor, Tensor]] | None = None
    ) -> None:
        self.network = network
        self.operations = network.operations
        self.values = network.values(point)
        self.nonlinear = [
            (number, operation)
            for number, operation in enumerate(self.operations)
            if isinstance(operation, Nonlinear)
        ]
        self.slopes: dict[int, Tensor] = {}
        for number, operation in self.nonlinear:
            at = self.values[operation.sources[0]]
            low, high = (at, at) if boxes is None else boxes[number]
            self.slopes[number] = operation.slopes(at, low, high)
        self.lengths = self._lengths({operation.sources[0] for _, operation in self.nonlinear})

    def _lengths(self, targets: set[int]) -> dict[int, Tensor]:
        """Return the lengths of the gradients of operations' outputs."""
        point = self.values[0]
        last, dim = max(targets, default=0), point.numel()
        squares = {target: torch.zeros_like(self.values[target]) for target in targets}
        widest = max(value.numel() for value in self.values)
        for basis in torch.split(torch.eye(dim).to(point), max(1, _ENTRIES // widest)):
            found: list[Tensor] = []
            for number, operation in enumerate(self.operations[: last + 1]):
                given = [found[source] for source in operation.sources]
                if isinstance(operation, Affine):
                    found.append(operation.linear(given, lambda weight: weight))
                elif isinstance(operation, Nonlinear):
                    found.append(operation.sloped(given[0], self.slopes[number]))
                else:
                    found.append(basis.reshape(-1, *point.shape[1:]))
                if number in targets:
                    squares[number] += found[-1].square().sum(0, keepdim=True)
        return {target: square.sqrt() for target, square in squares.items()}

    def boxes(self, sizes: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Return bounds (s, *shape) of the nonlinear operations' inputs, on balls of sizes (s,)."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        own: dict[int, tuple[Tensor, Tensor]] = {}  # of the remainders of nonlinear outputs alone
        rest: dict[int, tuple[Tensor, Tensor]] = {}  # middle and spread of whole remainders
        for number, operation in self.nonlinear:
            (source,) = operation.sources
            if source not in rest:
                rest[source] = self._rest(source, own, rest, sizes)
            middle, spread = rest[source]
            reach = sizes.reshape(-1, *[1] * (middle.ndim - 1)) * self.lengths[source] + spread
            centre = self.values[source] + middle
            found[number] = centre - reach, centre + reach
            slopes = self.slopes[number]
            at = self.values[source]
            least, most = operation.remainder(at, *found[number], slopes)
            own[number] = 0.5 * (least + most), 0.5 * (most - least)
            rest[number] = (
                operation.sloped(middle, slopes) + own[number][0],
                operation.sloped(spread, slopes) + own[number][1],
            )
        return found

    def _rest(
        self,
        target: int,
        own: dict[int, tuple[Tensor, Tensor]],
        rest: dict[int, tuple[Tensor, Tensor]],
        sizes: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the middle and the spread (s, *shape) of an operation's remainder."""
        network, shape = self.network, self.operations[target].shape
        image = len(shape) == 3
        depth = affordable_depth(network, target)
        n_places = math.prod(shape[1:]) if image else math.prod(shape)
        rows = shape[0] if image else 1
        each = network.effort(target, depth)[0] * (rows + len(sizes))
        parts = []
        for places in torch.split(torch.arange(n_places), max(1, _ENTRIES // each)):
            start = units(shape, places, self.values[0])
            middle = self.values[0].new_zeros(len(sizes), *start.values.shape[1:3])
            spread = torch.zeros_like(middle)
            for number, part in network.ends(target, start, depth, self._through):
                if not isinstance(part, Part) or number == 0:
                    continue
                passed = network.levels[number] > network.levels[target] - depth
                mean, width = own[number] if passed else rest[number]
                middle += _products(part, part.values, mean)
                spread += _products(part, part.values.abs(), width)
            parts.append((middle, spread))
        found = []
        for which in (0, 1):
            if image:
                whole = torch.cat([part[which].movedim(1, 2) for part in parts], dim=2)
            else:
                whole = torch.cat([part[which] for part in parts], dim=2)
            found.append(whole.reshape(len(sizes), *shape))
        return found[0], found[1]

    def _through(self, number: int, part: Part) -> tuple[Part, Part]:
        """Go back through a nonlinear operation: the part itself adds its remainder."""
        operation = self.operations[number]
        assert isinstance(operation, Nonlinear)
        return operation.transposed(part, self.slopes[number]), part


def affordable_depth(network: Network, target: int) -> float:
    """Return through how many levels an operation's remainder is followed."""
    return network.affordable(target, _WORK)


def _products(part: Part, values: Tensor, numbers: Tensor) -> Tensor:
    """Return the sums (s, p, m) of coefficients (1, p, m, *) times outputs (s, *shape)."""
    taken = part.of(numbers.flatten(0, 1)[None] if numbers.ndim == 4 else numbers)
    if numbers.ndim == 4:  # (1, p, 1, s c, h, w)
        taken = taken[0, :, 0].reshape(len(taken[0]), len(numbers), -1)  # (p, s, c h w)
        taken = taken.expand(values.shape[1], -1, -1)
    else:
        taken = taken[:, 0, 0].flatten(1)[None]
    return (values[0].flatten(2) @ taken.mT).permute(2, 0, 1)
