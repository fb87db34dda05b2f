"""A look at the images that runs are about to use, so that a mistake costs no time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trueboundary.experiments.images.image_fits import FittedMixtures
from trueboundary.runs import RunConfig

if TYPE_CHECKING:
    from trueboundary.data import ImageSource


def check_images(configs: Iterable[RunConfig]) -> None:
    """Raise unless the classes that `configs` are fitted to exist in the images that are here.

    Configurations that fit no mixtures are passed over.

    Raises
    ------
    FileNotFoundError, ValueError
        As `trueboundary.data.ImageSource.check` does.

    Examples
    --------
    >>> check_images([FittedMixtures("mnist", ("0", "6"))])
    >>> check_images([FittedMixtures("mnist", ("0", "x"))])
    Traceback (most recent call last):
        ...
    ValueError: the data have no class 'x'; it has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.
    """
    from trueboundary.data import image_source

    fits = [config for config in configs if isinstance(config, FittedMixtures)]
    for name, size in dict.fromkeys((fit.dataset, fit.face_size) for fit in fits):
        pairs = {fit.pair for fit in fits if (fit.dataset, fit.face_size) == (name, size)}
        source = image_source(name)
        location = source.location()
        _check(source, location and location.path, tuple(sorted(pairs)), size)


# A sweep asks the same for each of its points.
@lru_cache(maxsize=64)
def _check(
    source: ImageSource, _: Path | None, pairs: tuple[tuple[str, ...], ...], size: int
) -> None:
    source.check(pairs, size)
