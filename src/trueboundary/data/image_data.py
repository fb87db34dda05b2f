"""The one form in which every loader hands over its images."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trueboundary.plurals import plural

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Images:
    """Images of one size as arrays, `images` having the shape `(n, height, width, channels)`."""

    images: npt.NDArray[Any]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """Shape `(channels, height, width)` of one image as the classifiers see it."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    def channels_first(self) -> Floats:
        """Return float32 images in [0, 1] of shape `(n, channels, height, width)`.

        uint8 pixels are divided by 255, so that white is exactly 1.
        """
        # A copy even where nothing has to change: whoever writes into it must not change the data.
        pixels = np.array(self.images.transpose(0, 3, 1, 2), dtype=np.float32, order="C")
        if self.images.dtype == np.uint8:
            pixels /= np.float32(255)
        return pixels

    def flat(self) -> Floats:
        """Return float32 rows in [0, 1] of shape `(n, channels * height * width)`.

        `flat().reshape(n, *event_shape)` is `channels_first()`.
        """
        return self.channels_first().reshape(len(self), -1)


@dataclass(frozen=True, eq=False, repr=False)
class ImageData(Images):
    """Labelled images of one size.

    Parameters
    ----------
    images : numpy.ndarray
        Shape `(n, height, width, channels)`; uint8, or float32 in [0, 1].
    labels : numpy.ndarray
        int64, shape `(n,)`; indices into `class_names`.
    class_names : tuple of str
        One name per class.
    split : numpy.ndarray
        int64, shape `(n,)`; indices into `split_names`.
    split_names : tuple of str
        For instance `("train", "test")`.
    notes : tuple of str
        What a reader of numbers measured on these images has to know, one sentence each.

    Examples
    --------
    >>> import numpy as np
    >>> from trueboundary.data import ImageData
    >>> data = ImageData(
    ...     images=np.zeros((3, 2, 2, 1), np.uint8),
    ...     labels=np.array([0, 1, 1]),
    ...     class_names=("cat", "dog"),
    ...     split=np.array([0, 0, 1]),
    ...     split_names=("train", "test"),
    ... )
    >>> data
    ImageData(3 images of 2 x 2 x 1, 2 classes, train: 2, test: 1)
    >>> x, y = data.part("train").of_classes("cat", "dog")
    >>> x.shape, y.tolist()
    ((2, 4), [0, 1])
    """

    images: npt.NDArray[np.uint8] | Floats
    labels: Labels
    class_names: tuple[str, ...]
    split: Labels
    split_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_images(self.images)
        check_codes("labels", self.labels, len(self.images), self.class_names)
        check_codes("split", self.split, len(self.images), self.split_names)

    @classmethod
    def of_parts(
        cls,
        parts: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
        class_names: Sequence[str],
        notes: Sequence[str] = (),
    ) -> ImageData:
        """Return the images and labels of several parts as one, for instance "train" and "test"."""
        images, labels = zip(*parts.values(), strict=True)
        split = np.repeat(np.arange(len(parts)), [len(of_part) for of_part in labels])
        whole = np.concatenate(labels).astype(np.int64)
        return cls(
            np.concatenate(images), whole, tuple(class_names), split, tuple(parts), tuple(notes)
        )

    def __repr__(self) -> str:
        """Describe the images without printing them."""
        return (
            f"ImageData({describe_images(self.images)}, {len(self.class_names)} classes, "
            f"{describe_split(self.split, self.split_names)})"
        )

    def part(self, name: str) -> ImageData:
        """Return the images of one split, for instance `"train"`."""
        code = index_of("split", name, self.split_names)
        return self._select(self.split == code)

    def has(self, name: str) -> bool:
        """Return whether there are images of a class."""
        return name in self.class_names and bool(
            np.any(self.labels == self.class_names.index(name))
        )

    def of_classes(self, *names: str | int) -> tuple[Floats, Labels]:
        """Return the images of two classes or more as a problem with labels 0, 1 and so on.

        Parameters
        ----------
        *names : str or int
            Names or labels of the classes, in the order of their new labels.

        Returns
        -------
        x : numpy.ndarray
            float32 in [0, 1], shape `(n, d)`, in the order of the file.
        y : numpy.ndarray
            int64, shape `(n,)`.
        """
        labels = [self._label(name) for name in names]
        if len(labels) < 2:
            raise ValueError(f"a problem needs two classes or more, got {list(names)}.")
        for place, (name, label) in enumerate(zip(names, labels, strict=True)):
            if label in labels[:place]:
                first = names[labels.index(label)]
                raise ValueError(f"a problem needs different classes, got {first!r} twice.")
            if not np.any(self.labels == label):
                raise ValueError(
                    f"class {name!r} has no images here; try another class or another part."
                )
        renumbered = np.full(len(self.class_names), -1, np.int64)
        renumbered[labels] = np.arange(len(labels))
        y = renumbered[self.labels]
        # All of them need no copy.
        chosen = self if (y >= 0).all() else self._select(y >= 0)
        return chosen.flat(), y[y >= 0]

    def _label(self, name: str | int) -> int:
        if isinstance(name, str):
            return index_of("class", name, self.class_names)
        if isinstance(name, bool) or not isinstance(name, (int, np.integer)):
            raise TypeError(f"a class is a name or a label, got {name!r}.")
        if not 0 <= name < len(self.class_names):
            raise ValueError(
                f"labels run from 0 to {len(self.class_names) - 1} here, got {name}; "
                f"the classes are {', '.join(self.class_names)}."
            )
        return int(name)

    def _select(self, chosen: npt.NDArray[np.bool_]) -> ImageData:
        parts = {name: getattr(self, name)[chosen] for name in ("images", "labels", "split")}
        return replace(self, **parts)


