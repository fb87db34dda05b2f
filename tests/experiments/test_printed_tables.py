"""The papers' tables: complete, of the same numbers as the claims, and beside what was measured."""

import math
import re

import pytest

from trueboundary.experiments.base import Analysis
from trueboundary.experiments.bayes.four_classifiers import printed_cells
from trueboundary.experiments.bayes.published import printed_numbers
from trueboundary.experiments.images.image_plans import CLASSIFIERS
from trueboundary.experiments.printed_tables import (
    PrintedRow,
    PrintedTable,
    filled_tables,
    read_printed_tables,
)
from trueboundary.report.markdown import tables_markdown

TABLE_1, FIGURE_6, TABLE_2, FIGURE_12 = read_printed_tables("bayes")
DIGITS = {"mnist/0-6": "B2.1", "mnist/2-7": "B2.2", "mnist/4-5": "B2.3"}


def numbers(cells: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(re.split(r"[ (]", cell)[0]) for cell in cells)


def test_both_tables_have_the_papers_fifteen_rows_of_four_classifiers() -> None:
    names = [row.name for row in TABLE_1.rows]
    assert len(set(names)) == 15
    assert names == [row.name for row in FIGURE_6.rows]
    assert TABLE_1.columns == FIGURE_6.columns == tuple(CLASSIFIERS)


@pytest.mark.parametrize("row", FIGURE_6.rows, ids=lambda row: row.name)
def test_mean_attacks_are_those_of_the_claims(row: PrintedRow) -> None:
    claim = DIGITS.get(row.name) or f"B3.7-{row.name.partition('/')[2]}"
    assert numbers(row.printed) == printed_numbers(claim)


@pytest.mark.parametrize("row", TABLE_1.rows, ids=lambda row: row.name)
def test_clean_accuracies_are_those_of_the_claims(row: PrintedRow) -> None:
    shares = tuple(number / 100 for number in numbers(row.printed))
    face = f"B2.6-{row.name.partition('/')[2]}"
    assert shares == (1.0,) * 4 if row.name in DIGITS else shares == printed_numbers(face)


def test_what_attacks_leave_of_the_rbf_machine_is_that_of_the_claim() -> None:
    left = [row.printed[3] for row in TABLE_1.rows if row.name in DIGITS]
    assert [float(cell.split("(")[1].rstrip(")")) / 100 for cell in left] == list(
        printed_numbers("B2.5")
    )


@pytest.mark.parametrize("row", TABLE_2.rows, ids=lambda row: row.name)
def test_accuracies_on_real_images_are_those_of_the_claims(row: PrintedRow) -> None:
    claim = f"B2.7-{row.name.partition('/')[2]}"
    shares = [number / 100 for number in numbers(row.printed)]
    assert shares == pytest.approx(printed_numbers(claim))


@pytest.mark.parametrize(
    ("row", "claim"), list(zip(FIGURE_12.rows, ("B2.9a", "B2.9c", "B2.9b"), strict=True))
)
def test_what_figure_12_prints_is_that_of_the_claims(row: PrintedRow, claim: str) -> None:
    unit = 1 if row.name == "mean_l2" else 100
    values = [number / unit for number in numbers(row.printed)]
    assert values == pytest.approx(printed_numbers(claim))


def measured(name: str, mean: float) -> list[dict[str, object]]:
    attack = {"mean_l2": mean, "mean_l2_low": mean - 0.1, "mean_l2_high": mean + 0.1}
    shares = {"accuracy": 0.9951, "accuracy_under_attack": 0.005}
    return [{"dataset": name, "classifier": c, **attack, **shares} for c in CLASSIFIERS]


def test_rows_that_were_run_stand_beside_the_papers_and_others_say_so() -> None:
    one = Analysis(tables=printed_cells(measured("mnist/0-6", 2.9)))
    two = Analysis(tables=printed_cells(measured("celeba/Male", math.nan), ", 32 x 32"))
    table, figure, *_ = filled_tables(["spheres", "bayes"], [one, two, Analysis()])
    assert (table.n_measured, figure.n_measured) == (2, 2)
    rows = {row.name: row for row in figure.rows}
    assert rows["mnist/0-6"].measured == ("2.90 [2.80, 3.00]",) * 4
    assert rows["celeba/Male"].measured == ("none found, 32 x 32",) * 4
    assert rows["celeba/Bangs"].measured == ()
    text = tables_markdown([table, figure])
    assert "| MNIST 0/6 | 100 (0) | 99.5 (0.5) |" in text
    assert text.count("not run") == 2 * 13 * 4
    assert text.count("\n| ") == 2 * (15 + 2)


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="t: a has 1 cells"):
        PrintedTable("t", "T", "", ("x", "y"), (PrintedRow("a", "A", ("1",)),))
    with pytest.raises(ValueError, match="a has 3 cells"):
        PrintedTable("t", "T", "", ("x",), (PrintedRow("a", "A", ("1",)),)).beside(
            {"a": ("1", "2", "3")}
        )
