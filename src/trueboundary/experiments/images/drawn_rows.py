"""Rows of tables drawn with their intervals, beside the paper's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.base import Row
from trueboundary.experiments.images.attack_tables import estimate, names_of
from trueboundary.figures import COLOURS, interval_bars, mark_paper

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Between neighbouring series of a group.
_STEP = 0.18


def classifier_colours(names: Sequence[str]) -> dict[str, str]:
    """Return the colours of classifiers, the same in every figure."""
    hues = {"optimal": "truth", "CNN": "inner", "linear SVM": "orange", "RBF SVM": "green"}
    hues |= {"softmax regression": "orange", "TRADES": "sky"}
    return {name: COLOURS[hues[name]] for name in names}


def draw_line(
    axes: Axes,
    rows: Sequence[Row],
    x: str,
    *,
    colour: str | None = None,
    label: str | None = None,
    value: str = "mean_l2",
    style: str = "o-",
) -> None:
    """Draw a value of the rows against their `x`, with error bars; rows without it are left out."""
    known = [row for row in rows if not math.isnan(row[value])]
    if known:
        where = [row[x] for row in known]
        interval_bars(
            axes, where, *columns(known, value), fmt=style, color=colour, capsize=3, label=label
        )


def draw_groups(
    axes: Axes,
    rows: Sequence[Row],
    colours: Mapping[str, str],
    *,
    group: str,
    series: str,
    value: str = "mean_l2",
    words: Callable[[str], str] = str,
    step: float = _STEP,
    bars: bool = False,
    across: bool = False,
    hollow: Collection[str] = (),
) -> list[float]:
    """Draw groups of values side by side, with intervals, and crosses for the paper's numbers.

    `group`, `series` and `value` name entries of the rows, which have the paper's number, where
    there is one, as ``paper``. Groups are called by `words` and have the width 1, `step` lies
    between neighbours, and the series have the order of their colours; those that are `hollow` are
    rings. Groups lie beside or, if drawn `across`, below each other. Returned is the place of each
    row.
    """
    groups = names_of(rows, group)
    places = [
        place_of(rows, colours, group=group, at=(row[group], row[series]), step=step)
        for row in rows
    ]
    for name, colour in colours.items():
        own = [
            (place, row)
            for place, row in zip(places, rows, strict=True)
            if row[series] == name and math.isfinite(row[value])
        ]
        if not own:
            continue
        along = [place for place, _ in own]
        values, low, high = columns([row for _, row in own], value)
        face = "white" if name in hollow else colour
        style: dict[str, Any] = {"color": colour, "ms": 5, "mfc": face, "label": name}
        if bars:
            axes.bar(along, values, 0.9 * step, alpha=0.75, color=colour, label=name)
            style = {"color": COLOURS["truth"], "fmt": "none"}
        x, y = (values, along) if across else (along, values)
        interval_bars(axes, x, y, low, high, across=across, capsize=3, **style)
    mark_known(axes, zip(places, (row.get("paper") for row in rows), strict=True), across=across)
    names_shown = [words(name) for name in groups]
    if across:
        axes.set_yticks(range(len(groups)), names_shown)
        axes.set_ylim(len(groups) - 0.4, -0.6)
    else:
        axes.set_xticks(range(len(groups)), names_shown)
        axes.set_xlim(-0.6, len(groups) - 0.4)
    return places


def place_of(
    rows: Sequence[Row],
    colours: Mapping[str, str],
    *,
    group: str,
    at: tuple[str, str],
    step: float = _STEP,
) -> float:
    """Return where `draw_groups` puts a series in a group, whether or not there is such a row."""
    return names_of(rows, group).index(at[0]) + step * (
        list(colours).index(at[1]) - (len(colours) - 1) / 2
    )


def mark_known(
    axes: Axes,
    points: Iterable[tuple[float, float | None]],
    *,
    label: str | None = "the paper's",
    across: bool = False,
) -> None:
    """Draw crosses at the paper's numbers (second of each point), where there are any."""
    for place, number in points:
        if number is not None:
            mark_paper(axes, *((number, place) if across else (place, number)), label)
            label = None


def columns(rows: Sequence[Row], value: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the values of rows and the ends of their intervals."""
    found, low, high = zip(*(estimate(row, value) for row in rows), strict=True)
    return list(found), list(low), list(high)
