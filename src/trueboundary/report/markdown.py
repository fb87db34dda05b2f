"""The claims as Markdown: a file beside the page, and the table in the README."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from trueboundary.report.collect import ClaimRow, Material
from trueboundary.report.words import count, exact_value, measured_value, paper_value

#: The lines between which the README's table stands.
BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"


class MarkerError(ValueError):
    """A Markdown file lacks the lines between which the table goes."""


def claims_markdown(rows: Iterable[ClaimRow]) -> str:
    """Return a Markdown table of claims."""
    lines = [
        "| claim | statement | paper | measured [95 %] | n | exact | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        judgement = row.judgement
        measurement = None if judgement is None else judgement.measurement
        cells = (
            row.claim.id,
            row.claim.statement,
            _paper(row),
            measured_value(measurement),
            count(measurement),
            exact_value(judgement),
            row.missing if judgement is None else judgement.verdict.value,
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def update_readme(file: Path, root: Path, material: Material) -> None:
    """Replace what stands between the markers in `file` by the table of headline claims.

    Raises
    ------
    MarkerError
        If the markers are not there, once each and in order.
    OSError
        If the file cannot be read or written.
    """
    text = file.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise MarkerError(
            f"{file} must hold the line {BEGIN} once and the line {END} once after it"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n{_headlines(root, material)}{END}{after}"
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.write_text(new, encoding="utf-8")
    os.replace(temporary, file)


def _headlines(root: Path, material: Material) -> str:
    rows = [row for row in material.rows if row.claim.headline]
    scales = ", ".join(dict.fromkeys(section.plan.scale for section in material.sections))
    command = f"trueboundary report {root.as_posix()} --readme README.md"
    note = f"Measured at scale {scales}; this table is written by `{command}`."
    return f"{claims_markdown(rows)}\n{note}\n"


def _paper(row: ClaimRow) -> str:
    value = paper_value(row.claim)
    return f"{value} (corrected: {row.claim.corrected})" if row.claim.corrected else value


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
