"""Classifiers trained where the optimal one is robust (Richardson and Weiss 2021, Section 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trueboundary._checks import check_integer
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel
from trueboundary.experiments.images.attacked_images import (
    AttackName,
    accuracy_under_attack,
    distances,
    nearest,
)
from trueboundary.experiments.images.availability import (
    is_available,
    missing_data,
    reason,
    without_data,
)
from trueboundary.experiments.images.gammas import gamma_grid
from trueboundary.experiments.images.image_fits import ImageTask
from trueboundary.experiments.images.image_plans import (
    planned_attack,
    planned_classifiers,
    planned_fit,
)
from trueboundary.experiments.images.sheets import Sheet, draw_sheet, sheet_rows
from trueboundary.experiments.images.trained_classifiers import Accuracy, TrainedSVM
from trueboundary.experiments.summaries import (
    Estimate,
    largest_deviation,
    mean_of_points,
    median_of_points,
    ratio_of_means,
    share_measurement,
)
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]
Row = dict[str, Any]

CLASSIFIERS = ("optimal", "CNN", "linear SVM", "RBF SVM")
ATTACKS: tuple[AttackName, ...] = ("gradient", "cw")
#: Mean attacks in Figure 6, and adversarial accuracies in Table 1 (clean ones are all 1).
PAPER_MEANS = {
    "0/6": (2.98, 1.84, 1.09, 2.69),
    "2/7": (2.91, 1.59, 0.65, 2.51),
    "4/5": (3.16, 2.22, 1.02, 2.83),
}
PAPER_RBF_ACCURACY_UNDER_ATTACK = {"0/6": 0.04, "2/7": 0.07, "4/5": 0.08}
_PAIR_CLAIMS = {"0/6": "B2.1", "2/7": "B2.2", "4/5": "B2.3"}
CLAIMS = (
    *("B1.6", "B1.8", "B1.9a", "B1.9b", "B1.9c", "B1.9d", "B2.4", "B2.5"),
    *_PAIR_CLAIMS.values(),
)
_BRITTLE, _ACCURATE = 0.75, 0.98


@dataclass(frozen=True)
class GammaPath(RunConfig):
    """Accuracy and attacks along the widths of an RBF SVM's kernel, beside a linear SVM.

    Parameters
    ----------
    task : ImageTask
        Where the points come from.
    n_train : int
        Training points, the first of those of a `TrainedSVM` with the same seed.
    n_points : int
        Test points, those of an `AttackedImages` with the same seed. The gradient attack is used.
    seed : int
        Seed of the points.
    """

    version: ClassVar[int] = 2  # 1 took a margin of 0 for an error

    task: ImageTask
    n_train: int
    n_points: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n_train", self.n_train, minimum=2)
        check_integer("n_points", self.n_points, minimum=1)

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the fitted mixtures."""
        return {"fit": self.task.fit}

    def cost(self) -> float:
        """Return about the time of fits and attacks."""
        return 0.2 + 1e-6 * self.n_train**2 + 2e-2 * self.n_points

    def compute(self, context: Context) -> RunResult:
        """Fit and attack for each gamma."""
        from trueboundary.attacks import LogDensityGradient
        from trueboundary.classifiers import fit_linear_svm, fit_rbf_svm

        fit = context.inputs["fit"]
        if not is_available(fit):
            return without_data(reason(fit))
        x, y = self.task.points(fit, self.n_train, seed=self.seed, purpose="train")
        points, labels = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        gammas = gamma_grid(x)
        accuracy, found = [], []
        for index in range(len(gammas) + 1):
            # The linear machine comes last.
            machine = (
                fit_rbf_svm(x, y, gamma=float(gammas[index]))
                if index < len(gammas)
                else fit_linear_svm(x, y, random_state=self.seed)
            )
            decided = machine.predict(points.double())
            accuracy.append(float((decided == labels).double().mean()))
            result = LogDensityGradient()(machine, points.double(), decided)
            found.append(result.distance.numpy())
            context.progress((index + 1) / (len(gammas) + 1))
        return RunResult(
            {"available": True, "linear_accuracy": accuracy[-1]},
            {
                "gamma": gammas,
                "accuracy": np.array(accuracy[:-1]),
                "distance": np.array(found[:-1]),
                "linear_distance": found[-1],
            },
        )


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Train and attack four classifiers per pair; follow the path of gammas on the first."""
    runs: dict[str, RunConfig] = {}
    for pair in settings["pairs"]:
        task = ImageTask(planned_fit(settings, pair, seed), "symmetric", settings["noise_std"])
        classifiers = planned_classifiers(settings, task, seed, device)
        for name, classifier in classifiers.items():
            runs[f"{pair}/{name}/accuracy"] = Accuracy(
                task, classifier, settings["n_test_points"], seed=seed
            )
            for attack in ATTACKS:
                runs[f"{pair}/{name}/{attack}"] = planned_attack(
                    settings, task, classifier, attack, seed
                )
            if isinstance(classifier, TrainedSVM) and classifier.kernel == "rbf":
                runs[f"{pair}/{name}"] = classifier
    task = ImageTask(
        planned_fit(settings, settings["pairs"][0], seed), "symmetric", settings["noise_std"]
    )
    runs["path"] = GammaPath(task, settings["n_gamma"], settings["n_attack_points"], seed)
    return runs


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Compare the classifiers pair by pair."""
    missing = missing_data(runs)
    if missing:
        return Analysis(remarks=[missing], without_data=CLAIMS)
    pairs = list(settings["pairs"])
    rows = [row(runs, pair, name) for pair in pairs for name in CLASSIFIERS]
    sheets = [_sheet(runs, pair) for pair in pairs]
    chosen = runs[f"{pairs[0]}/RBF SVM"].summary["gamma"]
    path = path_panel(runs["path"], chosen, name="symmetric-gamma", words=pairs[0])
    return Analysis(
        panels=[_means(rows), _accuracies(rows), path, *sheets],
        measurements=measure(runs, rows, pairs),
        remarks=_remarks(runs, rows, pairs),
    )


