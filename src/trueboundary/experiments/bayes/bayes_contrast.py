"""What asymmetry does to the optimal classifier (Richardson and Weiss 2021, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary import theory
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.bayes.pixel_changes import claims_on_pixels
from trueboundary.experiments.bayes.published import printed_numbers
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import (
    chosen,
    distance_row,
    estimate,
    nearest_distances,
)
from trueboundary.experiments.images.attacked_images import AttackName, Floats, distances
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import draw_groups
from trueboundary.experiments.images.image_fits import (
    ImageTask,
    ImageVariant,
    ManuscriptTask,
    OnImages,
)
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    image_task,
    planned_classifiers,
    under,
    words_of,
)
from trueboundary.experiments.images.orderings import decide, smallest
from trueboundary.experiments.images.sheets import Sheet, sheet_panel
from trueboundary.experiments.images.trained_classifiers import Accuracy
from trueboundary.experiments.summaries import (
    Estimate,
    extreme,
    mean_of_points,
    ratio_of_means,
    share_row,
)
from trueboundary.experiments.work_rates import RATES
from trueboundary.figure_parts import show_pictures
from trueboundary.figures import COLOURS, CYCLE, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

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


@dataclass(frozen=True)
class OutlierSides(OnImages):
    """How far test points are from where the other class's outlier is likelier than their own.

    The outliers are spheres of one size and weight, so that this is a plane halfway between them.
    The result's array ``to_cross`` is the way to it, 0 for points that are past it already.

    Parameters
    ----------
    n_points, seed : int
        Number and seed of the points, those of `AttackedImages`.
    """

    n_points: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

    def cost(self) -> float:
        """Return about the time to draw the points."""
        return RATES.run + self.task.seconds_of_points(self.n_points)

    def measure(self, context: Context) -> RunResult:
        """Project the points on the line through both outliers."""
        from trueboundary.densities import MixtureOfFactorAnalyzers

        problem = self.task.problem(context.inputs["fit"])
        means = []
        for density in (problem.density_0, problem.density_1):
            assert isinstance(density, MixtureOfFactorAnalyzers)  # as every image problem has
            means.append(density.means[-1].numpy())
        x, y = self.task.points(
            context.inputs["fit"], self.n_points, seed=self.seed, purpose="test"
        )
        apart = means[1] - means[0]
        along = (x.double().numpy() - (means[0] + means[1]) / 2) @ apart / np.linalg.norm(apart)
        return RunResult(
            {"available": True, "outliers_apart": float(np.linalg.norm(apart))},
            {"to_cross": np.maximum(np.where(y.numpy() == 0, -along, along), 0.0)},
        )


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Attack the optimal classifier of both variants of each pair, and two learned ones."""
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        for variant in VARIANTS:
            task = image_task(name, settings, seed, variant=variant)
            found = attacks_on(task, None, settings, seed, attacks=tuple(ATTACKS))
            runs |= under(f"{name}/{variant}", found)
            for rule, own in {"sum": task, "component": _by_component(task)}.items():
                decided = Accuracy(own, None, settings["n_rule_points"], seed=seed)
                runs[f"{name}/{variant}/{rule}"] = decided
    runs |= _manuscript_runs(settings, seed)
    first = image_task(settings["dataset"][0], settings, seed)
    classifiers = planned_classifiers(first, settings, seed, device)
    for words in _LEARNED:
        runs |= under(
            words, attacks_on(first, classifiers[words], settings, seed, attacks=["nearest"])
        )
    return runs


def _by_component(task: ImageTask) -> ManuscriptTask:
    """Return the task decided by the most likely component of each class."""
    return ManuscriptTask(task.fit, task.variant, task.noise_std)


def _manuscript_stds(settings: Settings) -> tuple[float, float]:
    """Return the manuscript's standard deviations of noise and of outliers."""
    return settings["manuscript_noise_std"], settings["manuscript_outlier_std"]


