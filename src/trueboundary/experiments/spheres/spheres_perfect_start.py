"""Figure 3 (right) of Gilmer et al. (2018): training away from a perfect network.

A quadratic network that makes no error is trained on. The average loss falls, and errors appear.
The paper states the probabilities at the start but neither the loss curve's start, which is that
of half the logits, nor how the slope kappa = w s^2 is split between the output weight w and the
singular values s, which decides the speed. w = kappa / 2 follows the figure, and was chosen because
it does; other splits are trained beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary._checks import positive
from trueboundary.experiments.base import (
    Analysis,
    Experiment,
    Measurement,
    Panel,
    Row,
    Rows,
    rows_of,
    seeds,
)
from trueboundary.experiments.networks.ellipsoids import Floats, count_wrong
from trueboundary.experiments.networks.trained_networks import TrainedNetwork
from trueboundary.experiments.summaries import all_of
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, CYCLE, add_legend, new_figure, shared_legend
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
#: The output weight of `PerfectStart`, as a share of the slope.
_USUAL_SHARE = 0.5
#: Steps at which splits are compared, and between which the figure's flat peak lies.
_SHOWN_STEPS, _PEAK = (500, 1000, 2000, 5000), (15_000, 30_000)


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

    def start_weight(self) -> float | None:
        """Return the output weight at the start; None stands for kappa / 2."""
        return None

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
            weight=self.start_weight(),
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


@dataclass(frozen=True)
class SplitStart(PerfectStart):
    """The same from another split of the slope: `weight` is the output weight at the start."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("weight", self.weight)

    def start_weight(self) -> float | None:
        """Return the stated weight."""
        return self.weight


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return one training per slope and seed, and one per other split of the figure's slope."""
    shared = {name: settings[name] for name in ("dim", "width", "n_points")} | {"device": device}
    share, n_other = settings["weight_share"], settings["n_other_steps"]
    own_steps: Any = _for(settings["n_steps"])
    runs: dict[str, RunConfig] = {}
    for kappa in settings["kappas"]:
        for index, own in seeds(settings, seed):
            common: Any = {"kappa": kappa, "seed": own, **own_steps, **shared}
            runs[_name(kappa, index)] = (
                PerfectStart(**common)
                if share == _USUAL_SHARE
                else SplitStart(weight=share * kappa, **common)
            )
    for weight in settings["other_weights"]:
        runs[_split_name(weight)] = SplitStart(
            kappa=KAPPA_OF_FIGURE, weight=weight, seed=seed, **_for(n_other), **shared
        )
    return runs


def _for(n_steps: int) -> dict[str, Any]:
    return {"n_steps": n_steps, "logged": steps_to_log(n_steps)}


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Compare the start with the text, and the curves with the figure."""
    main = {
        _name(kappa, index): runs[_name(kappa, index)]
        for kappa in settings["kappas"]
        for index in range(settings["n_seeds"])
    }
    measurements = {"A2.7b": _losses_part(main)}
    splits = split_rows(runs, settings)
    if settings["n_steps"] >= STEP_OF_RETURN:
        found = _errors_return(main, settings["weight_share"])
        others = [
            _return_row(runs[_split_name(weight)], KAPPA_OF_FIGURE, weight)
            for weight in sorted(settings["other_weights"])
        ]
        sentence = _splits_sentence(splits)
        measurements["A2.7a"] = replace(found, cells=[*found.cells, *others], holds_for=sentence)
    if KAPPA_OF_TEXT in settings["kappas"]:
        measurements |= _start(runs[_name(KAPPA_OF_TEXT, 0)])
    if KAPPA_OF_FIGURE in settings["kappas"] and settings["n_steps"] >= min(PAPER_WRONG):
        networks = _of_kappa(runs, KAPPA_OF_FIGURE, settings)
        measurements["A2.7c"] = _deviation(networks)
        if settings["n_steps"] >= max(PAPER_WRONG):
            measurements["A2.7d"] = _peak(networks)
    panels = [_panel(main, settings)]
    if splits:
        panels.append(_splits_panel(runs, settings, splits))
    return Analysis(panels=panels, measurements=measurements)


def _name(kappa: float, index: int) -> str:
    return f"kappa{kappa:g}-seed{index}"


def _split_name(weight: float) -> str:
    return f"weight{weight:g}"


def _splits(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> dict[float, Run]:
    """Return the trainings from the figure's slope by output weight, smallest first."""
    found = {weight: runs[_split_name(weight)] for weight in settings["other_weights"]}
    if KAPPA_OF_FIGURE in settings["kappas"]:
        own = settings["weight_share"] * KAPPA_OF_FIGURE
        found[own] = runs[_name(KAPPA_OF_FIGURE, 0)]
    return dict(sorted(found.items()))


