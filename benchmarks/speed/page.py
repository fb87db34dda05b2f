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


def write_page(root: Path) -> None:
    """Write the page of the repository at ``root``."""
    results = root / "benchmarks" / "results"
    files = [*sorted(results.glob("speed/*.json")), *sorted(results.glob("speed-*/*.json"))]
    parts = [HEAD, *(section(json.loads(path.read_text("utf-8"))) for path in files)]
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
