"""Problems as data sets of torch: a finite one in memory, and batches of fresh points for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating
from trueboundary.problems.base import Problem

__all__ = ["FreshBatches", "PointDataset"]

_BLOCK = 2048  # points drawn at once; part of what defines a data set


class PointDataset(Dataset[tuple[Tensor, int]]):
    """A finite set of labelled points, for `torch.utils.data.DataLoader`.

    The points are drawn once, when the data set is made, and are a pure function of `split`,
    `seed` and `dtype`: the first of a long data set are those of a short one. Workers of a loader
    share them, and draw nothing. They are those that `trueboundary.datasets.make_dataset` writes
    to a folder for the same part and seed.

    Parameters
    ----------
    problem : Problem
        Where the points come from.
    n : int
        Number of points, at least 1.
    split : str
        Data sets of different splits are independent, whatever their seeds.
    seed : int
        Seed of the points, at least 0.
    as_images : bool
        Give points as images ``(channels, height, width)`` in place of flat ones; for problems
        that have images.
    dtype : torch.dtype
        float32 or float64.

    Attributes
    ----------
    x : Tensor
        All points, shape ``(n, *event)``.
    y : Tensor
        Their labels 0 to K - 1, int64, shape ``(n,)``.
    classes : tuple of str
        Names of the classes, as torchvision's data sets have them.

    Raises
    ------
    TypeError
        If images are wanted of a problem that has none.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> from trueboundary.problems import ConcentricSpheres, PointDataset
    >>> train = PointDataset(ConcentricSpheres(dim=10), 100)
    >>> len(train), train[0][0].shape
    (100, torch.Size([10]))
    >>> [len(y) for x, y in DataLoader(train, batch_size=50, shuffle=True)]
    [50, 50]
    """

    def __init__(
        self,
        problem: Problem,
        n: int,
        *,
        split: str = "train",
        seed: int = 0,
        as_images: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = _image_shape(problem) if as_images else problem.event_shape
        blocks = list(
            problem.blocks(n, seed=seed, block_size=_BLOCK, dtype=dtype, purpose=f"dataset/{split}")
        )
        self.problem, self.split, self.seed = problem, split, seed
        self.x = torch.cat([x for x, _ in blocks]).reshape(-1, *shape)
        self.y = torch.cat([y for _, y in blocks])
        self.classes = class_names_of(problem)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one point and its label."""
        return self.x[index], int(self.y[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return some points with their labels; loaders ask for whole batches so."""
        rows = torch.as_tensor(indices)
        return list(zip(self.x[rows], self.y[rows].tolist(), strict=True))


class FreshBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of points that nobody has seen before, for a `DataLoader` with ``batch_size=None``.

    Batch number i is a pure function of `seed` and i. Of W workers the w-th draws the batches w,
    w + W, w + 2 W and so on, in whose order a loader hands them over: with any number of workers
    the same batches come in the same order, each once.

    Parameters
    ----------
    problem : Problem
        Where the points come from.
    batch_size : int
        Points per batch.
    n_batches : int, optional
        Number of batches; endless by default. They are the same in each pass.
    seed : int
        Seed of all batches, at least 0.
    start : int
        Number of the first batch, from which a training that was interrupted goes on.
    as_images, dtype
        As for `PointDataset`.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> from trueboundary.problems import ConcentricSpheres, FreshBatches
    >>> batches = FreshBatches(ConcentricSpheres(dim=10), 50, n_batches=3)
    >>> [tuple(x.shape) for x, y in DataLoader(batches, batch_size=None)]
    [(50, 10), (50, 10), (50, 10)]
    """

    def __init__(
        self,
        problem: Problem,
        batch_size: int,
        *,
        n_batches: int | None = None,
        seed: int = 0,
        start: int = 0,
        as_images: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.problem = problem
        self.batch_size = check_integer("batch_size", batch_size, minimum=1)
        self.seed = check_integer("seed", seed, minimum=0)
        self.start = check_integer("start", start, minimum=0)
        self.dtype = check_floating(dtype)
        self.shape = _image_shape(problem) if as_images else problem.event_shape
        if n_batches is not None:
            n_batches = check_integer("n_batches", n_batches, minimum=1)
        self.n_batches = n_batches

    def __len__(self) -> int:
        """Return the number of batches; `TypeError` where there is no end."""
        if self.n_batches is None:
            raise TypeError("these batches have no end; give n_batches for a number of them.")
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this worker's share of the batches: points ``(batch_size, *event)`` and labels."""
        worker = get_worker_info()
        number, n_workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while self.n_batches is None or number < self.n_batches:
            x, y = self.problem.block(
                self.start + number,
                seed=self.seed,
                block_size=self.batch_size,
                dtype=self.dtype,
                purpose="fresh batches",
            )
            yield x.reshape(-1, *self.shape), y
            number += n_workers


def class_names_of(problem: Problem) -> tuple[str, ...]:
    """Return the names of a problem's classes, their numbers where it has none."""
    names = getattr(problem, "class_names", None)
    return tuple(map(str, range(problem.n_classes))) if names is None else tuple(names)


def _image_shape(problem: Problem) -> tuple[int, ...]:
    shape: Any = getattr(problem, "image_shape", None)
    if shape is None:
        raise TypeError(
            f"{type(problem).__name__} has points of shape {problem.event_shape}, which are no "
            "images; leave as_images out."
        )
    return tuple(shape)
