"""The claims as Markdown: a file beside the page, and the table in the README."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trueboundary.experiments.claims import Claim, Judgement
from trueboundary.experiments.printed_tables import PrintedTable
from trueboundary.regular_files import read_regular, reason
from trueboundary.report.collect import (
    ClaimRow,
    FindingRow,
    Material,
    read_claims_of,
    rows_by_scale,
)
from trueboundary.report.summary import sentences, tally
from trueboundary.report.words import (
    NOT_RUN,
    count,
    exact_number,
    exact_value,
    measured_value,
    paper_value,
    plural,
    qualifications,
)
from trueboundary.runs import SCALES

#: The lines between which the README's table stands.
BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"

Markers = tuple[str, str]
_MAX_BYTES = 16 * 2**20


class MarkerError(ValueError):
    """A file is no Markdown with the lines between which the table goes."""


def claims_markdown(rows: Iterable[ClaimRow]) -> str:
    """Return a Markdown table of claims."""
    lines = [
        "| claim | statement | what was measured | paper | measured [95 %] | n | exact | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        judgement = row.judgement
        measurement = None if judgement is None else judgement.measurement
        cells = (
            row.claim.id,
            row.claim.statement,
            row.claim.quantity,
            _paper(row),
            measured_value(measurement),
            count(measurement),
            exact_value(judgement),
            row.missing if judgement is None else _verdict(judgement),
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def findings_markdown(rows: Iterable[FindingRow]) -> str:
    """Return a Markdown table of findings."""
    lines = [
        "| finding | question | what was measured | measured [95 %] | n | exact | beside it |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found, finding = row.measurement, row.finding
        measured = row.missing if found is None else measured_value(found)
        exact = exact_number(found)
        cells = (finding.id, finding.question, finding.quantity, measured, count(found), exact)
        lines.append("| " + " | ".join(_cell(cell) for cell in (*cells, finding.beside)) + " |")
    return "\n".join(lines) + "\n"


def tables_markdown(tables: Iterable[PrintedTable]) -> str:
    """Return the papers' tables in Markdown, each cell with the paper's value and ours."""
    parts = []
    for table in tables:
        heads = [f"{column}: {whose}" for column in table.columns for whose in ("paper", "ours")]
        rows = [["", *heads], ["---"] * (1 + len(heads))]
        for row in table.rows:
            ours = row.measured or (NOT_RUN,) * len(table.columns)
            pairs = zip(row.printed, ours, strict=True)
            rows.append([row.words, *(cell for pair in pairs for cell in pair)])
        lines = ["| " + " | ".join(map(_cell, cells)) + " |" for cells in rows]
        parts.append(f"## {table.title}\n\n{table.note}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def update_scales(file: Path, root: Path, material: Material) -> None:
    """Put all claims at every scale, our findings and the papers' tables into `file`.

    They go between the markers, as `replace_table` says.
    """
    claims = read_claims_of(section.experiment.paper for section in material.sections)
    parts = [scales_markdown(claims, rows_by_scale(root, material))]
    if material.findings:
        parts.append(f"## Found beyond the papers\n\n{findings_markdown(material.findings)}")
    if material.tables:
        parts.append(tables_markdown(material.tables))
    replace_table(file, "\n".join(parts))


def scales_markdown(claims: Iterable[Claim], by_scale: Mapping[str, Sequence[ClaimRow]]) -> str:
    """Return a Markdown table of claims with what became of each at every scale.

    Parameters
    ----------
    claims : iterable of Claim
        The claims, in order.
    by_scale : mapping of str to sequence of ClaimRow
        The claims that were judged at each scale; one that a scale lacks was not run there.
    """
    heads = ["claim", "statement", "the paper says", *(f"at scale {scale}" for scale in by_scale)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    judged = {scale: {row.claim.id: row for row in rows} for scale, rows in by_scale.items()}
    for claim in claims:
        cells = [claim.id, claim.statement, paper_value(claim)]
        cells += [_outcome(rows.get(claim.id)) for rows in judged.values()]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    counts = [f"At scale {scale}, {tally(rows)}." for scale, rows in by_scale.items()]
    return "\n".join(lines) + f"\n\n{' '.join(counts)}\n"


def _outcome(row: ClaimRow | None) -> str:
    """Return a verdict and the value that it was computed from."""
    if row is None:
        return NOT_RUN
    if row.judgement is None:
        return row.missing
    value = measured_value(row.judgement.measurement)
    told = [row.judgement.verdict.value, *([] if value == "–" else [value])]
    return ": ".join(told)


def check_markers(file: Path, markers: Markers = (BEGIN, END)) -> None:
    """Refuse a Markdown file that `replace_table` could not write a table into.

    A `MarkerError` says so unless it is a text file with the two markers, once each and in order.
    """
    _split(file, markers)


def update_readme(file: Path, root: Path, material: Material) -> None:
    """Put what was found, in sentences, between the markers in `file`, as `replace_table` does."""
    replace_table(file, _found(root, material))


def replace_table(file: Path, table: str, markers: Markers = (BEGIN, END)) -> None:
    """Replace what stands between two markers in `file`.

    The rest stays as it is: line endings, permissions, and a link that leads to the file. What
    `check_markers` refuses is refused.
    """
    before, after = _split(file, markers)
    end = "\r\n" if "\r\n" in before else "\n"
    table = f"\n{table}".replace("\n", end)
    target = file.resolve()
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    temporary.write_bytes(f"{before}{markers[0]}{table}{markers[1]}{after}".encode())
    shutil.copymode(target, temporary)
    os.replace(temporary, target)


def _split(file: Path, markers: Markers) -> tuple[str, str]:
    """Return what stands in `file` before and after the two markers."""
    begin, end = markers
    needed = f"it must be a Markdown file with the lines {begin} and {end}"
    try:
        text = read_regular(file, _MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise MarkerError(f"cannot read {file}: {reason(error)}; {needed}") from error
    except UnicodeDecodeError as error:
        raise MarkerError(f"{file} is not UTF-8 text; {needed}") from error
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise MarkerError(
            f"{file} must hold the line {begin} once and the line {end} once after it"
        )
    before, rest = text.split(begin)
    return before, rest.split(end)[1]


def _found(root: Path, material: Material) -> str:
    lines = ["| what was found | n | verdict |", "|---|---|---|"]
    for sentence in sentences(material, intervals=True):
        n = " and ".join(dict.fromkeys(count(found) for found in sentence.measurements))
        verdicts = dict.fromkeys(judgement.verdict.value for judgement in sentence.judgements)
        cells = (str(sentence), n, "; ".join(verdicts) or "not claimed")
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    n_at = Counter(plan.scale for plan in material.plans)
    parts = [  # the largest scale first
        f"{plural(n_at[scale], 'experiment')} at scale {scale}"
        for scale in reversed(SCALES)
        if n_at[scale]
    ]
    measured = f"at scale {min(n_at)}" if len(n_at) == 1 else f"in {' and '.join(parts)}"
    command = f"trueboundary report {root.as_posix()} --readme README.md"
    note = f"Measured {measured}; this table is written by `{command}`."
    return "\n".join(lines) + f"\n\nOf all {tally(material.rows)}. {note}\n"


def _verdict(judgement: Judgement) -> str:
    told = [judgement.verdict.value, *qualifications(judgement)]
    return ". ".join(told[:2]) + "".join(f" {sentence}" for sentence in told[2:])


def _paper(row: ClaimRow) -> str:
    value = paper_value(row.claim)
    return f"{value} (corrected: {row.claim.corrected})" if row.claim.corrected else value


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
