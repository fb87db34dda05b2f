"""Files that strangers may have made: read with a limit, written for whoever the user lets read."""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

# A pipe without a writer must not keep its reader waiting. (Windows has no such flag.)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
_PIECE = 2**20


class UnfitFileError(OSError, ValueError):
    """What should be a file of a certain size is none; the message is a sentence."""


@contextmanager
def open_regular(path: Path, limit: int | None = None) -> Iterator[io.BufferedReader]:
    """Open a file for reading, unless it is a device, a pipe or larger than `limit` bytes.

    Raises
    ------
    FileNotFoundError
        If there is nothing, or a link that leads to nothing or to itself.
    UnfitFileError
        If it is no regular file, or too large.
    """
    # Looked at before it is opened, since opening a device can already do something.
    _check_regular(path, _stat(path), limit)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _AT_ONCE)) as stream:
        _check_regular(path, os.fstat(stream.fileno()), limit)
        yield stream


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises
    ------
    FileNotFoundError, UnfitFileError
        As `open_regular`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "card.json"
    >>> path.write_bytes(b"{}")
    2
    >>> read_regular(path, limit=100)
    b'{}'
    """
    with open_regular(path, limit) as stream:
        # Python sets memory aside for all that is asked for, whether it comes or not.
        content = stream.read(os.fstat(stream.fileno()).st_size + 1)
    if len(content) > limit:  # it has grown meanwhile
        raise UnfitFileError(_too_large(path, limit))
    return content


def read_at_most(stream: IO[bytes], limit: int) -> bytes:
    """Return the rest of a stream, or `limit` + 1 bytes of it where it has more than `limit`.

    Examples
    --------
    >>> read_at_most(io.BytesIO(b"abcdef"), limit=3)
    b'abcd'
    """
    parts, left = [], limit + 1
    while left and (part := stream.read(min(left, _PIECE))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_beginning(path: Path, root: Path, limit: int) -> str:
    """Return the first `limit` bytes of a text below `root`; what is not UTF-8 becomes �.

    For words that are quoted as they stand, with no checksum to vouch for them: a link that leads
    out of `root` could quote anything.

    Raises
    ------
    FileNotFoundError, UnfitFileError
        If `path` is no regular file below `root`.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise UnfitFileError(f"{path} leads out of {root}")
    with open_regular(path) as stream:
        return stream.read(limit).decode("utf-8", errors="replace")


def reason(error: BaseException) -> str:
    """Return what an error says, without the number of a system's own and without a full stop.

    Examples
    --------
    >>> reason(FileNotFoundError(2, "No such file or directory", "a.json"))
    'No such file or directory'
    >>> reason(OSError("a.json is not a regular file"))
    'a.json is not a regular file'
    """
    own = error.strerror if isinstance(error, OSError) else None
    return (own or str(error)).rstrip(".")


def unused_name(folder: Path, name: str) -> Path:
    """Return a hidden path in `folder` that nothing has, for a draft of `name`."""
    return folder / f".{name}.{secrets.token_hex(6)}"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there, whoever writes or reads beside us.

    It may be read by whom the user's umask says, as any file that a program makes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = unused_name(path.parent, path.name)
    try:
        with open(draft, "xb") as file:
            file.write(content)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def _stat(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        if path.is_symlink():
            raise FileNotFoundError(
                f"{path} is a link to itself or to something that is not there; replace it by "
                "the file itself."
            ) from error
        raise


def _check_regular(path: Path, found: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise UnfitFileError(f"{path} should be a file, got {what}.")
    if limit is not None and found.st_size > limit:
        raise UnfitFileError(_too_large(path, limit))


def _too_large(path: Path, limit: int) -> str:
    return f"{path} is larger than the {limit:,} bytes that such a file may have."
