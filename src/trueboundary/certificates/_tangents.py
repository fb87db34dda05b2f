r"""Bounds of the inner layers of large networks: a network's tangent at a point, and a remainder.

Where relaxing every layer back to the points is too dear, its units are bounded by less. With the
slopes of all nonlinear operations fixed to those at the point, the network is a linear one, its
tangent; each nonlinear output exceeds its own tangent by a remainder in [0, t], and t is 0 where
the kink is out of reach. Hence on a ball of radius e a unit lies within

.. math:: z_0 \pm e |J| + \sum_i c_i [0, t_i]

with J its gradient at the point, and c_i its derivative by the output i. Neither J nor c depends on
e, so that one sweep bounds the layers at many radii. The gradients' lengths are found forward, all
units at once; the sum goes backward through as many layers as a limit of work allows, and the
intervals in which whole remainders lie stand in for the layers before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trueboundary.certificates._operations import Affine, Nonlinear, Part, units

if TYPE_CHECKING:
    from trueboundary.certificates._network import Network

__all__ = ["Tangents"]

_ENTRIES = 1 << 18
_WORK = 4e8


class Tangents:
    """A network's tangent at one point.

    Parameters
    ----------
    network : Network
        The network.
    point : Tensor of shape ``(1, *event)``
        The point, float64.
    """

    def __init__(self, network: Network, point: Tensor) -> None:
        self.network = network
        self.operations = network.operations
        self.values = network.values(point)
        self.nonlinear = [
            (number, operation)
            for number, operation in enumerate(self.operations)
            if isinstance(operation, Nonlinear)
        ]
        self.slopes = {
            number: operation.slopes(self.values[operation.sources[0]])
            for number, operation in self.nonlinear
        }
        self.lengths = self._lengths({operation.sources[0] for _, operation in self.nonlinear})

    def _lengths(self, targets: set[int]) -> dict[int, Tensor]:
        """Return the lengths of the gradients of operations' outputs."""
        point = self.values[0]
        last, dim = max(targets, default=0), point.numel()
        squares = {target: torch.zeros_like(self.values[target]) for target in targets}
        widest = max(value.numel() for value in self.values)
        for basis in torch.split(torch.eye(dim).to(point), max(1, 4 * _ENTRIES // widest)):
            found: list[Tensor] = []
            for number, operation in enumerate(self.operations[: last + 1]):
                given = [found[source] for source in operation.sources]
                if isinstance(operation, Affine):
                    found.append(operation.linear(given, lambda weight: weight))
                elif isinstance(operation, Nonlinear):
                    found.append(operation.tangent(given[0], self.slopes[number]))
                else:
                    found.append(basis.reshape(-1, *point.shape[1:]))
                if number in targets:
                    squares[number] += found[-1].square().sum(0, keepdim=True)
        return {target: square.sqrt() for target, square in squares.items()}

    def boxes(self, sizes: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Return bounds (s, *shape) of the nonlinear operations' inputs, on balls of sizes (s,)."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        excess: dict[int, Tensor] = {}  # of a nonlinear output over its tangent
        rest: dict[int, tuple[Tensor, Tensor]] = {}  # middle and spread of whole remainders
        for number, operation in self.nonlinear:
            (source,) = operation.sources
            if source not in rest:
                rest[source] = self._rest(source, excess, rest, sizes)
            middle, spread = rest[source]
            reach = sizes.reshape(-1, *[1] * (middle.ndim - 1)) * self.lengths[source] + spread
            centre = self.values[source] + middle
            found[number] = centre - reach, centre + reach
            excess[number] = operation.remainder(*found[number], self.slopes[number])
            half = 0.5 * excess[number]
            slopes = self.slopes[number]
            rest[number] = (
                operation.tangent(middle, slopes) + half,
                operation.tangent(spread, slopes) + half,
            )
        return found

    def _rest(
        self,
        target: int,
        excess: dict[int, Tensor],
        rest: dict[int, tuple[Tensor, Tensor]],
        sizes: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the middle and the spread (s, *shape) of an operation's remainder."""
        network, shape = self.network, self.operations[target].shape
        image = len(shape) == 3
        depth = network.affordable(target, _WORK)
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
                half = 0.5 * excess[number] if passed else None
                mean, width = (half, half) if half is not None else rest[number]
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


def _products(part: Part, values: Tensor, numbers: Tensor) -> Tensor:
    """Return the sums (s, p, m) of coefficients (1, p, m, *) times outputs (s, *shape)."""
    taken = part.of(numbers.flatten(0, 1)[None] if numbers.ndim == 4 else numbers)
    if numbers.ndim == 4:  # (1, p, 1, s c, h, w)
        taken = taken[0, :, 0].reshape(len(taken[0]), len(numbers), -1)  # (p, s, c h w)
        taken = taken.expand(values.shape[1], -1, -1)
    else:
        taken = taken[:, 0, 0].flatten(1)[None]
    return (values[0].flatten(2) @ taken.mT).permute(2, 0, 1)