def row(runs: Mapping[str, Run], pair: str, name: str) -> Row:
    """Return what was measured for one classifier on one pair."""
    by_attack = {attack: runs[f"{pair}/{name}/{attack}"] for attack in ATTACKS}
    found = nearest(*by_attack.values())
    mean, low, high = mean_of_points(found)
    count = runs[f"{pair}/{name}/accuracy"].summary
    paper = dict(zip(CLASSIFIERS, PAPER_MEANS.get(pair, ()), strict=False)).get(name)
    correct = by_attack["cw"].arrays["correct"]
    return {
        "pair": pair,
        "classifier": name,
        "mean_distance": mean,
        "low": low,
        "high": high,
        "median": median_of_points(found)[0],
        "n_points": len(found),
        "n_failed": int((~np.isfinite(found)).sum()),
        "paper": paper,
        **{f"mean_{attack}": mean_of_points(distances(r))[0] for attack, r in by_attack.items()},
        "n_failed_cw": int((~np.isfinite(distances(by_attack["cw"]))).sum()),
        "n_correct": count["n_correct"],
        "n_test_points": count["n_points"],
        "accuracy": count["n_correct"] / count["n_points"],
        "accuracy_under_attack": accuracy_under_attack(correct, found),
    }


def measure(runs: Mapping[str, Run], rows: list[Row], pairs: list[str]) -> dict[str, Measurement]:
    """Return the measurement of each claim."""
    table = {(r["pair"], r["classifier"]): r for r in rows}
    found = {key: _nearest(runs, *key) for key in table}
    ratios = {
        name: [ratio_of_means(found[p, name], found[p, "optimal"]) for p in pairs]
        for name in ("CNN", "RBF SVM")
    }
    measurements = {
        "B1.6": _lowest_accuracy([table[pair, "optimal"] for pair in pairs]),
        "B2.4": _lowest_accuracy(rows),
        "B1.8": _brittle_cnn([table[pair, "CNN"] for pair in pairs], ratios["CNN"]),
        "B1.9a": _smallest(ratios["RBF SVM"], rows[0]["n_points"]),
        "B1.9b": _ordering(
            table,
            pairs,
            lambda r: _apart(r["linear SVM"], r["CNN"], r["RBF SVM"], r["optimal"]),
        ),
        "B1.9c": _ordering(
            table,
            pairs,
            lambda r: (
                _apart(r["CNN"], r["RBF SVM"], r["optimal"]) and _apart(r["linear SVM"], r["CNN"])
            ),
        ),
        "B1.9d": _wide_kernel(runs["path"]),
        "B2.5": _under_attack([table[pair, "RBF SVM"] for pair in pairs]),
    }
    for pair, claim in _PAIR_CLAIMS.items():
        if pair in pairs:
            means = {name: _mean(table[pair, name]) for name in CLASSIFIERS}
            n_points = table[pair, "optimal"]["n_points"]
            measurements[claim] = largest_deviation(means, PAPER_MEANS[pair], n=n_points)
    # Where an attack never succeeds there is no mean to compare.
    return {
        claim: m
        for claim, m in measurements.items()
        if isinstance(m.value, bool) or not math.isnan(m.value)
    }


