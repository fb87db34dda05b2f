"""What somebody who mistyped a name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the word in `known` that is most like `word`, as a hint; empty where none is.

    A word of which nothing comes near gets no hint: a wrong one sends its reader astray.

    Examples
    --------
    >>> nearest("qick", ["smoke", "quick"]), nearest("all", ["smoke", "quick"])
    ("; did you mean 'quick'?", '')
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
