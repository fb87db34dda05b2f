"""Paths as people type them, on the command line or into an environment variable."""

from __future__ import annotations

from pathlib import Path


def typed_path(text: str) -> Path:
    """Return a path that was typed, with ``~`` as the home folder it stands for.

    Raises
    ------
    ValueError
        If it is empty, as from a variable that is not set, or the home of nobody.

    Examples
    --------
    >>> typed_path("photos/cats").parts
    ('photos', 'cats')
    """
    if not text.strip():
        raise ValueError("a path is empty; '.' is the folder you are in")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        name = Path(text).parts[0]
        raise ValueError(
            f"there is no home folder {name}; write ./{text} for a file of that name"
        ) from None
