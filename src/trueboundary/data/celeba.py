"""CelebA in its standard layout, at full or half size.

CelebA may be used for non-commercial research only and is not downloaded: its users bring it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trueboundary._checks import check_integer
from trueboundary.data.files import Files, existing, open_files
from trueboundary.data.image_data import (
    ImageData,
    Images,
    Labels,
    check_codes,
    check_images,
    describe_images,
    describe_split,
    index_of,
)
from trueboundary.data.pixels import Pixels, area_resize, decode_image
from trueboundary.regular_files import read_regular

# left, upper, right, lower in pixels of the full-size image.
FACE_CROP = (25, 50, 153, 178)

_FULL_SIZE, _HALF_SIZE = (218, 178), (109, 89)  # height, width
_SPLITS = ("train", "validation", "test")
_ATTRIBUTES, _PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
_IMAGES = ("img_align_celeba", "img_align_celeba.tar", "img_align_celeba.zip")
# The published tables have up to 27 MB; an aligned image has 116 KB before it is compressed.
_MAX_TABLE_BYTES, _MAX_IMAGE_BYTES = 2**27, 2**24
_SUBFOLDERS = ("", "Img", "Anno", "Eval", "celeba")


@dataclass(frozen=True, eq=False, repr=False)
class CelebA(Images):
    """Faces with a table of binary attributes.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, shape `(n, size, size, 3)`.
    attributes : numpy.ndarray
        bool, shape `(n, n_attributes)`.
    attribute_names : tuple of str
        One name per column of `attributes`.
    file_names : tuple of str
        One name per image.
    split : numpy.ndarray
        int64, shape `(n,)`; indices into `split_names`.
    split_names : tuple of str
        `("train", "validation", "test")`.
    notes : tuple of str
        What a reader of numbers measured on these images has to know, one sentence each.
    """

    images: Pixels
    attributes: npt.NDArray[np.bool_]
    attribute_names: tuple[str, ...]
    file_names: tuple[str, ...]
    split: Labels
    split_names: tuple[str, ...] = _SPLITS
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_images(self.images)
        check_codes("split", self.split, len(self.images), self.split_names)
        shape = (len(self.images), len(self.attribute_names))
        if self.attributes.shape != shape:
            raise ValueError(f"attributes must have shape {shape}, got {self.attributes.shape}.")

    def __repr__(self) -> str:
        """Describe the images without printing them."""
        return (
            f"CelebA({describe_images(self.images)}, {len(self.attribute_names)} attributes, "
            f"{describe_split(self.split, self.split_names)})"
        )

    def attribute(self, name: str) -> ImageData:
        """Return the same images as a problem with two classes.

        Parameters
        ----------
        name : str
            An attribute, for instance `"Smiling"`. Class 1 has it, class 0 does not.
        """
        column = index_of("attribute", name, self.attribute_names)
        return ImageData(
            images=self.images,
            labels=self.attributes[:, column].astype(np.int64),
            class_names=(f"not {name}", name),
            split=self.split,
            split_names=self.split_names,
            notes=self.notes,
        )

    def part(self, name: str) -> CelebA:
        """Return the images of one split: "train", "validation" or "test"."""
        chosen = self.split == index_of("split", name, self.split_names)
        return replace(
            self,
            images=self.images[chosen],
            attributes=self.attributes[chosen],
            file_names=tuple(np.asarray(self.file_names)[chosen].tolist()),
            split=self.split[chosen],
        )


def load_celeba(
    path: str | Path,
    *,
    attributes: Sequence[str] | None = None,
    size: int = 64,
    crop: tuple[int, int, int, int] = FACE_CROP,
    split: str | None = None,
    n_images: int | None = None,
    seed: int = 0,
) -> CelebA:
    """Load CelebA's aligned faces into memory, as bytes.

    At 64 x 64 the full set takes 2.5 GB; `stream_celeba` reads it in batches.

    Parameters
    ----------
    path : str or pathlib.Path
        The folder that holds `img_align_celeba` (a folder, `.tar` or `.zip`),
        `list_attr_celeba.txt` and, if at hand, `list_eval_partition.txt`; the published
        subfolders `Img`, `Anno` and `Eval` are looked into as well. The images have 178 x 218
        pixels or, at half size, 89 x 109.
    attributes : sequence of str, optional
        The attributes to keep; all by default.
    size : int
        Height and width of the images returned; at most those of the crop, 128 (or 64 at half
        size) for the face crop. Pixels are averaged over areas.
    crop : tuple of int
        A square box `(left, upper, right, lower)` in pixels of the full-size image. At half size
        its numbers are halved, rounding down.
    split : str, optional
        "train", "validation" or "test"; all three by default.
    n_images : int, optional
        At most so many images, the first in the file's order; all by default.
    seed : int
        Seed of the split that is made where the partition file is missing: each image falls
        into "train", "validation" or "test" with probability 0.8, 0.1, 0.1, decided by a hash
        of the seed and the file name. The result's notes say so.

    References
    ----------
    Z. Liu, P. Luo, X. Wang and X. Tang, "Deep learning face attributes in the wild", ICCV 2015.

    Examples
    --------
    >>> from trueboundary.data import load_celeba
    >>> faces = load_celeba("celeba", attributes=["Male"], split="train")  # doctest: +SKIP
    >>> faces.attribute("Male").flat().shape  # doctest: +SKIP
    (162770, 12288)
    """
    options = _Options(attributes, size, crop, split, n_images, seed)
    with _open(Path(path), options) as source:
        images = np.empty((len(source.names), size, size, 3), np.uint8)
        for index, name in enumerate(source.names):
            images[index] = source.image(name)
        return source.faces(source.names, images)


def stream_celeba(
    path: str | Path,
    *,
    batch_size: int,
    attributes: Sequence[str] | None = None,
    size: int = 64,
    crop: tuple[int, int, int, int] = FACE_CROP,
    split: str | None = None,
    n_images: int | None = None,
    seed: int = 0,
) -> Iterator[CelebA]:
    """Read CelebA in batches, for sets larger than memory.

    Parameters
    ----------
    path, attributes, size, crop, split, n_images, seed
        As for `load_celeba`.
    batch_size : int
        Images per batch; the last batch may be smaller.

    Yields
    ------
    CelebA
        Consecutive pieces of what `load_celeba` returns.

    Examples
    --------
    >>> from trueboundary.data import stream_celeba
    >>> for faces in stream_celeba("celeba", batch_size=1000):  # doctest: +SKIP
    ...     x = faces.flat()
    """
    check_integer("batch_size", batch_size, minimum=1)
    options = _Options(attributes, size, crop, split, n_images, seed)
    with _open(Path(path), options) as source:
        rest = iter(source.names)
        while batch := list(islice(rest, batch_size)):
            yield source.faces(batch, np.stack([source.image(name) for name in batch]))


def fingerprint_celeba(path: str | Path, *, n_images: int = 16) -> str:
    """Return a short hash of what a folder with CelebA holds, wherever it lies.

    It covers the attribute table, the partition (or that there is none) and the bytes of a few
    images, evenly spaced in the table's order: enough to tell full from half size, a part from
    the whole and a changed table from the published one. In one process it is read once, and again
    where a file's size or time of change is another.

    Parameters
    ----------
    path : str or pathlib.Path
        As for `load_celeba`.
    n_images : int
        How many images are read.

    Examples
    --------
    >>> from trueboundary.data import fingerprint_celeba
    >>> fingerprint_celeba("celeba")  # doctest: +SKIP
    '0b6ddc1d56fa1e2c'
    """
    check_integer("n_images", n_images, minimum=1)
    root = _root(Path(path)).resolve()
    return _fingerprint(root, n_images, _state(root))


# Reading the published table takes a second, and every planned run on faces asks for this.
@lru_cache(maxsize=8)
def _fingerprint(root: Path, n_images: int, _: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with _open(root, _Options(None, 1, FACE_CROP, None, None, 0)) as source:
        for name in source.names:
            code = -1 if source.notes else source.splits[name]  # notes: the split is not given
            digest.update(f"{name} {code} ".encode() + source.rows[name].tobytes())
        digest.update(" ".join(source.columns).encode())
        for index in np.linspace(0, len(source.names) - 1, n_images).astype(int):
            digest.update(source.image_bytes(source.names[index]))
    return digest.hexdigest()[:16]


def _state(root: Path) -> tuple[int, ...]:
    """Return sizes and times of change, by which a replaced file is noticed."""
    files = [_find(root, _ATTRIBUTES), _find(root, *_IMAGES)]
    with suppress(FileNotFoundError):
        files.append(_find(root, _PARTITION))
    found = [file.stat() for file in files]
    return tuple(number for stat in found for number in (stat.st_size, stat.st_mtime_ns))


@dataclass(frozen=True)
class _Options:
    """What the caller of a loader asked for."""

    attributes: Sequence[str] | None
    size: int
    crop: tuple[int, int, int, int]
    split: str | None
    n_images: int | None
    seed: int

    def __post_init__(self) -> None:
        check_integer("size", self.size, minimum=1)
        if self.n_images is not None:
            check_integer("n_images", self.n_images, minimum=1)
        left, upper, right, lower = self.crop
        inside = 0 <= left < right <= _FULL_SIZE[1] and 0 <= upper < lower <= _FULL_SIZE[0]
        if not inside or right - left != lower - upper:
            raise ValueError(
                "crop must be a square (left, upper, right, lower) inside 178 x 218 pixels, "
                f"got {self.crop}; the usual face crop is {FACE_CROP}."
            )
        if isinstance(self.attributes, str):
            raise TypeError(f"attributes must be a sequence of names; try [{self.attributes!r}].")


@dataclass(frozen=True)
class _Source:
    """An opened CelebA: the images chosen, and what the text files say about all of them."""

    files: Files
    options: _Options
    names: list[str]
    columns: dict[str, int]
    rows: Mapping[str, npt.NDArray[np.bool_]]
    splits: Mapping[str, int]
    notes: tuple[str, ...]

    def image_bytes(self, name: str) -> bytes:
        """Return the content of one image's file."""
        if name not in self.files:
            label = self.files.label(name)
            raise FileNotFoundError(f"{label} is missing but listed among the attributes.")
        return self.files.read(name)

    def image(self, name: str) -> Pixels:
        """Return one image, cropped and resized."""
        label = self.files.label(name)
        pixels = decode_image(self.image_bytes(name), label)
        left, upper, right, lower = self._box(pixels, label)
        size = self.options.size
        if size > min(lower - upper, right - left):
            raise ValueError(
                f"the crop of {label} has {right - left} x {lower - upper} pixels, which cannot "
                f"fill size={size}; ask for a smaller size or use the full-size images."
            )
        return area_resize(pixels[upper:lower, left:right], size, size)

    def _box(self, pixels: Pixels, label: str) -> tuple[int, int, int, int]:
        if pixels.shape == (*_FULL_SIZE, 3):
            return self.options.crop
        if pixels.shape == (*_HALF_SIZE, 3):
            left, upper, right, lower = self.options.crop
            return left // 2, upper // 2, right // 2, lower // 2
        height, width, channels = pixels.shape
        raise ValueError(
            f"{label} has {width} x {height} pixels in {channels} channels, expected 178 x 218 "
            "or 89 x 109 in 3; take the aligned images (img_align_celeba)."
        )

    def faces(self, names: Sequence[str], images: Pixels) -> CelebA:
        """Return the table for some of the images."""
        columns = list(self.columns.values())
        return CelebA(
            images=images,
            attributes=np.stack([self.rows[name][columns] for name in names]),
            attribute_names=tuple(self.columns),
            file_names=tuple(names),
            split=np.array([self.splits[name] for name in names]),
            notes=self.notes,
        )


