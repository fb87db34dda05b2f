"""Encoded images to pixels of the wanted size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]

#: The formats that are opened, by Pillow's names.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM")

# What is done to stored pixels before they are shown; for all other tags, nothing.
_ORIENTATION = ExifTags.Base.Orientation
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(content: bytes, name: str) -> Pixels:
    """Return the pixels of an image file, the way up in which viewers show it.

    Parameters
    ----------
    content : bytes
        The file: JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or PPM with one picture in it. What its
        metadata say about its orientation is done.
    name : str
        How errors name the file.

    Returns
    -------
    numpy.ndarray
        uint8, shape `(height, width, 1)` for grey images, also those that are grey by their
        palette, and `(height, width, 3)` for all others; transparency is dropped.

    Examples
    --------
    >>> buffer = io.BytesIO()
    >>> Image.new("RGB", (3, 2), "red").save(buffer, "PNG")
    >>> decode_image(buffer.getvalue(), "red.png")[0, 0]
    array([255,   0,   0], dtype=uint8)
    """
    try:
        # Only these: Pillow would hand some others to foreign programs, whatever the file's name.
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            # The format of a JPEG with a preview behind it; its first picture is the one meant.
            n_pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            deep = _is_deep(image, content)
            pixels = None if deep or n_pictures > 1 else _upright_pixels(image)
    except UnidentifiedImageError:
        raise ValueError(
            f"{name} is not an image in one of the formats {', '.join(FORMATS)}; remove it or "
            "convert it."
        ) from None
    except Exception as error:  # decoders raise whatever damaged bytes happen to call for
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name} is not a whole image ({reason}); replace it.") from None
    if n_pictures > 1:
        raise ValueError(
            f"{name} holds {n_pictures} pictures, such as an animation; save the one that is "
            "meant as a file of its own."
        )
    if pixels is None:
        raise ValueError(
            f"{name} has more than 8 bits per channel, which would be clipped; "
            "convert it to 8 bits."
        )
    return pixels


def is_image(path: Path) -> bool:
    """Tell whether a file begins like an image of one of the `FORMATS`."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # as for `decode_image`
        return False


def _is_deep(image: Image.Image, content: bytes) -> bool:
    """Tell whether an image that was opened has more than 8 bits per channel.

    Pillow reads most of these into modes of 8 bits without a word.
    """
    if image.mode.startswith(("I", "F")):
        return True
    if image.format == "AVIF":
        # The third byte of the record "av1C" has flags for 10 and 12 bits.
        _, _, record = content.partition(b"av1C")
        return len(record) > 2 and bool(record[2] & 0b0110_0000)
    # How the bytes of a file become channels is said of each tile: "RGB;16B" for 16 bits, and of
    # a PPM its largest value.
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        for argument in arguments:
            if isinstance(argument, str) and ";16" in argument:
                return True
        if image.format == "PPM" and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return True
    return False


def _upright_pixels(image: Image.Image) -> Pixels:
    image.load()
    # Read after loading: where a format turns its images itself, the tag is gone by then.
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata, which viewers pass over too
        turn = None
    upright = image if turn is None else image.transpose(turn)
    if upright.mode in ("1", "L", "LA", "La"):
        return np.asarray(upright.convert("L"))[..., None]
    pixels: Pixels = np.asarray(upright.convert("RGB"))
    if upright.mode in ("P", "PA") and (pixels == pixels[..., :1]).all():
        return pixels[..., :1]
    return pixels


def area_resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Shrink a uint8 image `(H, W, C)`: each new pixel is the mean over the area it covers.

    Examples
    --------
    >>> image = np.array([[0, 100], [100, 200]], np.uint8)[..., None]
    >>> area_resize(image, 1, 1).ravel()
    array([100], dtype=uint8)
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    rows, columns = _overlaps(pixels.shape[0], height), _overlaps(pixels.shape[1], width)
    fewer_rows = (rows @ pixels.reshape(pixels.shape[0], -1)).reshape(height, *pixels.shape[1:])
    means: Pixels = np.rint(columns @ fewer_rows).astype(np.uint8)
    return means


def _overlaps(n_old: int, n_new: int) -> npt.NDArray[np.float64]:
    """Return, as rows of weights, how much of each new pixel each old one covers."""
    edges = np.linspace(0, n_old, n_new + 1)
    left, right = edges[:-1, None], edges[1:, None]
    old = np.arange(n_old)
    covered = np.minimum(right, old + 1) - np.maximum(left, old)
    weights: npt.NDArray[np.float64] = np.clip(covered, 0, None) / (right - left)
    return weights
