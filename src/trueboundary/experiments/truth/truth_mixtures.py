"""The robustness of optimal image classifiers, proven image by image.

Richardson & Weiss attack the optimal classifier and take the failure of small perturbations as
robustness. Here every image gets a bracket: no error is nearer than its lower end, and an error is
known at its upper end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary import theory
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, rows_of
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.image_fits import ImageVariant, OnImages
from trueboundary.experiments.images.image_plans import image_task, words_of
from trueboundary.experiments.summaries import mean_of_points
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, add_legend, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANTS: tuple[ImageVariant, ...] = ("symmetric", "asymmetric")
_CURVES = (
    ("cheap", "-", "grey", "cheap certificate"),
    ("lower", "-", "truth", "proven lower bound"),
    ("upper", "--", "outer", "nearest error known"),
)


@dataclass(frozen=True)
class MixtureBrackets(OnImages):
    """Brackets of the distance to the nearest error of the optimal classifier.

    Of `n_points` samples those are left out that the classifier gets wrong.
    """

    version: ClassVar[int] = 3  # 2 was wider, 1 lost digits next to means

    n_points: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

    def cost(self) -> float:
        """Return about the time of all points."""
        return RATES.run + self.n_points * self.task.fit.n_parameters * RATES.bracket

    def measure(self, context: Context) -> RunResult:
        """Bracket the distance of every correctly classified sample, for log-sum-exp margins."""
        import torch

        from trueboundary.certificates import LipschitzMixtureCertificate, bracket

        fit = context.inputs["fit"]
        x, y = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        classifier = self.task.problem(fit).bayes_classifier(dtype=torch.float64)
        right = classifier.predict(x.double()) == y
        x, y = x[right].double(), y[right]
        found = bracket(classifier, x, y)
        return RunResult(
            {"available": True, "n_points": self.n_points, "n_right": len(x)},
            {
                "lower": found.lower.numpy(),
                "upper": found.upper.numpy(),
                "cheap": LipschitzMixtureCertificate()(classifier, x, y).distance.numpy(),
            },
        )


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Bracket both variants of one pair."""
    del device
    pair, n_points = settings["dataset"], settings["n_points"]
    tasks = {name: image_task(pair, settings, seed, variant=name) for name in VARIANTS}
    return {name: MixtureBrackets(task, n_points, seed) for name, task in tasks.items()}


@unless_images_are_missing("truth-mixtures")
def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Say how far from an error each image is proven to be, and how tight the proof is."""
    rows = [row(variant, runs[variant]) for variant in VARIANTS]
    symmetric, asymmetric = rows
    return Analysis(
        panels=[_panel(runs, settings)],
        measurements={
            "T6": Measurement(
                symmetric["smallest_lower"],
                n=symmetric["n_right"],
                cells=rows,
                note="The smallest of all proven distances.",
            ),
            "T7": Measurement(
                symmetric["median_lower"] / asymmetric["median_upper"],
                n=min(symmetric["n_right"], asymmetric["n_right"]),
                cells=rows,
                note="A lower bound on the ratio of the two medians, both proven.",
            ),
        },
        remarks=[_remark(r) for r in rows],
    )


def row(variant: str, run: Run) -> Row:
    """Return one variant's brackets in a few numbers."""
    lower, upper = run.arrays["lower"], run.arrays["upper"]
    found = np.isfinite(upper)
    width = np.where(found, 1 - lower / np.where(found, upper, 1.0), 1.0)
    mean, low, high = mean_of_points(upper)
    return {
        "variant": variant,
        "n_points": run.summary["n_points"],
        "n_right": run.summary["n_right"],
        "smallest_lower": float(lower.min()),
        "median_lower": theory.intervals.censored_median(lower),
        "median_upper": theory.intervals.censored_median(upper),
        "mean_upper": mean,
        "mean_upper_low": low,
        "mean_upper_high": high,
        "median_width": float(np.median(width)),
        "largest_width": float(width.max()),
        "median_cheap": theory.intervals.censored_median(run.arrays["cheap"]),
    }


def _remark(r: Row) -> str:
    return (
        f"{r['variant'].capitalize()}: {r['n_right']} of {plural(r['n_points'], 'sample')} are "
        f"classified right. Their distances to the nearest error have a median between "
        f"{r['median_lower']:.4f} and {r['median_upper']:.4f}; the median relative width of a "
        f"bracket is {r['median_width']:.1e}, the largest {r['largest_width']:.1e}. The cheap "
        f"certificate proves {r['median_cheap']:.3f} (median)."
    )


def _panel(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Panel:
    samples = " and ".join(f"{len(runs[v].arrays['lower']):,} ({v})" for v in VARIANTS)

    def draw() -> Figure:
        figure, axes = new_figure(2, width=9.6, height=3.8)
        for panel, variant in zip(axes, VARIANTS, strict=True):
            arrays = runs[variant].arrays
            share = (np.arange(len(arrays["lower"])) + 1) / len(arrays["lower"])
            for name, style, colour, label in _CURVES:
                values = np.sort(arrays[name])
                panel.plot(values, share, style, color=COLOURS[colour], label=label)
            panel.set(title=variant, xlim=(0, None), xlabel="distance to the nearest error (L2)")
            panel.set(ylim=(0, 1), ylabel="share of images that are nearer")
        add_legend(axes[0], location="upper left")
        return figure

    return Panel(
        "truth-mixtures",
        f"How far each image of {words_of(settings['dataset'])} is from an error of the optimal "
        "classifier",
        "Every curve runs over the correctly classified samples of one problem, "
        f"{samples}. Between the proven "
        "lower bound and the nearest error known lies the true distance: where the two curves "
        "coincide, robustness is a fact about each image and not the failure of an attack.",
        draw,
        [
            {"variant": variant} | row
            for variant in VARIANTS
            for row in rows_of(**{n: runs[variant].arrays[n] for n in ("lower", "upper", "cheap")})
        ],
    )


EXPERIMENT = Experiment(
    id="truth-mixtures",
    paper="truth",
    place="Richardson & Weiss, section 3",
    title="The optimal classifier's robustness, proven image by image",
    question="Is the optimal classifier robust, or did the attacks on it fail?",
    plan=plan,
    analyse=analyse,
)
