"""Image problems: classes of images drawn from known mixtures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.densities.stored_densities import SPEC_FILE, read_folder, write_folder
from trueboundary.new_folders import new_folder
from trueboundary.problems.mixtures import GaussianDensity, MixtureProblem, _stored_densities

Array = np.ndarray[Any, np.dtype[Any]]
Variant = Literal["symmetric", "asymmetric", "as-fitted"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


class ImageProblem(MixtureProblem):
    """Classes of images, drawn from known mixtures.

    Points are flattened images, shape ``(dim,)``, in the order channels, height, width. They carry
    noise and are not clipped: only so is the classifier of `bayes_classifier` optimal.

    Parameters
    ----------
    *densities, prior
        As in `MixtureProblem`.
    image_shape : tuple of int
        Channels, height and width.
    class_names : tuple of str, optional
        Names of the classes, their numbers by default.
    variant : {"symmetric", "asymmetric", "as-fitted"}
        How the fitted mixtures were changed.
    report : dict
        How the mixtures were fitted and changed, as plain values.

    References
    ----------
    Richardson and Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, Section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from trueboundary.problems import fit_image_problem
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> x = 0.5 + 0.3 * y[:, None] + 0.1 * rng.normal(size=(120, 16))
    >>> problem = fit_image_problem(x, y, image_shape=(1, 4, 4), n_components=1, n_factors=2)
    >>> problem.variant, problem.image_shape, problem.class_names
    ('symmetric', (1, 4, 4), ('0', '1'))
    """

    def __init__(
        self,
        *densities: GaussianDensity,
        prior: float | Sequence[float] | None = None,
        image_shape: tuple[int, int, int] = (0, 0, 0),
        class_names: Sequence[str] | None = None,
        variant: Variant = "as-fitted",
        report: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(*densities, prior=prior)
        self.image_shape = _checked_shape(image_shape, self.dim)
        names = range(self.n_classes) if class_names is None else class_names
        self.class_names = _checked_names(names, self.n_classes)
        self.variant: Variant = check_variant(variant)
        self.report: dict[str, Any] = dict(report or {})

    @property
    def is_private(self) -> bool:
        """Whether it was fitted to images of people, so that no picture of it leaves."""
        return bool(self.report.get("private", False))

    def images(self, x: Tensor) -> Tensor:
        """Return flat points ``(n, dim)`` as images, shape ``(n, channels, height, width)``."""
        return x.reshape(-1, *self.image_shape)

    def describe(self) -> dict[str, Any]:
        """Return what `MixtureProblem.describe` does, the shape, the names and the variant."""
        return {**super().describe(), **self._own()}

    def _own(self) -> dict[str, Any]:
        """Return what a problem of images has besides one of mixtures."""
        shape, names = list(self.image_shape), list(self.class_names)
        return {"image_shape": shape, "class_names": names, "variant": self.variant}

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the problem as plain data; see `MixtureProblem.to_arrays`."""
        spec, arrays = super().to_arrays()
        return {**spec, **self._own(), "report": self.report}, arrays

    @classmethod
    def from_arrays(cls, spec: dict[str, Any], arrays: dict[str, Array]) -> ImageProblem:
        """Rebuild the problem that `to_arrays` described; see `MixtureProblem.from_arrays`."""
        try:
            return cls(
                *_stored_densities(spec, arrays, cls.__name__),
                prior=spec["prior"],
                image_shape=tuple(spec["image_shape"]),
                class_names=tuple(spec["class_names"]),
                variant=spec["variant"],
                report=spec["report"],
            )
        except KeyError as error:
            raise ValueError(f"the description of the image problem lacks {error}.") from None
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"the description of the image problem holds something else than it should: {error}"
            ) from None

    def save(self, folder: str | Path) -> Path:
        """Write the problem into a new folder, which is complete or not there.

        Raises
        ------
        FileExistsError
            If there is something at `folder` already.
        """
        spec, arrays = self.to_arrays()
        with new_folder(folder, last=SPEC_FILE) as draft:
            write_folder(draft, spec, arrays)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> ImageProblem:
        """Read a problem written by `save`.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If the files are damaged or hold something else.
        """
        return cls.from_arrays(*read_folder(folder))


def check_variant(variant: str) -> Variant:
    """Return `variant` if there is one of this name, or raise."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}.")
    return variant


def _checked_shape(shape: Any, dim: int) -> tuple[int, int, int]:
    sides = tuple(check_integer("image_shape", side, minimum=1) for side in shape)
    if len(sides) != 3 or math.prod(sides) != dim:
        raise ValueError(
            f"image_shape must be channels, height and width of {dim} pixels, got {shape}."
        )
    return sides


def _checked_names(names: Any, n_classes: int) -> tuple[str, ...]:
    if isinstance(names, str) or len(names) != n_classes:
        raise ValueError(
            f"class_names must be {n_classes} names, one for each class, got {names!r}."
        )
    texts = tuple(map(str, names))
    if len(set(texts)) < n_classes:
        raise ValueError(f"class_names must differ from one another, got {names!r}.")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"class_names must be texts, got {names!a}, which no file could hold."
        ) from None
    return texts
