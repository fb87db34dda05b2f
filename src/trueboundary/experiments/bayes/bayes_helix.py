"""Figure 8: a mixture of factor analyzers fitted to a helix in space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueboundary._checks import check_integer
from trueboundary.experiments.base import Analysis, Experiment, Panel, Table, rows_of
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, CYCLE, add_legend, new_figure, plot_rows
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_N_TURNS, _RISE = 2.0, 3.0
_N_FACTORS = 2
#: Standard deviations of its factors that a component's plane is drawn to.
_REACH = 2.0
#: Nats per point by which a log likelihood may fall through rounding alone.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class HelixFit(RunConfig):
    """Mixtures of growing size, fitted to points of a noisy helix and scored on others.

    Parameters
    ----------
    n_components : tuple of int
        Numbers of components.
    n_train, n_test : int
        Points to fit and to score.
    n_init : int
        Starts of each fit; the best is kept.
    noise_std : float
        Standard deviation of the noise around the helix, whose radius is 1.
    seed : int
        Seed of points and starts.
    """

    n_components: tuple[int, ...]
    n_train: int
    n_test: int
    n_init: int
    noise_std: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for n in self.n_components:
            check_integer("n_components", n, minimum=1)
        self.check_at_least(max(self.n_components), "n_train")
        self.check_at_least(1, "n_test", "n_init")

    def cost(self) -> float:
        """Return the time of some hundred iterations per start."""
        n = self.n_train * self.n_init * sum(self.n_components)
        return RATES.run + n * RATES.small_fit

    def compute(self, context: Context) -> RunResult:
        """Fit every size; keep the likelihoods of all iterations and all parameters."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning

        from trueboundary.densities import MixtureOfFactorAnalyzersEM

        rng = np.random.default_rng(self.seed)
        train, test = (sample_helix(n, self.noise_std, rng) for n in (self.n_train, self.n_test))
        arrays: dict[str, Any] = {"train": train}
        rows = []
        for index, n_components in enumerate(self.n_components):
            estimator = MixtureOfFactorAnalyzersEM(
                n_components,
                n_factors=_N_FACTORS,
                tol=1e-4,
                max_iter=500,
                n_init=self.n_init,
                random_state=self.seed,
            )
            with warnings.catch_warnings():
                # Whether it converged is a column of the table.
                warnings.simplefilter("ignore", ConvergenceWarning)
                estimator.fit(train)
            bounds = np.asarray(estimator.lower_bounds_)
            rows.append(
                {
                    "n_components": n_components,
                    "train": estimator.score(train),
                    "held_out": estimator.score(test),
                    "n_iterations": int(estimator.n_iter_),
                    "converged": bool(estimator.converged_),
                    "smallest_gain": float(np.diff(bounds).min(initial=math.inf)),
                }
            )
            arrays |= {
                f"bounds_{n_components}": bounds,
                f"means_{n_components}": estimator.means_,
                f"loadings_{n_components}": estimator.loadings_,
                f"labels_{n_components}": estimator.predict(train),
            }
            context.progress((index + 1) / len(self.n_components))
        truth = float(log_density(test, self.noise_std).mean())
        return RunResult({"rows": rows, "truth": truth}, arrays)


def helix(t: Array) -> Array:
    """Return points of the helix at fractions `t` of its length, shape ``(n, 3)``."""
    angle = 2 * math.pi * _N_TURNS * t
    return np.stack([np.cos(angle), np.sin(angle), _RISE * t], axis=1)


def sample_helix(n: int, noise_std: float, rng: np.random.Generator) -> Array:
    """Return `n` points, uniform along the helix, with spherical noise."""
    noise: Array = noise_std * rng.standard_normal((n, 3))
    return helix(rng.uniform(size=n)) + noise


def log_density(x: Array, noise_std: float) -> Array:
    """Return the log density that `sample_helix` draws from, in nats.

    The integral along the helix is a sum over steps of a tenth of the noise, which a Gaussian
    makes exact to many digits, except at the two ends.
    """
    from scipy.special import logsumexp

    length = math.hypot(2 * math.pi * _N_TURNS, _RISE)
    n_steps = math.ceil(10 * length / noise_std)
    curve = helix((np.arange(n_steps) + 0.5) / n_steps)
    squares = (x**2).sum(1)[:, None] - 2 * x @ curve.T + (curve**2).sum(1)
    normal = 1.5 * math.log(2 * math.pi * noise_std**2)
    return np.asarray(logsumexp(-squares / (2 * noise_std**2), axis=1) - math.log(n_steps) - normal)


def _plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    del device  # a small problem
    sizes = {name: settings[name] for name in ("n_train", "n_test", "n_init")}
    return {"fit": HelixFit(tuple(settings["n_components"]), **sizes, seed=seed)}