def index_of(kind: str, name: str, names: Sequence[str]) -> int:
    """Return the place of `name` in `names`, or raise with the nearest name."""
    if name in names:
        return names.index(name)
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(names)}."
    raise ValueError(f"the data have no {kind} {name!r}; {hint}")


def check_images(images: Any) -> None:
    """Raise unless `images` is uint8, or float32 in [0, 1], of shape `(n, H, W, C)`."""
    if not isinstance(images, np.ndarray) or images.dtype not in (np.uint8, np.float32):
        kind = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"images must be a uint8 or float32 array, got {kind}.")
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            "images must have shape (n, height, width, 1 or 3), "
            f"got {images.shape}; add an axis to grey images."
        )
    if images.dtype == np.float32 and not np.all((images >= 0) & (images <= 1)):
        raise ValueError("float images must lie in [0, 1]; divide them by 255.")


def check_codes(name: str, codes: Any, n_images: int, names: Iterable[str]) -> None:
    """Raise unless `codes` is an int64 vector of indices into `names`, one per image."""
    if not isinstance(codes, np.ndarray) or codes.dtype != np.int64:
        kind = getattr(codes, "dtype", type(codes).__name__)
        raise TypeError(f"{name} must be an int64 array, got {kind}; use .astype(np.int64).")
    if codes.shape != (n_images,):
        raise ValueError(f"{name} must have shape ({n_images},), got {codes.shape}.")
    n_names = len(tuple(names))
    if codes.size and not (codes.min() >= 0 and codes.max() < n_names):
        raise ValueError(
            f"{name} must lie between 0 and {n_names - 1}, "
            f"got {codes.min()} to {codes.max()}; name every class and split."
        )


def describe_images(images: npt.NDArray[Any]) -> str:
    """Return, for instance, `60,000 images of 28 x 28 x 1`."""
    return f"{plural(len(images), 'image')} of {' x '.join(str(side) for side in images.shape[1:])}"


def describe_split(split: Labels, names: Sequence[str]) -> str:
    """Return, for instance, `train: 60000, test: 10000`."""
    return ", ".join(f"{name}: {np.sum(split == code)}" for code, name in enumerate(names))
