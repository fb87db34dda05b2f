"""Figure 3 (right) of Gilmer et al. (2018): training away from a perfect network.

A quadratic network that makes no error is trained on. The average loss falls, and errors appear.
The paper states the probabilities at the start but neither the loss curve's start, which is that
of half the logits, nor how the slope kappa = w s^2 is split between the output weight w and the
singular values s, which decides the speed; here w = kappa / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary._checks import positive
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, rows_of, seeds
from trueboundary.experiments.networks.ellipsoids import Floats, count_wrong
from trueboundary.experiments.networks.trained_networks import TrainedNetwork
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, add_legend, new_figure
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The paper's curves, read off its figure: training step and number of wrong alphas of 500 (good
#: to about 2), average loss (good to 0.0005) and worst-case loss.
PAPER_WRONG = dict(
    zip(
        (800, 1000, 1500, 2000, 3000, 4000, 5000, 7000, 10_000, 15_000, 21_000, 30_000, 38_900),
        (6, 19, 58, 98, 147, 178, 198, 226, 246, 260, 267, 261, 255),
        strict=True,
    )
)
PAPER_AVERAGE = dict(
    zip(
        (0, 3000, 5000, 10_000, 15_000, 20_000, 30_000, 39_000),
        (0.0323, 0.0306, 0.0296, 0.0269, 0.0245, 0.0221, 0.0178, 0.0148),
        strict=True,
    )
)
PAPER_WORST = dict(
    zip(
        (500, 800, 2000, 3000, 5000, 10_000, 20_000, 38_900),
        (0.46, 0.85, 1.95, 2.78, 3.86, 5.39, 6.55, 7.21),
        strict=True,
    )
)
#: The slope that the probabilities in the paper's text belong to, and that of its figure.
KAPPA_OF_TEXT, KAPPA_OF_FIGURE = 20.0, 10.0
#: Within about so many steps errors are said to come back.
STEP_OF_RETURN = 1000


def steps_to_log(n_steps: int) -> tuple[int, ...]:
    """Return the steps at which the network is examined: every 100 at first, then fewer."""
    early, middle, late = range(0, 1001, 100), range(1500, 5001, 500), range(6000, 10**9, 1000)
    steps = {n_steps, *early, *middle, *late[: n_steps // 1000]}
    return tuple(sorted(step for step in steps if step <= n_steps))


@dataclass(frozen=True)
class PerfectStart(RunConfig):
    """Online training of a quadratic network that starts without any error.

    The result's arrays have one row per logged step: ``step``, ``n_wrong`` (alphas outside
    [1/R^2, 1]), ``average_loss`` and its standard error, ``worst_loss`` (over both spheres, exact)
    and ``probability-inner`` and ``-outer``, the mean probability of the outer class.

    Parameters
    ----------
    dim, width, n_steps, learning_rate, batch_size, radius, device
        As in `TrainedNetwork`; the width is at least the dimension, the rate constant.
    kappa : float
        Slope of the margin in the squared norm at the start.
    logged : tuple of int
        Steps after which the network is examined.
    n_points : int
        Points per sphere for the average loss.
    seed : int
        Seed of the rotation of the start and of all points.
    """

    version: ClassVar[int] = 2  # 1 took gradients by autograd

    dim: int
    width: int
    kappa: float
    n_steps: int
    logged: tuple[int, ...]
    n_points: int = 10_000
    learning_rate: float = 1e-4
    batch_size: int = 50
    radius: float = 1.3
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.check_at_least(2, "dim")
        self.check_at_least(self.dim, "width")
        self.check_at_least(1, "n_steps", "n_points", "batch_size")
        positive("kappa", self.kappa)

    def cost(self) -> float:
        """Training, and at each logged step the eigenvalues and the average loss."""
        network = TrainedNetwork(
            self.dim, "quadratic", self.width, 1, self.n_steps, batch_size=self.batch_size
        )
        drawing = 2 * self.n_points * self.dim * RATES.random_number
        looking = len(self.logged) * self.dim**3 * RATES.eigenvalues
        return network.cost() + drawing + looking

    def compute(self, context: Context) -> RunResult:
        """Train and examine."""
        import torch

        from trueboundary.classifiers import QuadraticNetwork
        from trueboundary.problems import ConcentricSpheres, OnlineStream
        from trueboundary.training import TrainingConfig, train

        problem = ConcentricSpheres(self.dim, self.radius)
        model = QuadraticNetwork.perfect(
            self.dim,
            self.width,
            kappa=self.kappa,
            basis="rotated",
            radius=self.radius,
            generator=torch.Generator().manual_seed(self.seed),
        ).to(self.device)
        # Uniform points stay uniform in the axes of any ellipsoid, where an average over many
        # points costs one product of a matrix and a vector.
        blocks = problem.blocks(self.n_points, seed=self.seed, label=0, dtype=torch.float64)
        squares = torch.cat([x for x, _ in blocks]).square().numpy()

        result = train(
            model,
            OnlineStream(problem, self.batch_size, self.seed, device=self.device),
            TrainingConfig(
                n_steps=self.n_steps,
                learning_rate=self.learning_rate,
                snapshots=self.logged,
                checkpoint_every=2000,
            ),
            checkpoint=context.checkpoint / "training",
            on_snapshot=lambda *_: self.examine(model.alphas(), -model.bias.item(), squares),
            progress=lambda step: context.progress(step / self.n_steps),
        )
        names = next(iter(result.snapshots.values()))
        rows = [result.snapshots[step] for step in self.logged]
        arrays = {name: np.array([float(row[name]) for row in rows]) for name in names}
        return RunResult({}, {"step": np.array(self.logged)} | arrays)

    def examine(self, alphas: Floats, scale: float, squares: Floats) -> dict[str, float]:
        """Return a row of the result for a network's ellipsoid; `scale` is minus its bias.

        `squares` ``(n, dim)`` are the squared coordinates of random points of the unit sphere.
        """
        sums = squares @ alphas
        inner, outer = scale * (sums - 1), scale * (self.radius**2 * sums - 1)
        losses = (np.logaddexp(0, inner) + np.logaddexp(0, -outer)) / 2
        worst = max(alphas.max() - 1, 1 - self.radius**2 * alphas.min())
        return {
            "n_wrong": float(count_wrong(alphas, self.radius)),
            "average_loss": float(losses.mean()),
            "average_loss_error": float(losses.std() / np.sqrt(len(losses))),
            "worst_loss": float(np.logaddexp(0, scale * worst)),
            "probability-inner": float((1 / (1 + np.exp(-inner))).mean()),
            "probability-outer": float((1 / (1 + np.exp(-outer))).mean()),
        }


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return one training per slope and seed."""
    shared = {name: settings[name] for name in ("dim", "width", "n_steps", "n_points")}
    shared |= {"logged": steps_to_log(settings["n_steps"]), "device": device}
    return {
        _name(kappa, index): PerfectStart(kappa=kappa, seed=own, **shared)
        for kappa in settings["kappas"]
        for index, own in seeds(settings, seed)
    }


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Compare the start with the text, and the curves with the figure."""
    measurements = {"A2.7b": _losses_part(runs)}
    if settings["n_steps"] >= STEP_OF_RETURN:
        measurements["A2.7a"] = _errors_return(runs)
    if KAPPA_OF_TEXT in settings["kappas"]:
        measurements |= _start(runs[_name(KAPPA_OF_TEXT, 0)])
    if KAPPA_OF_FIGURE in settings["kappas"] and settings["n_steps"] >= min(PAPER_WRONG):
        measurements["A2.7c"] = _deviation(_of_kappa(runs, KAPPA_OF_FIGURE, settings))
    return Analysis(panels=(_panel(runs, settings),), measurements=measurements)


def _name(kappa: float, index: int) -> str:
    return f"kappa{kappa:g}-seed{index}"


def _of_kappa(runs: Mapping[str, Run], kappa: float, settings: Mapping[str, Any]) -> list[Run]:
    return [runs[_name(kappa, index)] for index in range(settings["n_seeds"])]


def _start(run: Run) -> dict[str, Measurement]:
    """Return what holds before the first step; `exact` is the formula, the value the network's."""
    radius, kappa = run.config["radius"], run.config["kappa"]
    middle = ((1 + radius) / 2) ** 2
    inner, outer = kappa * (1 - middle), kappa * (radius**2 - middle)
    loss = float(np.logaddexp(0, inner) + np.logaddexp(0, -outer)) / 2

    def measured(name: str, exact: float) -> Measurement:
        return Measurement(float(run.arrays[name][0]), exact=exact)

    return {
        "A2.6a": measured("probability-inner", 1 / (1 + float(np.exp(-inner)))),
        "A2.6b": measured("probability-outer", 1 / (1 + float(np.exp(-outer)))),
        "A2.6c": measured("average_loss", loss),
    }


