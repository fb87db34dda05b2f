"""Any images, sorted by class into subfolders."""

from __future__ import annotations

import errno
import os
import stat
from enum import Enum
from pathlib import Path

import numpy as np

from trueboundary.data.files import existing
from trueboundary.data.image_data import ImageData
from trueboundary.data.pixels import Pixels, area_resize, decode_image, is_image
from trueboundary.regular_files import read_regular

# An uncompressed image with as many pixels as Pillow opens has less.
_MAX_FILE_BYTES = 2**30


def load_image_folder(path: str | Path, *, size: int | tuple[int, int] | None = None) -> ImageData:
    """Load a folder that has one subfolder of images per class.

    Parameters
    ----------
    path : str or pathlib.Path
        The folder. Subfolders and images are taken in alphabetical order; names that start with
        a dot are passed over; every other file in a subfolder must be an image, and there must
        be no files in folders further below. The formats are those of `decode_image`, and images
        are turned as their metadata say.
    size : int or (int, int), optional
        Height and width of the images returned; needed where the files differ in size. Each
        image is cut to the new proportions around its middle and then shrunk, pixels being
        averaged over areas. Images are never enlarged.

    Returns
    -------
    ImageData
        uint8 images, with one channel if all files are grey and three otherwise; one split,
        "all". The notes name images beside the classes, and what is neither file nor folder.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for name, colour in (("sea", "blue"), ("wood", "green")):
    ...     (root / name).mkdir()
    ...     Image.new("RGB", (8, 6), colour).save(root / name / "1.png")
    >>> load_image_folder(root, size=4)
    ImageData(2 images of 4 x 4 x 3, 2 classes, all: 2)
    """
    shape = _shape(size)
    files, notes = _files_by_class(existing(Path(path), "a folder of images"))
    images: list[Pixels] = []
    labels: list[int] = []
    for label, of_class in enumerate(files.values()):
        for file in of_class:
            content = read_regular(file, _MAX_FILE_BYTES)
            pixels = _resized(decode_image(content, str(file)), shape, file)
            if images and pixels.shape[:2] != images[0].shape[:2]:
                raise ValueError(
                    f"{file} has {_size_text(pixels)} pixels but the images before it "
                    f"{_size_text(images[0])}; bring all to one size, for instance with size=64 "
                    "(--size 64 on the command line)."
                )
            images.append(pixels)
            labels.append(label)
    n_channels = max(pixels.shape[2] for pixels in images)
    whole = (*images[0].shape[:2], n_channels)
    stacked = np.stack([np.broadcast_to(pixels, whole) for pixels in images])
    return ImageData.of_parts({"all": (stacked, np.array(labels))}, tuple(files), notes)


def _shape(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    shape = (size, size) if isinstance(size, int) else tuple(size)
    if len(shape) != 2 or not all(isinstance(side, int) and side >= 1 for side in shape):
        raise ValueError(f"size must be one or two integers of at least 1, got {size!r}.")
    return shape


def _files_by_class(folder: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Return the files of each class, and a sentence for each entry that was passed over."""
    if not folder.is_dir():
        raise ValueError(f"{folder} should be a folder with one subfolder per class, got a file.")
    entries = {entry: _kind(entry) for entry in _visible(folder)}
    classes = [entry for entry, kind in entries.items() if kind is _Entry.FOLDER]
    if len(classes) < 2:
        raise ValueError(
            f"{folder} should have at least two subfolders, one per class, got {len(classes)}; "
            f"sort the images into subfolders named after their classes, such as {folder / 'cats'} "
            f"and {folder / 'dogs'}."
        )
    notes = [
        f"{entry.name} lies beside the classes and was passed over."
        for entry, kind in entries.items()
        if kind is _Entry.OTHER or (kind is _Entry.FILE and is_image(entry))
    ]
    files = {}
    for entry in classes:
        _check_name(entry)
        files[entry.name], passed_over = _files_of_class(entry)
        notes += passed_over
        if not files[entry.name]:
            raise ValueError(f"{entry} holds no images; fill it or remove it.")
    return files, tuple(notes)


class _Entry(Enum):
    FILE = "a file"
    FOLDER = "a folder"
    OTHER = "no file"


def _kind(entry: Path) -> _Entry:
    """Return what an entry is, links being followed, or raise where a link's end is gone."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        # A link to itself hides no image.
        if error.errno == errno.ELOOP:
            return _Entry.OTHER
        if entry.is_symlink():
            raise FileNotFoundError(
                f"{entry} is a link to {os.readlink(entry)}, where there is nothing; put the "
                "file there or remove the link."
            ) from None
        raise
    if stat.S_ISDIR(mode):
        return _Entry.FOLDER
    return _Entry.FILE if stat.S_ISREG(mode) else _Entry.OTHER


def _files_of_class(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of one class; whatever would be left out and may be an image is refused."""
    files, notes = [], []
    for entry in _visible(folder):
        kind = _kind(entry)
        if kind is _Entry.FILE:
            files.append(entry)
        elif kind is _Entry.OTHER:
            notes.append(f"{folder.name}/{entry.name} is no file and was passed over.")
        elif folder.resolve().is_relative_to(entry.resolve()):
            notes.append(f"{folder.name}/{entry.name} leads back up and was passed over.")
        elif (lost := _first_file(entry)) is not None:
            raise ValueError(
                f"{lost} lies in a folder below its class {folder.name!r} and would be left out; "
                f"move the images of {entry} into {folder}, or the folder out of it."
            )
    return files, notes


def _first_file(folder: Path) -> Path | None:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith("."))
        if shown:
            return Path(place, shown[0])
        # Links to folders are not walked into, and may hold anything.
        links = [name for name in folders if Path(place, name).is_symlink()]
        if links:
            return Path(place, links[0])
    return None


def _check_name(folder: Path) -> None:
    try:
        folder.name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"the name of the folder {folder.name!a} is not UTF-8, so that no text could "
            "hold the name of this class; rename it."
        ) from None


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _resized(pixels: Pixels, shape: tuple[int, int] | None, file: Path) -> Pixels:
    if shape is None:
        return pixels
    height, width = shape
    if height > pixels.shape[0] or width > pixels.shape[1]:
        raise ValueError(
            f"{file} has {_size_text(pixels)} pixels and would have to be enlarged to "
            f"{width} x {height}; ask for a smaller size."
        )
    return area_resize(_centre_crop(pixels, height / width), height, width)


def _centre_crop(pixels: Pixels, proportion: float) -> Pixels:
    """Return the largest middle part of an image with height / width = proportion."""
    old_height, old_width = pixels.shape[:2]
    height = min(old_height, round(old_width * proportion))
    width = min(old_width, round(old_height / proportion))
    top, left = (old_height - height) // 2, (old_width - width) // 2
    return pixels[top : top + height, left : left + width]


def _size_text(pixels: Pixels) -> str:
    height, width = pixels.shape[:2]
    return f"{width} x {height}"
