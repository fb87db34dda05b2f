"""Where the files of the zoo lie, and reading them with every byte checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from trueboundary.data.files import open_files
from trueboundary.data.locations import DataLocation, folder_from_environment
from trueboundary.plurals import plural
from trueboundary.regular_files import reason
from trueboundary.zoo.zoo_index import PACKAGE_FOLDER, DamagedZooError, Entry, entries

#: Names the folder or archive with what does not lie in the package.
ZOO_VARIABLE = "TRUEBOUNDARY_ZOO"


def repository_folder() -> Path | None:
    """Return the folder of larger entries where the package lies in its repository, or None."""
    root = PACKAGE_FOLDER.parents[2]
    folder = root / "zoo"
    return folder if (root / "pyproject.toml").is_file() and folder.is_dir() else None


def places(archive: str | Path | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the folders and archives to look in, one after another, with what each is called.

    What the caller names comes first, then what is there anyway.
    """
    if archive is not None:
        yield Path(archive).expanduser(), "archive"
    yield PACKAGE_FOLDER / "files", "the package"
    named = folder_from_environment(ZOO_VARIABLE)
    if named is not None:
        yield named, ZOO_VARIABLE
    repository = repository_folder()
    if repository is not None:
        yield repository, "the repository"


def read_file(entry: Entry, archive: str | Path | None = None) -> bytes:
    """Return the content of an entry's file, exactly as it was shipped.

    Parameters
    ----------
    entry : Entry
        An entry that has a file.
    archive : str or Path, optional
        A folder, tar or zip that is looked into first.

    Raises
    ------
    FileNotFoundError
        If the file is nowhere.
    ValueError
        If what is there is another file, or no file that can be read.
    """
    for place, called in places(archive):
        if not place.exists():
            if called in ("archive", ZOO_VARIABLE):
                raise FileNotFoundError(f"{called}: there is nothing at {place}.")
            continue
        content = _content(entry, place)
        if content is not None:
            return content
    raise FileNotFoundError(_missing(entry, archive))


def is_here(entry: Entry) -> bool:
    """Return whether a file of the entry's name and size lies where it is looked for."""
    if not entry.file:
        return True
    return any(_lies_in(entry, place) for place, _ in places())


def location() -> DataLocation:
    """Tell where the zoo is on this machine.

    Examples
    --------
    >>> from trueboundary.zoo.entry_files import location
    >>> location().message.startswith("in the package")
    True
    """
    try:
        known = entries().values()
        searched = [(place, called) for place, called in places() if called != "the package"]
        missing = sum(not is_here(entry) for entry in known)
    except ValueError as error:
        return DataLocation(None, False, f"{reason(error)}.")
    where = "".join(f" and at {place}" for place, _ in searched)
    short = f"{plural(len(known), 'entry', 'entries')}, all here"
    if missing:
        short = (
            f"{missing} of {plural(len(known), 'entry', 'entries')} not here; set {ZOO_VARIABLE} "
            "to a release archive or to the repository's folder zoo"
        )
    path = searched[0][0] if searched else PACKAGE_FOLDER / "files"
    return DataLocation(path, not missing, f"in the package{where}: {short}.")


def _content(entry: Entry, place: Path) -> bytes | None:
    """Return the file of an entry from one place, None where it is not there."""
    try:
        with open_files(place, limit=entry.n_bytes) as files:
            if entry.file not in files:
                return None
            _check_inside(place, entry.file)
            content, label = files.read(entry.file), files.label(entry.file)
    except OSError as error:
        raise DamagedZooError(f"{place / entry.file} cannot be read: {reason(error)}.") from None
    if len(content) != entry.n_bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DamagedZooError(
            f"{label} is not the file that the zoo's index tells of (its SHA-256 is another): it "
            f"was damaged or changed, or is of another version of trueboundary; replace it."
        )
    return content


def _lies_in(entry: Entry, place: Path) -> bool:
    try:
        if place.is_dir():
            return (place / entry.file).stat().st_size == entry.n_bytes
        with open_files(place, limit=entry.n_bytes) as files:
            return entry.file in files
    except (OSError, ValueError):
        return False


def _check_inside(place: Path, name: str) -> None:
    """Refuse a link that leads out of a folder; an archive's members are read where they lie."""
    if place.is_dir() and not (place / name).resolve().is_relative_to(place.resolve()):
        raise DamagedZooError(
            f"{place / name} is a link that leads out of its folder; put the file itself there."
        )


def _missing(entry: Entry, archive: str | Path | None) -> str:
    if archive is not None:
        return f"{archive} does not hold {entry.file}, which {entry.name} needs."
    kept = {
        "archive": "in the release archive that 'make release' builds",
        "repository": "in the folder zoo of trueboundary's repository",
    }.get(entry.place, "in the package, which is not complete: install trueboundary again")
    return (
        f"{entry.name} needs {entry.file} ({entry.n_bytes / 1e6:,.1f} MB), which lies {kept}; "
        f"nothing is downloaded, so give its path as archive= or in {ZOO_VARIABLE}."
    )