def _errors_return(runs: Mapping[str, Run]) -> Measurement:
    cells: list[dict[str, Any]] = []
    for name, run in runs.items():
        step, wrong = run.arrays["step"], run.arrays["n_wrong"]
        checked = int(np.searchsorted(step, STEP_OF_RETURN, side="right")) - 1
        present = np.flatnonzero(wrong)
        cells.append(
            {
                "run": name,
                "wrong at the start": int(wrong[0]),
                "step": int(step[checked]),
                "wrong then": int(wrong[checked]),
                "first seen at step": int(step[present[0]]) if present.size else None,
            }
        )
    holds = all(row["wrong at the start"] == 0 and row["wrong then"] > 0 for row in cells)
    seen = sorted({row["first seen at step"] for row in cells} - {None})
    note = f"First seen at step {', '.join(map(str, seen))}." if seen else "Never seen."
    return Measurement(holds, n=len(cells), cells=cells, note=note)


def _losses_part(runs: Mapping[str, Run]) -> Measurement:
    told = {
        "average at the start": ("average_loss", 0),
        "average at the end": ("average_loss", -1),
        "its standard error": ("average_loss_error", -1),
        "worst at the start": ("worst_loss", 0),
        "worst at the end": ("worst_loss", -1),
    }
    cells: list[dict[str, Any]] = [
        {"run": name} | {words: float(run.arrays[key][i]) for words, (key, i) in told.items()}
        for name, run in runs.items()
    ]
    holds = all(
        row["average at the end"] < row["average at the start"]
        and row["worst at the end"] > row["worst at the start"]
        for row in cells
    )
    return Measurement(holds, n=len(cells), cells=cells)


