"""One look for every figure: sizes, colours and an output that needs no display.

Figures are `matplotlib.figure.Figure` objects built directly, never through pyplot, so that nothing
is registered globally and any number of them can be drawn in any process. matplotlib is loaded when
a figure is made: whoever may draw can import this module at the top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, told apart by readers with any of the common colour deficiencies.
#: ``inner`` and ``outer`` are the two classes, ``truth`` is anything known exactly, ``paper`` a
#: number that a paper printed; the rest is for further series.
COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "inner": "#0072B2",
        "outer": "#D55E00",
        "truth": "#222222",
        "paper": "#CC79A7",
        "green": "#009E73",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "grey": "#8A8A8A",
    }
)

#: The same colours in the order in which a plot uses them by default.
CYCLE: tuple[str, ...] = tuple(
    COLOURS[name] for name in ("inner", "outer", "green", "paper", "orange", "sky", "grey")
)

#: Pixels per inch of the PNG files.
PNG_DPI = 160

#: Where a legend may go.
LegendLocation = Literal[
    "best",
    "upper left",
    "upper right",
    "upper center",
    "lower left",
    "lower right",
    "lower center",
    "center left",
    "center right",
    "center",
]

# Read by matplotlib when axes are made; what it reads when something is drawn into them (legends)
# has a function of its own below.
_STYLE: Any = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 10,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "font.size": 10,
}


def new_figure(
    n_columns: int = 1, n_rows: int = 1, *, width: float = 6.4, height: float = 4.0
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure in the project's style and its axes, row by row.

    Parameters
    ----------
    n_columns, n_rows : int
        Grid of axes.
    width, height : float
        Size of the whole figure in inches.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Drawn with the constrained layout, so that labels never overlap.
    axes : list of matplotlib.axes.Axes
        Always a list, of length ``n_columns * n_rows``.

    Raises
    ------
    ValueError
        If the grid has no axes.

    Examples
    --------
    >>> figure, (left, right) = new_figure(2, width=9.0)
    >>> line, = left.plot([0.0, 1.0], [0.0, 1.0], label="measured")
    >>> line.get_color() == COLOURS["inner"]
    True
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    if n_columns < 1 or n_rows < 1:
        raise ValueError(f"a figure needs at least one axes, got {n_columns} by {n_rows}")
    with mpl.rc_context(_STYLE | {"axes.prop_cycle": cycler(color=CYCLE)}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
    return figure, [axes[row, column] for row in range(n_rows) for column in range(n_columns)]


def add_legend(axes: Axes, *, location: LegendLocation = "best", title: str | None = None) -> None:
    """Add a frameless legend in the project's style.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes with labelled artists.
    location : str
        Where, in the words of `matplotlib.axes.Axes.legend`.
    title : str, optional
        Heading of the legend.
    """
    legend = axes.legend(title=title, frameon=False, fontsize=9, title_fontsize=9)
    legend.set_loc(location)


def shared_legend(
    figure: Figure, *, n_columns: int = 1, of: Axes | None = None, beside: bool = False
) -> None:
    """Add a legend below all axes or `beside` them, of all labels or of those of one of them."""
    labelled: Any = () if of is None else of.get_legend_handles_labels()
    place: Any = "outside right upper" if beside else "outside lower center"
    figure.legend(*labelled, loc=place, ncols=n_columns, frameon=False, fontsize=9)


def plot_rows(
    axes: Axes, rows: Sequence[Mapping[str, Any]], x: str, y: str, style: str = "-", **artist: Any
) -> None:
    """Plot two columns of a table against each other, in the words of `Axes.plot`."""
    axes.plot([row[x] for row in rows], [row[y] for row in rows], style, **artist)


def interval_bars(
    axes: Axes,
    x: Any,
    y: Any,
    low: Any,
    high: Any,
    *,
    across: bool = False,
    fmt: str = "o",
    **artist: Any,
) -> None:
    """Draw values with their intervals, in the words of `Axes.errorbar`.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    x, y : float or sequence of float
        The values and their places.
    low, high : float, None or sequence of them
        Ends of the intervals; None where there is none.
    across : bool
        Whether the intervals are those of `x`.
    """
    values = np.atleast_1d(x if across else y)
    ends = zip(values, np.atleast_1d(low), np.atleast_1d(high), strict=True)
    bars = [
        (0.0 if below is None else value - below, 0.0 if above is None else above - value)
        for value, below, above in ends
    ]
    # Rounding may put the end of an interval a digit beyond its value.
    bars = np.maximum(0.0, np.transpose(bars))
    errors: Any = {"xerr" if across else "yerr": bars}
    axes.errorbar(x, y, fmt=fmt, **errors, **artist)


def mark_paper(axes: Axes, x: float, y: float, label: str | None = None) -> None:
    """Draw a number that a paper printed as a cross."""
    axes.plot(x, y, "x", color=COLOURS["paper"], ms=9, mew=2, label=label)


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``<name>.png`` and ``<name>.pdf`` into `folder` and return their paths.

    Nothing that depends on the moment of writing goes into the files: the same figure gives the
    same bytes.
    """
    _align_titles(figure)
    png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
    figure.savefig(png, dpi=PNG_DPI, metadata={"Software": None})
    figure.savefig(pdf, metadata={"CreationDate": None})
    return png, pdf


def _align_titles(figure: Figure) -> None:
    """Put titles above the left end of their axes.

    matplotlib reads a title's style when the title is set, which authors do outside this module.
    """
    for axes in figure.axes:
        title = axes.get_title()
        if title:
            axes.set_title("")
            axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
