"""What asymmetry does to the optimal classifier (Richardson and Weiss 2021, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel
from trueboundary.experiments.images.attacked_images import AttackName, distances
from trueboundary.experiments.images.availability import missing_data
from trueboundary.experiments.images.image_fits import ImageTask, ImageVariant
from trueboundary.experiments.images.image_plans import (
    planned_attack,
    planned_classifiers,
    planned_fit,
)
from trueboundary.experiments.images.sheets import Sheet, draw_sheet, sheet_rows
from trueboundary.experiments.summaries import mean_of_points, median_of_points
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig
from trueboundary.tiles import tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]
Row = dict[str, Any]

VARIANTS: tuple[ImageVariant, ...] = ("symmetric", "asymmetric")
#: The claims' numbers stand in the journal version, whose gradient attack takes fixed steps.
PUBLISHED: AttackName = "gradient-fixed"
ATTACKS: Mapping[AttackName, str] = {
    PUBLISHED: "gradient, fixed steps",
    "gradient": "gradient, computed steps",
    "cw": "Carlini-Wagner",
}
PAPER = {"symmetric": 3.0, "asymmetric": 0.5}
PAPER_PAIR = "0/6"
CLAIMS = ("B1.7a", "B1.7b", "B1.7c")
_LEARNED = ("CNN", "RBF SVM")
_OUTLIER_STD = 0.5


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Attack the optimal classifier of both variants of each pair, and two learned ones."""
    runs: dict[str, RunConfig] = {}
    for pair in settings["pairs"]:
        fit = planned_fit(settings, pair, seed)
        for variant in VARIANTS:
            task = ImageTask(fit, variant, settings["noise_std"])
            for attack in ATTACKS:
                name = f"{pair}/{variant}/{attack}"
                runs[name] = planned_attack(settings, task, None, attack, seed)
    first = ImageTask(
        planned_fit(settings, settings["pairs"][0], seed), "symmetric", settings["noise_std"]
    )
    classifiers = planned_classifiers(settings, first, seed, device)
    for name in _LEARNED:
        runs[name] = planned_attack(settings, first, classifiers[name], "cw", seed)
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Hold the two variants against each other and against the formula."""
    missing = missing_data(runs)
    if missing:
        return Analysis(remarks=[missing], without_data=CLAIMS)
    pairs = list(settings["pairs"])
    shape = runs[f"{pairs[0]}/symmetric/cw"].summary["image_shape"]
    predicted = residual_distance(
        settings["noise_std"], math.prod(shape), settings["n_factors"], _OUTLIER_STD
    )
    rows = [
        row(runs, pair, variant, attack, 1.5 * predicted)
        for pair in pairs
        for variant in VARIANTS
        for attack in ATTACKS
    ]
    return Analysis(
        panels=[
            _overview(runs, pairs[0]),
            _means(rows, predicted),
            *(_sheet(runs, pair) for pair in pairs),
        ],
        measurements=measure(runs, rows, pairs),
        remarks=_remarks(rows, pairs[0], predicted),
    )


def residual_distance(
    noise_std: float, dim: int, n_factors: int, outlier_std: float = _OUTLIER_STD
) -> float:
    r"""Return how far a typical point must leave its component to look like an outlier.

    Off its subspace a point has a residual of about :math:`\sigma \sqrt{N - l}`. The broad
    component of standard deviation :math:`s` becomes the more probable one where the residual is
    :math:`\sigma \sqrt{2 (N - l) \ln(s / \sigma)}`; the difference is the length of the attack,
    whatever the components' weights and loadings, which change it by little.

    Parameters
    ----------
    noise_std : float
        The noise :math:`\sigma` of the narrow components.
    dim, n_factors : int
        Dimension N of the images and l of the subspaces.
    outlier_std : float
        Standard deviation s of the broad component, more than `noise_std`.

    Examples
    --------
    >>> round(residual_distance(0.01, 784, 6), 3)
    0.501
    """
    n_free = dim - n_factors
    return noise_std * math.sqrt(n_free) * (math.sqrt(2 * math.log(outlier_std / noise_std)) - 1)


def row(runs: Mapping[str, Run], pair: str, variant: str, attack: AttackName, far: float) -> Row:
    """Return the distances of one attack in a few numbers, those above `far` counted."""
    run = runs[f"{pair}/{variant}/{attack}"]
    found = distances(run)
    mean, low, high = mean_of_points(found)
    return {
        "pair": pair,
        "variant": variant,
        "attack": ATTACKS[attack],
        "mean_distance": mean,
        "low": low,
        "high": high,
        "median": median_of_points(found)[0],
        "n_points": len(found),
        "n_failed": int((~np.isfinite(found)).sum()),
        "n_beyond_1.5_formula": int((found > far).sum()),
        "accuracy": run.summary["n_correct"] / run.summary["n_points"],
        "paper": PAPER[variant] if pair == PAPER_PAIR else None,
    }


def measure(runs: Mapping[str, Run], rows: list[Row], pairs: list[str]) -> dict[str, Measurement]:
    """Return the measurement of each claim."""
    measurements: dict[str, Measurement] = {}
    for claim, variant in (("B1.7a", "symmetric"), ("B1.7b", "asymmetric")):
        others = ", ".join(
            f"{r['attack']} {r['mean_distance']:.2f} (median {r['median']:.2f})"
            for r in rows
            if r["pair"] == pairs[0] and r["variant"] == variant
        )
        published = next(
            r
            for r in rows
            if (r["pair"], r["variant"], r["attack"]) == (pairs[0], variant, ATTACKS[PUBLISHED])
        )
        measurements[claim] = Measurement(
            published["mean_distance"],
            published["low"],
            published["high"],
            n=published["n_points"],
            note=(
                f"Fixed steps, as in the journal version; {published['n_failed']} failed. "
                f"All: {others}."
            ),
        )
    ratios = [_ratio(runs, pair) for pair in pairs]
    smallest = min(ratios, key=lambda ratio: ratio[0])
    words = ", ".join(f"{p} {ratio[0]:.1f}" for p, ratio in zip(pairs, ratios, strict=True))
    n = rows[0]["n_points"]
    measurements["B1.7c"] = Measurement(*smallest, n=n, note=f"Fixed steps: {words}.")
    return {claim: m for claim, m in measurements.items() if not math.isnan(m.value)}


def _ratio(runs: Mapping[str, Run], pair: str) -> tuple[float, float | None, float | None]:
    above, below = (
        mean_of_points(distances(runs[f"{pair}/{variant}/{PUBLISHED}"])) for variant in VARIANTS
    )
    return ratio_of_independent_means(above, below)


def ratio_of_independent_means(
    numerator: tuple[float, float | None, float | None],
    denominator: tuple[float, float | None, float | None],
) -> tuple[float, float | None, float | None]:
    """Return the ratio of two means of different points, with its 95 % interval (Taylor series).

    Parameters
    ----------
    numerator, denominator : tuple
        Mean and the ends of its 95 % interval, None where there is none.

    Examples
    --------
    >>> ratio_of_independent_means((3.0, 2.7, 3.3), (1.0, 1.0, 1.0))
    (3.0, 2.7, 3.3)
    """
    (a, _, a_high), (b, _, b_high) = numerator, denominator
    if not (math.isfinite(a) and math.isfinite(b)) or b == 0:
        return math.nan, None, None
    ratio = a / b
    if a_high is None or b_high is None:
        return ratio, None, None
    half = ratio * math.hypot((a_high - a) / a, (b_high - b) / b)
    return ratio, ratio - half, ratio + half


def _remarks(rows: list[Row], pair: str, predicted: float) -> list[str]:
    asymmetric = [r for r in rows if r["pair"] == pair and r["variant"] == "asymmetric"]
    medians = ", ".join(f"{r['attack']} {r['median']:.3f}" for r in asymmetric)
    remarks = [
        "Off its subspace a typical point has to move "
        f"{predicted:.3f} until the broad component of the other class is more probable than its "
        f"own narrow one (sigma sqrt(2 (N - l) ln(sigma_out / sigma)) - sigma sqrt(N - l)). "
        f"Medians of the attacks on asymmetric {pair}: {medians}."
    ]
    far = {r["attack"]: r["n_beyond_1.5_formula"] for r in asymmetric if r["n_beyond_1.5_formula"]}
    if far:
        words = ", ".join(f"{name} at {n}" for name, n in far.items())
        remarks.append(
            f"Of {plural(asymmetric[0]['n_points'], 'point')} each, attacks stayed more than half "
            f"as far again away or failed: {words}. Their means are those of the attacks, not of "
            "the problem; computed steps aim at the likeliest component of the other class, "
            "which need not be the broad one."
        )
    return remarks


def _overview(runs: Mapping[str, Run], pair: str) -> Panel:
    shown = {
        "optimal, asymmetric": runs[f"{pair}/asymmetric/{PUBLISHED}"],
        "optimal, symmetric": runs[f"{pair}/symmetric/{PUBLISHED}"],
        "CNN, symmetric": runs["CNN"],
        "RBF SVM, symmetric": runs["RBF SVM"],
    }
    sheets = {name: Sheet.from_run(run, per_class=1) for name, run in shown.items()}
    rows = [
        {"attacked": name, "mean_distance": mean_of_points(sheet.distance)[0]}
        for name, sheet in sheets.items()
    ]
    return Panel(
        name="contrast-overview",
        title=f"Images before and after the attack, {pair} (Figure 1)",
        caption=(
            "One sample of each class (top) and the same attacked (bottom). Where the problem is "
            "asymmetric even the optimal classifier changes its mind over invisible changes; where "
            "it is symmetric only a poorer classifier does."
        ),
        draw=lambda: draw_overview(sheets),
        data=rows,
    )


def draw_overview(sheets: Mapping[str, Sheet]) -> Figure:
    """Draw samples above attacked samples, a block for each classifier."""
    from trueboundary.figures import new_figure

    figure, axes = new_figure(len(sheets), width=2.3 * len(sheets), height=3.1)
    for block, (name, sheet) in zip(axes, sheets.items(), strict=True):
        picture = tile([sheet.original, sheet.adversarial], sheet.image_shape)
        block.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        block.grid(visible=False)
        block.set_xticks([])
        block.set_yticks([])
        for spine in block.spines.values():
            spine.set_visible(False)
        block.set_title(name)
        block.set_xlabel(f"mean L2 {mean_of_points(sheet.distance)[0]:.2f}")
    axes[0].set_ylabel("attacked          sample")
    return figure


def _means(rows: list[Row], predicted: float) -> Panel:
    return Panel(
        name="contrast-means",
        title="Mean attacks on the optimal classifier (Figure 4)",
        caption=(
            "Mean L2 distance that three attacks need to change the decision of the optimal "
            "classifier, with 95 % intervals. Crosses: the paper's values for 0/6. Dotted: the "
            "distance at which a typical point of an asymmetric problem leaves its component."
        ),
        draw=lambda: draw_means(rows, predicted),
        data=[*rows, {"attack": "formula", "variant": "asymmetric", "mean_distance": predicted}],
    )


def draw_means(rows: list[Row], predicted: float) -> Figure:
    """Draw mean distances by pair and variant, attacks in colours."""
    from trueboundary.figures import COLOURS, CYCLE, new_figure

    figure, (axes,) = new_figure(width=7.6, height=4.2)
    pairs = list(dict.fromkeys(r["pair"] for r in rows))
    places = [(pair, variant) for pair in pairs for variant in VARIANTS]
    names = list(ATTACKS.values())
    for r in rows:
        place = places.index((r["pair"], r["variant"])) + 0.16 * (names.index(r["attack"]) - 1)
        first = (r["pair"], r["variant"]) == places[0]
        colour = CYCLE[names.index(r["attack"])]
        if math.isfinite(r["mean_distance"]):
            mean = r["mean_distance"]
            ends = [[mean - (r["low"] or mean)], [(r["high"] or mean) - mean]]
            label = r["attack"] if first else None
            axes.errorbar(place, mean, yerr=ends, fmt="o", color=colour, capsize=3, label=label)
    for (pair, variant), value in ((p, PAPER[p[1]]) for p in places if p[0] == PAPER_PAIR):
        label = "the paper's" if variant == VARIANTS[0] else None
        place = places.index((pair, variant)) - 0.3
        axes.plot(place, value, "x", color=COLOURS["paper"], ms=9, mew=2.4, label=label)
    label = f"formula, {predicted:.3f}"
    axes.axhline(predicted, color=COLOURS["truth"], linestyle=":", linewidth=1.2, label=label)
    axes.set_xticks(range(len(places)), [f"{pair}\n{variant}" for pair, variant in places])
    axes.set_ylabel("mean L2 of the attack")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=9, ncols=3, loc="upper center")
    return figure


def _sheet(runs: Mapping[str, Run], pair: str) -> Panel:
    sheets = {str(v): Sheet.from_run(runs[f"{pair}/{v}/{PUBLISHED}"]) for v in VARIANTS}
    return Panel(
        name=f"contrast-sheet-{pair.replace('/', '-')}",
        title=f"Attacks on the optimal classifier, {pair} (Figure 4)",
        caption=(
            "Test points, the same attacked along the gradient, and the changes (grey is none), "
            "for the symmetric and the asymmetric problem. Below: changes of all pixels of all "
            "attacked images; dotted lines at 5/255, outermost bars for all beyond 1/2."
        ),
        draw=lambda: draw_sheet(sheets),
        data=sheet_rows(pair, sheets),
    )


EXPERIMENT = Experiment(
    id="bayes-contrast",
    paper="bayes",
    place="Figures 1, 4 and 7",
    title="The optimal classifier of symmetric and asymmetric problems",
    question="How small a change fools the optimal classifier, with and without broad components?",
    plan=plan,
    analyse=analyse,
)
