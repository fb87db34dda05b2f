"""The page of results, ``docs/speed.md``, from the files that the benchmarks left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["write_page"]

HEAD = """\
# Speed

Written by `make bench` from the files in `benchmarks/results`. Ours and the rival take turns in one
process and one run; times are medians of processor time of one thread (of wall time on a card). The
share of the floor is the time that the work's operations, or the bytes it moves, would take at the
machine's measured rate of matrix products of the same shapes, or of copies, over our time. Ratios
depend on the machine, which each table names.
"""

GROWTH = """\
## How cost grows

Processor time and memory against one size at a time, the others fixed, in logarithms. Behind a
line's name are its exponents, of time and of memory: slopes over the upper half of the sizes, since
smaller ones are hidden under what every call costs. Memory is by how much a process grows, its data
included. Everything here has two classes; growth with their number was not measured.
"""


def write_page(root: Path) -> None:
    """Write the page of the repository at ``root``."""
    results = root / "benchmarks" / "results"
    files = [*sorted(results.glob("speed/*.json")), *sorted(results.glob("speed-*/*.json"))]
    parts = [HEAD, *(section(json.loads(path.read_text("utf-8"))) for path in files)]
    axes = sorted(results.glob("growth/*.json"))
    if axes:
        parts += [
            GROWTH,
            *(growth(path.stem, json.loads(path.read_text("utf-8"))) for path in axes),
        ]
    (root / "docs" / "speed.md").write_text("\n".join(parts), encoding="utf-8")


def section(result: dict[str, Any]) -> str:
    """Return one benchmark's part of the page."""
    machine = result["machine"]
    lines = [
        f"## {result['title']}",
        "",
        result["about"],
        "",
        f"{machine['device']}; torch {machine['torch']}, Python {machine['python']}; "
        f"{result['date']}.",
        "",
        "| work | against | ours | rival | rival / ours | share of the floor | aim | |",
        "|---|---|---|---|---|---|---|---|",
        *(line(row) for row in result["rows"]),
        "",
    ]
    return "\n".join(lines)


def growth(name: str, result: dict[str, Any]) -> str:
    """Return the part of one axis: its figure, and a table of its lines."""
    machine, label = result["machine"], result["label"]
    lines = [
        f"### {label[0].upper()}{label[1:]}",
        "",
        f"![Time and memory against {label}](images/growth-{name}.png)",
        "",
        f"{machine['device']}; torch {machine['torch']}; {result['date']}.",
        "",
        "| work | from | to | time | exponent | memory [MB] | exponent |",
        "|---|---|---|---|---|---|---|",
        *(growth_line(series) for series in result["series"]),
        "",
    ]
    return "\n".join(lines)


def growth_line(series: dict[str, Any]) -> str:
    """Return what one line of a figure says."""
    sizes, seconds, grown = (series[key] for key in ("sizes", "seconds", "megabytes"))
    exponents = (series["exponent"], series["memory_exponent"])
    time, memory = ("-" if value is None else f"{value:.1f}" for value in exponents)
    between = "-" if None in grown else f"{grown[0]:.3g} to {grown[-1]:.3g}"
    cells = [
        series["work"],
        f"{sizes[0]:,}",
        f"{sizes[-1]:,}",
        f"{duration(seconds[0])} to {duration(seconds[-1])}",
        time,
        between,
        memory,
    ]
    return "| " + " | ".join(cells) + " |"


def line(row: dict[str, Any]) -> str:
    """Return one row of the table."""
    rival = row["rival_s"]
    cells = [
        row["work"],
        row["rival"] or "-",
        duration(row["ours_s"]),
        "-" if rival is None else duration(rival),
        "-" if rival is None else f"{rival / row['ours_s']:.2f}",
        "-" if row["share"] is None else f"{row['share']:.2f}",
        row["target"],
        row["note"],
    ]
    return "| " + " | ".join(cells) + " |"


def duration(seconds: float) -> str:
    """Return seconds with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
