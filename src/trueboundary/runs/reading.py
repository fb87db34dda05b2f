"""Reading files that somebody else may have made."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# A pipe without a writer must not keep its reader waiting. (Windows has no such flag.)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)


@contextmanager
def open_regular(file: Path, limit: int) -> Iterator[BinaryIO]:
    """Open `file` for reading, unless it is a device, a pipe or larger than `limit` bytes.

    Raises
    ------
    OSError
        If it cannot be opened or is none of ours; the message is a sentence.
    """
    _require_regular(file, os.stat(file), limit)  # opening a device can already do something
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | _AT_ONCE)) as stream:
        _require_regular(file, os.fstat(stream.fileno()), limit)
        yield stream


def read_regular(file: Path, limit: int) -> bytes:
    """Return the content of `file`, which must be a regular file of at most `limit` bytes.

    Raises
    ------
    OSError
        As `open_regular`.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "run.json"
    >>> file.write_bytes(b"{}")
    2
    >>> read_regular(file, limit=100)
    b'{}'
    """
    with open_regular(file, limit) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:  # it has grown meanwhile
        raise OSError(f"{file} is larger than {limit:,} bytes")
    return content


def read_beginning(file: Path, root: Path, limit: int) -> str:
    """Return the first `limit` bytes of a text below `root`; what is not UTF-8 becomes �.

    For words that are quoted as they stand, with no checksum to vouch for them: a link that leads
    out of `root` could quote anything.

    Raises
    ------
    OSError
        If `file` is no regular file below `root`.
    """
    if not file.resolve().is_relative_to(root.resolve()):
        raise OSError(f"{file} leads out of {root}")
    _require_regular(file, os.stat(file))
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | _AT_ONCE)) as stream:
        return stream.read(limit).decode("utf-8", errors="replace")


def reason(error: BaseException) -> str:
    """Return what an error says, without the number of a system's own.

    Examples
    --------
    >>> reason(FileNotFoundError(2, "No such file or directory", "a.json"))
    'No such file or directory'
    >>> reason(OSError("a.json is not a regular file"))
    'a.json is not a regular file'
    """
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _require_regular(file: Path, found: os.stat_result, limit: int | None = None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{file} is not a regular file")
    if limit is not None and found.st_size > limit:
        raise OSError(f"{file} is larger than {limit:,} bytes")
