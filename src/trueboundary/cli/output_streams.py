"""Output that every stream can hold, whatever its encoding."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console

_SUPERSCRIPTS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_PLAIN = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "·": "-", "•": "*", "×": "x", "…": "...",
        "‘": "'", "’": "'", "“": '"', "”": '"', "≤": "<=", "≥": ">=", "≈": "~", "±": "+/-",
        "→": "->", "√": "sqrt", "∞": "infinity", "✓": "yes", "✗": "no", "Φ": "Phi", "π": "pi",
        "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "œ": "oe", "ł": "l", "Ł": "L",
    }
)  # fmt: skip


def new_console() -> Console:
    """Return what tables and results are printed on."""
    console = Console()
    # Piped into a file, a table needs no narrower a page than the report's, unless that is asked.
    is_narrow = console.is_terminal or os.environ.get("COLUMNS", "").isdecimal()
    return console if is_narrow else Console(width=120)


def silent_console() -> Console:
    """Return what shows nothing, for commands that are to be quiet."""
    return Console(quiet=True, force_terminal=False)


def plain(text: str, encoding: str) -> str:
    """Return `text` with all that `encoding` cannot hold in words or characters that it can.

    Examples
    --------
    >>> plain("1.5 × 10⁻⁶ – Café", "ascii"), plain("1.5 × 10⁻⁶ – Café", "latin-1")
    ('1.5 x 10^-6 - Cafe', '1.5 × 10^-6 - Café')
    """
    if _holds(encoding, text):
        return text
    text = re.sub("[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda run: _power(run[0], encoding), text)
    return "".join(c if _holds(encoding, c) else _spell(c, encoding) for c in text)


def _holds(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _power(run: str, encoding: str) -> str:
    return run if _holds(encoding, run) else f"^{run.translate(_SUPERSCRIPTS)}"


def _spell(character: str, encoding: str) -> str:
    if "\ud800" <= character <= "\udfff":  # a byte of a file's name that is no character
        return character.encode("ascii", "backslashreplace").decode("ascii")
    words = character.translate(_PLAIN)
    if words == character:
        parts = unicodedata.normalize("NFKD", character)
        words = "".join(part for part in parts if not unicodedata.combining(part))
    return words.encode(encoding, "replace").decode(encoding)


class OutputError(Exception):
    """What was printed could not be written; the text is a sentence."""


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever reads has had enough, which is no failure
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"the output could not be written: {reason}") from error


class _Readable:
    """A text stream that is never given what its encoding cannot hold.

    It hides the bytes below it, which libraries otherwise write to past a stream that is ASCII.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _told():
            self._stream.write(plain(text, self._stream.encoding or "utf-8"))
        return len(text)

    def flush(self) -> None:
        with _told():
            self._stream.flush()

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)


@contextmanager
def readable_streams() -> Iterator[None]:
    """Let whatever is printed in the block arrive, in place of an error half-way through it."""
    before = sys.stdout, sys.stderr
    # A process without a console has no streams at all.
    sys.stdout, sys.stderr = (
        stream if stream is None else cast("TextIO", _Readable(stream)) for stream in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
