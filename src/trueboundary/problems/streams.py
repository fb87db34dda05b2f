"""Streams of training batches: fresh points for ever, or a fixed set in shuffled epochs.

Both are pure functions of (seed, step): ``batch(step)`` gives the same points whenever and
wherever it is called, so that a training run which resumes at step 1,000 sees what the
uninterrupted run saw. They draw on their device, and kinds of devices have generators of their own:
on a card the points are others than on the CPU, of the same distribution, and the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating
from trueboundary.devices import check_device
from trueboundary.problems.base import BLOCK_SIZE, Problem
from trueboundary.problems.seeding import block_generator


class Stream(Protocol):
    """What the training loop needs of a source of batches."""

    @property
    def seed(self) -> int:
        """Seed of the stream."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the points and labels of training step `step`, counted from 0."""

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the batches, as plain values."""


class EndlessBatches:
    """Makes a stream iterable: its batches 0, 1, 2 and so on, without end.

    Each iteration begins with batch 0; `itertools.islice` takes some of them.

    Examples
    --------
    >>> from itertools import islice
    >>> from trueboundary.problems import ConcentricSpheres, OnlineStream
    >>> stream = OnlineStream(ConcentricSpheres(dim=10), batch_size=50, seed=0)
    >>> [len(x) for x, y in islice(stream, 3)]
    [50, 50, 50]
    """

    def __iter__(self: Stream) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the points and labels of each step."""
        return map(self.batch, count())


def _check_integers(stream: OnlineStream | FiniteSample, **minima: int) -> None:
    """Replace fields of a frozen dataclass by plain integers, or raise."""
    for name, minimum in minima.items():
        value = check_integer(name, getattr(stream, name), minimum=minimum)
        object.__setattr__(stream, name, value)


@dataclass(frozen=True)
class OnlineStream(EndlessBatches):
    """Fresh points at every step, the limit of infinitely many training points.

    Points are drawn in blocks of whole batches (about 2,048 points), and the last block is kept,
    because one large draw is cheaper than many small ones.

    Parameters
    ----------
    problem : Problem
        Where the points come from.
    batch_size : int
        Points per batch.
    seed : int
        Seed of the stream, at least 0.
    dtype : torch.dtype
        float32 or float64.
    device : str
        Where to draw.

    Examples
    --------
    >>> from trueboundary.problems import ConcentricSpheres, OnlineStream
    >>> stream = OnlineStream(ConcentricSpheres(dim=10), batch_size=50, seed=0)
    >>> x, y = stream.batch(1000)
    >>> x.shape, y.shape
    (torch.Size([50, 10]), torch.Size([50]))
    """

    problem: Problem
    batch_size: int
    seed: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    _kept: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        _check_integers(self, batch_size=1, seed=0)
        check_floating(self.dtype)
        check_device(self.device)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.problem.n_classes

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the points ``(batch_size, *event_shape)`` and labels of one step."""
        step = check_integer("step", step, minimum=0)
        batches_per_block = max(1, 2048 // self.batch_size)
        index, position = divmod(step, batches_per_block)
        x, y = self._block(index, batches_per_block * self.batch_size)
        rows = slice(position * self.batch_size, (position + 1) * self.batch_size)
        return x[rows].clone(), y[rows].clone()  # the caller may change what it is given

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the batches, as plain values."""
        return {
            "stream": "OnlineStream",
            "problem": self.problem.describe(),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": torch.device(self.device).type,
        }

    def _block(self, index: int, block_size: int) -> tuple[Tensor, Tensor]:
        if index not in self._kept:
            self._kept.clear()
            self._kept[index] = self.problem.block(
                index,
                seed=self.seed,
                block_size=block_size,
                dtype=self.dtype,
                device=self.device,
                purpose="online",
            )
        return self._kept[index]