def _deviation(runs: list[Run]) -> Measurement:
    """Return the largest distance to the figure's counts up to step 5000."""
    steps = runs[0].arrays["step"]
    mean = np.mean([run.arrays["n_wrong"] for run in runs], axis=0)
    cells = [
        {"step": step, "paper": PAPER_WRONG[step], "measured": float(mean[steps == step][0])}
        for step in PAPER_WRONG
        if step <= 5000 and step in steps
    ]
    largest = max(abs(row["measured"] - row["paper"]) for row in cells)
    return Measurement(largest, n=len(runs), cells=cells)


def _panel(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Panel:
    n_steps = settings["n_steps"]
    quantities: tuple[tuple[str, str, Mapping[int, float]], ...] = (
        ("n_wrong", "number of wrong alphas", PAPER_WRONG),
        ("average_loss", "average loss", PAPER_AVERAGE),
        ("worst_loss", "worst-case loss", PAPER_WORST),
    )

    def draw() -> Figure:
        figure, axes = new_figure(3, width=12.6, height=4.0)
        for ax, (key, label, paper) in zip(axes, quantities, strict=True):
            for kappa, colour in zip(settings["kappas"], ("inner", "outer", "green"), strict=False):
                for index, run in enumerate(_of_kappa(runs, kappa, settings)):
                    words = rf"measured, $\kappa$ = {kappa:g}" if index == 0 else None
                    curve = run.arrays["step"], run.arrays[key]
                    ax.plot(*curve, color=COLOURS[colour], linewidth=1.2, label=words)
            shown = [step for step in paper if step <= n_steps]
            ax.plot(shown, [paper[s] for s in shown], "o--", color=COLOURS["paper"], label="paper")
            ax.set(xlabel="training steps", ylabel=label, xlim=(-0.03 * n_steps, 1.03 * n_steps))
        axes[1].set_ylim(0, 0.036)
        add_legend(axes[0], location="upper left")
        return figure

    return Panel(
        "fig3-right",
        "Figure 3 (right): training away from a perfect network",
        "Online training from a network without any error, one line per seed. The paper's curves "
        "are those of kappa = 10, though its text states the probabilities of kappa = 20. The "
        "average loss is to be compared with the loss at the worst point of the two spheres.",
        draw,
        [
            {"run": name, "quantity": key, **row}
            for name, run in runs.items()
            for key, _, _ in quantities
            for row in rows_of(step=run.arrays["step"], value=run.arrays[key])
        ]
        + [
            {"run": "paper", "quantity": key, "step": step, "value": value}
            for key, _, paper in quantities
            for step, value in paper.items()
        ],
    )


EXPERIMENT = Experiment(
    id="spheres-perfect-start",
    paper="spheres",
    place="Fig. 3 right, section 4",
    title="Training away from a perfect network",
    question="Does training keep a perfect network perfect, and how fast do errors come back?",
    plan=plan,
    analyse=analyse,
)
