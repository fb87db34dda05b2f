"""Streams of batches from a fixed set of points that somebody already has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, check_labels
from trueboundary.problems.seeding import block_generator
from trueboundary.problems.streams import EndlessBatches

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class ArraySample(EndlessBatches):
    """A fixed training set given as arrays, visited in shuffled epochs.

    Every epoch visits each point once, in an order seeded by (seed, epoch); a batch that reaches
    the end of an epoch continues with the next, so all batches have the same size. Batches are a
    pure function of (seed, step).

    Parameters
    ----------
    x : Tensor or ndarray
        Points, shape ``(n, *event)``, float32 or float64. A tensor is kept as it is and batches
        are drawn on its device; it must not be changed afterwards. An array is copied.
    y : Tensor or ndarray
        Labels 0 to K - 1, shape ``(n,)``.
    batch_size : int
        Points per batch.
    seed : int
        Seed of the order, at least 0.
    n_classes : int, optional
        Number of classes K, at least 2; by default as many as the labels tell, which is one more
        than the largest.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.problems import ArraySample
    >>> x, y = torch.arange(8.0).reshape(4, 2), torch.tensor([0, 0, 1, 1])
    >>> stream = ArraySample(x, y, batch_size=2, seed=0)
    >>> epoch = torch.cat([stream.batch(0)[0], stream.batch(1)[0]])
    >>> sorted(epoch[:, 0].tolist())
    [0.0, 2.0, 4.0, 6.0]
    """

    x: Tensor
    y: Tensor
    batch_size: int
    seed: int
    n_classes: int | None = None
    _orders: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)
    _digest: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        x, y = (v if isinstance(v, Tensor) else torch.tensor(v) for v in (self.x, self.y))
        check_floating(x.dtype)
        if x.ndim < 2 or len(x) == 0:
            raise ValueError(f"x must have shape (n, *event) with n > 0, got {tuple(x.shape)}.")
        if y.shape != x.shape[:1]:
            raise ValueError(
                f"y must hold one label for each of {len(x)} points, got shape {tuple(y.shape)}."
            )
        labels = y.to(device=x.device, dtype=torch.int64)
        if self.n_classes is None:
            n_classes = max(2, int(labels.max()) + 1)
        else:
            n_classes = check_integer("n_classes", self.n_classes, minimum=2)
        if not bool((labels == y.to(x.device)).all()):
            raise ValueError(f"labels must be whole numbers, got {sorted(set(y.tolist()))[:5]}.")
        check_labels(labels, n_classes)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", labels)
        object.__setattr__(self, "n_classes", n_classes)
        for name, minimum in (("batch_size", 1), ("seed", 0)):
            value = check_integer(name, getattr(self, name), minimum=minimum)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_digest", _digest(self.x, self.y))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the points ``(batch_size, *event)`` and labels of one step."""
        start = check_integer("step", step, minimum=0) * self.batch_size
        stop, n = start + self.batch_size, len(self.y)
        parts = []
        while start < stop:
            epoch, offset = divmod(start, n)
            parts.append(self._order(epoch)[offset : offset + stop - start])
            start += len(parts[-1])
        # An order of another epoch is never asked for again while training goes on.
        for epoch in [e for e in self._orders if e != (stop - 1) // n]:
            del self._orders[epoch]
        rows = torch.cat(parts)
        return self.x[rows], self.y[rows]

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the batches, as plain values."""
        return {
            "stream": "ArraySample",
            "digest": self._digest,
            "n_samples": len(self.y),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "dtype": str(self.x.dtype).removeprefix("torch."),
        }

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = block_generator(self.seed, epoch, purpose="order of points")
            order = torch.randperm(len(self.y), generator=generator)
            self._orders[epoch] = order.to(self.x.device)
        return self._orders[epoch]


def _digest(x: Tensor, y: Tensor) -> str:
    """Return a hash of the points and labels, the same on every device."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (x.detach().cpu().numpy(), y.cpu().numpy()):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
