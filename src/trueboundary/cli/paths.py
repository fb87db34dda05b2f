"""Paths as people type them: the type of every path option and argument."""

from __future__ import annotations

from pathlib import Path

import typer


def path(text: str) -> Path:
    """Return a path that was typed, with ``~`` as the home folder it stands for.

    A shell expands ``--out ~/x`` and leaves ``--out=~/x`` alone.

    Raises
    ------
    typer.BadParameter
        If it is empty, as from a variable that is not set, or the home of nobody.
    """
    if not text.strip():
        raise typer.BadParameter("a path is empty; '.' is the folder you are in")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        name = Path(text).parts[0]
        raise typer.BadParameter(
            f"there is no home folder {name}; write ./{text} for a file of that name"
        ) from None


def address_or_path(text: str) -> str:
    """Return an address such as ``tcp://host:8786`` as it was typed, or else what `path` makes.

    Raises
    ------
    typer.BadParameter
        As `path`.
    """
    return text if "://" in text else str(path(text))
