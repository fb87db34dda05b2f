"""Any images, sorted by class into subfolders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trueboundary.data.files import existing
from trueboundary.data.images import ImageData
from trueboundary.data.pixels import Pixels, area_resize, decode_image


def load_image_folder(path: str | Path, *, size: int | tuple[int, int] | None = None) -> ImageData:
    """Load a folder that has one subfolder of images per class.

    Parameters
    ----------
    path : str or pathlib.Path
        The folder. Subfolders and images are taken in alphabetical order; names that start with
        a dot are passed over; every other file in a subfolder must be an image.
    size : int or (int, int), optional
        Height and width of the images returned; needed where the files differ in size. Each
        image is cut to the new proportions around its middle and then shrunk, pixels being
        averaged over areas. Images are never enlarged.

    Returns
    -------
    ImageData
        uint8 images, with one channel if all are grey and three otherwise; one split, "all".

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If there are fewer than two classes, a class is empty, a file is not a whole image, or
        sizes differ and `size` is not given.

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
    files = _files_by_class(existing(Path(path), "a folder of images"))
    images: list[Pixels] = []
    labels: list[int] = []
    for label, of_class in enumerate(files.values()):
        for file in of_class:
            pixels = _resized(decode_image(file.read_bytes(), str(file)), shape, file)
            if images and pixels.shape[:2] != images[0].shape[:2]:
                raise ValueError(
                    f"{file} has {_size_text(pixels)} pixels but the images before it "
                    f"{_size_text(images[0])}; bring all to one size, for instance with size=64."
                )
            images.append(pixels)
            labels.append(label)
    n_channels = max(pixels.shape[2] for pixels in images)
    whole = (*images[0].shape[:2], n_channels)
    return ImageData(
        images=np.stack([np.broadcast_to(pixels, whole) for pixels in images]),
        labels=np.array(labels, np.int64),
        class_names=tuple(files),
        split=np.zeros(len(labels), np.int64),
        split_names=("all",),
    )


def _shape(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    shape = (size, size) if isinstance(size, int) else tuple(size)
    if len(shape) != 2 or not all(isinstance(side, int) and side >= 1 for side in shape):
        raise ValueError(f"size must be one or two integers of at least 1, got {size!r}.")
    return shape


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise ValueError(f"{folder} should be a folder with one subfolder per class, got a file.")
    classes = [entry for entry in _visible(folder) if entry.is_dir()]
    if len(classes) < 2:
        raise ValueError(
            f"{folder} should have at least two subfolders, one per class, got {len(classes)}; "
            "sort the images into subfolders named after their classes."
        )
    files = {entry.name: [file for file in _visible(entry) if file.is_file()] for entry in classes}
    for name, of_class in files.items():
        if not of_class:
            raise ValueError(f"{folder / name} holds no images; fill it or remove it.")
    return files


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
