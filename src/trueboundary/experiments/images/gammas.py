"""Widths of an RBF SVM's kernel: the path of gammas, and what is measured along it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trueboundary.experiments.base import Panel
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images.attack_tables import distance_row
from trueboundary.experiments.images.drawn_rows import draw_line
from trueboundary.experiments.images.image_fits import OnImages
from trueboundary.experiments.images.trained_classifiers import seconds_of_fits
from trueboundary.experiments.summaries import mean_of_points
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, new_figure, plot_rows, shared_legend
from trueboundary.runs import Context, Run, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Wide to narrow kernels, relative to 1 / (dim * variance of the pixels), scikit-learn's "scale".
#: Still narrower ones learn every point by heart, and take the longest to attack.
_SCALES = 4.0 ** np.arange(-4, 4)
#: Points, at most, that every machine is attacked at.
_MOST_POINTS = 100
#: Steps of the attack on a point, about.
_USUAL_STEPS = 60


@dataclass(frozen=True)
class GammaPath(OnImages):
    """Accuracy and attacks along the widths of an RBF SVM's kernel, beside a linear SVM.

    Parameters
    ----------
    n_train : int
        Training points, those of a `TrainedSVM` with the same number and seed.
    n_points : int
        Test points, those of an `AttackedImages` with the same seed. At most the first 100
        are attacked, along the gradient.
    seed : int
        Seed of the points.
    """

    # 5 attacked 50 points; 4 had one more gamma and attacked all points; 3 took the exponentials of
    # kernels elsewhere and 2 the kernels value by value: both round otherwise
    version: ClassVar[int] = 6

    n_train: int
    n_points: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(2, "n_train")
        self.check_at_least(1, "n_points")

    def cost(self) -> float:
        """Return about the time of fits and attacks."""
        fits = seconds_of_fits(self.task, self.n_train, len(_SCALES))
        n_passes = 2 * len(_SCALES) * min(self.n_points, _MOST_POINTS) * _USUAL_STEPS
        # Of narrow kernels most training points are support vectors, of wide ones few are.
        n_values = n_passes * self.n_train / 2 * self.task.fit.n_pixels
        return RATES.run + fits + n_values * RATES.kernel

    def measure(self, context: Context) -> RunResult:
        """Fit and attack for each gamma."""
        from trueboundary.attacks import LogDensityGradient
        from trueboundary.classifiers import fit_linear_svm, fit_rbf_path

        fit = context.inputs["fit"]
        x, y = self.task.points(fit, self.n_train, seed=self.seed, purpose="train")
        points, labels = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        points = points.double()
        gammas = _SCALES / (x.shape[1] * float(x.double().var()))
        linear = fit_linear_svm(x, y, random_state=self.seed)
        accuracy, found = [], []
        # The linear machine comes last.
        for done, machine in enumerate(chain(fit_rbf_path(x, y, gammas=gammas), [linear]), 1):
            decided = machine.predict(points)
            accuracy.append(float((decided == labels).double().mean()))
            few = slice(0, _MOST_POINTS)
            result = LogDensityGradient()(machine, points[few], decided[few])
            found.append(result.distance.numpy())
            context.progress(done / (len(gammas) + 1))
        return RunResult(
            {"available": True, "linear_accuracy": accuracy[-1]},
            {
                "gamma": gammas,
                "accuracy": np.array(accuracy[:-1]),
                "distance": np.array(found[:-1]),
                "linear_distance": found[-1],
            },
        )


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


def path_panel(path: Run, chosen: float, *, name: str, words: str) -> Panel:
    """Return the panel of a `GammaPath` on images called `words`; `chosen` is the gamma used."""
    columns = (path.arrays[name] for name in ("gamma", "accuracy", "distance"))
    rows = [
        distance_row(found, gamma=float(gamma), accuracy=float(accuracy))
        for gamma, accuracy, found in zip(*columns, strict=True)
    ]
    n_points = counted((row["n_points"] for row in rows), "point")
    linear = (path.summary["linear_accuracy"], mean_of_points(path.arrays["linear_distance"])[0])

    def draw() -> Figure:
        figure, axes = new_figure(2, width=9.0, height=3.8)
        plot_rows(axes[0], rows, "gamma", "accuracy", "o-", label="RBF SVM")
        draw_line(axes[1], rows, "gamma", label="RBF SVM")
        for block, level in zip(axes, linear, strict=True):
            block.axhline(level, color=COLOURS["grey"], linestyle="--", label="linear SVM")
            block.axvline(chosen, color=COLOURS["truth"], linestyle=":", label="chosen gamma")
            block.set(xscale="log", xlabel="gamma")
        axes[0].set_ylabel("accuracy on test points")
        axes[0].set_ylim(min(0.45, *(row["accuracy"] for row in rows)), 1.03)
        axes[1].set_ylabel("mean L2 of the gradient attack")
        axes[1].set_ylim(bottom=0)
        shared_legend(figure, n_columns=3, of=axes[1])
        return figure

    return Panel(
        name=name,
        title=f"The width of the RBF kernel, on {words}",
        caption="Accuracy and mean gradient attack along the path of gammas, wide kernels on the "
        "left. The chosen gamma (dotted) is the largest that is still accurate. Dashed: the linear "
        f"SVM fitted to the same points. Intervals: 95 %, over {n_points}.",
        draw=draw,
        data=rows,
    )
