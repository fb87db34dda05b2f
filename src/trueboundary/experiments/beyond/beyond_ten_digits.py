"""Whether what Richardson and Weiss (2021) say of pairs of classes holds for ten.

On problems whose optimal classifier is robust they find a CNN accurate and yet brittle, and an RBF
SVM almost as robust as the optimum. Their problems have two classes; here they are all ten digits,
each with its own symmetric mixture, and every classifier is attacked and, where a proof is known,
certified at the same points. What counts as brittle and as robust was fixed before the first run:
the bounds are those of the claims on pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import distance_row, share, with_interval
from trueboundary.experiments.images.attacked_images import AttackedImages, Floats, distances
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.certified_images import CertifiedImages
from trueboundary.experiments.images.drawn_rows import classifier_colours, draw_groups
from trueboundary.experiments.images.image_plans import (
    Settings,
    planned_cnn,
    task_of_classes,
)
from trueboundary.experiments.images.orderings import ACCURATE, BRITTLE, ROBUST
from trueboundary.experiments.images.trained_classifiers import (
    Accuracy,
    TrainedClassifier,
    TrainedSoftmax,
    TrainedSVM,
)
from trueboundary.experiments.summaries import (
    Estimate,
    median_of_points,
    ratio_of_means,
    share_measurement,
    share_row,
)
from trueboundary.figures import COLOURS, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIMAL, CNN, RBF, SOFTMAX, TRADES = CLASSIFIERS = (
    "optimal",
    "CNN",
    "RBF SVM",
    "softmax regression",
    "TRADES",
)
#: The findings that are ratios to the optimal classifier.
_RATIOS = {"T12": CNN, "T13": RBF, "T14": SOFTMAX, "T15": TRADES}


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Train four classifiers, and attack, certify and test them and the optimal one."""
    task = task_of_classes(settings["dataset"], settings, seed)
    if task.fit.n_classes < 3:
        raise ValueError(
            f"it asks about three classes or more, got {settings['dataset']!r}; bayes-symmetric is "
            "about pairs"
        )
    n_train, n_points = settings["n_train"], settings["n_points"]
    classifiers: dict[str, TrainedClassifier | None] = {
        OPTIMAL: None,
        CNN: planned_cnn(task, settings, seed, device),
        RBF: TrainedSVM(task, n_train, seed, "rbf"),
        SOFTMAX: TrainedSoftmax(
            task,
            n_train,
            seed,
            n_steps=settings["softmax_steps"],
            learning_rate=settings["learning_rate"],
        ),
        TRADES: planned_cnn(task, settings, seed, device, beta=float(settings["beta"])),
    }
    runs: dict[str, RunConfig] = {}
    for words, classifier in classifiers.items():
        if classifier is not None:
            runs[words] = classifier
        runs[f"{words}/nearest"] = AttackedImages(task, classifier, "nearest", n_points, seed=seed)
        runs[f"{words}/proven"] = CertifiedImages(task, classifier, n_points, seed=seed)
        runs[f"{words}/test"] = Accuracy(task, classifier, settings["n_test"], seed=seed)
    return runs