def _analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    run = runs["fit"]
    rows, truth = run.summary["rows"], run.summary["truth"]
    best = max(rows, key=lambda row: float(row["held_out"]))
    shown = settings["n_components_shown"]
    return Analysis(
        panels=[_space_panel(run, shown), _likelihood_panel(run, rows, truth)],
        remarks=[
            f"The held-out log likelihood is highest with "
            f"{plural(best['n_components'], 'component')}, at "
            f"{best['held_out']:.3f} nats per point; the density that the points come from has "
            f"{truth:.3f}. With {rows[0]['n_components']} it is {rows[0]['held_out']:.3f}.",
            _monotone(rows),
        ],
    )


def _monotone(rows: Table) -> str:
    n_iterations = sum(row["n_iterations"] for row in rows)
    worst = min(row["smallest_gain"] for row in rows)
    if worst >= -_ROUNDING:
        return f"In none of {n_iterations} iterations of EM did the log likelihood fall."
    return f"The log likelihood fell, by {-worst:.1e} nats per point in one iteration of EM."


def _space_panel(run: Run, shown: int) -> Panel:
    means = run.arrays[f"means_{shown}"]

    def picture() -> Figure:
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

        figure, (flat,) = new_figure(width=6.4, height=5.6)
        flat.remove()
        axes: Any = figure.add_subplot(projection="3d")
        points, labels = run.arrays["train"][:1000], run.arrays[f"labels_{shown}"][:1000]
        loadings = run.arrays[f"loadings_{shown}"]
        circle = np.linspace(0, 2 * math.pi, 60)
        for k, (mean, loading) in enumerate(zip(means, loadings, strict=True)):
            colour = CYCLE[k % len(CYCLE)]
            own = points[labels == k]
            axes.scatter(own[:, 0], own[:, 1], own[:, 2], s=3, color=colour, alpha=0.5)
            basis, spread, _ = np.linalg.svd(loading, full_matrices=False)
            ring = np.stack([np.cos(circle), np.sin(circle)]) * (_REACH * spread[:, None])
            plane = Poly3DCollection([mean + (basis @ ring).T], alpha=0.25, facecolor=colour)
            plane.set_edgecolor(colour)
            axes.add_collection3d(plane)
            axes.scatter(*mean[:, None], s=22, color="#222222", depthshade=False)
        axes.set(xlabel="x", ylabel="y", zlabel="z")
        axes.view_init(elev=28, azim=-60)
        axes.set_box_aspect((1, 1, 1.1), zoom=0.92)
        return figure

    return Panel(
        name="bayes-fig8",
        title="A mixture of factor analyzers on a helix (Fig. 8)",
        caption=f"Points around a helix and the {plural(shown, 'component')} fitted to them, each "
        "drawn as its mean and the part of its plane within two standard deviations of its two "
        "factors. The planes hold the curve and the side that it bends to; what is left is noise.",
        draw=picture,
        data=rows_of(component=range(shown), **dict(zip("xyz", means.T, strict=True))),
    )


def _likelihood_panel(run: Run, rows: Table, truth: float) -> Panel:
    iterations = [
        {"n_components": row["n_components"], "iteration": step, "log_likelihood": float(bound)}
        for row in rows
        for step, bound in enumerate(run.arrays[f"bounds_{row['n_components']}"])
    ]

    def picture() -> Figure:
        figure, (left, right) = new_figure(2, width=9.6, height=3.9)
        sizes = [row["n_components"] for row in rows]
        left.axhline(truth, color=COLOURS["truth"], linestyle="--", linewidth=0.9, label="truth")
        for value, colour, label in (("train", "sky", "fitted"), ("held_out", "inner", "held out")):
            plot_rows(left, rows, "n_components", value, "o-", color=COLOURS[colour], label=label)
        left.set(
            xscale="log", xlabel="number of components", ylabel="log likelihood (nats per point)"
        )
        left.set_xticks(sizes, [str(size) for size in sizes])
        left.minorticks_off()
        add_legend(left, location="lower right")
        for size in sizes[::2]:  # all of them would overlap
            bounds = run.arrays[f"bounds_{size}"]
            right.plot(np.arange(1, len(bounds) + 1), bounds)
            right.annotate(f" {size}", (len(bounds), bounds[-1]), va="center", fontsize=9)
        right.set(xscale="log", xlim=(0.9, 300), xlabel="iteration of EM, the start being 1")
        return figure

    return Panel(
        name="bayes-fig8-likelihood",
        title="Log likelihood of the helix",
        caption="Left: log likelihood per point on the points fitted and on others, against the "
        "number of components; the dashed line is the density that both were drawn from. Right: "
        "the log likelihood on the points fitted during EM, with the number of components at the "
        "end of each curve.",
        draw=picture,
        data=[*rows, *iterations],
    )


EXPERIMENT = Experiment(
    id="bayes-helix",
    paper="bayes",
    place="Fig. 8",
    title="A mixture of factor analyzers fitted to a helix",
    question="What do mixtures of factor analyzers see in curved data, and how many are enough?",
    plan=_plan,
    analyse=_analyse,
)
