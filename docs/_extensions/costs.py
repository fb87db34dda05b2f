"""Write the table of what every experiment costs, from its own estimate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the step that comes before the pages are read."""
    app.connect("builder-inited", lambda app: write_costs(Path(app.srcdir) / "_made" / "costs.md"))
    return {"parallel_read_safe": True}


def write_costs(file: Path) -> None:
    """Write a row for each experiment, with its time at every scale, if it is not there."""
    from trueboundary.experiments import experiments
    from trueboundary.report.words import duration
    from trueboundary.runs import SCALES

    text = f"| experiment | what | {' | '.join(SCALES)} |\n|---|---|{'--:|' * len(SCALES)}\n"
    for experiment in experiments().values():
        try:
            costs = [duration(experiment.cost(scale)) for scale in SCALES]
        except (ValueError, OSError):  # images that are here and damaged
            costs = ["?"] * len(SCALES)
        text += f"| {experiment.id} | {experiment.title} | {' | '.join(costs)} |\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
