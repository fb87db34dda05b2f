"""What a user can do wrong and what can fail, said in one sentence each."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from trueboundary.plain_text import printable
from trueboundary.plurals import plural
from trueboundary.suggestions import nearest

if TYPE_CHECKING:
    from trueboundary.runs import Failure


__all__ = [
    "LARGEST_SEED",
    "UserError",
    "check_device",
    "check_file",
    "check_folder",
    "check_scale",
    "complain",
    "describe_failures",
    "interrupts_told",
    "nearest",
    "stop",
    "user_errors",
]

#: Torch's generators take no larger one.
LARGEST_SEED = 2**63 - 1


class UserError(Exception):
    """A mistake in what was typed: its text is shown, the exit status is 2."""


@contextmanager
def user_errors(
    kinds: tuple[type[Exception], ...] = (ValueError, TypeError),
) -> Iterator[None]:
    """Turn the library's errors about arguments into the sentence that the user reads."""
    try:
        yield
    except kinds as error:
        raise UserError(str(error).rstrip(".")) from error


@contextmanager
def interrupts_told(out: Path | None) -> Iterator[None]:
    """Say after Ctrl-C what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        kept = "nothing was kept; with --out DIR what is finished is"
        if out is not None:
            kept = f"what is finished is in {out}, and the same command goes on from there"
        stop(f"stopped; {kept}", 130)


def check_scale(scale: str) -> None:
    """Refuse a scale that does not exist."""
    from trueboundary.runs import SCALES

    if scale not in SCALES:
        hint = nearest(scale, SCALES)
        raise UserError(f"there is no scale {scale!r} (smoke, quick or paper){hint}")


def check_report(folder: Path) -> None:
    """Refuse a folder for a report that cannot be written to or holds something else."""
    from trueboundary.report.build import find_place

    try:
        place = find_place(folder)
    except OSError as error:
        raise UserError(f"{error}; or choose another --out") from error
    check_folder(place)


def check_folder(folder: Path) -> None:
    """Make `folder` and refuse one that cannot be written to."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file and no folder; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write to {folder}: {reason}; choose another --out") from error


def check_file(file: Path, *suffixes: str) -> None:
    """Refuse a file that cannot be written, or whose name does not end in one of some ways."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} to write {file.name} to")
    if file.is_dir():
        raise UserError(f"{file} is a folder; expected the name of a file in it")
    if suffixes and file.suffix.lower() not in suffixes:
        raise UserError(f"expected a file {' or '.join(suffixes)}, got {file}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}") from error


def check_device(device: str, *, here: bool = True) -> None:
    """Refuse a device that is unknown or, unless it is elsewhere, not there.

    Torch is loaded only for other devices than the CPU.
    """
    if device == "cpu":
        return
    if re.fullmatch(r"cuda(:\d+)?", device, re.ASCII) is None:
        raise UserError(f"there is no device {device!r}: use cpu, cuda or cuda:0, cuda:1, ...")
    if not here:
        return
    from trueboundary import devices

    with user_errors():
        devices.check_device(device)


def describe_failures(failures: Sequence[Failure], folder: Path) -> list[str]:
    """Return a sentence for each run that failed; runs that waited for those are only counted."""
    started = [failure for failure in failures if failure.traceback]
    sentences = [
        # Foreign messages may have many lines: CUDA's have six. The rest is in the file.
        f"{failure.config.folder} failed: {failure.message.strip().partition(chr(10))[0]}"
        for failure in started
    ]
    if n_waiting := len(failures) - len(started):
        sentences.append(f"{plural(n_waiting, 'run')} not started for want of these")
    if sentences:
        sentences.append(f"the tracebacks are in {folder / 'failures'}")
    return sentences


def complain(message: str) -> None:
    """Say on stderr what the user should know of."""
    typer.echo(f"trueboundary: {printable(message)}", err=True)


def stop(message: str, status: int) -> NoReturn:
    """End the command with an exit status, and say why."""
    complain(message)
    raise typer.Exit(status)
