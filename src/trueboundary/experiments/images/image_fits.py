"""Mixtures fitted to the images of a pair of classes, and the problems made from them.

Modules that import torch are imported where they are used, so that listing experiments is quick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trueboundary._checks import check_integer
from trueboundary.experiments.images.availability import without_data
from trueboundary.experiments.images.pair_images import (
    SECONDS_PER_ITERATION,
    Dataset,
    Shape,
    data_notes,
    pair_images,
)
from trueboundary.experiments.provenance import OBSERVED
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from torch import Tensor

    from trueboundary.problems import ImageFit, ImageProblem

#: "real" stands for the images themselves, which have no known density.
ImageVariant = Literal["symmetric", "asymmetric", "as-fitted", "real"]

FIT = "fit"


@dataclass(frozen=True)
class FittedMixtures(RunConfig):
    """One mixture of factor analyzers per class, fitted to the training images of a pair.

    Parameters
    ----------
    dataset : {"mnist", "celeba", "cifar10", "synthetic"}
        ``"synthetic"`` are small noisy bars made on the spot, for trying things out.
    pair : tuple of str
        Names of the classes 0 and 1; for faces ``("not Male", "Male")``.
    n_components : int or None
        Components per class; None for one per thousand images.
    n_factors : int
        Factors per component.
    max_iter : int
        Largest number of EM iterations.
    tol : float
        Gain in nats per image under which EM stops.
    seed : int
        Seed of the start.
    face_size : int
        Height and width of faces, at most 64; other images come as they are.
    content : str
        Fingerprint of the faces, see `faces_content`, so that other faces give other runs.
    """

    version: ClassVar[int] = 2  # 1 measured float32 images from a rounded mean

    dataset: Dataset
    pair: tuple[str, str]
    n_components: int | None = 25
    n_factors: int = 6
    max_iter: int = 100
    tol: float = 1e-3
    seed: int = 0
    face_size: int = 64
    content: str = field(default="", metadata=OBSERVED)

    def __post_init__(self) -> None:
        if self.dataset not in get_args(Dataset):
            raise ValueError(f"dataset must be one of {get_args(Dataset)}, got {self.dataset!r}")
        check_integer("n_factors", self.n_factors, minimum=1)
        check_integer("max_iter", self.max_iter, minimum=1)

    @property
    def words(self) -> str:
        """The pair as figures call it, for instance ``"0/6"``."""
        return self.pair[1] if self.dataset == "celeba" else "/".join(self.pair)

    def images(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64], Shape]:
        """Return the images of the pair, their labels and the shape of one; see `pair_images`."""
        return pair_images(self.dataset, self.pair, part, face_size=self.face_size)

    def cost(self) -> float:
        """Return about the time of all iterations."""
        seconds = SECONDS_PER_ITERATION[self.dataset]
        return seconds * self.max_iter * (self.n_components or 10)

    def compute(self, context: Context) -> RunResult:
        """Fit; the run ends well without its images, and says so."""
        from trueboundary.problems import fit_images

        try:
            x, y, shape = self.images("train")
        except FileNotFoundError as error:
            return without_data(str(error))
        fit = fit_images(
            x,
            y,
            image_shape=shape,
            n_components=self.n_components,
            n_factors=self.n_factors,
            class_names=self.pair,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=self.seed,
        )
        notes = data_notes(self.dataset, "train", face_size=self.face_size)
        summary = {"available": True, "fit": fit.report, "data_notes": notes}
        return RunResult(summary, models={FIT: fit.to_arrays()})


@dataclass(frozen=True)
class ImageTask:
    """One variant of an image problem.

    Parameters
    ----------
    fit : FittedMixtures
        The densities it is made from.
    variant : {"symmetric", "asymmetric", "as-fitted", "real"}
        As in `trueboundary.problems.ImageFit.problem`; ``"real"`` for the images themselves.
    noise_std : float
        Noise of the symmetric and asymmetric variants.
    """

    fit: FittedMixtures
    variant: ImageVariant = "symmetric"
    noise_std: float = 0.01

    def __post_init__(self) -> None:
        if self.variant not in get_args(ImageVariant):
            raise ValueError(f"variant must be one of {get_args(ImageVariant)}: {self.variant!r}")
        if not 0.0 < self.noise_std < math.inf:
            raise ValueError(f"noise_std must be a positive number, got {self.noise_std}")

    def problem(self, fit: Run) -> ImageProblem:
        """Return the problem, from the finished run of `fit`; real images have none."""
        if self.variant == "real":
            raise ValueError("the density of real images is not known; choose another variant")
        return load_fit(fit).problem(self.variant, noise_std=self.noise_std)

    def image_shape(self, fit: Run) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return load_fit(fit).image_shape

    def points(self, fit: Run, n: int, *, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Return `n` points in float32 and their labels, the same for the same seed and purpose.

        Parameters
        ----------
        fit : Run
            The finished run of `fit`.
        n : int
            Number of points; of real images there may be fewer.
        seed : int
            Seed of the draw.
        purpose : str
            Different purposes give independent points; ``"test"`` takes real images from the test
            set, every other purpose from the training set.
        """
        import torch

        from trueboundary.problems import block_generator

        generator = block_generator(seed, 0, purpose=f"image {purpose}")
        if self.variant != "real":
            return self.problem(fit).sample(n, generator=generator)
        part = "test" if purpose == "test" else "train"
        x, y, _ = self.fit.images(part)
        chosen = torch.randperm(len(x), generator=generator)[:n]
        return torch.from_numpy(x)[chosen], torch.from_numpy(y)[chosen]


def load_fit(run: Run) -> ImageFit:
    """Return the mixtures of a finished `FittedMixtures`."""
    from trueboundary.problems import ImageFit

    return ImageFit.from_arrays(*run.result.models[FIT])
