"""The images of two classes, of whichever data set.

Modules that import torch are imported where they are used, so that listing experiments is quick.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trueboundary.data import CelebA, ImageData

Shape = tuple[int, int, int]
Dataset = Literal["mnist", "celeba", "cifar10", "synthetic"]

# About the time on one core to fit a component in an iteration, to train on an image, and to attack
# one by a pass.
SECONDS_PER_ITERATION = {"mnist": 0.01, "celeba": 1.0, "cifar10": 0.2, "synthetic": 1e-4}
SECONDS_PER_IMAGE = {"mnist": 3e-4, "celeba": 2e-3, "cifar10": 5e-4, "synthetic": 2e-5}
SECONDS_PER_PASS = {"mnist": 2.5e-4, "celeba": 4e-3, "cifar10": 1e-3, "synthetic": 1e-5}
_SYNTHETIC_SIDE, _N_SYNTHETIC = 8, 150


def pair_images(
    dataset: str, pair: tuple[str, str], part: str, *, face_size: int = 64
) -> tuple[NDArray[np.float32], NDArray[np.int64], Shape]:
    """Return the images of two classes as rows, their labels and the shape of one image.

    Parameters
    ----------
    dataset : {"mnist", "celeba", "cifar10", "synthetic"}
        CelebA and CIFAR-10 are looked for where their environment variables name them.
    pair : tuple of str
        The two classes.
    part : {"train", "test"}
        Which images.
    face_size : int
        Height and width of faces.

    Raises
    ------
    FileNotFoundError
        If the images are not here; the message says what to do.

    Examples
    --------
    >>> x, y, shape = pair_images("synthetic", ("lying", "standing"), "test")
    >>> x.shape, shape
    ((300, 64), (1, 8, 8))
    """
    if dataset == "synthetic":
        return _synthetic_images(part)
    if dataset == "mnist":
        from trueboundary.data import load_mnist

        data = load_mnist().part(part)
    elif dataset == "cifar10":
        data = _cifar10().part(part)
    else:
        data = _faces(part, face_size).attribute(pair[1])
    x, y = data.pairs(*pair)
    return x, y, data.event_shape


def data_notes(dataset: str, part: str, *, face_size: int = 64) -> list[str]:
    """Return what a reader of numbers measured on these images has to know; see `pair_images`.

    Examples
    --------
    >>> data_notes("synthetic", "test")
    []
    """
    return list(_faces(part, face_size).notes) if dataset == "celeba" else []


def faces_content() -> str:
    """Return a fingerprint of the CelebA that is on this machine; empty where there is none."""
    from trueboundary.data import find_data, fingerprint_celeba

    location = find_data()["celeba"]
    return fingerprint_celeba(location.path) if location.found and location.path else ""


@lru_cache(maxsize=2)  # decoding the faces takes longer than most of what is done with them
def _faces(part: str, size: int) -> CelebA:
    from trueboundary.data import load_celeba
    from trueboundary.data.locations import CELEBA_VARIABLE

    return load_celeba(_folder(CELEBA_VARIABLE, "CelebA"), size=size, split=part)


@lru_cache(maxsize=1)  # as the faces
def _cifar10() -> ImageData:
    from trueboundary.data import load_cifar10
    from trueboundary.data.locations import CIFAR10_VARIABLE

    return load_cifar10(_folder(CIFAR10_VARIABLE, "CIFAR-10"))


def _folder(variable: str, name: str) -> Path:
    from trueboundary.data.locations import folder_from_environment

    folder = folder_from_environment(variable)
    if folder is None:
        raise FileNotFoundError(f"{name} is not here; let {variable} name its folder.")
    return folder


def _synthetic_images(
    part: str,
) -> tuple[NDArray[np.float32], NDArray[np.int64], Shape]:
    """Return soft bars, lying (0) or standing (1), at random places, with noise."""
    rng = np.random.default_rng(["train", "test"].index(part))
    y = np.repeat([0, 1], _N_SYNTHETIC)
    places = rng.uniform(2, _SYNTHETIC_SIDE - 3, size=(len(y), 1, 1))
    rows, columns = np.mgrid[:_SYNTHETIC_SIDE, :_SYNTHETIC_SIDE]
    across = np.where(y[:, None, None] == 0, rows, columns) - places
    noise = 0.02 * rng.normal(size=across.shape)
    images = (np.exp(-(across**2) / 2) + noise).clip(0, 1)
    shape = (1, _SYNTHETIC_SIDE, _SYNTHETIC_SIDE)
    return images.reshape(len(y), -1).astype(np.float32), y.astype(np.int64), shape