class _Kept:
    """What a finite sample keeps between batches; it can all be drawn again."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, ...]] = []
        self.groups_epoch = -1
        self.order = torch.empty(0, dtype=torch.int64)
        self.order_key = (-1, -1)
        self.release()

    def release(self) -> None:
        self.group: tuple[int, ...] = ()
        self.x = torch.empty(0)
        self.y = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class FiniteSample(EndlessBatches):
    """A fixed training set, visited in shuffled epochs.

    Labels are drawn, so the classes are balanced in expectation. Every epoch visits each point
    once, in an order seeded by (seed, epoch); a batch that reaches the end of an epoch continues
    with the next, so all batches have the same size.

    A set of at most `max_bytes` is held in memory and shuffled as a whole. A larger one is never
    held: it is drawn again, block by block, whenever it is needed, and shuffled on two levels.
    Each epoch permutes the blocks, gathers as many of them as fit in half of `max_bytes` into a
    group, and permutes the points inside the group. `max_bytes` thereby decides the order.

    Parameters
    ----------
    problem : Problem
        Where the points come from.
    n_samples : int
        Number of training points.
    batch_size : int
        Points per batch.
    seed : int
        Seed of the points and of the order, at least 0.
    dtype : torch.dtype
        float32 or float64.
    device : str
        Where to draw.
    max_bytes : int
        Largest set held in memory; 512 MiB by default.

    Examples
    --------
    >>> from trueboundary.problems import ConcentricSpheres, FiniteSample
    >>> stream = FiniteSample(ConcentricSpheres(dim=10), n_samples=100, batch_size=50, seed=0)
    >>> first_epoch = {tuple(x) for step in (0, 1) for x in stream.batch(step)[0].tolist()}
    >>> second_epoch = {tuple(x) for step in (2, 3) for x in stream.batch(step)[0].tolist()}
    >>> len(first_epoch), first_epoch == second_epoch
    (100, True)
    """

    problem: Problem
    n_samples: int
    batch_size: int
    seed: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    max_bytes: int = 512 * 2**20
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_integers(self, n_samples=1, batch_size=1, seed=0, max_bytes=1)
        check_floating(self.dtype)
        check_device(self.device)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.problem.n_classes

    @property
    def n_groups(self) -> int:
        """Number of groups of blocks in an epoch; 1 if the set is held in memory."""
        return -(-self._n_blocks // self._blocks_per_group)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the points ``(batch_size, *event_shape)`` and labels of one step."""
        step = check_integer("step", step, minimum=0)
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while start < stop:  # at least one point is added each time round
            x, y = self._read(start, stop)
            parts.append((x, y))
            start += len(y)
        if len(parts) == 1:
            return parts[0]
        xs, ys = zip(*parts, strict=True)
        return torch.cat(xs), torch.cat(ys)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Stream the whole training set once, unshuffled, in blocks."""
        yield from self.problem.blocks(
            self.n_samples, seed=self.seed, dtype=self.dtype, device=self.device, purpose="training"
        )

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the batches, as plain values."""
        return {
            "stream": "FiniteSample",
            "problem": self.problem.describe(),
            "n_samples": self.n_samples,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": torch.device(self.device).type,
            "n_groups": self.n_groups,
        }

    @property
    def _n_blocks(self) -> int:
        return -(-self.n_samples // BLOCK_SIZE)

    @property
    def _blocks_per_group(self) -> int:
        bytes_per_point = self.dtype.itemsize * torch.Size(self.problem.event_shape).numel()
        if self.n_samples * bytes_per_point <= self.max_bytes:
            return self._n_blocks
        return max(1, self.max_bytes // 2 // (BLOCK_SIZE * bytes_per_point))

    def _block_length(self, index: int) -> int:
        return min(BLOCK_SIZE, self.n_samples - index * BLOCK_SIZE)

    def _permutation(self, n: int, index: int, purpose: str) -> Tensor:
        return torch.randperm(n, generator=block_generator(self.seed, index, purpose=purpose))

    def _groups(self, epoch: int) -> list[tuple[int, ...]]:
        """Return the block numbers of each group of an epoch."""
        if self.n_groups == 1:
            return [tuple(range(self._n_blocks))]
        if self._kept.groups_epoch != epoch:
            order = self._permutation(self._n_blocks, epoch, "order of blocks").tolist()
            size = self._blocks_per_group
            self._kept.groups = [tuple(order[i : i + size]) for i in range(0, len(order), size)]
            self._kept.groups_epoch = epoch
        return self._kept.groups

    def _read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return points from position `start` on, up to `stop` or the end of the group."""
        epoch, offset = divmod(start, self.n_samples)
        wanted = stop - start
        for number, group in enumerate(self._groups(epoch)):
            length = sum(map(self._block_length, group))
            if offset < length:
                rows = self._order(epoch, number, length)[offset : offset + wanted]
                x, y = self._load(group, length)
                return x[rows], y[rows]
            offset -= length
        raise AssertionError("unreachable: the groups of an epoch hold all of its points")

    def _order(self, epoch: int, number: int, length: int) -> Tensor:
        """Return the permutation of the points inside one group."""
        if self._kept.order_key != (epoch, number):
            index = epoch * self.n_groups + number
            order = self._permutation(length, index, "order of points").to(self.device)
            self._kept.order, self._kept.order_key = order, (epoch, number)
        return self._kept.order

    def _load(self, group: tuple[int, ...], length: int) -> tuple[Tensor, Tensor]:
        """Return the points of a group of blocks, drawing them unless they are at hand."""
        if self._kept.group != group:
            self._kept.release()  # before the next group is allocated: never two at a time
            shape = (length, *self.problem.event_shape)
            x = torch.empty(shape, dtype=self.dtype, device=self.device)
            y = torch.empty(length, dtype=torch.int64, device=self.device)
            start = 0
            for index in group:
                rows = self._block_length(index)
                block = self.problem.block(
                    index,
                    seed=self.seed,
                    dtype=self.dtype,
                    device=self.device,
                    purpose="training",
                )
                x[start : start + rows], y[start : start + rows] = block[0][:rows], block[1][:rows]
                start += rows
            self._kept.x, self._kept.y, self._kept.group = x, y, group
        return self._kept.x, self._kept.y
