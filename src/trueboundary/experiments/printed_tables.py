"""Tables of the papers, as they print them, with what was measured beside each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from trueboundary.experiments.base import Analysis
from trueboundary.experiments.papers import read_table


@dataclass(frozen=True)
class PrintedRow:
    """A row of a table: what an analysis calls it, its words, the paper's cells and ours.

    There are as many cells as the table has columns; `measured` is empty where nothing was run.
    """

    name: str
    words: str
    printed: tuple[str, ...]
    measured: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrintedTable:
    """A table or the bars of a figure, with all of the paper's rows."""

    id: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[PrintedRow, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            for cells in (row.printed, row.measured):
                if cells and len(cells) != len(self.columns):
                    raise ValueError(f"{self.id}: {row.name} has {len(cells)} cells")

    @property
    def n_measured(self) -> int:
        """Number of rows that were run."""
        return sum(bool(row.measured) for row in self.rows)

    def beside(self, measured: Mapping[str, Sequence[str]]) -> PrintedTable:
        """Return the table with measured cells, by the rows' names; other names are passed over."""
        return replace(
            self,
            rows=tuple(
                replace(row, measured=tuple(measured.get(row.name, row.measured)))
                for row in self.rows
            ),
        )


def read_printed_tables(paper: str) -> list[PrintedTable]:
    """Return the tables of a paper's ``tables.toml``; none where it has none.

    Examples
    --------
    >>> [(table.id, len(table.rows)) for table in read_printed_tables("bayes")]
    [('table-1', 15), ('figure-6', 15), ('table-2', 5), ('figure-12', 3)]
    """
    with suppress(FileNotFoundError):
        return [
            PrintedTable(
                **{key: entry[key] for key in ("id", "title", "note")},
                columns=tuple(entry["columns"]),
                rows=tuple(
                    PrintedRow(row["name"], row["words"], tuple(row["printed"]))
                    for row in entry["rows"]
                ),
            )
            for entry in read_table(paper, "tables")["table"]
        ]
    return []


def filled_tables(papers: Iterable[str], analyses: Iterable[Analysis]) -> list[PrintedTable]:
    """Return the tables of some papers beside what some analyses measured."""
    tables = {table.id: table for paper in papers for table in read_printed_tables(paper)}
    for analysis in analyses:
        for id, measured in analysis.tables.items():
            tables[id] = tables[id].beside(measured)
    return list(tables.values())
