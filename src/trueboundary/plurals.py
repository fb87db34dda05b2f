"""Counts, lists and time spans in words, for every room."""

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


def duration(seconds: float) -> str:
    """Return a time span in its two largest units.

    Examples
    --------
    >>> duration(0.2), duration(42), duration(125), duration(7_300), duration(400_000)
    ('< 1 s', '42 s', '2 min 5 s', '2 h 1 min', '4 d 15 h')
    """
    if not seconds >= 1.0:
        return "< 1 s"
    whole = round(seconds)
    for name, size, smaller, small_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
