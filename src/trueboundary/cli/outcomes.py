"""What claims came to: the last screen of a command, and the same for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from trueboundary.cli.terminal_tables import findings_table
from trueboundary.experiments.claims import Verdict
from trueboundary.plurals import plural
from trueboundary.report.figure_files import claim_records, finding_records
from trueboundary.report.summary import tally, verdict_counts

if TYPE_CHECKING:
    from trueboundary.report.build import BuiltReport
    from trueboundary.report.collect import ClaimRow, Material

#: Layout of what ``--json`` prints of claims.
OUTCOME_SCHEMA = "1.0"

#: Findings that have room on the last screen; more are in the report.
_MOST_FINDINGS = 4

#: Verdicts whose claims are named.
_NAMED = (Verdict.DIFFERS, Verdict.INCONCLUSIVE)


def show_outcome(material: Material, console: Console) -> None:
    """Print the counts of verdicts, and what else matters of it."""
    rows = material.attempted
    if rows:
        console.print(f"{tally(rows)}.", highlight=False)
    for verdict in _NAMED:
        if ids := _of_verdict(rows, verdict):
            console.print(f"{verdict.value}: {', '.join(ids)}", highlight=False)
    measured = [row for row in material.findings if row.measurement is not None]
    if 0 < len(material.findings) <= _MOST_FINDINGS:
        console.print(findings_table(material, console.width))
    elif measured:
        told = plural(len(measured), "finding")
        console.print(f"{told} beyond the papers: see the report.", highlight=False)
    for why, n in material.not_run.items():
        console.print(f"{plural(n, 'claim')} {why}.", highlight=False)


def outcome_record(
    built: BuiltReport, material: Material, failures: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what became of claims as JSON types; `failures` are sentences."""
    counts = verdict_counts(material.judged)
    return {
        "folder": str(built.root),
        "report": str(built.page),
        "experiments": [section.experiment.id for section in material.sections],
        "n_runs": len(material.runs),
        "seconds": material.seconds,
        "verdicts": {verdict.value: n for verdict, n in counts.items()},
        "claims": claim_records(material.rows),
        "findings": finding_records(material.findings),
        "failures": list(failures),
        "problems": {section.experiment.id: section.problem for section in material.problems},
        "unknown": list(material.unknown),
    }


def _of_verdict(rows: Sequence[ClaimRow], verdict: Verdict) -> list[str]:
    return [
        row.claim.id
        for row in rows
        if row.judgement is not None and row.judgement.verdict is verdict
    ]
