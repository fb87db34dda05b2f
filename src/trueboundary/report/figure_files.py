"""Files beside the page: every figure as PNG and PDF, and the numbers that are drawn in it."""

from __future__ import annotations

import base64
import csv
import re
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trueboundary.experiments.base import Panel, Table
from trueboundary.figures import PNG_DPI, save_figure
from trueboundary.report.collect import ClaimRow, FindingRow
from trueboundary.runs import strict_json

_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn.

    Parameters
    ----------
    panel : Panel
        Name, title, caption and numbers.
    png, pdf : bytes
        The content of its files.
    """

    panel: Panel
    png: bytes
    pdf: bytes

    @property
    def source(self) -> str:
        """The PNG file as a data URI, for the page."""
        return png_uri(self.png)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, in its pixels: 96 to the inch of paper."""
        width, height = struct.unpack(">2I", self.png[16:24])  # the header's first two numbers
        return round(96 * width / PNG_DPI), round(96 * height / PNG_DPI)


def png_uri(png: bytes) -> str:
    """Return a PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def draw_picture(panel: Panel) -> Picture:
    """Draw `panel`."""
    with tempfile.TemporaryDirectory() as folder:
        png, pdf = save_figure(panel.draw(), Path(folder), "figure")
        return Picture(panel, png.read_bytes(), pdf.read_bytes())


def write_picture(folder: Path, picture: Picture) -> None:
    """Write the PNG, PDF and CSV files of a figure into `folder`.

    Raises
    ------
    ValueError
        If a figure of that name is there already, or the name is none for a file.
    """
    name = picture.panel.name
    if not _NAME.fullmatch(name):
        raise ValueError(f"a figure's name becomes a file's: it cannot be {name!r}")
    if (folder / f"{name}.png").exists():
        raise ValueError(f"there is a figure called {name!r} already")
    (folder / f"{name}.png").write_bytes(picture.png)
    (folder / f"{name}.pdf").write_bytes(picture.pdf)
    write_csv(folder / f"{name}.csv", picture.panel.data)


def write_csv(file: Path, rows: Table) -> None:
    """Write `rows` with the columns of all of them, in order of first appearance.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "points.csv"
    >>> write_csv(file, [{"dim": 10}, {"dim": 20, "distance": 0.5}])
    >>> file.read_text().split()
    ['dim,distance', '10,', '20,0.5']
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_text(file: Path, text: str) -> None:
    """Write `text` as UTF-8, with half characters (of a file's damaged name, say) spelt out."""
    file.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_claims_json(file: Path, rows: Sequence[ClaimRow]) -> None:
    """Write every claim with its measurement and verdict as strict JSON."""
    file.write_text(strict_json.dumps(claim_records(rows)), encoding="utf-8")


def write_findings_json(file: Path, rows: Sequence[FindingRow]) -> None:
    """Write every finding with its measurement as strict JSON."""
    file.write_text(strict_json.dumps(finding_records(rows)), encoding="utf-8")


def claim_records(rows: Sequence[ClaimRow]) -> list[dict[str, Any]]:
    """Return every claim with its measurement and verdict as JSON types."""
    return [_claim_record(row) for row in rows]


def finding_records(rows: Sequence[FindingRow]) -> list[dict[str, Any]]:
    """Return every finding with its measurement as JSON types."""
    return [
        {
            "finding": asdict(row.finding),
            "measurement": None if row.measurement is None else asdict(row.measurement),
            "missing": row.missing,
        }
        for row in rows
    ]


def _claim_record(row: ClaimRow) -> dict[str, Any]:
    record: dict[str, Any] = {"claim": asdict(row.claim)}
    if row.judgement is None:
        return record | {"verdict": None, "reason": row.missing}
    judgement = row.judgement
    measurement = None if judgement.measurement is None else asdict(judgement.measurement)
    return record | {
        "measurement": measurement,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "reductions": judgement.reductions,
        "assumptions": judgement.assumptions,
        "conditions": judgement.conditions,
        "n_needed": judgement.n_needed,
        "hours_needed": judgement.hours_needed,
        "surprise": judgement.surprise,
    }