def _manuscript_runs(settings: Settings, seed: int) -> dict[str, RunConfig]:
    """Return attacks on the first pair: by the manuscript's rule, and with all of its recipe."""
    name, runs = settings["dataset"][0], dict[str, RunConfig]()
    noise_std, outlier_std = _manuscript_stds(settings)
    for variant in VARIANTS:
        task = image_task(name, settings, seed, variant=variant)
        own = ManuscriptTask(task.fit, variant, noise_std, outlier_std)
        rule = attacks_on(_by_component(task), None, settings, seed, attacks=["nearest"])
        runs |= under(f"{name}/{variant}/component", rule)
        recipe = attacks_on(own, None, settings, seed, attacks=["gradient", "nearest"])
        runs |= under(f"{name}/{variant}/manuscript", recipe)
        if variant == "asymmetric":
            runs[f"{name}/sides"] = OutlierSides(own, settings["n_points"], seed)
    return runs


@unless_images_are_missing("bayes-contrast")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Hold the two variants against each other and against the formula."""
    names = settings["dataset"]
    shape = runs[f"{names[0]}/symmetric/nearest"].summary["image_shape"]
    sizes: Any = {"dim": math.prod(shape), "n_factors": settings["n_factors"]}
    predicted = theory.gaussian_pairs.outlier_attack_size(
        settings["noise_std"], _OUTLIER_STD, **sizes
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
    claims |= {
        "B1.7c": lambda: _contrast(runs, names),
        "B1.7d": lambda: _manuscript_contrast(runs, names[0]),
        "B1.18": lambda: _agreement(runs, names),
        "T9": lambda: _manuscript_size(runs, names[0], *_manuscript_stds(settings), **sizes),
        "T10": lambda: _rule_sizes(runs, names[0]),
    }
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


def _manuscript_contrast(runs: Mapping[str, Run], name: str) -> Measurement:
    """Return the ratio of the variants' mean attacks with the manuscript's recipe."""
    above, below = (nearest_distances(runs, f"{name}/{variant}/manuscript") for variant in VARIANTS)
    ratio = ratio_of_independent_means(mean_of_points(above), mean_of_points(below))
    note = (
        f"The shorter of two attacks at each point, computed gradient steps and the nearest error: "
        f"{mean_of_points(above)[0]:.3f} against {mean_of_points(below)[0]:.4f}."
    )
    return Measurement(*ratio, n=len(above), note=note)


def _manuscript_size(
    runs: Mapping[str, Run], name: str, noise_std: float, outlier_std: float, **sizes: int
) -> Measurement:
    """Return the mean attack on the asymmetric variant with the manuscript's recipe."""
    prefix = f"{name}/asymmetric/manuscript"
    found, to_cross = nearest_distances(runs, prefix), runs[f"{name}/sides"].arrays["to_cross"]
    formula = attack_sizes_by_side(to_cross, noise_std, outlier_std, **sizes)
    past = to_cross == 0
    parts = [f"{mean_of_points(found[some])[0]:.4f} at {some.sum()}" for some in (past, ~past)]
    note = (
        f"The shorter of two attacks at each point; median {np.median(found):.4f}. By the side of "
        f"the outliers that points are on: {parts[0]} where the other class's is the likelier, "
        f"{parts[1]} that have to cross over first. The exact column is the formula at the same "
        f"points; where there is nothing to cross it says {formula.min():.4f}."
    )
    exact = float(formula.mean())
    return Measurement(*mean_of_points(found), n=len(found), exact=exact, note=note)


