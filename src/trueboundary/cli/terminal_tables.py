"""Tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trueboundary.experiments.base import Experiment
from trueboundary.experiments.claims import Verdict
from trueboundary.report.words import (
    duration,
    measured_value,
    moment,
    number,
    paper_value,
    qualifications,
)
from trueboundary.runs import SCALES

if TYPE_CHECKING:
    from trueboundary.cli.run_lists import FolderOfRuns, StoredRun
    from trueboundary.report.collect import ClaimRow, Material
    from trueboundary.zoo import Entry

_COLOURS = {
    Verdict.REPRODUCED: "green",
    Verdict.DIFFERS: "red",
    Verdict.INCONCLUSIVE: "magenta",
    Verdict.NOT_AT_THIS_SCALE: "yellow",
    Verdict.NO_DATA: "bright_black",
}
#: Columns of verdicts.
_VERDICT = max(len(verdict.value) for verdict in Verdict)

#: Columns from which on ids and titles stand beside one another.
_WIDE = 140


def costs_of(experiment: Experiment) -> tuple[dict[str, float | None], list[str]]:
    """Return the seconds on one core at each scale, and why some are not known.

    Where images are there and damaged, runs on them cannot be planned.
    """
    costs: dict[str, float | None] = {}
    reasons = []
    for scale in SCALES:
        try:
            costs[scale] = experiment.cost(scale)
        except (ValueError, OSError) as error:
            costs[scale] = None
            reasons.append(str(error))
    return costs, reasons


def experiments_table(
    experiments: Iterable[Experiment], width: int = 80
) -> tuple[Table, list[str]]:
    """Return what ``trueboundary list`` shows, and why some costs are not known.

    Costs are for one core. Where the terminal's width allows it, each takes one line.
    """
    experiments = list(experiments)
    is_wide = width >= _WIDE
    columns = ("id", "title", "paper", "place") if is_wide else ("id and title", "paper and place")
    table = _table(*columns)
    table.columns[0].no_wrap = is_wide
    # An id is typed and must not be broken: the title lies below it, which leaves room for both
    # on a terminal of 80 columns.
    table.box, table.padding = None, (0, 2, 0, 0)
    table.columns[0].min_width = max(len(experiment.id) for experiment in experiments)
    for scale in SCALES:
        table.add_column(scale, justify="right", no_wrap=True)
    reasons: dict[str, None] = {}
    for experiment in experiments:
        seconds, unknown = costs_of(experiment)
        reasons |= dict.fromkeys(unknown)
        costs = ["?" if cost is None else duration(cost) for cost in seconds.values()]
        name, title = f"[bold]{escape(experiment.id)}[/]", f"[dim]{escape(experiment.title)}[/]"
        places = [escape(experiment.paper), escape(experiment.place)]
        cells = [name, title, *places] if is_wide else [f"{name}\n{title}", "\n".join(places)]
        table.add_row(*cells, *costs)
    return table, list(reasons)


class ClaimsTable:
    """A table of claims that grows by one experiment at a time.

    Under its statement a claim has the verdict, what was measured, and what the paper says.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def add(self, title: str, rows: Sequence[ClaimRow]) -> None:
        """Print the claims of an experiment under its title."""
        indent = max((len(row.claim.id) for row in rows), default=0) + 2
        block: list[RenderableType] = [Text(title, style="bold")]
        for row in rows:
            block += [_statement(row, indent), _values(row, indent)]
        self._console.print(Group(*block), highlight=False)
        self._console.print()


def _statement(row: ClaimRow, indent: int) -> Table:
    line = Table.grid(padding=0)
    line.add_column(width=indent)
    line.add_column(overflow="fold")
    line.add_row(escape(row.claim.id), escape(row.claim.statement))
    line.add_row("", f"[dim]measured: {escape(row.claim.quantity)}[/]")
    return line


