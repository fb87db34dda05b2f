"""Paths as people type them: the type of every path option and argument."""

from __future__ import annotations

from pathlib import Path

import typer

from trueboundary.typed_paths import typed_path


def path(text: str) -> Path:
    """Return a path that was typed, with ``~`` as the home folder it stands for.

    A shell expands ``--out ~/x`` and leaves ``--out=~/x`` alone.

    Raises
    ------
    typer.BadParameter
        If it is empty, as from a variable that is not set, or the home of nobody.
    """
    try:
        return typed_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def address_or_path(text: str) -> str:
    """Return an address such as ``tcp://host:8786`` as it was typed, or else what `path` makes."""
    return text if "://" in text else str(path(text))
