"""Making a report: gather, draw, write, and put the whole folder into place at once."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueboundary.plain_text import printable
from trueboundary.report.collect import ClaimRow, Material, Section, collect_material
from trueboundary.report.figure_files import Picture, write_claims_json, write_picture, write_text
from trueboundary.report.markdown import claims_markdown
from trueboundary.report.page import render_page
from trueboundary.runs import Plan
from trueboundary.runs.locking import locked


@dataclass(frozen=True)
class BuiltReport:
    """A report in the folder of some runs: its HTML page, and what it says."""

    root: Path
    page: Path
    material: Material

    @property
    def rows(self) -> Sequence[ClaimRow]:
        """Every claim with its judgement."""
        return self.material.rows

    @property
    def problems(self) -> list[Section]:
        """The experiments without an analysis."""
        return self.material.problems


def build_report(
    root: Path, report: Path | None = None, *, plans: Iterable[Plan] = ()
) -> BuiltReport:
    """Write a report from the stored runs and plans alone.

    The folder holds ``index.html``, which needs nothing else and opens offline, every figure as
    PNG and PDF with its data as CSV under ``figures/``, and the claims as ``claims.json`` and
    ``claims.md``. An earlier report is replaced.

    Parameters
    ----------
    root : pathlib.Path
        The folder that ``trueboundary run`` wrote to; nothing but the report is written there.
    report : pathlib.Path, optional
        Folder for the report; ``<root>/report`` unless given. A link is followed.
    plans : iterable of Plan
        Plans that count in place of those that are stored for the same experiments.

    Raises
    ------
    OSError
        If it cannot be written, or the folder is something else than a report.
    """
    report = root / "report" if report is None else report
    place = find_place(report)
    material = collect_material(root, plans)
    # A mount point cannot be renamed, nor a folder whose parent is closed: these are filled.
    is_fixed = place.is_dir() and (os.path.ismount(place) or not os.access(place.parent, os.W_OK))
    beside = place / "report" if is_fixed else place
    with locked(_with_suffix(beside, ".lock")):  # another process may be writing one, too
        material = _write(material, place, beside)
    return BuiltReport(root, report / "index.html", material)


def find_place(report: Path) -> Path:
    """Return the folder that `report` is or leads to, which need not be there.

    Raises
    ------
    OSError
        If something else than a report is there, or a link leads to nothing.
    """
    if report.is_symlink() and not report.exists():
        raise FileNotFoundError(
            f"{report} is a link to {os.readlink(report)}, where nothing is; make that folder or "
            "remove the link"
        )
    place = report.resolve()
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(f"{report} is a file and not a folder; move it away")
    if place.is_dir() and not (place / "claims.json").exists():
        own = {f"report{suffix}" for suffix in _SUFFIXES}
        if any(entry.name not in own for entry in place.iterdir()):
            raise FileExistsError(f"{report} holds something else than a report; move it away")
    return place


#: What is added to the name of a report's folder while the report is written.
_SUFFIXES = (".lock", ".tmp", ".old")


def _with_suffix(place: Path, suffix: str) -> Path:
    return place.with_name(f"{place.name}{suffix}")


def _write(material: Material, place: Path, beside: Path) -> Material:
    staging = _with_suffix(beside, ".tmp")
    _remove(staging)
    (staging / "figures").mkdir(parents=True)
    try:
        material, pictures = _draw(material, staging / "figures")
        write_claims_json(staging / "claims.json", material.rows)
        write_text(staging / "claims.md", claims_markdown(material.rows))
        write_text(staging / "index.html", render_page(material, pictures))
        if beside == place:
            _exchange(place, staging)
        else:
            _fill(place, staging)
    finally:
        _remove(staging)
    return material


def _exchange(place: Path, staging: Path) -> None:
    """Put `staging` in the place of an earlier report."""
    # Moved whole before it is removed: a killed process must not leave half a report behind.
    old = _with_suffix(place, ".old")
    _remove(old)
    if find_place(place).exists():
        os.rename(place, old)
    os.rename(staging, place)
    _remove(old)


def _fill(place: Path, staging: Path) -> None:
    """Put what `staging` holds into `place`, one entry after the other."""
    for entry in staging.iterdir():
        _remove(place / entry.name)
        os.rename(entry, place / entry.name)


def _remove(path: Path) -> None:
    """Remove a folder, or a link itself and never what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _draw(material: Material, folder: Path) -> tuple[Material, dict[str, list[Picture]]]:
    """Draw every panel; an experiment whose figure cannot be drawn says so."""
    sections, pictures = [], {}
    for section in material.sections:
        panels = () if section.analysis is None else section.analysis.panels
        try:
            pictures[section.experiment.id] = [write_picture(folder, panel) for panel in panels]
        except Exception as error:  # as for the analysis: one figure must not cost the report
            why = printable(f"{type(error).__name__}: {error}")
            problem = f"A figure could not be drawn: {why}"
            details = traceback.format_exc()
            section = replace(section, analysis=None, problem=problem, details=details)
            pictures[section.experiment.id] = []
        sections.append(section)
    return replace(material, sections=sections), pictures
