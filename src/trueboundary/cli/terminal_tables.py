"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from trueboundary.experiments.base import SCALES, Experiment
from trueboundary.experiments.claims import Verdict
from trueboundary.report.words import duration, measured_value, paper_value

if TYPE_CHECKING:
    from trueboundary.report.collect import Material

_COLOURS = {
    Verdict.REPRODUCED: "green",
    Verdict.DIFFERS: "red",
    Verdict.NOT_AT_THIS_SCALE: "yellow",
    Verdict.NO_DATA: "bright_black",
}


def experiments_table(experiments: Iterable[Experiment]) -> tuple[Table, list[str]]:
    """Return what ``trueboundary list`` shows, and why some costs are not known.

    Costs are for one core. Where images are there and damaged, runs on them cannot be planned.
    """
    experiments = list(experiments)
    table = _table("id and title", "paper", "place")
    # An id is typed and must not be broken: the title lies below it, which leaves room for both
    # on a terminal of 80 columns.
    table.box, table.padding = None, (0, 2, 0, 0)
    table.columns[0].min_width = max(len(experiment.id) for experiment in experiments)
    for scale in SCALES:
        table.add_column(scale, justify="right", no_wrap=True)
    reasons: dict[str, None] = {}
    for experiment in experiments:
        costs = []
        for scale in SCALES:
            try:
                costs.append(duration(experiment.cost(scale)))
            except (ValueError, OSError) as error:
                costs.append("?")
                reasons[str(error)] = None
        name = f"[bold]{escape(experiment.id)}[/]\n[dim]{escape(experiment.title)}[/]"
        table.add_row(name, escape(experiment.paper), escape(experiment.place), *costs)
    return table, list(reasons)


def claims_table(material: Material) -> Table:
    """Return every claim with the paper's value, the measured one and the verdict."""
    table = _table("claim", "statement", "paper", "measured", "verdict")
    for row in material.attempted:
        judgement = row.judgement
        if judgement is None:
            verdict, measured = f"[bright_black]{escape(row.missing)}[/]", "–"
        else:
            colour = _COLOURS[judgement.verdict]
            verdict = f"[{colour}]{judgement.verdict.value}[/]"
            measured = measured_value(judgement.measurement)
        table.add_row(
            row.claim.id,
            escape(row.claim.statement),
            escape(paper_value(row.claim)),
            escape(measured),
            verdict,
        )
    return table


def checks_table(checks: Sequence[tuple[str, str]]) -> Table:
    """Return what ``trueboundary doctor`` shows."""
    table = _table("what", "here")
    for name, value in checks:
        table.add_row(name, escape(value))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
