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

#: Networks of a run that are all named.
_MOST_NAMED = 4

#: Columns from which on ids and titles stand beside one another, and below which all of a row
#: stands in one column.
_WIDE, _NARROW = 140, 72


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
    if width < _NARROW:
        return _narrow_experiments(experiments)
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


def _narrow_experiments(experiments: Iterable[Experiment]) -> tuple[Table, list[str]]:
    """Return the same with all of an experiment in one column."""
    rows, reasons = [], dict[str, None]()
    for experiment in experiments:
        seconds, unknown = costs_of(experiment)
        reasons |= dict.fromkeys(unknown)
        costs = (
            f"{scale} {'?' if cost is None else duration(cost)}" for scale, cost in seconds.items()
        )
        place = f"{experiment.paper}, {experiment.place}"
        rows.append((experiment.id, experiment.title, place, ", ".join(costs)))
    return _stacked(rows), list(reasons)


def _stacked(rows: Iterable[Sequence[str]]) -> Table:
    """Return rows as blocks of lines: what a row begins with, and the rest below it."""
    table = Table.grid(padding=0)
    table.add_column(overflow="fold")
    for first, *rest in rows:
        lines = [f"[bold]{escape(first)}[/]", *(f"[dim]{escape(line)}[/]" for line in rest if line)]
        table.add_row("\n".join(lines))
    return table


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
            if self._console.width < _NARROW:
                block.append(_narrow_claim(row))
            else:
                block += [_statement(row, indent), _values(row, indent)]
        self._console.print(Group(*block), highlight=False)
        self._console.print()


def _narrow_claim(row: ClaimRow) -> Table:
    """Return a claim and what became of it in one column."""
    verdict, found, sentences = _outcome(row)
    table = Table.grid(padding=0)
    table.add_column(overflow="fold")
    table.add_row(f"[bold]{escape(row.claim.id)}[/] {escape(row.claim.statement)}")
    table.add_row(f"[dim]measured: {escape(row.claim.quantity)}[/]")
    table.add_row(f"{verdict}: {found}")
    table.add_row(f"[dim]paper:[/] {escape(paper_value(row.claim))}")
    for sentence in sentences:
        table.add_row(f"[dim]{escape(sentence)}[/]")
    return table


def _outcome(row: ClaimRow) -> tuple[str, str, list[str]]:
    """Return a claim's verdict in its colour, what was measured, and what qualifies that."""
    judgement = row.judgement
    if judgement is None:
        return "[bright_black]no verdict[/]", escape(row.missing), []
    colour = _COLOURS[judgement.verdict]
    verdict = f"[{colour}]{judgement.verdict.value}[/]"
    return verdict, escape(measured_value(judgement.measurement)), qualifications(judgement)


def _statement(row: ClaimRow, indent: int) -> Table:
    line = Table.grid(padding=0)
    line.add_column(width=indent)
    line.add_column(overflow="fold")
    line.add_row(escape(row.claim.id), escape(row.claim.statement))
    line.add_row("", f"[dim]measured: {escape(row.claim.quantity)}[/]")
    return line


def _values(row: ClaimRow, indent: int) -> Table:
    verdict, found, sentences = _outcome(row)
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=indent - 2)
    line.add_column(width=_VERDICT, overflow="fold")
    line.add_column(overflow="fold")
    paper = f"[dim]paper:[/] {escape(paper_value(row.claim))}"
    line.add_row("", verdict, f"{found}  {paper}")
    for sentence in sentences:
        line.add_row("", "", f"[dim]{escape(sentence)}[/]")
    return line


def findings_table(material: Material, width: int = 80) -> Table:
    """Return what was found beyond the papers, with what they have on it."""
    rows = [
        (
            row.finding.id,
            row.finding.question,
            row.finding.quantity,
            row.missing if row.measurement is None else measured_value(row.measurement),
            row.finding.beside,
        )
        for row in material.findings
    ]
    if width < _NARROW:
        return _stacked(rows)
    table = _table("finding", "question and what was measured", "measured", "beside it")
    for id, question, quantity, found, beside in rows:
        asked = f"{escape(question)}\n[dim]{escape(quantity)}[/]"
        table.add_row(id, asked, escape(found), escape(beside))
    return table


