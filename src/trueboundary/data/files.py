"""Reading named files out of a folder, a tar or a zip in the same way."""

from __future__ import annotations

import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol


def existing(path: Path, what: str) -> Path:
    """Return `path` if it exists, or raise a sentence that says what was expected there."""
    if not path.exists():
        raise FileNotFoundError(f"expected {what} at {path}, where there is nothing.")
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there, whoever writes or reads beside us."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


class Files(Protocol):
    """Files known by their last name, wherever in a folder or archive they lie."""

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""

    def read(self, name: str) -> bytes:
        """Return the content of a file."""

    def label(self, name: str) -> str:
        """Return how an error should call the file."""


class FolderFiles:
    """The files directly inside a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = {entry.name for entry in os.scandir(folder) if entry.is_file()}

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""
        return name in self._names

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return (self._folder / name).read_bytes()

    def label(self, name: str) -> str:
        """Return how an error should call the file."""
        return str(self._folder / name)


class TarFiles:
    """The files inside a tar that is not compressed, read in any order."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path, self._stream = path, stream
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                self._places = {
                    PurePosixPath(member.name).name: (member.offset_data, member.size)
                    for member in archive
                    if member.isreg()
                }
        except tarfile.TarError as error:
            raise ValueError(
                f"{path} is not a whole uncompressed tar ({error}); "
                "unpack it if it is compressed, or download it again."
            ) from None

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""
        return name in self._places

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        start, size = self._places[name]
        self._stream.seek(start)
        return self._stream.read(size)

    def label(self, name: str) -> str:
        """Return how an error should call the file."""
        return f"{name} in {self._path}"


class ZipFiles:
    """The files inside a zip, read in any order."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._members = {
            PurePosixPath(member.filename).name: member
            for member in archive.infolist()
            if not member.is_dir()
        }

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""
        return name in self._members

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        try:
            return self._archive.read(self._members[name])
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise ValueError(
                f"{self.label(name)} is corrupt ({error}); download the archive again."
            ) from None

    def label(self, name: str) -> str:
        """Return how an error should call the file."""
        return f"{name} in {self._path}"


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open a folder, a `.zip` or else a tar.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_atomically(folder / "a.txt", b"hello")
    >>> with open_files(folder) as files:
    ...     "a.txt" in files, files.read("a.txt")
    (True, b'hello')
    """
    if path.is_dir():
        yield FolderFiles(path)
    elif path.suffix == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is not a whole zip ({error}); download it again.") from None
        with archive:
            yield ZipFiles(path, archive)
    else:
        with path.open("rb") as stream:
            yield TarFiles(path, stream)
