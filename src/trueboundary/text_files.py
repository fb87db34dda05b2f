"""Text files that people write by hand, on any system and with any editor."""

from __future__ import annotations

import codecs
from pathlib import Path

from trueboundary.regular_files import UnfitFileError, read_regular, reason

#: More than any file that is written by hand.
_LIMIT = 16 * 2**20

_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text(file: Path) -> str:
    r"""Return the text of a UTF-8 file, with or without a byte-order mark.

    Ends of lines stay what they are.

    Raises
    ------
    ValueError
        If it is in another encoding, too large or not a file; one sentence that names the file.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "sweep.toml"
    >>> _ = file.write_bytes(codecs.BOM_UTF8 + b"a = 1\r\n")
    >>> read_text(file)
    'a = 1\r\n'
    """
    try:
        content = read_regular(file, _LIMIT)
    except UnfitFileError as error:
        raise ValueError(reason(error)) from error
    for mark, name in _OTHERS.items():
        if content.startswith(mark):
            raise ValueError(f"{file} is written in {name}; save it as UTF-8")
    if b"\0" in content:  # UTF-16 without its mark, or no text at all
        raise ValueError(f"{file} holds zero bytes, as UTF-8 text does not; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file} is not UTF-8 (line {line}); save it as UTF-8") from error
