"""Making a report: gather, draw, write, and put the whole folder into place at once."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueboundary.report.collect import ClaimRow, Material, Section, collect_material
from trueboundary.report.files import Picture, write_claims_json, write_picture
from trueboundary.report.markdown import claims_markdown
from trueboundary.report.page import render_page
from trueboundary.runs.locking import locked


@dataclass(frozen=True)
class BuiltReport:
    """A written report.

    Parameters
    ----------
    root : pathlib.Path
        Folder of the runs.
    page : pathlib.Path
        The HTML file.
    material : Material
        What it says.
    """

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


def build_report(root: Path) -> BuiltReport:
    """Write ``<root>/report`` from the stored runs and plans alone.

    The folder holds ``index.html``, which needs nothing else and opens offline, every figure as
    PNG and PDF with its data as CSV under ``figures/``, and the claims as ``claims.json`` and
    ``claims.md``. An earlier report is replaced.

    Parameters
    ----------
    root : pathlib.Path
        The folder that ``trueboundary run`` wrote to.

    Returns
    -------
    BuiltReport
        Where the page is and what it says.

    Raises
    ------
    DamagedPlanError
        If a plan file cannot be read.
    OSError
        If it cannot be written, or ``<root>/report`` is something else than a report.
    """
    material = collect_material(root)
    with locked(root / "report.lock"):  # another process may be writing one, too
        material = _write(material, root)
    return BuiltReport(root, root / "report" / "index.html", material)


def _write(material: Material, root: Path) -> Material:
    staging = root / "report.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "figures").mkdir(parents=True)
    try:
        material, pictures = _draw(material, staging / "figures")
        write_claims_json(staging / "claims.json", material.rows)
        (staging / "claims.md").write_text(claims_markdown(material.rows), encoding="utf-8")
        page = render_page(material, pictures)
        (staging / "index.html").write_text(page, encoding="utf-8")
        _replace(root / "report", staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return material


def _replace(report: Path, staging: Path) -> None:
    """Put `staging` in the place of an earlier report, and of nothing else."""
    if report.exists():
        if any(report.iterdir()) and not (report / "claims.json").exists():
            raise FileExistsError(f"{report} holds something else than a report; move it away")
        # Moved whole before it is removed: a killed process must not leave half a report behind.
        old = report.with_name("report.old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(report, old)
        os.rename(staging, report)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(staging, report)


def _draw(material: Material, folder: Path) -> tuple[Material, dict[str, list[Picture]]]:
    """Draw every panel; an experiment whose figure cannot be drawn says so."""
    sections, pictures = [], {}
    for section in material.sections:
        panels = () if section.analysis is None else section.analysis.panels
        try:
            pictures[section.experiment.id] = [write_picture(folder, panel) for panel in panels]
        except Exception as error:  # as for the analysis: one figure must not cost the report
            problem = f"A figure could not be drawn: {type(error).__name__}: {error}"
            details = traceback.format_exc()
            section = replace(section, analysis=None, problem=problem, details=details)
            pictures[section.experiment.id] = []
        sections.append(section)
    return replace(material, sections=sections), pictures
