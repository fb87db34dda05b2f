r"""What the graph of a network is made of, each operation with all that a relaxation asks of it.

Bounds go backward through a network as linear functions of a layer's outputs, :math:`\sum_j c_j
z_j`. An affine operation turns the coefficients c into those of its inputs by its adjoint, so that
no convolution is ever written out as a matrix. What stands for a unit of a convolutional layer is
nonzero in a small window of the layers before: `Part` holds the windows alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, max_pool2d, pad

__all__ = [
    "Affine",
    "Convolution",
    "Dense",
    "Input",
    "MaxPool",
    "Mixture",
    "Nonlinear",
    "Operation",
    "Part",
    "Rectifier",
    "Scaling",
    "Sum",
    "SumPool",
    "joined",
    "units",
]

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Part:
    """Coefficients of linear functions of one operation's outputs.

    Attributes
    ----------
    values : Tensor of shape (b, p, m, *shape)
        Of m functions at each of p places, for each of n points (b = n) or all alike (b = 1). Of
        images they are those in a window alone: all others are 0.
    rows, columns : Tensor of shape (p,), optional
        Where the windows of images begin, at each place. What of a window lies outside of the
        image is 0.
    """

    values: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None

    @property
    def corner(self) -> tuple[Tensor, Tensor]:
        """Where the windows begin, at the image's own corner where there are none."""
        none = torch.zeros(1, dtype=torch.long, device=self.values.device)
        return (
            none if self.rows is None else self.rows,
            none if self.columns is None else self.columns,
        )

    def whole(self, shape: Shape) -> Tensor:
        """Return all coefficients, (b, p, m, *shape)."""
        if self.rows is None or self.columns is None:
            return self.values
        height = _at(self.rows, shape[1], self.values.shape[-2])
        width = _at(self.columns, shape[2], self.values.shape[-1])
        return _taken(_taken(self.values, *height, -2), *width, -1)

    def within(self, shape: Shape) -> Part:
        """Return the same, with windows no larger than the image and nothing outside of it."""
        if self.rows is None or self.columns is None:
            return self
        values = self.values
        firsts = []
        for first, size, axis in ((self.rows, shape[1], -2), (self.columns, shape[2], -1)):
            window = values.shape[axis]
            start = int(first[0])
            low, high = max(0, start), min(size, start + window)
            if len(first) == 1 and low < high:  # cut
                values = values.narrow(axis, low - start, high - low)
                first = first.clamp(min=0)
            elif window >= size or len(first) == 1:
                values, first = _taken(values, *_at(first, size, window), axis), 0 * first
            elif int(first.min()) < 0 or int(first.max()) + window > size:
                index = first[:, None] + torch.arange(window, device=first.device)
                values = values * _along(((index >= 0) & (index < size)).to(values), axis)
            firsts.append(first)
        return Part(values, *firsts)

    def of(self, numbers: Tensor) -> Tensor:
        """Return what of numbers (b, *shape) lies in the windows, (b, p or 1, 1, *window)."""
        *_, height, width = self.values.shape
        if (
            self.rows is None
            or self.columns is None
            or numbers.shape[2:]
            in (
                (1, 1),
                (height, width),
            )
        ):
            return numbers[:, None, None]
        for first, size, axis in ((self.rows, height, 2), (self.columns, width, 4)):
            steps = first[:, None] + torch.arange(size, device=first.device)
            index = steps.clamp(0, numbers.shape[axis if axis == 2 else -1] - 1)
            if axis == 2:
                numbers = numbers[:, :, index]  # (b, c, p, h, w)
            else:
                index = index[None, None, :, None].expand(*numbers.shape[:4], size)
                numbers = numbers.gather(4, index)
        return numbers.movedim(2, 1)[:, :, None]

    def times(self, numbers: Tensor) -> Tensor:
        """Return the functions' values (b, p, m) of outputs (b, *shape)."""
        return _summed(self.values * self.of(numbers))

    def both(self) -> Part:
        """Return the functions and their negatives behind them."""
        return Part(torch.cat([self.values, -self.values], dim=2), self.rows, self.columns)