def runs_table(
    title: str, runs: Sequence[StoredRun], verdicts: Sequence[str], width: int = 80
) -> Table:
    """Return the runs of an experiment under its title and what its claims came to."""
    if verdicts:
        told = ", ".join(f"{n} {verdict}" for verdict, n in Counter(verdicts).items())
        title += f" · {told}"
    is_narrow = width < _NARROW
    table = _table()
    table.title, table.title_justify, table.title_style = escape(title), "left", "bold"
    table.box, table.padding = None, (0, 2, 0, 0)
    table.add_column("no.", justify="right", no_wrap=True)
    table.add_column("what was done, and what came out", overflow="fold", ratio=1)
    for name in () if is_narrow else ("started", "cost", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.expand = True
    for run in runs:
        found = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in run.found.items()]
        found += [f"networks: {_listed(run.networks)}"] if run.networks else []
        found = ["[red]damaged[/]"] if run.problem else [escape(text) for text in found]
        below = f"\n[dim]{'; '.join(found)}[/]" if found else ""
        beside = [moment(run.started), duration(run.seconds), size_in_words(run.n_bytes)]
        if is_narrow:
            below, beside = f"{below}\n[dim]{', '.join(beside)}[/]", []
        table.add_row(str(run.number), f"{escape(run.words)}{below}", *beside)
    return table


def _listed(names: Sequence[str]) -> str:
    """Return names, of many the first and the last."""
    few = len(names) <= _MOST_NAMED
    return ", ".join(names) if few else f"{names[0]}, {names[1]} ... {names[-1]} ({len(names)})"


def folders_table(folders: Sequence[FolderOfRuns], width: int = 80) -> Table:
    """Return the folders that hold runs, and how much is in them."""
    names = ("experiments", "runs", "last run", "cost", "size")
    rows = [
        (
            str(each.folder),
            str(len({run.experiment for run in each.runs if run.experiment})),
            str(len(each.runs)),
            moment(max(run.started for run in each.runs)),
            duration(sum(run.seconds for run in each.runs)),
            size_in_words(sum(run.n_bytes for run in each.runs)),
        )
        for each in folders
    ]
    if width < _NARROW:
        return _stacked(
            (first, *(f"{name}: {cell}" for name, cell in zip(names, rest, strict=True)))
            for first, *rest in rows
        )
    table = _table("folder", *names)
    for column in table.columns[1:]:
        column.justify = "right"
    for first, *rest in rows:
        table.add_row(escape(first), *rest)
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


def zoo_table(entries: Sequence[tuple[Entry, bool]], width: int = 80) -> Table:
    """Return what ``trueboundary zoo`` shows of entries, and whether the files of each are here."""
    rows = [(entry, *_kept(entry, is_here)) for entry, is_here in entries]
    if width < _NARROW:
        return _stacked((e.name, e.title, f"{size}, {', '.join(place)}") for e, size, place in rows)
    table = _table("name and what it is")
    table.columns[0].no_wrap = False
    table.box, table.padding = None, (0, 2, 0, 0)
    table.columns[0].min_width = max((len(entry.name) for entry, _ in entries), default=0)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("lies in", no_wrap=True)
    for entry, size, (place, *missing) in rows:
        table.add_row(
            f"[bold]{escape(entry.name)}[/]\n[dim]{escape(entry.title)}[/]",
            size,
            "\n".join([place, *(f"[dim]{word}[/]" for word in missing)]),
        )
    return table


def _kept(entry: Entry, is_here: bool) -> tuple[str, tuple[str, ...]]:
    """Return the size of an entry, and where it lies, with a word where that is not here."""
    size = size_in_words(entry.n_bytes) if entry.file or entry.n_bytes >= 1e5 else "-"
    place = {"formula": "its card"}.get(entry.place, f"the {entry.place}")
    return size, (place,) if is_here else (place, "not here")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        # What stands first is typed, and must not be broken.
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    return table
