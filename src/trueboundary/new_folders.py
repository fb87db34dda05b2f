"""Folders that are complete or not there, and that nobody's work is lost for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trueboundary.regular_files import unused_name


def check_new_folder(folder: str | Path) -> Path:
    """Return where `folder` really lies, after a look whether something can be made there.

    Parameters
    ----------
    folder : str or Path
        Must not exist, or be an empty folder or a link to one.

    Returns
    -------
    Path
        The absolute path, links being followed.

    Raises
    ------
    FileExistsError
        If there is something already.
    OSError
        If nothing can be made there, in one sentence.
    """
    folder = Path(folder)
    if folder.is_symlink() and not folder.exists():
        raise FileNotFoundError(
            f"{folder} is a link to {os.readlink(folder)}, where there is nothing; make that "
            "folder, or choose another."
        )
    place = folder.resolve()
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise FileExistsError(f"{folder} is there already and is not replaced; choose another.")
    home = next(path for path in (place, *place.parents) if path.exists())
    probe = unused_name(home, place.name)
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write to {home}: {reason}; choose another folder.") from error
    return place


@contextmanager
def new_folder(folder: str | Path, *, last: str) -> Iterator[Path]:
    """Make a folder that is complete or not there.

    What the block writes into the folder it is given appears at `folder` when the block ends well,
    and vanishes when it does not. A folder that is there and empty is filled and not replaced,
    since it may be a mount point, or where somebody is; `last` comes last then. What is complete
    is never deleted: where it cannot be moved to `folder`, the error says where it lies.

    Parameters
    ----------
    folder : str or Path
        As for `check_new_folder`.
    last : str
        The file in it without which the folder is not taken for complete.

    Raises
    ------
    FileExistsError
        If there is something at `folder` already.
    OSError
        If nothing can be made there.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "made"
    >>> with new_folder(folder, last="card") as draft:
    ...     _ = (draft / "card").write_text("whole")
    ...     folder.exists()
    False
    >>> (folder / "card").read_text()
    'whole'
    """
    place = check_new_folder(folder)
    fill = place.exists()
    home = place if fill else place.parent
    home.mkdir(parents=True, exist_ok=True)
    draft = unused_name(home, place.name)
    draft.mkdir()
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    try:
        if fill:
            _fill(place, draft, last)
        else:
            os.rename(draft, place)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{folder} could not take what was made for it ({reason}); it lies complete in "
            f"{draft}: move it from there."
        ) from error


def _fill(place: Path, draft: Path, last: str) -> None:
    """Move what is in `draft` up into `place`, and `last` when all else is there."""
    names = sorted((entry.name for entry in draft.iterdir()), key=lambda name: (name == last, name))
    there = [name for name in names if os.path.lexists(place / name)]
    if there:
        raise FileExistsError(f"{there[0]} has come to be there meanwhile")
    for name in names:
        os.rename(draft / name, place / name)
    draft.rmdir()