def _nearest(runs: Mapping[str, Run], pair: str, name: str) -> Floats:
    return nearest(*(runs[f"{pair}/{name}/{attack}"] for attack in ATTACKS))


def _lowest_accuracy(rows: list[Row]) -> Measurement:
    lowest = min(rows, key=lambda r: r["accuracy"])
    return share_measurement(
        lowest["n_correct"], lowest["n_test_points"], f"{lowest['classifier']}, {lowest['pair']}."
    )


def _brittle_cnn(
    rows: list[Row], ratios: list[tuple[float, float | None, float | None]]
) -> Measurement:
    cells, holds = [], True
    for r, (ratio, low, high) in zip(rows, ratios, strict=True):
        accuracy = share_measurement(r["n_correct"], r["n_test_points"])
        accurate = accuracy.low is not None and accuracy.low >= _ACCURATE
        brittle = high is not None and high <= _BRITTLE
        holds = holds and accurate and brittle
        cells.append(
            {
                "pair": r["pair"],
                "accuracy": accuracy.value,
                "accuracy_low": accuracy.low,
                "ratio": ratio,
                "ratio_low": low,
                "ratio_high": high,
            }
        )
    words = "; ".join(f"{c['pair']}: {c['ratio']:.2f}" for c in cells)
    note = f"CNN's mean attack over the optimal classifier's, on the same points: {words}."
    return Measurement(holds, n=rows[0]["n_points"], cells=cells, note=note)


def _smallest(ratios: list[tuple[float, float | None, float | None]], n: int) -> Measurement:
    value, low, high = min(ratios, key=lambda ratio: ratio[0])
    words = ", ".join(f"{ratio:.2f}" for ratio, _, _ in ratios)
    return Measurement(value, low, high, n=n, note=f"By pair: {words}; the same points for both.")


def _ordering(table: Mapping[tuple[str, str], Row], pairs: list[str], holds: Any) -> Measurement:
    cells = [table[pair, name] for pair in pairs for name in CLASSIFIERS]
    verdicts = {pair: bool(holds({n: table[pair, n] for n in CLASSIFIERS})) for pair in pairs}
    words = ", ".join(f"{pair} {'yes' if held else 'no'}" for pair, held in verdicts.items())
    return Measurement(
        all(verdicts.values()),
        n=cells[0]["n_points"],
        cells=[
            {k: c[k] for k in ("pair", "classifier", "mean_distance", "low", "high")} for c in cells
        ],
        note=f"By pair: {words}.",
    )


def _apart(below: Row, *above: Row) -> bool:
    """Whether the interval of the first mean lies under those of all others."""
    return below["high"] is not None and all(
        r["low"] is not None and below["high"] < r["low"] for r in above
    )


def _wide_kernel(path: Run) -> Measurement:
    wide, linear = path.arrays["distance"][0], path.arrays["linear_distance"]
    value, low, high = ratio_of_means(wide, linear)
    note = "Gradient attack; both machines fitted to the same points as the path."
    return Measurement(value, low, high, n=len(linear), note=note)


def _under_attack(rows: list[Row]) -> Measurement:
    worst = max(rows, key=lambda r: r["accuracy_under_attack"])
    n = worst["n_points"]
    return share_measurement(round(worst["accuracy_under_attack"] * n), n, f"{worst['pair']}.")


def _mean(r: Row) -> Estimate:
    return r["mean_distance"], r["low"], r["high"]


def _remarks(runs: Mapping[str, Run], rows: list[Row], pairs: list[str]) -> list[str]:
    remarks = []
    for pair in pairs:
        means = ", ".join(
            f"{r['classifier']} {r['mean_distance']:.2f}" for r in rows if r["pair"] == pair
        )
        gamma = runs[f"{pair}/RBF SVM"].summary["gamma"]
        remarks.append(
            f"{pair}: mean L2 to the nearest change of decision found by either attack: {means}. "
            f"The RBF SVM has gamma {gamma:.3g}, a kernel {(2 * gamma) ** -0.5:.2f} wide."
        )
    remarks.append(path_remark(runs["path"]))
    failed = sum(r["n_failed"] for r in rows)
    n = sum(r["n_points"] for r in rows)
    remarks.append(
        f"Neither attack changed the decision at {failed} of {plural(n, 'point')}; the means "
        "leave them out."
        if failed
        else f"One attack or the other changed the decision at each of {plural(n, 'point')}, so "
        "that no mean leaves anything out. Attacks without a limit on size need leave no accuracy; "
        "what the paper's left to its RBF SVM would then be failed attacks."
    )
    return remarks


