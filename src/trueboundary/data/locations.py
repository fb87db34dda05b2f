"""Where data lie on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pooch

from trueboundary.typed_paths import typed_path

CACHE_VARIABLE = "TRUEBOUNDARY_CACHE"


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

    A `ValueError` names the variable if it is none, such as the home of nobody.
    """
    value = os.environ.get(variable)
    try:
        return typed_path(value) if value else None
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None


def described(path: Path, otherwise: str) -> DataLocation:
    """Return the location of a path, with advice for where there is nothing."""
    found = path.exists()
    return DataLocation(path, found, f"at {path}." if found else f"not at {path}; {otherwise}")
