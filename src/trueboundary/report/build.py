"""Making a report: gather, draw, write, and put the whole folder into place at once."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueboundary.plain_text import printable
from trueboundary.report.collect import (
    ClaimRow,
    Material,
    Section,
    collect_material,
    judge_plan,
    unfinished,
)
from trueboundary.report.figure_files import (
    Picture,
    draw_picture,
    write_claims_json,
    write_findings_json,
    write_picture,
    write_text,
)
from trueboundary.report.markdown import claims_markdown, findings_markdown, tables_markdown
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


class GrowingReport:
    """A report of experiments that finish one after the other.

    Each is analysed and drawn once, as soon as its runs are there; writing the report again then
    takes the time of writing files. It may be used from one thread at a time.

    Parameters
    ----------
    root, report
        As in `build_report`.
    plans : iterable of Plan
        Plans of the experiments that grow; they count in place of those that are stored.
    """

    def __init__(
        self, root: Path, report: Path | None = None, *, plans: Iterable[Plan] = ()
    ) -> None:
        self._root = root
        self._report = root / "report" if report is None else report
        self._plans = {plan.experiment: plan for plan in plans}
        self._known: dict[str, Section] = {}
        self._drawn: dict[str, list[Picture]] = {}

    def add(self, id: str) -> list[ClaimRow]:
        """Analyse an experiment whose runs are all stored, and return its claims."""
        self._known[id], rows = judge_plan(self._root, self._plans[id])
        return rows

    def write(self, *, is_last: bool = False) -> BuiltReport:
        """Write the report as far as it is known; what is still open says that it is.

        The last time, what is not known by then is read from the stored runs all the same, and says
        what is wrong with it.
        """
        open_plans = [plan for id, plan in self._plans.items() if id not in self._known]
        waiting = {} if is_last else {plan.experiment: unfinished(plan) for plan in open_plans}
        place = find_place(self._report)
        material = collect_material(self._root, self._plans.values(), waiting | self._known)
        # What other commands left in the folder is read once, too.
        self._known |= {
            section.experiment.id: section
            for section in material.sections
            if section.experiment.id not in waiting
        }
        # A mount point cannot be renamed, nor a folder whose parent is closed: these are filled.
        is_fixed = place.is_dir() and (
            os.path.ismount(place) or not os.access(place.parent, os.W_OK)
        )
        beside = place / "report" if is_fixed else place
        with locked(_with_suffix(beside, ".lock")):  # another process may be writing one, too
            material = _write(material, place, beside, self._drawn)
        return BuiltReport(self._root, self._report / "index.html", material)


def build_report(
    root: Path, report: Path | None = None, *, plans: Iterable[Plan] = ()
) -> BuiltReport:
    """Write a report from the stored runs and plans alone.

    The folder holds ``index.html``, which needs nothing else and opens offline, every figure as
    PNG and PDF with its data as CSV under ``figures/``, the claims as ``claims.json`` and
    ``claims.md``, what was found beyond the papers as ``findings.json`` and ``findings.md``, and
    the papers' tables beside ours as ``tables.md``. An earlier report is replaced.

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
    return GrowingReport(root, report, plans=plans).write(is_last=True)


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


def _write(
    material: Material, place: Path, beside: Path, drawn: dict[str, list[Picture]]
) -> Material:
    staging = _with_suffix(beside, ".tmp")
    _remove(staging)
    (staging / "figures").mkdir(parents=True)
    try:
        material, pictures = _draw(material, staging / "figures", drawn)
        write_claims_json(staging / "claims.json", material.rows)
        write_text(staging / "claims.md", claims_markdown(material.rows))
        if material.findings:
            write_findings_json(staging / "findings.json", material.findings)
            write_text(staging / "findings.md", findings_markdown(material.findings))
        if material.tables:
            write_text(staging / "tables.md", tables_markdown(material.tables))
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


def _draw(
    material: Material, folder: Path, drawn: dict[str, list[Picture]]
) -> tuple[Material, dict[str, list[Picture]]]:
    """Draw every panel that is not `drawn`; an experiment whose figure cannot be drawn says so.

    Those that are drawn now are added.
    """
    sections, pictures = [], {}
    for section in material.sections:
        panels = () if section.analysis is None else section.analysis.panels
        known = drawn.get(section.experiment.id, [])
        try:
            if [id(picture.panel) for picture in known] != [id(panel) for panel in panels]:
                known = [draw_picture(panel) for panel in panels]
            for picture in known:
                write_picture(folder, picture)
            pictures[section.experiment.id] = drawn[section.experiment.id] = known
        except Exception as error:  # as for the analysis: one figure must not cost the report
            why = printable(f"{type(error).__name__}: {error}")
            problem = f"A figure could not be drawn: {why}"
            details = traceback.format_exc()
            section = replace(section, analysis=None, problem=problem, details=details)
            pictures[section.experiment.id] = []
        sections.append(section)
    return replace(material, sections=sections), pictures
