"""What a user can do wrong and what can fail, said in one sentence each."""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trueboundary.plurals import plural

if TYPE_CHECKING:
    from trueboundary.runs import Failure


class UserError(Exception):
    """A mistake in what was typed: its text is shown, the exit status is 2."""


def nearest(word: str, known: Sequence[str]) -> str:
    """Return the word in `known` that is most like `word`, as a hint; empty without any."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.0)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_scale(scale: str) -> None:
    """Refuse a scale that does not exist."""
    from trueboundary.experiments.base import SCALES

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write to {folder}: {reason}; choose another --out") from error


def check_device(device: str) -> None:
    """Refuse a device that is not there; torch is loaded only for other devices than the CPU."""
    if device == "cpu":
        return
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise UserError(f"there is no device {device!r}: use cpu, cuda or cuda:0, cuda:1, ...")
    import torch

    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match[1] or 0) >= n_devices:
        devices = plural(n_devices, "CUDA device")
        raise UserError(f"the device {device!r} is not there: this machine has {devices} that "
                        "torch can use; try --device cpu")  # fmt: skip


def describe_failures(failures: Sequence[Failure], folder: Path) -> list[str]:
    """Return a sentence for each run that failed; runs that waited for those are only counted."""
    started = [failure for failure in failures if failure.traceback]
    sentences = [f"{failure.config.folder} failed: {failure.message}" for failure in started]
    if n_waiting := len(failures) - len(started):
        sentences.append(f"{plural(n_waiting, 'run')} not started for want of these")
    if sentences:
        sentences.append(f"the tracebacks are in {folder / 'failures'}")
    return sentences