@contextmanager
def _open(path: Path, options: _Options) -> Iterator[_Source]:
    root = _root(path)
    all_names, rows = _read_attributes(_find(root, _ATTRIBUTES))
    wanted = all_names if options.attributes is None else options.attributes
    columns = {name: index_of("attribute", name, all_names) for name in wanted}
    splits, notes = _splits(root, list(rows), options.seed)
    names = list(rows)
    if options.split is not None:
        code = index_of("split", options.split, _SPLITS)
        names = [name for name in names if splits[name] == code]
    names = names[: options.n_images]
    if not names:
        raise ValueError(f"{root} has no images in the split {options.split!r}; try another.")
    with open_files(_find(root, *_IMAGES), limit=_MAX_IMAGE_BYTES) as files:
        yield _Source(files, options, names, columns, rows, splits, notes)


def _root(path: Path) -> Path:
    """Return the folder that holds the images and the text files."""
    root = existing(path, "a folder with CelebA")
    # The images themselves may be named: the text files lie beside them.
    return root.parent if root.name in _IMAGES else root


def _find(root: Path, *names: str) -> Path:
    for subfolder in _SUBFOLDERS:
        for name in names:
            if (root / subfolder / name).exists():
                return root / subfolder / name
    raise FileNotFoundError(
        f"expected {' or '.join(names)} in {root}, where there is none; "
        "put CelebA's images and text files into one folder."
    )


