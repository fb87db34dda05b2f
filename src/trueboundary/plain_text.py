"""Words of strangers, such as the names of files and classes, made fit for a terminal or a page."""

from __future__ import annotations

import re
import unicodedata

# What may begin, end or be markup: the marks of Markdown, and of mathematics in it. An underscore
# inside a word is none.
_MARKS = re.compile(r"[\\`*|$~\[\]{}#!]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def printable(text: str) -> str:
    r"""Return `text` in one line with every character visible.

    Control characters, which a terminal would obey, marks that turn the direction of writing, and
    bytes that are no text are shown as escapes.

    Examples
    --------
    >>> print(printable("cats\x1b[2J\nand dogs"))
    cats\x1b[2J\nand dogs
    """
    return "".join(_shown(character) for character in text)


def printable_lines(text: str) -> str:
    r"""Return `text` with its lines kept, each as `printable` returns it.

    Examples
    --------
    >>> print(printable_lines("cats\x1b[2J\nand dogs"))
    cats\x1b[2J
    and dogs
    """
    return "\n".join(map(printable, text.split("\n")))


def markdown(text: str) -> str:
    r"""Return `text` as Markdown that shows it as it is, in one line.

    Examples
    --------
    >>> print(markdown("cost$_$x <b> 5_o_Clock"))
    cost\$\_\$x &lt;b&gt; 5_o_Clock
    """
    marked = _MARKS.sub(lambda mark: f"\\{mark[0]}", printable(text))
    return re.sub("[&<>]", lambda mark: _ENTITIES[mark[0]], marked)


def _shown(character: str) -> str:
    # Categories: Cc control, Cf format, Cs surrogate, Zl and Zp separators of lines.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character
