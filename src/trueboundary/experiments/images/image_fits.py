"""Mixtures fitted to the images of some classes, and the problems made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from trueboundary.experiments.images.availability import missing_images, without_data
from trueboundary.experiments.provenance import OBSERVED
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from torch import Tensor

    from trueboundary.classifiers import ClassifierModule
    from trueboundary.data import ImageData, ImageSource
    from trueboundary.problems import ImageFit, ImageProblem

#: "real" stands for the images themselves, which have no known density.
ImageVariant = Literal["symmetric", "asymmetric", "as-fitted", "real"]

FIT = "fit"


@dataclass(frozen=True)
class FittedMixtures(RunConfig):
    """One mixture of factor analyzers per class, fitted to the training images of some classes.

    Parameters
    ----------
    dataset : str
        Name of a source of images, see `trueboundary.data.image_sources`.
    pair : tuple of str
        Names of the classes 0 to K - 1, mostly two; for faces ``("not Male", "Male")``.
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
        Height and width of images that come in several sizes, such as faces.
    content : str
        Fingerprint of the images, see `trueboundary.data.ImageSource.content`.
    """

    version: ClassVar[int] = 2  # 1 measured float32 images from a rounded mean

    dataset: str
    pair: tuple[str, ...]
    n_components: int | None = 25
    n_factors: int = 6
    max_iter: int = 100
    tol: float = 1e-3
    seed: int = 0
    face_size: int = 64
    content: str = field(default="", metadata=OBSERVED)

    def __post_init__(self) -> None:
        _ = self.source  # raises where there is none
        self.check_at_least(1, "n_factors", "max_iter")

    @property
    def source(self) -> ImageSource:
        """Where the images come from."""
        from trueboundary.data import image_source

        return image_source(self.dataset)

    def images(self, part: str) -> ImageData:
        """Return the images of one part, those of the classes at least."""
        return self.source.load(self.pair, part, self.face_size)

    def in_words(self) -> str:
        """Return what is fitted."""
        return f"fitting mixtures of factor analyzers to {self.source.words(self.pair)}"

    def cost(self) -> float:
        """Return about the time of all iterations."""
        per_component = self.n_images * self.n_pixels * (self.n_factors + 2) * RATES.em
        return RATES.run + self.max_iter * self.usual_components * per_component

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.pair)

    @property
    def n_images(self) -> int:
        """About how many training images there are."""
        return self.source.n_images * self.n_classes // 2

    @property
    def n_pixels(self) -> int:
        """About how many numbers make an image."""
        height, width, channels = self.usual_shape
        return height * width * channels

    @property
    def usual_shape(self) -> tuple[int, int, int]:
        """Usual height, width and channels."""
        height, width, channels = self.source.image_shape
        if self.source.size is not None:
            height = width = self.face_size
        return height, width, channels

    @property
    def usual_components(self) -> int:
        """Components of a class, or about how many one per thousand images are."""
        few = max(1, self.source.n_images // 2000)
        return few if self.n_components is None else self.n_components

    @property
    def n_parameters(self) -> int:
        """About how many numbers describe all mixtures; what an evaluation costs."""
        return self.n_classes * self.usual_components * self.n_pixels * (self.n_factors + 1)

    def compute(self, context: Context) -> RunResult:
        """Fit; the run ends well without its images, and says so."""
        from trueboundary.problems import fit_images

        try:
            data = self.images("train")
        except FileNotFoundError as error:
            return without_data(str(error))
        fit = fit_images(
            *data.of_classes(*self.pair),
            image_shape=data.event_shape,
            n_components=self.n_components,
            n_factors=self.n_factors,
            class_names=self.pair,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=self.seed,
            private=self.source.is_private,
        )
        summary = {"available": True, "fit": fit.report, "data_notes": list(data.notes)}
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

    def optimal_classifier(self, fit: Run) -> ClassifierModule:
        """Return what decides best, from the finished run of `fit`."""
        return self.problem(fit).bayes_classifier()

    @property
    def name(self) -> str:
        """What the images are of, and which variant."""
        return f"{self.variant} {self.fit.source.words(self.fit.pair)}"

    def available(self, n: int) -> int:
        """Return about how many of `n` test points there are; a sixth of real images are kept."""
        return min(n, self.fit.n_images // 6) if self.variant == "real" else n

    def seconds_of_points(self, n: int) -> float:
        """Return about the time to draw `n` points, or to read the images themselves."""
        if self.variant == "real":
            return self.fit.n_images * self.fit.n_pixels * RATES.reading
        return n * self.fit.n_pixels * RATES.random_number

    def image_shape(self, fit: Run) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return load_fit(fit).image_shape

    def points(self, fit: Run, n: int, *, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Return `n` points in float32 and their labels, the same for the same seed and purpose.

        Different purposes give independent points. Of real images there may be fewer: ``"test"``
        takes them from the test set, ``"validation"`` from a tenth of the training set, and
        ``"train"`` from the rest of it.
        """
        import torch

        from trueboundary.problems import block_generator

        if self.variant != "real":
            generator = block_generator(seed, 0, purpose=f"image {purpose}")
            return self.problem(fit).sample(n, generator=generator)
        part = "test" if purpose == "test" else "train"
        x, y = self.fit.images(part).of_classes(*self.fit.pair)
        generator = block_generator(seed, 0, purpose=f"image {part}")
        chosen = torch.randperm(len(x), generator=generator)
        if part == "train":
            # One order of the images, so that those to validate with are none to train on.
            n_training = len(x) - len(x) // 10
            chosen = chosen[n_training:] if purpose == "validation" else chosen[:n_training]
        chosen = chosen[:n]
        return torch.from_numpy(x)[chosen], torch.from_numpy(y)[chosen]