def joined(one: Part, other: Part, shape: Shape) -> Part:
    """Return the sum of linear functions of the same outputs."""
    (top, left), (above, beside) = one.corner, other.corner
    same = one.values.shape[3:] == other.values.shape[3:]
    if same and torch.equal(top, above) and torch.equal(left, beside):
        return Part(one.values + other.values, one.rows, one.columns)
    if one.rows is None or other.rows is None:
        return Part(one.whole(shape) + other.whole(shape))
    # The smallest windows that hold both.
    rows, columns = torch.minimum(top, above), torch.minimum(left, beside)
    pairs = [(part, part.corner[0] - rows, part.corner[1] - columns) for part in (one, other)]
    height = max(int(down.max()) + part.values.shape[-2] for part, down, _ in pairs)
    width = max(int(right.max()) + part.values.shape[-1] for part, _, right in pairs)
    first, second = (
        _taken(
            _taken(part.values, *_at(down, height, part.values.shape[-2]), -2),
            *_at(right, width, part.values.shape[-1]),
            -1,
        )
        for part, down, right in pairs
    )
    return Part(first + second, rows, columns).within(shape)


def units(shape: Shape, places: Tensor, like: Tensor) -> Part:
    """Return the functions that are single outputs: all channels at places (p,) of an image.

    Of other outputs the places are their numbers.
    """
    if len(shape) != 3:
        n = math.prod(shape)
        one = torch.zeros(1, 1, len(places), n, dtype=like.dtype, device=like.device)
        one[0, 0, torch.arange(len(places)), places] = 1
        return Part(one.reshape(1, 1, len(places), *shape))
    channels = torch.eye(shape[0], dtype=like.dtype, device=like.device)
    values = channels[None, None, :, :, None, None].expand(1, len(places), -1, -1, 1, 1)
    return Part(values, places // shape[2], places % shape[2])


def _summed(products: Tensor) -> Tensor:
    """Return the sums (b, p, m) of products (b, p, m, *shape)."""
    return products.reshape(*products.shape[:3], -1).sum(3)


def _at(first: Tensor, size: int, window: int) -> tuple[Tensor, Tensor]:
    """Return for each place of an axis where in the windows it lies, (p, size), and whether."""
    index = torch.arange(size, device=first.device) - first[:, None]
    return index.clamp(0, window - 1), (index >= 0) & (index < window)


def _taken(values: Tensor, index: Tensor, inside: Tensor, axis: int) -> Tensor:
    """Return values (b, p, m, c, h, w) at other places (p, size) of one axis, 0 outside."""
    target = list(values.shape)
    target[axis] = index.shape[1]
    at = _along(index, axis).expand(target)
    return values.gather(axis % values.ndim, at) * _along(inside, axis).to(values)


def _along(numbers: Tensor, axis: int) -> Tensor:
    """Return numbers (p, size) in a shape that goes with values (b, p, m, c, h, w)."""
    places, size = numbers.shape
    tail = (size, 1) if axis == -2 else (1, size)
    return numbers.reshape(1, places, 1, 1, *tail)


# ------------------------------------------------------------------------------------ operations


@dataclass(frozen=True, eq=False)
class Operation(ABC):
    """One operation of a network, on each point by itself.

    Attributes
    ----------
    sources : tuple of int
        The operations whose outputs it takes, by number.
    shape : tuple of int
        Shape of its outputs for one point.
    """

    sources: tuple[int, ...]
    shape: Shape

    @abstractmethod
    def value(self, *inputs: Tensor) -> Tensor:
        """Return its outputs (n, *shape)."""

    @abstractmethod
    def noise(self, values: Sequence[Tensor], noises: Sequence[Tensor]) -> Tensor:
        """Return the variance of its outputs' rounding, in squares of the unit of rounding."""

    def reach(self, window: Pair) -> Pair | None:
        """Return how large a window of its inputs a window of outputs sees, None for all."""
        del window
        return None


@dataclass(frozen=True, eq=False)
class Input(Operation):
    """The points."""

    def value(self, *inputs: Tensor) -> Tensor:
        """Return the points."""
        return inputs[0]

    def noise(self, values: Sequence[Tensor], noises: Sequence[Tensor]) -> Tensor:
        """Points are rounded to the network's precision."""
        del noises
        return values[0].square()


Of = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """A linear map plus a constant, which is broadcast to (1, *shape)."""

    offset: Tensor | None = field(default=None, kw_only=True)
    terms: int = field(default=1, kw_only=True)  # in the sum that makes an output

    @abstractmethod
    def linear(self, inputs: Sequence[Tensor], of: Of) -> Tensor:
        """Return the linear map of inputs, each of its coefficients taken through `of`."""

    @abstractmethod
    def adjoint(self, part: Part) -> list[Part]:
        """Return the coefficients of each input, given those of the outputs."""

    def value(self, *inputs: Tensor) -> Tensor:
        """Return the map's outputs."""
        found = self.linear(inputs, lambda w: w)
        return found if self.offset is None else found + self.offset

    def noise(self, values: Sequence[Tensor], noises: Sequence[Tensor]) -> Tensor:
        """Add up the inputs' roundings as if by chance, and those of a sum by its terms' size."""
        sizes = self.linear([value.abs() for value in values], torch.abs)
        if self.offset is not None:
            sizes = sizes + self.offset.abs()
        return self.linear(noises, torch.square) + self.terms * sizes.square()

    def constant(self, part: Part) -> Tensor | float:
        """Return what the constant adds to each function, (b, p, m)."""
        return 0.0 if self.offset is None else part.times(self.offset)


@dataclass(frozen=True, eq=False)
class Dense(Affine):
    """A matrix (n_out, n_in)."""

    weight: Tensor

    def linear(self, inputs: Sequence[Tensor], of: Of) -> Tensor:
        """Multiply by the matrix."""
        return inputs[0] @ of(self.weight).T

    def adjoint(self, part: Part) -> list[Part]:
        """Multiply by the transpose."""
        return [Part(part.values @ self.weight)]


@dataclass(frozen=True, eq=False)
class Convolution(Affine):
    """A convolution of images, its weight (n_out, n_in / groups, height, width)."""

    weight: Tensor
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def linear(self, inputs: Sequence[Tensor], of: Of) -> Tensor:
        """Convolve."""
        return conv2d(
            inputs[0],
            of(self.weight),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )

    def adjoint(self, part: Part) -> list[Part]:
        """Convolve with the transpose; windows grow by the kernel."""
        given = part.values
        if given.stride(1) == 0:  # alike at all places, as single units are
            given = given[:, :1]
        values = conv_transpose2d(
            given.flatten(0, 2),
            self.weight,
            None,
            self.stride,
            groups=self.groups,
            dilation=self.dilation,
        )
        values = values.reshape(*given.shape[:3], *values.shape[1:])
        values = values.expand(-1, part.values.shape[1], -1, -1, -1, -1)
        return [_moved(values, part, self.stride, self.padding)]

    def reach(self, window: Pair) -> Pair | None:
        """Return the size of the window that is seen."""
        kernel = (self.weight.shape[2], self.weight.shape[3])
        return _reach(window, kernel, self.stride, self.dilation)


@dataclass(frozen=True, eq=False)
class Scaling(Affine):
    """Each output is its input times a number, broadcast to (1, *shape)."""

    scale: Tensor

    def linear(self, inputs: Sequence[Tensor], of: Of) -> Tensor:
        """Scale."""
        return inputs[0] * of(self.scale)

    def adjoint(self, part: Part) -> list[Part]:
        """Scale."""
        return [Part(part.values * part.of(self.scale), part.rows, part.columns)]

    def reach(self, window: Pair) -> Pair | None:
        """Return the window itself."""
        return window


@dataclass(frozen=True, eq=False)
class Sum(Affine):
    """The sum of inputs of the same shape, each times a number."""

    factors: tuple[float, ...]

    def linear(self, inputs: Sequence[Tensor], of: Of) -> Tensor:
        """Add up."""
        factors = of(torch.tensor(self.factors, dtype=torch.float64)).tolist()
        parts = [factor * part for factor, part in zip(factors, inputs, strict=True)]
        return torch.stack(parts).sum(0)

    def adjoint(self, part: Part) -> list[Part]:
        """Give the coefficients to all."""
        return [
            Part(part.values if factor == 1 else factor * part.values, part.rows, part.columns)
            for factor in self.factors
        ]

    def reach(self, window: Pair) -> Pair | None:
        """Return the window itself."""
        return window


@dataclass(frozen=True, eq=False)
class Mixture(Affine):
    """Outputs that are inputs, or sums of inputs, in another order: any such function of tensors.

    Its coefficients are 0 and 1, and autograd knows its adjoint.
    """

    function: Callable[[Sequence[Tensor]], Tensor]
    inputs: tuple[Shape, ...]

    def linear(self, inputs: Sequence[Tensor], of: Of) -> Tensor:
        """Apply the function."""
        del of
        return self.function(inputs)

    def adjoint(self, part: Part) -> list[Part]:
        """Go back through the function."""
        coefficients = part.whole(self.shape)
        lead = coefficients.shape[:3]
        with torch.enable_grad():
            blanks = [
                coefficients.new_zeros(lead.numel(), *shape).requires_grad_()
                for shape in self.inputs
            ]
            found = torch.autograd.grad(
                self.function(blanks), blanks, coefficients.flatten(0, 2), materialize_grads=True
            )
        return [Part(gradient.reshape(*lead, *gradient.shape[1:])) for gradient in found]


@dataclass(frozen=True, eq=False)
class SumPool(Affine):
    """Sums over windows of images, channel by channel."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def linear(self, inputs: Sequence[Tensor], of: Of) -> Tensor:
        """Sum."""
        del of
        return avg_pool2d(inputs[0], self.kernel, self.stride, self.padding, divisor_override=1)

    def adjoint(self, part: Part) -> list[Part]:
        """Give each coefficient to its whole window."""
        height, width = self.kernel
        values = part.values
        if self.stride == self.kernel:
            values = values.repeat_interleave(height, -2).repeat_interleave(width, -1)
        else:
            taps = values[..., None, :, :].expand(*values.shape[:4], height * width, -1, -1)
            values = _scattered(taps, self.kernel, self.stride, (1, 1))
        return [_moved(values, part, self.stride, self.padding)]

    def reach(self, window: Pair) -> Pair | None:
        """Return the size of the window that is seen."""
        return _reach(window, self.kernel, self.stride, (1, 1))


# ----------------------------------------------------------------------------------- relaxations


@dataclass(frozen=True, eq=False)
class Nonlinear(Operation):
    """An operation whose outputs grow with its input, enclosed by linear functions."""

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return bounds of the outputs, given those of the input."""
        return self.value(low), self.value(high)

    def noise(self, values: Sequence[Tensor], noises: Sequence[Tensor]) -> Tensor:
        """Return the noise of the unit that is passed on, or more."""
        del values
        return noises[0]

    @abstractmethod
    def lines(self, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
        """Return the linear functions that enclose the outputs within bounds of the input."""

    @abstractmethod
    def slopes(self, at: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the slopes of a linear map that is near the operation within bounds of points."""

    @abstractmethod
    def sloped(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Apply the linear map of given slopes."""

    @abstractmethod
    def transposed(self, part: Part, slopes: Tensor) -> Part:
        """Return the coefficients of the input under the linear map."""

    @abstractmethod
    def remainder(
        self, at: Tensor, low: Tensor, high: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bound by how much more the outputs change from a point than the linear map does."""

    @abstractmethod
    def relaxed(self, part: Part, lines: tuple[Tensor, ...]) -> tuple[Part, Tensor]:
        """Return functions of the input below given ones of the outputs, and their constants."""


@dataclass(frozen=True, eq=False)
class Rectifier(Nonlinear):
    """A ReLU, or a leaky one whose slope below zero, from 0 to 1, is broadcast to (1, *shape)."""

    slope: Tensor

    def value(self, *inputs: Tensor) -> Tensor:
        """Rectify."""
        return torch.where(inputs[0] > 0, inputs[0], self.slope * inputs[0])

    def lines(self, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
        """Return the slopes below and above, and the offset above."""
        undecided = (low < 0) & (high > 0)
        decided = torch.where(low >= 0, 1.0, self.slope.to(low))
        chord = (high - self.slope * low) / torch.where(undecided, high - low, 1.0)
        above = torch.where(undecided, chord, decided)
        below = torch.where(undecided, torch.where(high > -low, 1.0, self.slope), decided)
        offset = torch.where(undecided, (self.slope - above) * low, 0.0)
        return below, above, offset

    def slopes(self, at: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the chord's slope where the kink is in reach, else the unit's own."""
        del at
        return self.lines(low, high)[1]

    def sloped(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Scale each unit."""
        return inputs * slopes

    def transposed(self, part: Part, slopes: Tensor) -> Part:
        """Scale each unit."""
        return Part(part.values * part.of(slopes), part.rows, part.columns)

    def remainder(
        self, at: Tensor, low: Tensor, high: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the extremes of what is left, which is convex: at the ends and the kink."""
        ends = [self.value(end) - slopes * end for end in (low, high)]
        least = torch.minimum(*ends)
        least = torch.where((low < 0) & (high > 0), least.clamp(max=0), least)
        start = self.value(at) - slopes * at
        return least - start, torch.maximum(*ends) - start

    def relaxed(self, part: Part, lines: tuple[Tensor, ...]) -> tuple[Part, Tensor]:
        """Take the line below where a coefficient is positive, that above where it is not."""
        below, above, offset = (part.of(line) for line in lines)
        values = part.values
        total = _summed(values.clamp(max=0) * offset)
        values = values * torch.where(values > 0, below, above)
        return Part(values, part.rows, part.columns), total

    def reach(self, window: Pair) -> Pair | None:
        """Return the window itself."""
        return window


@dataclass(frozen=True, eq=False)
class MaxPool(Nonlinear):
    r"""The largest of each window, of images, channel by channel.

    With L the largest lower bound of a window's units, its maximum is at least the unit that has
    it, and at most :math:`L + \sum_i (z_i - L)_+`, hence at most the sum of the chords

    .. math:: L + \sum_{u_i > L} \frac{u_i - L}{u_i - l_i} (z_i - l_i),

    which is the unit itself where one dominates; or the largest upper bound, where that is less in
    the middle of the bounds.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def value(self, *inputs: Tensor) -> Tensor:
        """Pool."""
        return max_pool2d(inputs[0], self.kernel, self.stride, self.padding, self.dilation)

    def noise(self, values: Sequence[Tensor], noises: Sequence[Tensor]) -> Tensor:
        """Return the largest noise of a window."""
        del values
        return self.value(noises[0])

    def lines(self, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
        """Return the coefficients below and above, (n, c, taps, h, w), and the offset above."""
        low, high = self._taps(low), self._taps(high)
        floor, first = low.max(dim=2, keepdim=True)
        below = torch.zeros_like(low).scatter_(2, first, 1.0)
        rising = high > floor
        above = torch.where(rising, (high - floor) / (high - low), 0.0)
        # A single point has no chord; its unit is as good as any.
        above = torch.where(high == low, below * (low == floor), above)
        start = torch.where(above > 0, above * low, 0.0).sum(2)
        offset = floor.squeeze(2) - start
        most = high.max(dim=2).values
        middle = torch.where(above > 0, above * 0.5 * (low + high), 0.0).sum(2) + offset
        constant = most < middle
        above = torch.where(constant[:, :, None], 0.0, above)
        return below, above, torch.where(constant, most, offset)

    def slopes(self, at: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return which unit of each window is the largest, (n, c, taps, h, w), 0 and 1."""
        del low, high
        taps = self._taps(at)
        return torch.zeros_like(taps).scatter_(2, taps.argmax(dim=2, keepdim=True), 1.0)

    def sloped(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Take the chosen units."""
        return torch.where(slopes > 0, self._taps(inputs), 0.0).sum(2)

    def transposed(self, part: Part, slopes: Tensor) -> Part:
        """Give the coefficients to the chosen units."""
        taps = part.values[..., None, :, :] * self._of(part, slopes)
        values = _scattered(taps, self.kernel, self.stride, self.dilation)
        return _moved(values, part, self.stride, self.padding)

    def remainder(
        self, at: Tensor, low: Tensor, high: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return how far another unit can exceed the chosen one, which is the maximum at first."""
        del at
        chosen = torch.where(slopes > 0, self._taps(low), 0.0).sum(2)
        others = torch.where(slopes > 0, -torch.inf, self._taps(high)).max(dim=2).values
        above = (others - chosen).clamp(min=0)
        return torch.zeros_like(above), above

    def relaxed(self, part: Part, lines: tuple[Tensor, ...]) -> tuple[Part, Tensor]:
        """Take the functions below where a coefficient is positive, those above where it is not."""
        below, above = (self._of(part, line) for line in lines[:2])
        negative = part.values.clamp(max=0)
        total = _summed(negative * part.of(lines[2]))
        positive = part.values.clamp(min=0)[..., None, :, :]
        taps = positive * below + negative[..., None, :, :] * above
        values = _scattered(taps, self.kernel, self.stride, self.dilation)
        return _moved(values, part, self.stride, self.padding), total

    def reach(self, window: Pair) -> Pair | None:
        """Return the size of the window that is seen."""
        return _reach(window, self.kernel, self.stride, self.dilation)

    def _taps(self, numbers: Tensor) -> Tensor:
        """Return the units of each window, (n, c, taps, h, w), minus infinity outside."""
        (top, left), (_, height, width) = self.padding, self.shape
        padded = pad(numbers, (left, left, top, top), value=-torch.inf)
        return torch.stack(
            [
                padded[..., i : i + self.stride[0] * height : self.stride[0], :][
                    ..., j : j + self.stride[1] * width : self.stride[1]
                ][..., :height, :width]
                for i, j in _taps(self.kernel, self.dilation)
            ],
            dim=2,
        )

    def _of(self, part: Part, line: Tensor) -> Tensor:
        """Return what of a line (n, c, taps, h, w) lies in windows, (n, p, 1, c, taps, h, w)."""
        found = part.of(line.flatten(1, 2))
        return found.reshape(*found.shape[:3], *line.shape[1:3], *found.shape[4:])


def _taps(kernel: Pair, dilation: Pair) -> list[Pair]:
    return [(i * dilation[0], j * dilation[1]) for i in range(kernel[0]) for j in range(kernel[1])]


def _scattered(taps: Tensor, kernel: Pair, stride: Pair, dilation: Pair) -> Tensor:
    """Return the sum of coefficients (..., taps, h, w) at the units of their windows."""
    height, width = taps.shape[-2:]
    size = _reach((height, width), kernel, stride, dilation)
    values = taps.new_zeros(*taps.shape[:-3], *size)
    for index, (i, j) in enumerate(_taps(kernel, dilation)):
        rows = slice(i, i + stride[0] * (height - 1) + 1, stride[0])
        columns = slice(j, j + stride[1] * (width - 1) + 1, stride[1])
        values[..., rows, columns] += taps[..., index, :, :]
    return values


def _moved(values: Tensor, part: Part, stride: Pair, padding: Pair) -> Part:
    rows, columns = part.corner
    return Part(values, rows * stride[0] - padding[0], columns * stride[1] - padding[1])


def _reach(window: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    height, width = (
        (size - 1) * step + far * (taps - 1) + 1
        for size, step, far, taps in zip(window, stride, dilation, kernel, strict=True)
    )
    return height, width