def _read_attributes(path: Path) -> tuple[list[str], dict[str, npt.NDArray[np.bool_]]]:
    """Return the attribute names and, for each image, its row of the table."""
    lines = _read_lines(path)
    if len(lines) < 2 or not re.fullmatch(r"\s*[0-9]{1,9}\s*", lines[0]):
        raise ValueError(
            f"{path} should start with the number of images and a line of attribute names; "
            "take the original list_attr_celeba.txt."
        )
    n_images, names = int(lines[0]), lines[1].split()
    rows = {}
    for number, line in enumerate(lines[2:], start=3):
        file_name, *values = line.split()
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise ValueError(
                f"line {number} of {path} should be a file name and {len(names)} values 1 or -1, "
                f"got {len(values)} values ({line[:40].strip()!r}...); take the original file."
            )
        rows[file_name] = np.array([value == "1" for value in values])
    if len(rows) != n_images:
        raise ValueError(
            f"{path} announces {n_images} images but lists {len(rows)}; take the original file."
        )
    return names, rows


def _splits(root: Path, names: list[str], seed: int) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return each image's split, from the partition file or else from a hash of its name."""
    try:
        path = _find(root, _PARTITION)
    except FileNotFoundError:
        note = (
            "CelebA's partition file list_eval_partition.txt was not found: training, validation "
            f"and test sets (80, 10 and 10 in 100) were drawn with seed {seed}."
        )
        return {name: _drawn_split(name, seed) for name in names}, (note,)
    splits = _read_partition(path)
    missing = next((name for name in names if name not in splits), None)
    if missing is not None:
        raise ValueError(f"{path} does not list {missing}; take the original file.")
    return splits, ()


def _read_partition(path: Path) -> dict[str, int]:
    splits = {}
    for number, line in enumerate(_read_lines(path), start=1):
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise ValueError(
                f"line {number} of {path} should be a file name and 0, 1 or 2, "
                f"got {line[:40].strip()!r}; take the original file."
            )
        splits[words[0]] = int(words[1])
    return splits


def _drawn_split(name: str, seed: int) -> int:
    # A hash, unlike a shuffle, gives an image the same place whichever others are there, on
    # every version of every library.
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return int(share >= 0.8) + int(share >= 0.9)


def _read_lines(path: Path) -> list[str]:
    try:
        text = read_regular(path, _MAX_TABLE_BYTES).decode("utf-8-sig")
        return [line for line in text.splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file; take the original file.") from None
