"""A look at the images that runs are about to use, so that a mistake costs no time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from trueboundary.experiments.images.image_fits import FittedMixtures
from trueboundary.runs import RunConfig

Pair = tuple[str, str]

_PARTS = ("train", "test")
_DIGITS = tuple("0123456789")


def check_images(configs: Iterable[RunConfig]) -> None:
    """Raise unless the classes that `configs` are fitted to exist in the images that are here.

    CIFAR-10 is read whole, which takes seconds; of CelebA the text files and one face of each part.
    MNIST is not read, for it may still have to be downloaded.

    Parameters
    ----------
    configs : iterable of RunConfig
        Runs, with everything they need; those that fit no mixtures are passed over.

    Raises
    ------
    FileNotFoundError
        If a file of the images is missing.
    ValueError
        If a file is damaged, or a class or a size is none that the images have.

    Examples
    --------
    >>> check_images([FittedMixtures("mnist", ("0", "6"))])
    >>> check_images([FittedMixtures("mnist", ("0", "x"))])
    Traceback (most recent call last):
        ...
    ValueError: the data have no class 'x'; it has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.
    """
    fits = [config for config in configs if isinstance(config, FittedMixtures)]
    _check_digits(_pairs(fits, "mnist"))
    cifar10, celeba = _path("cifar10"), _path("celeba")
    if cifar10 is not None and (pairs := _pairs(fits, "cifar10")):
        _check_cifar10(cifar10, pairs)
    if celeba is not None:
        faces = [fit for fit in fits if fit.dataset == "celeba"]
        for size in sorted({fit.face_size for fit in faces}):
            chosen = _pairs([fit for fit in faces if fit.face_size == size], "celeba")
            _check_faces(celeba, tuple(attribute for _, attribute in chosen), size)


def _pairs(fits: Iterable[FittedMixtures], dataset: str) -> tuple[Pair, ...]:
    return tuple(sorted({fit.pair for fit in fits if fit.dataset == dataset}))


def _path(dataset: str) -> Path | None:
    """Return where a data set lies that users bring; None where it is not here."""
    from trueboundary.data import find_data

    location = find_data()[dataset]
    return location.path if location.found else None


def _check_digits(pairs: Iterable[Pair]) -> None:
    from trueboundary.data.image_data import index_of

    for first, second in pairs:
        for name in (first, second):
            index_of("class", name, _DIGITS)
        if first == second:
            raise ValueError(f"a pair needs two different classes, got {first!r} twice.")


# A sweep asks the same for each of its points.
@lru_cache(maxsize=64)
def _check_cifar10(path: Path, pairs: tuple[Pair, ...]) -> None:
    from trueboundary.data import load_cifar10

    data = load_cifar10(path)
    for part in map(data.part, _PARTS):
        for pair in pairs:
            part.pairs(*pair)


@lru_cache(maxsize=64)  # as for CIFAR-10
def _check_faces(path: Path, attributes: tuple[str, ...], size: int) -> None:
    from trueboundary.data import load_celeba

    for part in _PARTS:
        load_celeba(path, attributes=attributes, size=size, split=part, n_images=1)
