"""Reading named files out of a folder, a tar or a zip in the same way."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Protocol, cast

from trueboundary.regular_files import read_regular

# What a damaged or dishonest archive can make the readers of the standard library raise.
_FAULTS = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError,
           ValueError, RecursionError, NotImplementedError, MemoryError)  # fmt: skip
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def existing(path: Path, what: str) -> Path:
    """Return `path` if it exists, or raise a sentence that says what was expected there."""
    if not path.exists():
        raise FileNotFoundError(f"expected {what} at {path}, where there is nothing.")
    return path


class Files(Protocol):
    """Files known by their last name, wherever in a folder or archive they lie."""

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""

    def read(self, name: str) -> bytes:
        """Return the content of a file."""

    def label(self, name: str) -> str:
        """Return how an error should call the file."""


class FolderFiles:
    """The files directly inside a folder, none of them larger than `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._names = {entry.name for entry in os.scandir(folder)}

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""
        return name in self._names

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return read_regular(self._folder / name, self._limit)

    def label(self, name: str) -> str:
        """Return how an error should call the file."""
        return str(self._folder / name)


class _Members:
    """What archives have in common: members with sizes, of which a name may not tell two apart."""

    def __init__(self, path: Path, names: Iterable[str], limit: int) -> None:
        self._path, self._limit = path, limit
        self._counts = Counter(PurePosixPath(name).name for name in names)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""
        return name in self._counts

    def label(self, name: str) -> str:
        """Return how an error should call the file."""
        return f"{name} in {self._path}"

    def _check(self, name: str, size: int) -> None:
        if self._counts[name] > 1:
            raise ValueError(
                f"{self._path} holds {self._counts[name]} files named {name}; unpack it and keep "
                "the folder that is meant."
            )
        if size > self._limit:
            raise ValueError(
                f"{self.label(name)} is larger than the {self._limit:,} bytes that such a file "
                "may have; download the archive again."
            )


class TarFiles(_Members):
    """The files inside a tar that is not compressed, read in any order."""

    def __init__(self, path: Path, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        try:
            whole = _within(stream, os.fstat(stream.fileno()).st_size)
            with tarfile.open(fileobj=whole, mode="r:") as archive:
                # Links are no files: following one may lead to itself, to nothing or outside.
                members = [member for member in archive if member.isreg()]
        except _FAULTS as error:
            raise ValueError(
                f"{path} is not a whole uncompressed tar ({error}); "
                "unpack it if it is compressed, or download it again."
            ) from None
        super().__init__(path, (member.name for member in members), limit)
        self._places = {
            PurePosixPath(member.name).name: (member.offset_data, member.size) for member in members
        }

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        start, size = self._places[name]
        self._check(name, size)
        self._stream.seek(start)
        return self._stream.read(size)


class ZipFiles(_Members):
    """The files inside a zip, read in any order."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, limit: int) -> None:
        self._archive = archive
        members = [member for member in archive.infolist() if not member.is_dir()]
        super().__init__(path, (member.filename for member in members), limit)
        self._members = {PurePosixPath(member.filename).name: member for member in members}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        member = self._members[name]
        self._check(name, member.file_size)
        if member.flag_bits & 1:
            raise ValueError(f"{self.label(name)} is encrypted; unpack it with its password first.")
        # Other methods unpack a whole piece at once, however large it becomes.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{self.label(name)} is compressed by an unusual method; unpack the archive."
            )
        try:
            with self._archive.open(member) as stream:
                return stream.read(self._limit)
        except _FAULTS as error:
            raise ValueError(
                f"{self.label(name)} is corrupt ({error}); download the archive again."
            ) from None


@contextmanager
def open_files(path: Path, *, limit: int) -> Iterator[Files]:
    """Open a folder, a `.zip` or else a tar, of which no file read may exceed `limit` bytes.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_bytes(b"hello")
    >>> with open_files(folder, limit=100) as files:
    ...     "a.txt" in files, files.read("a.txt")
    (True, b'hello')
    """
    if path.is_dir():
        yield FolderFiles(path, limit)
    elif not path.is_file():
        raise ValueError(f"{path} should be a folder or an archive, got neither.")
    elif path.suffix == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except _FAULTS as error:
            raise ValueError(f"{path} is not a whole zip ({error}); download it again.") from None
        with archive:
            yield ZipFiles(path, archive, limit)
    else:
        with path.open("rb") as stream:
            yield TarFiles(path, stream, limit)


def read_tar(path: Path, wanted: set[str], *, limit: int, total: int) -> dict[str, bytes]:
    """Return some files of a tar, compressed or not, read once from front to back.

    They are known by their last names. A `ValueError` tells of an archive that is damaged, where a
    file has more than `limit` bytes or all of it, unpacked, more than `total`, or that holds a
    wanted file twice or as a link.
    """
    contents: dict[str, bytes] = {}
    try:
        with (
            _unpacked(path) as stream,
            tarfile.open(fileobj=cast("IO[bytes]", _within(stream, total)), mode="r|") as archive,
        ):
            for member in archive:
                name = PurePosixPath(member.name).name
                if name not in wanted or member.isdir():
                    continue
                _check_member(member, name in contents, limit)
                # A regular member always has a content.
                contents[name] = cast("IO[bytes]", archive.extractfile(member)).read()
    except _FAULTS as error:
        raise ValueError(
            f"{path} is not a whole tar archive ({error}); download it again."
        ) from None
    return contents


def _check_member(member: tarfile.TarInfo, is_second: bool, limit: int) -> None:
    if not member.isreg():
        raise ValueError(f"{member.name} is a link or a device, not a file")
    if is_second:
        raise ValueError(f"there are two files named {PurePosixPath(member.name).name}")
    if member.size > limit:
        raise ValueError(f"{member.name} is larger than the {limit:,} bytes that it may have")


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as stream:
        start = stream.read(6)
    opener = next((of for mark, of in _OPENERS.items() if start.startswith(mark)), open)
    with opener(path, "rb") as unpacked:
        yield cast("BinaryIO", unpacked)


class _Within(io.RawIOBase):
    """A stream that ends with an error where more than `limit` bytes are asked of it.

    The standard library reads the long header of a tar's member at once, whatever size it states.
    """

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream, self._limit = stream, limit

    def read(self, size: int = -1) -> bytes:
        left = self._limit - self._stream.tell()
        content = self._stream.read(left + 1 if size < 0 else min(size, left + 1))
        if len(content) > left:
            raise ValueError(f"it unpacks to more than {self._limit:,} bytes")
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _within(stream: BinaryIO, limit: int) -> BinaryIO:
    return cast("BinaryIO", _Within(stream, limit))
