"""Archives of what is too large for the repository, the same from the same files."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from trueboundary import __version__
from trueboundary.regular_files import open_regular, unused_name, write_atomically
from trueboundary.release.zoo_export import ExportError, Folders
from trueboundary.runs import Store, strict_json
from trueboundary.zoo.zoo_index import read_index

#: The file of checksums, below the repository's root; in the format of ``sha256sum``.
CHECKSUMS = Path("zoo") / "SHA256SUMS"
# Of every file in an archive, so that building it again gives the same bytes: 1980, the first year
# that every format of archives knows.
_TIME, _MODE = 315_532_800, 0o644


def build_archives(
    root: str | Path,
    stores: Iterable[str | Path] = (),
    *,
    progress: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write the archive of the zoo, and one for each store with the models of its runs.

    They are written to the folder ``release`` of the repository, and their checksums to
    ``zoo/SHA256SUMS``, where those of other archives stay.

    Parameters
    ----------
    root : path
        The repository.
    stores : iterable of path
        Folders of finished runs. Unpacked, the archive of one is a store of those of its runs that
        have models.
    progress : callable, optional
        ``progress(name)`` before each archive.

    Returns
    -------
    list of Path
        The archives.

    Raises
    ------
    ExportError
        If a file of the zoo is missing or changed, or a store holds no models.
    """
    root, say = Path(root), progress or (lambda _: None)
    contents = {f"trueboundary-zoo-{__version__}.tar": _zoo_files(Folders(root))}
    for place in map(Path, stores):
        name = f"trueboundary-models-{place.resolve().name}-{__version__}.tar"
        if name in contents:
            raise ExportError(f"two stores are called {place.resolve().name}; rename one.")
        contents[name] = _model_files(place)
    sums, written = _read_checksums(root / CHECKSUMS), []
    for name, files in contents.items():
        say(name)
        archive = root / "release" / name
        sums[name] = pack(files, archive)
        written.append(archive)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    write_atomically(root / CHECKSUMS, lines.encode())
    return written


def pack(files: Mapping[str, Path], archive: Path) -> str:
    """Write files into a tar under the names they are given, and return its SHA-256.

    The bytes depend on names and contents alone.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_bytes(b"hello")
    >>> first = pack({"x/a": folder / "a"}, folder / "1.tar")
    >>> os.utime(folder / "a", (0, 0))
    >>> first == pack({"x/a": folder / "a"}, folder / "2.tar")
    True
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    draft = unused_name(archive.parent, archive.name)
    try:
        with tarfile.open(draft, "x:", format=tarfile.USTAR_FORMAT) as tar:
            for name, file in sorted(files.items()):
                with open_regular(file) as content:
                    member = tarfile.TarInfo(name)
                    member.size = os.fstat(content.fileno()).st_size
                    member.mtime, member.mode = _TIME, _MODE
                    tar.addfile(member, content)
        with open_regular(draft) as whole:
            digest = hashlib.file_digest(whole, "sha256").hexdigest()
        os.replace(draft, archive)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
    return digest


def _zoo_files(folders: Folders) -> dict[str, Path]:
    """Return the files of all entries, the cards and the index, by their names in the archive."""
    files = {"index.json": folders.index / "index.json"}
    for name, entry in read_index(folders.index).items():
        files[f"cards/{name}.json"] = folders.index / "cards" / f"{name}.json"
        if not entry.file:
            continue
        file = folders.of(entry.place) / entry.file
        try:
            with open_regular(file, entry.n_bytes) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except FileNotFoundError:
            raise ExportError(
                f"{file} is missing; 'make zoo STORE=...' writes it from the runs it came from."
            ) from None
        if digest != entry.sha256:
            raise ExportError(f"{file} is not the file in the index; 'make zoo' writes both.")
        files[entry.file] = file
    return {f"trueboundary-zoo/{name}": file for name, file in files.items()}


def _model_files(place: Path) -> dict[str, Path]:
    """Return the files of those runs of a store that have models, every run checked."""
    files, store = {}, Store(place)
    for record in sorted(place.glob("runs/*/run.json")):
        if not strict_json.loads(record.read_text(encoding="utf-8")).get("models"):
            continue
        for file in sorted(store.read(record.parent).path.iterdir()):
            files[f"{place.resolve().name}/runs/{file.parent.name}/{file.name}"] = file
    if not files:
        raise ExportError(f"{place} holds no run with a model.")
    return files


def _read_checksums(file: Path) -> dict[str, str]:
    """Return the checksums of archives by their names."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
