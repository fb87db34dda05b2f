"""What asymmetry does to the optimal classifier (Richardson and Weiss 2021, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.bayes.pixel_changes import claims_on_pixels
from trueboundary.experiments.bayes.published import printed_numbers
from trueboundary.experiments.images.attack_tables import chosen, distance_row, estimate
from trueboundary.experiments.images.attacked_images import AttackName, distances
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import draw_groups
from trueboundary.experiments.images.image_fits import ImageVariant
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    image_task,
    planned_classifiers,
    under,
    words_of,
)
from trueboundary.experiments.images.orderings import decide, smallest
from trueboundary.experiments.images.sheets import Sheet, sheet_panel, show_pictures
from trueboundary.experiments.summaries import Estimate, mean_of_points
from trueboundary.figures import COLOURS, CYCLE, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANTS: tuple[ImageVariant, ...] = ("symmetric", "asymmetric")
#: The claims' numbers stand in the journal version, whose gradient attack takes fixed steps.
PUBLISHED: AttackName = "gradient-fixed"
ATTACKS: Mapping[AttackName, str] = {
    PUBLISHED: "gradient, fixed steps",
    "gradient": "gradient, computed steps",
    "nearest": "nearest error",
}
_CLAIMS: Mapping[ImageVariant, str] = {"symmetric": "B1.7a", "asymmetric": "B1.7b"}
_LEARNED = ("CNN", "RBF SVM")
_OUTLIER_STD = 0.5


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Attack the optimal classifier of both variants of each pair, and two learned ones."""
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        for variant in VARIANTS:
            task = image_task(name, settings, seed, variant=variant)
            found = attacks_on(task, None, settings, seed, attacks=tuple(ATTACKS))
            runs |= under(f"{name}/{variant}", found)
    first = image_task(settings["dataset"][0], settings, seed)
    classifiers = planned_classifiers(first, settings, seed, device)
    for words in _LEARNED:
        runs |= under(
            words, attacks_on(first, classifiers[words], settings, seed, attacks=["nearest"])
        )
    return runs


@unless_images_are_missing("bayes-contrast")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Hold the two variants against each other and against the formula."""
    names = settings["dataset"]
    shape = runs[f"{names[0]}/symmetric/nearest"].summary["image_shape"]
    predicted = residual_distance(
        settings["noise_std"], math.prod(shape), settings["n_factors"], _OUTLIER_STD
    )
    rows = [
        _row(runs, name, variant, attack, 1.5 * predicted)
        for name in names
        for variant in VARIANTS
        for attack in ATTACKS
    ]
    claims: dict[str, Callable[[], Measurement]] = {
        claim: partial(_published, chosen(rows, dataset=names[0], variant=variant))
        for variant, claim in _CLAIMS.items()
    }
    claims |= {"B1.7c": lambda: _contrast(runs, names)}
    claims |= claims_on_pixels(
        _attacked(runs, names), f"digits of {math.prod(shape)} pixels; the paper says it of faces"
    )
    measurements, undecided = decide(claims)
    return Analysis(
        panels=[
            _overview(runs, names[0]),
            _means(rows, predicted),
            *(_sheet(runs, name) for name in names),
        ],
        measurements=measurements,
        remarks=_remarks(rows, names[0], predicted) + undecided,
    )


def residual_distance(
    noise_std: float, dim: int, n_factors: int, outlier_std: float = _OUTLIER_STD
) -> float:
    r"""Return how far a typical point must leave its component to look like an outlier.

    Off its subspace, of dimension l = `n_factors` of N = `dim`, a point has a residual of about
    :math:`\sigma \sqrt{N - l}`, with the noise :math:`\sigma` of the narrow components. The broad
    one, of standard deviation s = `outlier_std`, becomes the more probable where the residual is
    :math:`\sigma \sqrt{2 (N - l) \ln(s / \sigma)}`; the difference is the length of the attack,
    whatever the components' weights and loadings, which change it by little.

    Examples
    --------
    >>> round(residual_distance(0.01, 784, 6), 3)
    0.501
    """
    n_free = dim - n_factors
    return noise_std * math.sqrt(n_free) * (math.sqrt(2 * math.log(outlier_std / noise_std)) - 1)


def _row(
    runs: Mapping[str, Run], name: str, variant: ImageVariant, attack: AttackName, far: float
) -> Row:
    """Return the distances of one attack in a few numbers, those above `far` counted."""
    run = runs[f"{name}/{variant}/{attack}"]
    found = distances(run)
    row = distance_row(found, dataset=name, variant=variant, attack=ATTACKS[attack])
    row["n_beyond_1.5_formula"] = int((found > far).sum())
    row["accuracy"] = run.summary["n_correct"] / run.summary["n_points"]
    known = attack == PUBLISHED and name == "mnist/0-6"
    return row | {"paper": printed_numbers(_CLAIMS[variant])[0] if known else None}


def _published(rows: Rows) -> Measurement:
    """Return the mean of the published attack, with those of the others in its note."""
    others = ", ".join(
        f"{r['attack']} {r['mean_l2']:.2f} (median {r['median_l2']:.2f})" for r in rows
    )
    (published,) = chosen(rows, attack=ATTACKS[PUBLISHED])
    note = f"Fixed steps, as in the journal version; {published['n_failed']} failed. All: {others}."
    return Measurement(*estimate(published, "mean_l2"), n=published["n_points"], note=note)


def _contrast(runs: Mapping[str, Run], names: Sequence[str]) -> Measurement:
    """Return the smallest ratio of the symmetric problem's mean attack to the asymmetric one's."""
    ratios = {}
    for name in names:
        above, below = (
            mean_of_points(distances(runs[f"{name}/{variant}/{PUBLISHED}"])) for variant in VARIANTS
        )
        ratios[name] = ratio_of_independent_means(above, below)
    n = len(distances(runs[f"{names[0]}/symmetric/{PUBLISHED}"]))
    return smallest(ratios, n, "Fixed steps")


def ratio_of_independent_means(numerator: Estimate, denominator: Estimate) -> Estimate:
    """Return the ratio of two means of different points, with its 95 % interval (Taylor series).

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