def path_remark(path: Run) -> str:
    """Say where along a `GammaPath` the RBF SVM comes nearest to the linear one."""
    linear = mean_of_points(path.arrays["linear_distance"])[0]
    means = np.array([mean_of_points(found)[0] for found in path.arrays["distance"]])
    accuracy = path.arrays["accuracy"]
    if not (np.isfinite(means).all() and linear > 0):
        return "Along the path of gammas some attack never succeeded."
    lowest = int(means.argmin())
    return (
        f"Along the path of gammas the RBF SVM's mean attack is nearest to the linear SVM's, "
        f"{linear:.2f} on the same points, at gamma {path.arrays['gamma'][lowest]:.2g}: "
        f"{means[lowest]:.2f}, {means[lowest] / linear:.2f} times as large, with accuracy "
        f"{accuracy[lowest]:.4f}. The widest kernel gives {means[0] / linear:.2f} times and "
        f"accuracy {accuracy[0]:.4f}: with C = 1 it is a linear classifier of small weights."
    )


def _means(rows: list[Row]) -> Panel:
    return Panel(
        name="symmetric-means",
        title="Mean attacks on four classifiers (Figure 6)",
        caption=(
            "Mean L2 distance to the nearest change of decision that the gradient attack or "
            "Carlini-Wagner finds, with 95 % intervals, all classifiers at the same test points. "
            "Crosses: the paper's means, by the gradient attack (optimal, SVMs) or "
            "Carlini-Wagner (CNN)."
        ),
        draw=lambda: draw_means(rows),
        data=rows,
    )


def draw_means(rows: list[Row]) -> Figure:
    """Draw the mean attacks by pair, classifiers in colours."""
    from trueboundary.figures import COLOURS, CYCLE, new_figure

    figure, (axes,) = new_figure(width=7.6, height=4.2)
    pairs = list(dict.fromkeys(r["pair"] for r in rows))
    colours = dict(zip(CLASSIFIERS, ("#222222", CYCLE[0], CYCLE[1], CYCLE[2]), strict=True))
    for r in rows:
        place = pairs.index(r["pair"]) + 0.2 * (CLASSIFIERS.index(r["classifier"]) - 1.5)
        first = r["pair"] == pairs[0]
        if math.isfinite(r["mean_distance"]):
            mean = r["mean_distance"]
            ends = [[mean - (r["low"] or mean)], [(r["high"] or mean) - mean]]
            axes.bar(
                place,
                mean,
                0.18,
                yerr=ends,
                capsize=3,
                color=colours[r["classifier"]],
                alpha=0.75,
                label=r["classifier"] if first else None,
            )
        if r["paper"] is not None:
            last = first and r["classifier"] == CLASSIFIERS[-1]
            axes.plot(
                place,
                r["paper"],
                "x",
                color=COLOURS["paper"],
                ms=9,
                mew=2.4,
                label="the paper's" if last else None,
            )
    axes.set_xticks(range(len(pairs)), pairs)
    axes.set_xlabel("pair of classes")
    axes.set_ylabel("mean L2 of the attack")
    axes.set_ylim(0, 1.28 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=9, ncols=5, loc="upper center", columnspacing=1.2)
    return figure


def _accuracies(rows: list[Row]) -> Panel:
    return Panel(
        name="symmetric-accuracies",
        title="Accuracy before and after the attacks (Table 1)",
        caption=(
            "Share of correct decisions on clean test points (dots) and on attacked ones (rings), "
            "with 95 % intervals. An attack changes decisions, so that misclassified points become "
            "right. Crosses: the paper's values on attacked points where they are not 0; on clean "
            "points it has 1 throughout."
        ),
        draw=lambda: draw_accuracies(rows),
        data=rows,
    )


