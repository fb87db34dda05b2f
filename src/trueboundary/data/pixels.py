"""Encoded images to pixels of the wanted size."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]


def decode_image(content: bytes, name: str) -> Pixels:
    """Return the pixels of an image file.

    Parameters
    ----------
    content : bytes
        The file: JPEG, PNG or anything else that Pillow reads.
    name : str
        How errors name the file.

    Returns
    -------
    numpy.ndarray
        uint8, shape `(height, width, 1)` for grey images and `(height, width, 3)` for all others;
        transparency is dropped.

    Raises
    ------
    ValueError
        If the file is no image, is cut off, or has more than 8 bits per channel.

    Examples
    --------
    >>> buffer = io.BytesIO()
    >>> Image.new("RGB", (3, 2), "red").save(buffer, "PNG")
    >>> decode_image(buffer.getvalue(), "red.png")[0, 0]
    array([255,   0,   0], dtype=uint8)
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            deep = image.mode.startswith(("I", "F"))
            decoded = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image; remove it or replace it.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is not a whole image ({error}); replace it.") from None
    if deep:
        raise ValueError(
            f"{name} has more than 8 bits per channel, which would be clipped; "
            "convert it to 8 bits."
        )
    pixels = np.asarray(decoded)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def area_resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Shrink an image; each new pixel is the mean over the area that it covers.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8, shape `(H, W, C)`.
    height, width : int
        The new size, at most `(H, W)`.

    Returns
    -------
    numpy.ndarray
        uint8, shape `(height, width, C)`.

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