def split_rows(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Rows:
    """Return for each split of the figure's slope when errors come back, and how many there are."""
    rows: Rows = []
    for weight, run in _splits(runs, settings).items():
        step, wrong = run.arrays["step"], run.arrays["n_wrong"]
        present = np.flatnonzero(wrong)
        row: Row = {"output weight": weight, "kappa": KAPPA_OF_FIGURE}
        for checked in _SHOWN_STEPS:
            known = wrong[step == checked]
            row[f"wrong at step {checked}"] = int(known[0]) if known.size else None
        row["first seen at step"] = int(step[present[0]]) if present.size else None
        row["trained for"] = int(step[-1])
        rows.append(row)
    return rows


def _splits_sentence(rows: Rows) -> str:
    """Say for which splits errors are back in time."""
    at = f"wrong at step {STEP_OF_RETURN}"
    known = [row for row in rows if row[at] is not None]
    back, not_back = (
        [f"{row['output weight']:g}" for row in known if bool(row[at]) is found]
        for found in (True, False)
    )
    return (
        f"with kappa = {KAPPA_OF_FIGURE:g}, errors are back at step {STEP_OF_RETURN} for output "
        f"weights {', '.join(back) or 'none'}, and not for {', '.join(not_back) or 'none'}"
    )


def _splits_panel(runs: Mapping[str, Run], settings: Mapping[str, Any], rows: Rows) -> Panel:
    def draw() -> Figure:
        figure, (axes,) = new_figure(width=8.2, height=4.2)
        colours = [colour for colour in CYCLE if colour != COLOURS["paper"]]
        shown_runs = list(_splits(runs, settings).items())
        for index, (weight, run) in enumerate(shown_runs):
            early = run.arrays["step"] <= max(_SHOWN_STEPS)
            curve = run.arrays["step"][early], run.arrays["n_wrong"][early]
            # Curves that lie on one another, at 0 errors, are seen by their markers' sizes.
            look: Any = {
                "color": colours[index % len(colours)],
                "markersize": max(11 - 2.5 * index, 3),
            }
            axes.plot(*curve, ".-", **look, label=f"output weight {weight:g}")
        shown = [step for step in PAPER_WRONG if step <= max(_SHOWN_STEPS)]
        paper = [PAPER_WRONG[step] for step in shown]
        axes.plot(shown, paper, "x", color=COLOURS["paper"], label="paper")
        when: Any = {"color": COLOURS["truth"], "linestyle": ":", "linewidth": 1.2}
        axes.axvline(STEP_OF_RETURN, **when, label=f"step {STEP_OF_RETURN:,}")
        axes.set(xlabel="training steps", ylabel="number of wrong alphas")
        shared_legend(figure, beside=True)
        return figure

    return Panel(
        "fig3-right-splits",
        "Figure 3 (right): what the split of the slope decides",
        "Number of wrong alphas after a perfect start of the same function, whose slope is split "
        "otherwise between output weight and matrix. The paper does not state its split. "
        f"{_splits_sentence(rows).capitalize()}.",
        draw,
        rows,
    )


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


def _errors_return(runs: Mapping[str, Run], weight_share: float) -> Measurement:
    cells = []
    for run in runs.values():
        kappa = run.config["kappa"]
        cells.append(_return_row(run, kappa, weight_share * kappa))
    holds = all(row["wrong at the start"] == 0 and row["wrong then"] > 0 for row in cells)
    seen = sorted({row["first seen at step"] for row in cells} - {None})
    note = f"First seen at step {', '.join(map(str, seen))}." if seen else "Never seen."
    return Measurement(holds, n=len(cells), cells=cells, note=note)


def _return_row(run: Run, kappa: float, weight: float) -> Row:
    """Return how many alphas are wrong at the start and by when errors are said to be back."""
    step, wrong = run.arrays["step"], run.arrays["n_wrong"]
    checked = int(np.searchsorted(step, STEP_OF_RETURN, side="right")) - 1
    present = np.flatnonzero(wrong)
    return {
        "kappa": kappa,
        "output weight": weight,
        "wrong at the start": int(wrong[0]),
        "step": int(step[checked]),
        "wrong then": int(wrong[checked]),
        "first seen at step": int(step[present[0]]) if present.size else None,
    }


def _losses_part(runs: Mapping[str, Run]) -> Measurement:
    told = {
        "average at the start": ("average_loss", 0),
        "average at the end": ("average_loss", -1),
        "its standard error": ("average_loss_error", -1),
        "standard error at the start": ("average_loss_error", 0),
        "worst at the start": ("worst_loss", 0),
        "worst at the end": ("worst_loss", -1),
    }
    cells: list[dict[str, Any]] = [
        {"run": name} | {words: float(run.arrays[key][i]) for words, (key, i) in told.items()}
        for name, run in runs.items()
    ]
    # The worst-case loss is exact; the average one counts where it differs by more than its errors.
    holds = [row["worst at the end"] > row["worst at the start"] for row in cells]
    falls: list[bool | None] = []
    for row in cells:
        fall = row["average at the start"] - row["average at the end"]
        noise = row["standard error at the start"] + row["its standard error"]
        falls.append(None if abs(fall) <= 2 * noise else fall > 0)
    return Measurement(all_of([*holds, *falls]), n=len(cells), cells=cells)


def _deviation(runs: list[Run]) -> Measurement:
    """Return the largest distance of any network to the figure's counts, along all of its steps.

    Between logged steps counts are interpolated.
    """
    steps = runs[0].arrays["step"]
    known = [step for step in PAPER_WRONG if step <= steps[-1]]
    counts = np.array([np.interp(known, steps, run.arrays["n_wrong"]) for run in runs])
    printed = np.array([PAPER_WRONG[step] for step in known])
    farthest = np.abs(counts - printed).max(axis=1).argmax()
    cells = rows_of(step=known, paper=printed, mean=counts.mean(axis=0), farthest=counts[farthest])
    note = f"Up to step {known[-1]:,}."
    return Measurement(float(np.abs(counts - printed).max()), n=len(runs), cells=cells, note=note)


def _peak(runs: list[Run]) -> Measurement:
    """Return whether every network's count has its peak where the figure has it, and declines."""
    last = max(PAPER_WRONG)
    cells: Rows = []
    for index, run in enumerate(runs):
        step, wrong = run.arrays["step"], run.arrays["n_wrong"]
        peak = int(wrong.argmax())
        cells.append(
            {
                "network": index,
                "peak": int(wrong[peak]),
                "at step": int(step[peak]),
                f"at step {last}": float(np.interp(last, step, wrong)),
            }
        )
    decline = (max(PAPER_WRONG.values()) - PAPER_WRONG[last]) / 2
    holds = all(
        _PEAK[0] <= row["at step"] <= _PEAK[1] and row["peak"] - row[f"at step {last}"] >= decline
        for row in cells
    )
    words = "{peak} at step {step:,}, {end:.0f} at {last:,}"
    note = "; ".join(
        words.format(peak=r["peak"], step=r["at step"], end=r[f"at step {last}"], last=last)
        for r in cells
    )
    return Measurement(holds, n=len(runs), cells=cells, note=f"{note}.")


def _panel(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Panel:
    n_steps = settings["n_steps"]
    quantities: tuple[tuple[str, str, Mapping[int, float]], ...] = (
        ("n_wrong", "number of wrong alphas", PAPER_WRONG),
        ("average_loss", "average loss (nats)", PAPER_AVERAGE),
        ("worst_loss", "worst-case loss (nats)", PAPER_WORST),
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
        add_legend(axes[0], location="lower right")
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