def _attacked(runs: Mapping[str, Run], names: Sequence[str]) -> dict[str, Run]:
    """Return the attacks whose changes of pixels are looked at, by the words for the classifier."""
    optimal = {
        f"optimal, {variant} {words_of(name)}": runs[f"{name}/{variant}/{PUBLISHED}"]
        for variant in VARIANTS
        for name in names
    }
    learned = {
        f"{words}, symmetric {words_of(names[0])}": runs[f"{words}/nearest"] for words in _LEARNED
    }
    return optimal | learned


def _remarks(rows: Rows, name: str, predicted: float) -> list[str]:
    asymmetric = chosen(rows, dataset=name, variant="asymmetric")
    medians = ", ".join(f"{r['attack']} {r['median_l2']:.3f}" for r in asymmetric)
    remarks = [
        "Off its subspace a typical point has to move "
        f"{predicted:.3f} until the broad component of the other class is more probable than its "
        f"own narrow one (sigma sqrt(2 (N - l) ln(sigma_out / sigma)) - sigma sqrt(N - l)). "
        f"Medians of the attacks on asymmetric {words_of(name)}: {medians}."
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


def _overview(runs: Mapping[str, Run], name: str) -> Panel:
    shown = {
        "optimal, asymmetric": runs[f"{name}/asymmetric/{PUBLISHED}"],
        "optimal, symmetric": runs[f"{name}/symmetric/{PUBLISHED}"],
        **{f"{words}, symmetric": runs[f"{words}/nearest"] for words in _LEARNED},
    }
    sheets = {words: Sheet.from_run(run, per_class=1) for words, run in shown.items()}

    def draw() -> Figure:
        figure, axes = new_figure(len(sheets), width=2.3 * len(sheets), height=3.1)
        for block, (words, sheet) in zip(axes, sheets.items(), strict=True):
            show_pictures(block, [sheet.original, sheet.adversarial], sheet.image_shape)
            block.set_title(words)
            block.set_xlabel(f"mean L2 {mean_of_points(sheet.distance)[0]:.2f}")
        axes[0].set_ylabel("attacked          sample")
        return figure

    return Panel(
        name="contrast-overview",
        title=f"Images before and after the attack, {words_of(name)} (Figure 1)",
        caption="One sample of each class (top) and the same attacked (bottom). Where the problem "
        "is asymmetric even the optimal classifier changes its mind over invisible changes; where "
        "it is symmetric only a poorer classifier does.",
        draw=draw,
        data=[distance_row(sheet.distance, attacked=words) for words, sheet in sheets.items()],
    )


def _means(rows: Rows, predicted: float) -> Panel:
    def draw() -> Figure:
        figure, (axes,) = new_figure(width=7.6, height=4.2)
        drawn = [row | {"problem": f"{words_of(row['dataset'])}\n{row['variant']}"} for row in rows]
        colours = dict(zip(ATTACKS.values(), CYCLE, strict=False))
        draw_groups(axes, drawn, colours, group="problem", series="attack")
        label = f"formula, {predicted:.3f}"
        axes.axhline(predicted, color=COLOURS["truth"], linestyle=":", linewidth=1.2, label=label)
        axes.set_ylabel("mean L2 of the attack")
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
        axes.legend(frameon=False, fontsize=9, ncols=3, loc="upper center")
        return figure

    return Panel(
        name="contrast-means",
        title="Mean attacks on the optimal classifier (Figure 4)",
        caption="Mean L2 distance that three attacks need to change the decision of the optimal "
        "classifier, with 95 % intervals. Crosses: the paper's values for 0/6. Dotted: the "
        "distance at which a typical point of an asymmetric problem leaves its component.",
        draw=draw,
        data=[*rows, {"attack": "formula", "variant": "asymmetric", "mean_l2": predicted}],
    )


def _sheet(runs: Mapping[str, Run], name: str) -> Panel:
    return sheet_panel(
        "contrast",
        name,
        {str(v): Sheet.from_run(runs[f"{name}/{v}/{PUBLISHED}"]) for v in VARIANTS},
        title=f"Attacks on the optimal classifier, {words_of(name)} (Figure 4)",
        caption="Test points, the same attacked along the gradient, and the changes (grey is "
        "none), for the symmetric and the asymmetric problem. Below: changes of all pixels of all "
        "attacked images; dotted lines at 5/255, outermost bars for all beyond 1/2.",
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