def attack_sizes_by_side(
    to_cross: Floats, noise_std: float, outlier_std: float, *, dim: int, n_factors: int
) -> Floats:
    r"""Return the sizes of attacks that hand points over to the other class's outlier.

    A typical point has a residual of length :math:`r = \sigma \sqrt{m}` off its subspace and needs
    one of :math:`r + a`, with :math:`a` as in `theory.gaussian_pairs.outlier_attack_size`. It must
    not be handed over to its own class's outlier, and has :math:`t` = `to_cross` to go until the
    other's is the likelier, at a right angle to the residual. The shortest step that does both goes
    :math:`t` across and :math:`\sqrt{\max((r + a)^2 - t^2, r^2)} - r` along the residual.

    Examples
    --------
    >>> to_cross = np.array([0.0, 0.05, 0.5])
    >>> sizes = attack_sizes_by_side(to_cross, 0.001, 0.5**0.5, dim=784, n_factors=6)
    >>> sizes.round(3).tolist()
    [0.073, 0.078, 0.5]
    """
    typical = noise_std * math.sqrt(dim - n_factors)
    size = theory.gaussian_pairs.outlier_attack_size(noise_std, outlier_std, dim, n_factors)
    along = np.sqrt(np.maximum((typical + size) ** 2 - to_cross**2, typical**2)) - typical
    sizes: Floats = np.hypot(along, to_cross)
    return sizes


def _agreement(runs: Mapping[str, Run], names: Sequence[str]) -> Measurement:
    """Return the smallest share of points that both rules decide alike."""
    shares, cells = [], Rows()
    for name in names:
        for variant in VARIANTS:
            # Of two classes, the decisions are the same where both are right or both are wrong.
            by_sum, by_component = (
                runs[f"{name}/{variant}/{rule}"].arrays["correct"] for rule in ("sum", "component")
            )
            n_alike = int((by_sum == by_component).sum())
            row = share_row(n_alike, len(by_sum))
            shares.append((row["rate"], row["low"], row["high"]))
            cells.append(
                {"dataset": name, "variant": variant, "n_points": len(by_sum)}
                | {"n_decided_otherwise": len(by_sum) - n_alike}
                | {"accuracy of the sum": float(by_sum.mean())}
                | {"accuracy by component": float(by_component.mean())}
            )
    n_other = sum(cell["n_decided_otherwise"] for cell in cells)
    n = sum(cell["n_points"] for cell in cells)
    note = f"Decided otherwise at {n_other} of {plural(n, 'point')} of all problems."
    return Measurement(*extreme(shares, min), n=cells[0]["n_points"], cells=cells, note=note)


def _rule_sizes(runs: Mapping[str, Run], name: str) -> Measurement:
    """Return the mean attack on the rule by components over that on the sum.

    NaN where the attack on either never succeeds.
    """
    ratios, parts, n = [], [], 0
    for variant in VARIANTS:
        pair = np.stack(
            [distances(runs[f"{name}/{variant}/{rule}nearest"]) for rule in ("component/", "")]
        )
        n, pair = pair.shape[1], pair[:, np.isfinite(pair).all(axis=0) & (pair[1] > 0)]
        if pair.size == 0:
            return Measurement(math.nan)
        ratios.append(ratio_of_means(*pair))
        largest = float(np.abs(pair[0] / pair[1] - 1).max())
        parts.append(
            f"{variant} {ratios[-1][0]:.5f}, at single points off by {largest:.2%} at most"
        )
    farther = max(ratios, key=lambda ratio: abs(ratio[0] - 1))
    return Measurement(*farther, n=n, note=f"{'; '.join(parts)}.")


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
    n_points = counted((len(sheet.distance) for sheet in sheets.values()), "point")

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
        caption="One sample of each class (top) and the same attacked (bottom); below, the mean "
        f"distance over {n_points}. Where the problem "
        "is asymmetric even the optimal classifier changes its mind over invisible changes; where "
        "it is symmetric only a poorer classifier does.",
        draw=draw,
        data=[distance_row(sheet.distance, attacked=words) for words, sheet in sheets.items()],
    )


def _means(rows: Rows, predicted: float) -> Panel:
    n_points = counted((row["n_points"] for row in rows), "point")

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
        f"classifier, with 95 % intervals over {n_points}. Crosses: the paper's values for 0/6. "
        "Dotted: the distance at which a typical point of an asymmetric problem leaves its "
        "component.",
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
        attacked="optimal, {}",
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