@unless_images_are_missing("beyond-ten-digits")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Hold every classifier against the optimal one, point by point."""
    rows = [classifier_row(runs, words) for words in CLASSIFIERS]
    measurements = {finding: _ratio(runs, words, rows) for finding, words in _RATIOS.items()} | {
        "T16": _proven(runs),
        "T17": _same_class(runs),
    }
    return Analysis(
        panels=[_distances(runs, rows, settings), _rates(runs, settings)],
        measurements={
            name: found for name, found in measurements.items() if not np.isnan(found.number)
        },
        remarks=[_remark(row) for row in rows],
    )


def upper_bounds(runs: Mapping[str, Run], words: str) -> Floats:
    """Return the distance of each point to the nearest error known, by the attack or a proof."""
    found, known = distances(runs[f"{words}/nearest"]), runs[f"{words}/proven"].arrays["upper"]
    nearer: Floats = np.minimum(found, known)
    return nearer


def classifier_row(runs: Mapping[str, Run], words: str) -> Row:
    """Return one row of the table: what is known of a classifier at the points."""
    upper, lower = upper_bounds(runs, words), runs[f"{words}/proven"].arrays["lower"]
    test = runs[f"{words}/test"]
    worst = max(class_rows(test), key=lambda row: float(row["rate"]))
    ratio = ratio_of_means(upper, upper_bounds(runs, OPTIMAL))
    return (
        distance_row(upper, classifier=words)
        | {"median_proven": float(np.median(lower))}
        | {"certificate": runs[f"{words}/proven"].summary["certificate"]}
        | with_interval("ratio", ratio)
        | {"is": "" if words == OPTIMAL else verdict(ratio)}
        | share("accuracy", test.summary["n_correct"], test.summary["n_points"])
        | {"n_test": test.summary["n_points"]}
        | {"worst_class": worst["class"], "worst_error_rate": worst["rate"]}
    )


def class_rows(test: Run) -> Rows:
    """Return the error rate of each class that has test points, with its interval."""
    label, wrong = test.arrays["label"], ~test.arrays["correct"]
    n_wrong, n = np.bincount(label, wrong), np.bincount(label)
    return [
        {"class": of} | share_row(int(n_wrong[of]), int(n[of])) for of in np.flatnonzero(n).tolist()
    ]


def verdict(ratio: Estimate) -> str:
    """Say by its interval what a ratio to the optimal classifier's mean attack is.

    Examples
    --------
    >>> [verdict((0.5, 0.4, high)) for high in (0.7, 0.77, 0.9)], verdict((0.9, 0.85, 0.95))
    (['brittle', 'open', 'open'], 'robust')
    """
    _, low, high = ratio
    if low is None or high is None:
        return "open"
    if high <= BRITTLE:
        return "brittle"
    if low >= ROBUST:
        return "robust"
    return "between" if low > BRITTLE and high < ROBUST else "open"


def reached(runs: Mapping[str, Run], words: str) -> NDArray[np.int64]:
    """Return the class of the nearest error known at each point, -1 where none is."""
    attacked, proven = runs[f"{words}/nearest"].arrays, runs[f"{words}/proven"].arrays
    found = np.where(np.isfinite(attacked["distance"]), attacked["reached"], -1)
    by_proof = (proven["other"] >= 0) & (proven["upper"] < attacked["distance"])
    classes: NDArray[np.int64] = np.where(by_proof, proven["other"], found)
    return classes


def nearest_classes(runs: Mapping[str, Run], words: str, n_classes: int) -> NDArray[np.int64]:
    """Count at how many points of each decided class (row) the nearest error is of each other."""
    own, other = runs[f"{words}/nearest"].arrays["predicted"], reached(runs, words)
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (own[other >= 0], other[other >= 0]), 1)
    return counts


def _ratio(runs: Mapping[str, Run], words: str, rows: Rows) -> Measurement:
    row = next(row for row in rows if row["classifier"] == words)
    own, best = upper_bounds(runs, words), upper_bounds(runs, OPTIMAL)
    accuracy = row["accuracy"]
    note = f"{row['is'].capitalize()} by the bounds for pairs; accuracy {accuracy:.4f}"
    if words == CNN:
        note += f", which is {'' if row['accuracy_low'] >= ACCURATE else 'not shown to be '}"
        note += f"at least {ACCURATE}"
    return Measurement(*ratio_of_means(own, best), n=len(own), cells=rows, note=f"{note}.")


def _proven(runs: Mapping[str, Run]) -> Measurement:
    lower, upper = runs[f"{OPTIMAL}/proven"].arrays["lower"], upper_bounds(runs, OPTIMAL)
    width = np.median(1 - lower / upper) if np.isfinite(upper).all() else np.nan
    note = f"The smallest is {lower.min():.3f}; median relative width of the brackets {width:.1e}."
    return Measurement(*median_of_points(lower), n=len(lower), note=note)


def _same_class(runs: Mapping[str, Run]) -> Measurement:
    own, best = (reached(runs, words) for words in (CNN, OPTIMAL))
    right = [runs[f"{words}/nearest"].arrays["correct"] for words in (CNN, OPTIMAL)]
    counted = (own >= 0) & (best >= 0) & right[0] & right[1]
    if not counted.any():
        return Measurement(float("nan"))
    same = own[counted] == best[counted]
    return share_measurement(int(same.sum()), len(same))


def _remark(row: Row) -> str:
    words = row["classifier"]
    text = (
        f"{words[0].upper()}{words[1:]}: accuracy {row['accuracy']:.4f} "
        f"[{row['accuracy_low']:.4f}, {row['accuracy_high']:.4f}]"
    )
    if row["worst_error_rate"]:
        text += f", at worst that of class {row['worst_class']}, {1 - row['worst_error_rate']:.3f}"
    text += (
        f"; nearest errors known at {row['mean_l2']:.3f} on average, {row['median_l2']:.3f} in the "
        "median"
    )
    if row["n_failed"]:
        text += f" ({row['n_failed']} of {plural(row['n_points'], 'point')} without one)"
    if row["certificate"]:
        text += f", none nearer than {row['median_proven']:.3f} ({row['certificate']}, median)"
    if words != OPTIMAL:
        text += f"; {row['ratio']:.2f} of the optimal classifier's mean: {row['is']}"
    return f"{text}."


def _distances(runs: Mapping[str, Run], rows: Rows, settings: Settings) -> Panel:
    from trueboundary.data import parse_classes

    source, names = parse_classes(settings["dataset"])
    n_points = counted((row["n_points"] for row in rows), "test point")

    def draw() -> Figure:
        figure, axes = new_figure(3, width=11.4, height=4.0)
        _draw_distances(axes[0], runs, rows)
        counts = {words: nearest_classes(runs, words, len(names)) for words in (OPTIMAL, CNN)}
        most = max(1, *(table.max() for table in counts.values()))
        for panel, (words, table) in zip(axes[1:], counts.items(), strict=True):
            _draw_classes(panel, table, names, most)
            panel.set_title(f"nearest errors, {words}")
        return figure

    return Panel(
        "ten-digits",
        f"Distances to errors on symmetric {source.words(names)}, and where the errors are",
        f"Left: every classifier at the same {n_points}. Lines: the share of them whose nearest "
        "known error is nearer than a distance; faint: the distances within which there is proven "
        "to be none, where a proof is known. Middle and right: at how many of the points that a "
        "classifier gives to a class (row) the nearest error known is of another (column).",
        draw,
        rows,
    )


def _rates(runs: Mapping[str, Run], settings: Settings) -> Panel:
    from trueboundary.data import parse_classes

    names = parse_classes(settings["dataset"])[1]
    rows = [
        row | {"classifier": words, "rate_low": row["low"], "rate_high": row["high"]}
        for words in CLASSIFIERS
        for row in class_rows(runs[f"{words}/test"])
    ]
    n_points = counted((row["n_points"] for row in rows), "point")

    def draw() -> Figure:
        figure, (axes,) = new_figure(width=9.0, height=3.6)
        draw_groups(
            axes,
            rows,
            classifier_colours(CLASSIFIERS),
            group="class",
            series="classifier",
            value="rate",
            words=lambda label: names[int(label)],
            step=0.16,
        )
        axes.set(xlabel="class", ylabel="error rate")
        axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])  # rates of 0 are seen whole
        axes.legend(frameon=False, fontsize=9, ncols=len(CLASSIFIERS), loc="upper center")
        axes.set_ylim(top=1.15 * axes.get_ylim()[1])
        return figure

    return Panel(
        "ten-digits-rates",
        "Error rates by class",
        f"Share of test points of each class, {n_points}, that a classifier gives to another one, "
        "with 95 % intervals. The optimal classifier's is the least that any can have.",
        draw,
        rows,
    )


def _draw_distances(axes: Axes, runs: Mapping[str, Run], rows: Rows) -> None:
    for words, colour in classifier_colours(CLASSIFIERS).items():
        upper, lower = upper_bounds(runs, words), runs[f"{words}/proven"].arrays["lower"]
        of = (np.arange(len(upper)) + 1) / len(upper)
        axes.step(np.sort(upper), of, where="post", color=colour, label=words)
        if lower.any():
            axes.step(np.sort(lower), of, where="post", color=colour, alpha=0.4, lw=0.9)
    axes.set(xlim=(0, None), ylim=(0, 1), xlabel="distance to the nearest error (L2)")
    axes.set_ylabel("share of points that are nearer")
    axes.plot([], [], color=COLOURS["grey"], alpha=0.4, lw=0.9, label="faint: proven")
    axes.legend(frameon=False, fontsize=9)


def _draw_classes(axes: Axes, counts: NDArray[np.int64], names: Sequence[str], most: int) -> None:
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=most)
    axes.grid(visible=False)
    for row, column in np.argwhere(counts):
        n = counts[row, column]
        colour = "white" if n > 0.6 * most else COLOURS["truth"]
        axes.text(column, row, f"{n}", ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="class of the nearest error", ylabel="class decided for")


EXPERIMENT = Experiment(
    id="beyond-ten-digits",
    paper="beyond",
    place="Richardson & Weiss, section 4, for ten classes",
    title="Optimal robust, CNN brittle, RBF SVM robust: for ten digits?",
    question="Does what the paper says of symmetric pairs of digits hold for all ten: the optimal "
    "classifier is robust, a CNN is accurate and yet brittle, and an RBF SVM is almost as robust "
    "as the optimum?",
    plan=plan,
    analyse=analyse,
)