def draw_accuracies(rows: list[Row]) -> Figure:
    """Draw clean and attacked accuracy by classifier and pair."""
    from trueboundary.figures import COLOURS, new_figure

    figure, (axes,) = new_figure(width=7.6, height=0.28 * len(rows) + 1.4)
    for index, r in enumerate(reversed(rows)):
        n = r["n_points"]
        clean = share_measurement(r["n_correct"], r["n_test_points"])
        attacked = share_measurement(round(r["accuracy_under_attack"] * n), n)
        for share, filled in ((clean, True), (attacked, False)):
            ends = [[share.value - (share.low or 0.0)], [(share.high or 0.0) - share.value]]
            label = ("clean" if filled else "attacked") if index == 0 else None
            colour = COLOURS["inner" if filled else "outer"]
            face = colour if filled else "white"
            axes.errorbar(
                share.value,
                index,
                xerr=ends,
                fmt="o",
                color=colour,
                mfc=face,
                capsize=3,
                label=label,
            )
        paper = PAPER_RBF_ACCURACY_UNDER_ATTACK.get(r["pair"])
        if paper is not None and r["classifier"] == "RBF SVM":
            label = "the paper's, attacked" if r["pair"] == rows[0]["pair"] else None
            axes.plot(paper, index, "x", color=COLOURS["paper"], ms=8, mew=2, label=label)
    names = [f"{r['pair']}, {r['classifier']}" for r in reversed(rows)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("share of correct decisions")
    axes.legend(frameon=False, fontsize=9, loc="center")
    return figure


def path_panel(path: Run, chosen: float, *, name: str, words: str) -> Panel:
    """Return the panel of a `GammaPath`.

    Parameters
    ----------
    path : Run
        The path.
    chosen : float
        The gamma that was used.
    name : str
        Of the panel.
    words : str
        What the classes are called.
    """
    rows: list[Row] = []
    for gamma, accuracy, found in zip(
        path.arrays["gamma"], path.arrays["accuracy"], path.arrays["distance"], strict=True
    ):
        mean, low, high = mean_of_points(found)
        rows.append(
            {
                "gamma": float(gamma),
                "accuracy": float(accuracy),
                "mean_distance": mean,
                "low": low,
                "high": high,
                "n_failed": int((~np.isfinite(found)).sum()),
            }
        )
    linear = mean_of_points(path.arrays["linear_distance"])[0]
    return Panel(
        name=name,
        title=f"The width of the RBF kernel, on {words}",
        caption=(
            "Accuracy and mean gradient attack along the path of gammas, wide kernels on the left. "
            "The chosen gamma (dotted) is the largest that is still accurate. Dashed: the linear "
            "SVM fitted to the same points."
        ),
        draw=lambda: draw_path(rows, chosen, linear, path.summary["linear_accuracy"]),
        data=rows,
    )


def draw_path(rows: list[Row], chosen: float, linear_mean: float, linear_accuracy: float) -> Figure:
    """Draw accuracy and mean attack against gamma."""
    from trueboundary.figures import COLOURS, add_legend, new_figure

    figure, (left, right) = new_figure(2, width=9.0, height=3.8)
    gammas = [r["gamma"] for r in rows]
    left.plot(gammas, [r["accuracy"] for r in rows], "o-", label="RBF SVM")
    left.axhline(linear_accuracy, color=COLOURS["grey"], linestyle="--", label="linear SVM")
    left.set_ylabel("accuracy on test points")
    left.set_ylim(min(0.45, *(r["accuracy"] for r in rows)), 1.03)
    means = [r["mean_distance"] for r in rows]
    ends = [
        [(r["mean_distance"] - (r["low"] or r["mean_distance"])) for r in rows],
        [((r["high"] or r["mean_distance"]) - r["mean_distance"]) for r in rows],
    ]
    right.errorbar(gammas, means, yerr=ends, fmt="o-", capsize=3, label="RBF SVM")
    right.axhline(linear_mean, color=COLOURS["grey"], linestyle="--", label="linear SVM")
    right.set_ylabel("mean L2 of the gradient attack")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.axvline(chosen, color=COLOURS["truth"], linestyle=":", label="chosen gamma")
        axes.set_xscale("log")
        axes.set_xlabel("gamma")
    add_legend(left, location="lower left")
    add_legend(right, location="lower right")
    return figure


def _sheet(runs: Mapping[str, Run], pair: str) -> Panel:
    sheets = {name: Sheet.from_run(runs[f"{pair}/{name}/cw"]) for name in CLASSIFIERS}
    return Panel(
        name=f"symmetric-sheet-{pair.replace('/', '-')}",
        title=f"Attacked images, {pair} (Figures 17 and 18)",
        caption=(
            "Test points of the symmetric problem, the same attacked by Carlini-Wagner, and the "
            "changes (grey is none). Below: changes of all pixels of all attacked images; dotted "
            "lines at 5/255; the outermost bars at 1/2 hold all larger changes. The titles' means "
            "are over the Carlini-Wagner attack alone."
        ),
        draw=lambda: draw_sheet(sheets),
        data=sheet_rows(pair, sheets),
    )


EXPERIMENT = Experiment(
    id="bayes-symmetric",
    paper="bayes",
    place="Figure 6, Table 1, Figures 17 and 18",
    title="Learned classifiers where the optimal one is robust",
    question=(
        "On problems whose optimal classifier is robust, how robust are a CNN, a linear SVM and an "
        "RBF SVM that are trained on samples?"
    ),
    plan=plan,
    analyse=analyse,
)
