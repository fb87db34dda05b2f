"""What every problem offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, drawing_device, generator_of
from trueboundary.classifiers.base import ClassifierModule
from trueboundary.problems.seeding import block_generator

if TYPE_CHECKING:
    from trueboundary.domains import Domain
    from trueboundary.problems.torch_datasets import FreshBatches, PointDataset

BLOCK_SIZE = 8192


class Problem(ABC):
    """Class-conditional densities and their priors, known exactly.

    A subclass says how to draw from each class and which classifier is optimal; drawing labelled
    samples and streaming blocks follow from that.
    """

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one point."""

    @property
    def n_classes(self) -> int:
        """Number of classes K, at least 2; labels are 0 to K - 1."""
        return 2

    @property
    def prior(self) -> float:
        """Probability of class 1, where there are two classes."""
        return 0.5

    @property
    def priors(self) -> tuple[float, ...]:
        """Probabilities of all classes, which add up to 1."""
        return (1 - self.prior, self.prior)

    @abstractmethod
    def sample_class(
        self,
        n: int,
        label: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw `n` points of class `label`, shape ``(n, *event_shape)``."""

    @abstractmethod
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> ClassifierModule:
        """Return a classifier whose error rate no other classifier can beat."""

    @abstractmethod
    def domain(self, label: int) -> Domain:
        """Return the set on which the points of class `label` live."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the parameters as plain values that JSON can hold."""

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw labelled points.

        Parameters
        ----------
        n : int
            Number of points, at least 1.
        generator : torch.Generator
            Source of the random numbers.
        seed : int, optional
            In place of a generator: the numbers of ``torch.Generator(device).manual_seed(seed)``.
        dtype : torch.dtype
            float32 or float64.
        device : torch.device, optional
            Where to draw; must be the generator's device.

        Returns
        -------
        x : Tensor
            Points, shape ``(n, *event_shape)``.
        y : Tensor
            Labels 0 to K - 1, int64, shape ``(n,)``, each drawn with the probability `priors`.
        """
        n = check_integer("n", n, minimum=1)
        generator = generator_of(generator, seed, device)
        y = self._sample_labels(n, generator=generator, device=device)
        x = torch.empty((n, *self.event_shape), dtype=check_floating(dtype), device=y.device)
        for label in range(self.n_classes):
            chosen = y == label
            count = int(chosen.sum())
            if count:
                drawn = self.sample_class(count, label, generator=generator, dtype=dtype)
                wanted = (count, *self.event_shape)
                if (tuple(drawn.shape), drawn.dtype) != (wanted, dtype):
                    raise ValueError(
                        f"expected {type(self).__name__}.sample_class to draw points of shape "
                        f"{wanted} in {dtype}, got {tuple(drawn.shape)} in {drawn.dtype}."
                    )
                x[chosen] = drawn
        return x, y

    def blocks(
        self,
        n: int,
        *,
        seed: int,
        block_size: int = BLOCK_SIZE,
        label: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        purpose: str = "test",
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Stream `n` labelled points in blocks, never holding more than one.

        Block i is drawn by a generator seeded by (purpose, seed, i) and always in full, so the
        first points of a long stream are those of a short one. `block_size` is part of what
        defines the stream: another block size gives other points.

        Parameters
        ----------
        n : int
            Number of points in all, at least 1.
        seed : int
            Seed of the stream.
        block_size : int
            Points per block.
        label : int, optional
            Draw this class alone; all, with the probabilities `priors`, by default.
        dtype, device
            Of the points.
        purpose : str
            Streams with the same seed and different purposes are independent; see
            `trueboundary.problems.seeding.block_generator`.

        Yields
        ------
        x : Tensor
            Points, shape ``(at most block_size, *event_shape)``.
        y : Tensor
            Their labels, int64.

        Examples
        --------
        >>> from trueboundary.problems import ConcentricSpheres
        >>> problem = ConcentricSpheres(dim=10)
        >>> sum(len(x) for x, y in problem.blocks(20_000, seed=0))
        20000
        """
        n = check_integer("n", n, minimum=1)
        block_size = check_integer("block_size", block_size, minimum=1)
        for index in range(-(-n // block_size)):
            x, y = self.block(
                index,
                seed=seed,
                block_size=block_size,
                label=label,
                dtype=dtype,
                device=device,
                purpose=purpose,
            )
            remaining = n - index * block_size
            yield x[:remaining], y[:remaining]

    def block(
        self,
        index: int,
        *,
        seed: int,
        block_size: int = BLOCK_SIZE,
        label: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        purpose: str = "test",
    ) -> tuple[Tensor, Tensor]:
        """Draw block number `index` of the stream that `blocks` yields, in full."""
        kind = purpose if label is None else f"{purpose}/class {check_label(label, self.n_classes)}"
        generator = block_generator(seed, index, purpose=kind, device=device)
        if label is None:
            return self.sample(block_size, generator=generator, dtype=dtype)
        x = self.sample_class(block_size, label, generator=generator, dtype=dtype)
        return x, torch.full((block_size,), label, dtype=torch.int64, device=x.device)

    def dataset(
        self,
        n: int,
        *,
        split: str = "train",
        seed: int = 0,
        as_images: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> PointDataset:
        """Return `n` labelled points as a data set of torch; see `PointDataset`.

        Examples
        --------
        >>> from torch.utils.data import DataLoader
        >>> from trueboundary.problems import ConcentricSpheres
        >>> train = ConcentricSpheres(dim=10).dataset(100, seed=0)
        >>> next(iter(DataLoader(train, batch_size=20)))[0].shape
        torch.Size([20, 10])
        """
        from trueboundary.problems.torch_datasets import PointDataset  # which stands on this module

        return PointDataset(self, n, split=split, seed=seed, as_images=as_images, dtype=dtype)

    def fresh_batches(
        self,
        batch_size: int,
        *,
        n_batches: int | None = None,
        seed: int = 0,
        start: int = 0,
        as_images: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> FreshBatches:
        """Return batches of new points as an iterable data set of torch; see `FreshBatches`."""
        from trueboundary.problems.torch_datasets import FreshBatches  # which stands on this module

        return FreshBatches(
            self, batch_size, n_batches=n_batches, seed=seed, start=start, as_images=as_images,
            dtype=dtype,
        )  # fmt: skip

    def to_numpy(
        self, n: int, *, split: str = "train", seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]:
        """Return the points ``(n, *event)`` and labels ``(n,)`` of `dataset` as arrays.

        Examples
        --------
        >>> from trueboundary.problems import ConcentricSpheres
        >>> x, y = ConcentricSpheres(dim=10).to_numpy(100, split="test")
        >>> x.shape, x.dtype, y.dtype
        ((100, 10), dtype('float32'), dtype('int64'))
        """
        points = self.dataset(n, split=split, seed=seed, dtype=dtype)
        return points.x.numpy(), points.y.numpy()

    def _sample_labels(
        self, n: int, *, generator: torch.Generator, device: torch.device | str | None
    ) -> Tensor:
        uniform = torch.rand(n, generator=generator, device=drawing_device(generator, device))
        if self.n_classes == 2:
            return (uniform < self.prior).long()
        bounds = torch.tensor(self.priors, dtype=torch.float64).cumsum(0)[:-1]
        return torch.bucketize(uniform, bounds.to(uniform), right=True)


def check_label(label: int, n_classes: int = 2) -> int:
    """Return `label` if it is one of a problem's classes, 0 to K - 1, or raise."""
    if check_integer("label", label, minimum=0) >= n_classes:
        known = "0 or 1" if n_classes == 2 else f"between 0 and {n_classes - 1}"
        raise ValueError(f"label must be {known}, got {label}.")
    return int(label)
