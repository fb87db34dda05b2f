"""Where data lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pooch

from trueboundary.typed_paths import typed_path

CACHE_VARIABLE = "TRUEBOUNDARY_CACHE"
MNIST_VARIABLE = "TRUEBOUNDARY_MNIST"
CELEBA_VARIABLE = "TRUEBOUNDARY_CELEBA"
CIFAR10_VARIABLE = "TRUEBOUNDARY_CIFAR10"


@dataclass(frozen=True)
class DataLocation:
    """What is known about one data set on this machine.

    Parameters
    ----------
    path : pathlib.Path or None
        Where it was found or looked for; None where no place is set.
    found : bool
        Whether there is something at `path`. Its content is checked when it is loaded.
    message : str
        One sentence: where it is, or what to do.
    """

    path: Path | None
    found: bool
    message: str


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return the folder in which downloaded data are kept.

    Parameters
    ----------
    cache : str or pathlib.Path, optional
        A folder chosen by the caller. Otherwise the environment variable `TRUEBOUNDARY_CACHE`
        decides, and without it the platform's cache folder (`~/.cache/trueboundary` on Linux).

    Examples
    --------
    >>> cache_folder("somewhere").name
    'somewhere'
    """
    chosen = cache or folder_from_environment(CACHE_VARIABLE)
    return Path(chosen or pooch.os_cache("trueboundary")).expanduser()


def folder_from_environment(variable: str) -> Path | None:
    """Return the path that an environment variable holds, or None.

    Raises
    ------
    ValueError
        If it is none, such as the home of nobody; the message names the variable.
    """
    value = os.environ.get(variable)
    try:
        return typed_path(value) if value else None
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None


def find_data(cache: str | Path | None = None) -> dict[str, DataLocation]:
    """Tell which data sets this machine has, without loading or downloading any.

    Parameters
    ----------
    cache : str or pathlib.Path, optional
        The cache folder; see `cache_folder`.

    Returns
    -------
    dict of str to DataLocation
        Under "cache", "mnist", "celeba" and "cifar10".

    Examples
    --------
    >>> from trueboundary.data import find_data
    >>> sorted(find_data())
    ['cache', 'celeba', 'cifar10', 'mnist']
    """
    found: dict[str, Callable[[], DataLocation]] = {
        "cache": lambda: _described(
            cache_folder(cache), "it is made when something is downloaded."
        ),
        "mnist": lambda: _find_mnist(cache),
        "celeba": lambda: _find_by_variable(
            CELEBA_VARIABLE, "--celeba", "the folder with img_align_celeba"
        ),
        "cifar10": lambda: _find_by_variable(
            CIFAR10_VARIABLE, "--cifar10", "cifar-10-python.tar.gz or its folder"
        ),
    }
    return {name: _or_why_not(look) for name, look in found.items()}


def _or_why_not(look: Callable[[], DataLocation]) -> DataLocation:
    try:
        return look()
    except ValueError as error:  # a variable that holds no path
        return DataLocation(None, False, f"{error}.")


def _find_mnist(cache: str | Path | None) -> DataLocation:
    chosen = folder_from_environment(MNIST_VARIABLE)
    if chosen is not None:
        return _described(chosen, f"set {MNIST_VARIABLE} to a folder of IDX files or unset it.")
    return _described(cache_folder(cache) / "mnist", "it is downloaded when first needed.")


def _find_by_variable(variable: str, option: str, what: str) -> DataLocation:
    advice = f"let {variable} name {what}, or give 'trueboundary run' {option}."
    chosen = folder_from_environment(variable)
    if chosen is None:
        return DataLocation(None, False, f"not set up; {advice}")
    return _described(chosen, advice)


def _described(path: Path, otherwise: str) -> DataLocation:
    found = path.exists()
    return DataLocation(path, found, f"at {path}." if found else f"not at {path}; {otherwise}")