def _values(row: ClaimRow, indent: int) -> Table:
    judgement = row.judgement
    if judgement is None:
        verdict, found = "[bright_black]no verdict[/]", escape(row.missing)
    else:
        colour = _COLOURS[judgement.verdict]
        verdict = f"[{colour}]{judgement.verdict.value}[/]"
        found = escape(measured_value(judgement.measurement))
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=indent - 2)
    line.add_column(width=_VERDICT, overflow="fold")
    line.add_column(overflow="fold")
    paper = f"[dim]paper:[/] {escape(paper_value(row.claim))}"
    line.add_row("", verdict, f"{found}  {paper}")
    for sentence in [] if judgement is None else qualifications(judgement):
        line.add_row("", "", f"[dim]{escape(sentence)}[/]")
    return line


def findings_table(material: Material) -> Table:
    """Return what was found beyond the papers, with what they have on it."""
    table = _table("finding", "question and what was measured", "measured", "beside it")
    for row in material.findings:
        found = row.measurement
        table.add_row(
            row.finding.id,
            f"{escape(row.finding.question)}\n[dim]{escape(row.finding.quantity)}[/]",
            escape(row.missing if found is None else measured_value(found)),
            escape(row.finding.beside),
        )
    return table


def runs_table(title: str, runs: Sequence[StoredRun], verdicts: Sequence[str]) -> Table:
    """Return the runs of an experiment under its title and what its claims came to."""
    if verdicts:
        told = ", ".join(f"{n} {verdict}" for verdict, n in Counter(verdicts).items())
        title += f" · {told}"
    table = _table()
    table.title, table.title_justify, table.title_style = escape(title), "left", "bold"
    table.box, table.padding = None, (0, 2, 0, 0)
    table.add_column("no.", justify="right", no_wrap=True)
    table.add_column("what was done, and what came out", overflow="fold", ratio=1)
    for name in ("started", "cost", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.expand = True
    for run in runs:
        found = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in run.found.items()]
        found += [f"networks: {', '.join(run.networks)}"] if run.networks else []
        found = ["[red]damaged[/]"] if run.problem else [escape(text) for text in found]
        below = f"\n[dim]{'; '.join(found)}[/]" if found else ""
        table.add_row(
            str(run.number),
            f"{escape(run.words)}{below}",
            moment(run.started),
            duration(run.seconds),
            size_in_words(run.n_bytes),
        )
    return table


def folders_table(folders: Sequence[FolderOfRuns]) -> Table:
    """Return the folders that hold runs, and how much is in them."""
    table = _table("folder", "experiments", "runs", "last run", "cost", "size")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in folders:
        table.add_row(
            escape(str(each.folder)),
            str(len({run.experiment for run in each.runs if run.experiment})),
            str(len(each.runs)),
            moment(max(run.started for run in each.runs)),
            duration(sum(run.seconds for run in each.runs)),
            size_in_words(sum(run.n_bytes for run in each.runs)),
        )
    return table


def size_in_words(n_bytes: int) -> str:
    """Return a size on disk in kB or MB."""
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes < 1e5 else f"{n_bytes / 1e6:,.1f} MB"


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


def checks_table(checks: Sequence[tuple[str, str]]) -> Table:
    """Return what ``trueboundary doctor`` shows."""
    table = _table("what", "here")
    for name, value in checks:
        table.add_row(name, escape(value))
    return table


def zoo_table(entries: Sequence[tuple[Entry, bool]]) -> Table:
    """Return what ``trueboundary zoo`` shows of entries, and whether the files of each are here."""
    table = _table("name and what it is")
    table.columns[0].no_wrap = False
    table.box, table.padding = None, (0, 2, 0, 0)
    table.columns[0].min_width = max((len(entry.name) for entry, _ in entries), default=0)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("lies in", no_wrap=True)
    for entry, is_here in entries:
        size = size_in_words(entry.n_bytes) if entry.file or entry.n_bytes >= 1e5 else "-"
        place = {"formula": "its card"}.get(entry.place, f"the {entry.place}")
        table.add_row(
            f"[bold]{escape(entry.name)}[/]\n[dim]{escape(entry.title)}[/]",
            size,
            place if is_here else f"{place}\n[dim]not here[/]",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        # What stands first is typed, and must not be broken.
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    return table
