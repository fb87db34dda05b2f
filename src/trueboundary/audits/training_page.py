"""An audit of training as a page: one HTML text with everything inside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trueboundary.audits.audit_trainings import MethodSummary, TrainingAudit, row_words
from trueboundary.audits.card_page import _grid, _image, _page, _shown
from trueboundary.audits.robustness_card import problem_words
from trueboundary.figures import COLOURS, add_legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["training_fragment", "training_page"]

_HEAD = (
    "method", "networks", "error rate", "proven", "found", "share of the optimum", "over points",
    "over seeds", "seconds", "gradients per point",
)  # fmt: skip


def training_page(audit: TrainingAudit) -> str:
    """Return an audit of training as an HTML page that needs no other file."""
    return _page("Training compared", training_fragment(audit))


def training_fragment(audit: TrainingAudit) -> str:
    """Return an audit of training as a piece of HTML, for a page or a notebook."""
    rows = audit.rows()
    parts = [
        "<h1>Training compared</h1>",
        f"<p>On {_shown(problem_words(audit.problem))}; all networks are judged on the same "
        "points.</p>",
        _grid("Each method", _HEAD, map(_row, rows)),
        "<p>Distances are medians; proven: no error is nearer; found: an error is there. Intervals "
        "hold with 95 %.</p>",
    ]
    if any(row.n_seeds for row in rows):
        parts.append(_image(_curves(audit), "Robust accuracy against the size of the perturbation"))
    parts += [f"<p>{_shown(row_words(row))}</p>" for row in rows]
    parts += [f"<p>{_shown(note)}</p>" for note in audit.notes]
    settings = ", ".join(f"{name} = {value}" for name, value in audit.settings.items())
    return f'<div class="tb-card">{"".join(parts)}<p>Settings: {_shown(settings)}.</p></div>'


def _row(row: MethodSummary) -> list[str]:
    if row.n_seeds == 0:
        return [_shown(row.method), _shown("; ".join(row.reasons))]
    over_points, over_seeds = (
        "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
        for low, high in (row.share_over_points, row.share_over_seeds)
    )
    return [
        _shown(row.method),
        str(row.n_seeds),
        f"{row.error_rate:.3g}",
        f"{row.lower:.3g}",
        f"{row.upper:.3g}",
        f"{row.share:.2f}",
        over_points,
        over_seeds,
        f"{row.seconds:.3g}",
        "-" if row.gradients is None else f"{row.gradients:.3g}",
    ]


def _curves(audit: TrainingAudit) -> Figure:
    """Draw for each method the share of points without an error found, over all its networks."""
    figure, (axes,) = new_figure(width=6.4, height=3.6)
    cards = {
        name: [network.card for network in audit.of(name) if network.card is not None]
        for name, _ in audit.methods
    }
    upper = {
        name: np.concatenate([card.joined("upper") for card in found])
        for name, found in cards.items()
        if found
    }
    best = next(found[0] for found in cards.values() if found).joined("best_lower")
    finite = np.concatenate([part[np.isfinite(part)] for part in (*upper.values(), best)])
    size = np.linspace(0.0, 1.05 * float(finite.max(initial=1e-3)), 200)
    for name, found in upper.items():
        axes.plot(
            size,
            (found[None, :] > size[:, None]).mean(axis=1),
            label=name,
        )
    axes.plot(
        size, (best[None, :] > size[:, None]).mean(axis=1), color=COLOURS["truth"], ls="--",
        label="optimal, proven",
    )  # fmt: skip
    axes.set(xlabel="size of the perturbation (L2)", ylabel="no error found", ylim=(0, 1.02))
    axes.set_xlim(0, size[-1])
    add_legend(axes)
    return figure
