"""The robustness card as a page: one HTML text with everything inside."""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trueboundary.audits.flags import Flag, page_of_flag
from trueboundary.audits.robustness_card import (
    ClassAudit,
    RobustnessCard,
    median,
    problem_words,
    rate_words,
    shares,
)
from trueboundary.figure_parts import draw_robust_accuracy
from trueboundary.figures import COLOURS, add_legend, new_figure
from trueboundary.plain_text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trueboundary.audits.comparisons import Comparison

__all__ = ["comparison_fragment", "comparison_page", "fragment", "page"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#222;background:#fff}
a{color:#00578a}.tb-card .scroll{overflow-x:auto;margin:1rem 0}
.tb-card table{border-collapse:collapse}
.tb-card th,.tb-card td{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}
.tb-card th:first-child,.tb-card td[colspan]{text-align:left}
.tb-card tbody th{font-weight:normal}
.tb-card img{max-width:100%;height:auto}
.tb-card h1{overflow-wrap:anywhere}
.tb-card .flag{border-left:4px solid #D55E00;padding-left:.8rem}
.tb-card .verdict{font-size:1.15rem;border-left:4px solid #0072B2;padding-left:.8rem}
@media (max-width: 40rem){body{margin:1rem auto}.tb-card h1{font-size:1.5rem}
.tb-card table{font-size:.85rem}.tb-card th,.tb-card td{padding:.3rem .4rem}
.tb-card td:not([colspan]){white-space:nowrap}}
@media (prefers-color-scheme: dark){body{color:#ddd;background:#181818}a{color:#7cc4f2}
.tb-card th,.tb-card td{border-color:#444}.tb-card img{background:#fff}}
"""


def page(card: RobustnessCard) -> str:
    """Return a card as an HTML page that needs no other file.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.audits import audit
    >>> from trueboundary.audits.card_page import page
    >>> card = audit(lambda x: x[:, 0], "spheres-d5", n_points=2, n_error_points=100)
    >>> page(card).startswith("<!doctype html>")
    True
    """
    return _page(f"Robustness card: {card.subject}", fragment(card))


def comparison_page(found: Comparison) -> str:
    """Return a comparison as an HTML page that needs no other file."""
    return _page(" and ".join(found.subjects), comparison_fragment(found))


def comparison_fragment(found: Comparison) -> str:
    """Return a comparison as a piece of HTML, with the cards of both classifiers."""
    lines = f"<p>{'<br>'.join(map(_shown, str(found).splitlines()[1:]))}</p>"
    names = f"{found.subjects[0]} and {found.subjects[1]}"
    verdict = f"{found.verdict}, from {found.n} points."
    return (
        f'<div class="tb-card"><h1>{_shown(names)}</h1>'
        f'<p class="verdict">{_shown(verdict)}</p>{lines}'
        f"{_image(_pairs(found), 'Distances of the nearest errors of both, point by point')}</div>"
        + "".join(map(fragment, found.cards))
    )


def _pairs(found: Comparison) -> Figure:
    """Draw the distances of both classifiers' errors from the same points."""
    figure, (axes,) = new_figure(width=4.8, height=4.4)
    parts = [
        (a.name, a.upper[: min(a.n, b.n)], b.upper[: min(a.n, b.n)])
        for a, b in zip(*(card.classes for card in found.cards), strict=True)
    ]
    pairs = np.concatenate([np.stack(part[1:], axis=1) for part in parts])
    known = pairs[np.isfinite(pairs).all(axis=1)]
    most = 1.05 * float(known.max(initial=1e-9))
    axes.plot([0, most], [0, most], color=COLOURS["truth"], ls="--", label="as far")
    axes.scatter(
        known[:, 0],
        known[:, 1],
        s=14,
        color=COLOURS["outer"],
        alpha=0.7,
        label="a point",
        clip_on=False,
    )
    axes.set(xlim=(0, most), ylim=(0, most), xlabel=found.subjects[0], ylabel=found.subjects[1])
    axes.set_title("distance of the nearest error", fontsize="medium")
    add_legend(axes)
    return figure


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_shown(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _grid(words: str, head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns and rows have heads; a narrow window scrolls it.

    A row with two cells has a sentence in place of numbers. All are HTML already.
    """
    columns = [f'<th scope="col">{cell}</th>' for cell in head]
    body = []
    for first, *cells in rows:
        span = f' colspan="{len(columns) - 1}"' if len(cells) == 1 else ""
        numbers = "".join(f"<td{span}>{cell}</td>" for cell in cells)
        body.append(f'<tr><th scope="row">{first}</th>{numbers}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{words}"><table>'
        f"<thead><tr>{''.join(columns)}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def fragment(card: RobustnessCard) -> str:
    """Return a card as a piece of HTML, for a page or a notebook."""
    n = sum(part.n for part in card.classes)
    flags = "".join(map(_flag, card.flags))
    parts = [
        f"<h1>Robustness card: {_shown(card.subject)}</h1>",
        f"<p>On {_shown(problem_words(card.problem))}; nearest errors from {n:,} random "
        "points.</p>",
        f'<p class="verdict">Verdict: {_shown(card.verdict.text)}</p>',
        flags or "<p>No red flags.</p>",
        _table(card),
        "<h2>Robust accuracy at every size</h2>",
        _image(_curve(card), "Robust accuracy against the size of the perturbation"),
    ]
    if card.pictures:
        parts += [
            "<h2>Nearest errors</h2>",
            "<p>From above: points, this classifier's nearest known errors, the differences, and "
            "the optimal classifier's nearest errors.</p>",
            _image(_errors(card), "Images, their nearest errors and the differences"),
        ]
    parts += [f"<p>Distances: {_shown(card.method)}.</p>"]
    parts += [f"<p>{_shown(note)}</p>" for note in card.notes]
    pages = dict.fromkeys((flag.name, flag.slug) for flag in card.flags)
    parts += [
        f'<details id="flag-{slug}"><summary>What does <em>{_shown(name)}</em> mean?</summary>'
        f"{_prose(page_of_flag(name))}</details>"
        for name, slug in pages
    ]
    settings = ", ".join(f"{name} = {value}" for name, value in card.settings.items())
    return f'<div class="tb-card">{"".join(parts)}<p>Settings: {_shown(settings)}.</p></div>'


def _flag(flag: Flag) -> str:
    """Return a flag with a link to its page, which is at the end of the card."""
    link = f'<a href="#flag-{flag.slug}">{_shown(flag.name)}</a>'
    return f'<p class="flag">Red flag, {link}: {_shown(flag.text)}.</p>'


def _prose(text: str) -> str:
    """Return a page of a flag as HTML: headings, paragraphs and code, which is all it has."""
    shown = []
    for block in text.strip().split("\n\n")[1:]:
        if block.startswith("## "):
            shown.append(f"<h3>{_shown(block[3:])}</h3>")
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))
        coded = re.sub("`([^`]*)`", r"<code>\1</code>", _shown(words))
        shown.append(f"<p>{coded}</p>")
    return "".join(shown)


def _shown(text: str) -> str:
    return html.escape(printable(text))


def _table(card: RobustnessCard) -> str:
    head = (
        "class", "error rate", "95 % interval", "proven", "found", "optimal classifier",
        "share of it",
    )  # fmt: skip
    return _grid("Each class", head, map(_row, card.classes)) + (
        "<p>Distances are medians; proven: no error is nearer; found: an error is there.</p>"
    )


def _row(part: ClassAudit) -> list[str]:
    right = part.best_right
    share = shares(part.upper[right], part.best_lower[right])
    return [
        _shown(part.name),
        _shown(rate_words(part.rate)),
        f"{part.rate.low:.2g} to {part.rate.high:.2g}",
        *(_number(median(values)) for values in (part.lower, part.upper, part.best_upper)),
        _share(share),
    ]


def _share(share: tuple[float, float, float]) -> str:
    """Say a share with its interval, which few points do not have."""
    value, low, high = share
    if math.isnan(value):
        return "-"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if math.isfinite(low) else f"{value:.2f}"


def _number(value: float) -> str:
    return "none" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.3g}"


def _curve(card: RobustnessCard) -> Figure:
    figure, (axes,) = new_figure(width=6.4, height=3.6)
    draw_robust_accuracy(axes, card.curve())
    return figure


def _errors(card: RobustnessCard) -> Figure:
    points, errors, best = (card.pictures[name] for name in ("points", "errors", "best errors"))
    rows = [points, errors, 0.5 + (errors - points), best]
    figure, grid = new_figure(len(points), len(rows), width=len(points), height=4.2)
    for axes, image in zip(grid, np.concatenate(rows), strict=True):
        shown = np.moveaxis(np.nan_to_num(image, nan=0.5).clip(0, 1), 0, -1)
        axes.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    return figure


def _image(figure: Figure, words: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160, bbox_inches="tight")
    coded = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{coded}">'
