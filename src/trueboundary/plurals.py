"""Counts and lists in words, for every room."""

from __future__ import annotations

from collections.abc import Sequence


def plural(n: int, noun: str, several: str | None = None) -> str:
    """Return a count with its noun.

    Parameters
    ----------
    n : int
        The count.
    noun : str
        What is counted, for one.
    several : str, optional
        The same for any other number, where it is not the noun with an s.

    Examples
    --------
    >>> plural(1, "claim"), plural(3000, "claim"), plural(2, "class", "classes")
    ('1 claim', '3,000 claims', '2 classes')
    """
    return f"{n:,} {noun if n == 1 else several or f'{noun}s'}"


def listed(names: Sequence[str]) -> str:
    """Return names as an enumeration.

    Examples
    --------
    >>> listed(["cats"]), listed(["cats", "dogs", "mice"])
    ('cats', 'cats, dogs and mice')
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
