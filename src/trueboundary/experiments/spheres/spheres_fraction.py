"""Figure 4: the share of the input that suffices for a given error rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from trueboundary import theory
from trueboundary._checks import check_integer
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, CYCLE, add_legend, mark_paper, new_figure
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RULES: tuple[dict[str, Any], ...] = tuple(
    {"threshold": threshold, "method": method}
    for threshold in ("optimal", "midpoint")
    for method in ("exact", "clt")
)
#: The single number that the paper prints with its figure.
_PAPER_DIM, _PAPER_LOG10_ERROR, _PAPER_FRACTION = 3000, -14, 0.5


@dataclass(frozen=True)
class RequiredFractions(RunConfig):
    """Coordinates needed by the rule "sum of the first k squares against a threshold".

    `log10_errors` are targets for the error rate averaged over the spheres, as powers of ten.
    """

    dims: tuple[int, ...]
    log10_errors: tuple[int, ...]

    def __post_init__(self) -> None:
        for dim in self.dims:
            check_integer("dims", dim, minimum=2)
        if any(exponent >= 0 for exponent in self.log10_errors):
            raise ValueError(f"log10_errors must be negative, got {list(self.log10_errors)}")

    def cost(self) -> float:
        """Return the time of the bisections."""
        return RATES.run + len(self.dims) * len(self.log10_errors) * RATES.small_search

    def compute(self, context: Context) -> RunResult:
        """Compute every curve, and the errors at half the input at d = 3000."""
        rows, half = [], []
        for dim, exponent, rule in product(self.dims, self.log10_errors, _RULES):
            k = theory.truncated.required_dimensions(dim, 10.0**exponent, **rule)
            rows.append({"dim": dim, "log10_error": exponent, **rule, "k": k})
        for rule in _RULES:
            error = theory.truncated.average_log_error(_PAPER_DIM, _PAPER_DIM // 2, **rule)
            half.append({**rule, "log10_error": error / math.log(10)})
        return RunResult({"rows": rows, "half": half})


def _plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    del seed, device  # nothing is drawn
    curves = tuple(settings["dims"]), tuple(settings["log10_errors"])
    return {"fractions": RequiredFractions(*curves)}


def _analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    del settings
    summary = runs["fractions"].summary
    rows = [
        row | {"fraction": row["k"] / row["dim"] if row["k"] else None} for row in summary["rows"]
    ]
    measured = {"A2.10": _half_of_the_input(rows), "A2.11": _falls_with_dimension(rows)}
    half = {(cell["threshold"], cell["method"]): cell["log10_error"] for cell in summary["half"]}
    measured["A2.10b"] = Measurement(
        half["optimal", "clt"], exact=half["optimal", "exact"], cells=list(summary["half"])
    )
    return Analysis(
        panels=[_panel(rows)],
        measurements={claim: found for claim, found in measured.items() if found is not None},
        remarks=[
            "With half of 3000 coordinates the average error is "
            f"10^{half['optimal', 'exact']:.2f} exactly and 10^{half['optimal', 'clt']:.2f} by the "
            f"CLT at the optimal threshold, 10^{half['midpoint', 'exact']:.2f} and "
            f"10^{half['midpoint', 'clt']:.2f} at the midpoint: only the last is near the paper's "
            "1e-14."
        ],
    )


def _curve(rows: Rows, log10_error: int, threshold: str, method: str) -> dict[int, float]:
    wanted = (log10_error, threshold, method)
    return {
        row["dim"]: row["fraction"]
        for row in rows
        if (row["log10_error"], row["threshold"], row["method"]) == wanted
        and row["fraction"] is not None
    }


def _half_of_the_input(rows: Rows) -> Measurement | None:
    cells = [
        row for row in rows if row["dim"] == _PAPER_DIM and row["log10_error"] == _PAPER_LOG10_ERROR
    ]
    found = {(cell["threshold"], cell["method"]): cell["fraction"] for cell in cells}
    if not found:
        return None
    return Measurement(
        found["optimal", "clt"],
        exact=found["optimal", "exact"],
        cells=cells,
        note=f"With the midpoint threshold the CLT gives {found['midpoint', 'clt']:.3f}, near the "
        "paper's number.",
    )


def _falls_with_dimension(rows: Rows) -> Measurement | None:
    holds, n_curves = True, 0
    for log10_error in sorted({row["log10_error"] for row in rows}):
        for rule in _RULES:
            curve = _curve(rows, log10_error, **rule)
            if 500 not in curve or 10_000 not in curve:
                continue
            values = [curve[dim] for dim in sorted(curve)]
            n_curves += 1
            holds &= all(b < a for a, b in pairwise(values))
            holds &= curve[10_000] <= curve[500] / 2
    return Measurement(holds, n=n_curves) if n_curves else None


def _panel(rows: Rows) -> Panel:
    return Panel(
        name="fig4",
        title="Share of the input needed for an error rate (Fig. 4)",
        caption="A classifier that sees k of d coordinates and thresholds their sum of squares. "
        "Lines: exact, at the optimal threshold; dashes: the paper's CLT estimate at its own "
        "optimal threshold; dots: CLT with the threshold midway between the spheres, which is "
        "what the paper's 50 % at d = 3000 belongs to (cross). Missing points cannot be reached "
        "at that dimension.",
        draw=lambda: _draw(rows),
        data=rows,
    )


def _draw(rows: Rows) -> Figure:
    figure, (axes,) = new_figure(width=7.0, height=4.6)
    chosen = [e for e in sorted({row["log10_error"] for row in rows}) if e in (-2, -6, -10, -14)]
    styles = [("optimal", "exact", "-"), ("optimal", "clt", "--"), ("midpoint", "clt", ":")]
    colours = [colour for colour in CYCLE if colour != COLOURS["paper"]]
    for colour, log10_error in zip(colours, chosen, strict=False):
        for threshold, method, style in styles:
            curve = _curve(rows, log10_error, threshold, method)
            label = f"1e{log10_error}" if style == "-" else None
            dims = sorted(curve)
            axes.plot(dims, [curve[d] for d in dims], style, color=colour, label=label)
    mark_paper(axes, _PAPER_DIM, _PAPER_FRACTION, "paper, for 1e-14")
    axes.set(xscale="log", ylim=(0, 1), xlabel="dimension d", ylabel="k / d needed")
    for threshold, method, style in styles:
        name = "exact" if method == "exact" else f"CLT, {threshold} threshold"
        axes.plot([], [], style, color=COLOURS["grey"], label=name)
    add_legend(axes, location="upper right", title="average error rate")
    return figure


EXPERIMENT = Experiment(
    id="spheres-fraction",
    paper="spheres",
    place="Fig. 4",
    title="The share of the input that suffices for a given error rate",
    question="How much of the input may a classifier ignore and still be almost always right?",
    plan=_plan,
    analyse=_analyse,
)