@dataclass(frozen=True)
class ManuscriptTask(ImageTask):
    """A task in the words of the manuscript of Richardson and Weiss, where the journal has others.

    Parameters
    ----------
    fit, variant, noise_std
        As in `ImageTask`.
    outlier_std : float
        Standard deviation of the asymmetric variant's outliers.
    hardest_component : bool
        Decide by the most likely component of each class in place of the sum over components, as
        the manuscript's "optimal classifier" does (Section 3).
    """

    outlier_std: float = 0.5
    hardest_component: bool = True

    def problem(self, fit: Run) -> ImageProblem:
        """Return the problem, from the finished run of `fit`."""
        from trueboundary.problems import Outlier

        if self.variant == "real":
            return super().problem(fit)  # says why there is none
        outlier = Outlier(noise_std=self.outlier_std)
        return load_fit(fit).problem(self.variant, noise_std=self.noise_std, outlier=outlier)

    def optimal_classifier(self, fit: Run) -> ClassifierModule:
        """Return the classifier that the manuscript calls optimal."""
        return self.problem(fit).bayes_classifier(hardest_component=self.hardest_component)


@dataclass(frozen=True)
class OnImages(RunConfig):
    """A run on points of an image problem; it ends well without the images, and says so.

    Parameters
    ----------
    task : ImageTask
        Where the points come from.
    """

    task: ImageTask

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the fitted mixtures."""
        return {"fit": self.task.fit}

    def compute(self, context: Context) -> RunResult:
        """Measure, unless the images are missing."""
        missing = missing_images(context.inputs)
        return without_data(missing) if missing else self.measure(context)

    def measure(self, context: Context) -> RunResult:
        """Return the result of a run that has its images."""
        raise NotImplementedError(f"{self.kind} does not say what it measures")


def load_fit(run: Run) -> ImageFit:
    """Return the mixtures of a finished `FittedMixtures`."""
    from trueboundary.problems import ImageFit

    return ImageFit.from_arrays(*run.result.models[FIT])
