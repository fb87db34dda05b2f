"""Beyond Gilmer et al. (2018): a quadratic network trained on its own exact error rate.

The error rate of an ellipsoid has an exact gradient in its alphas, so that it can be a loss. How
does that compare with cross-entropy on random points, and with training on the exactly worst point
of each sphere?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from trueboundary._checks import choice
from trueboundary.experiments.base import Analysis, Experiment, Panel, Row, Rows, seeds
from trueboundary.experiments.networks.ellipsoids import RADIUS, log10_error, train_until_perfect
from trueboundary.experiments.networks.trained_networks import SPHERES, TrainedNetwork
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, new_figure, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from trueboundary.classifiers import ClassifierModule, QuadraticNetwork

Objective = Literal["cross-entropy", "exact worst case", "exact error"]

#: Below this natural logarithm an error rate counts as none, so that the loss stays finite.
_FLOOR = -1e6
#: Steps that an exact objective usually takes.
_USUAL_EXACT_STEPS = 200
#: Objective, decay of Adam's second moment (its default, or one that forgets within ten steps) and
#: colour of each series.
_SERIES: Mapping[str, tuple[Objective, float, str]] = {
    "cross-entropy": ("cross-entropy", 0.999, "inner"),
    "exact worst case": ("exact worst case", 0.999, "outer"),
    "exact error": ("exact error", 0.999, "green"),
    "exact error, short memory": ("exact error", 0.9, "orange"),
}


@dataclass(frozen=True)
class ExactError:
    """The natural logarithm of a quadratic network's error rate, the mean of both spheres.

    The batch is not used. Where the network makes no error the loss is constant.
    """

    radius: float = RADIUS

    def __call__(
        self,
        model: ClassifierModule,
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the log error rate, differentiable in the network's parameters."""
        import torch

        from trueboundary.classifiers import QuadraticNetwork
        from trueboundary.theory.quadratic_forms_torch import ellipsoid_log_error

        if not isinstance(model, QuadraticNetwork):
            raise TypeError(f"only a QuadraticNetwork has this loss, got {type(model).__name__}")
        hidden = model.hidden_weight.double()
        # Eigenvalues alone: their sum over a symmetric function needs no gaps between them.
        squares = torch.linalg.eigvalsh(hidden.T @ hidden)
        alphas = squares * (model.weight.double() / -model.bias.double())
        errors = [
            ellipsoid_log_error(alphas, sphere=sphere, radius=self.radius) for sphere in SPHERES
        ]
        floor = torch.full_like(errors[0], _FLOOR)
        return torch.logsumexp(torch.stack([*errors, floor]), dim=0) - math.log(2)

    def describe(self) -> str:
        """Return the parameters in one line."""
        return repr(self)


@dataclass(frozen=True)
class ObjectiveTraining(RunConfig):
    """Training of a quadratic network on one objective until it makes no error.

    The arrays have one value per look: ``step``, ``n_wrong`` (alphas), ``inner`` and ``outer``
    (log10 of the exact error rates) and ``worst_loss``, the largest cross-entropy of any point of
    either sphere. The summary has ``n_steps``, the step at which the network was first seen to be
    perfect, or None.

    Parameters
    ----------
    dim, width, learning_rate, batch_size, radius, seed
        As in `TrainedNetwork`; the rate is constant.
    objective : {"cross-entropy", "exact worst case", "exact error"}
        Random points; the worst point of each sphere; the log of the exact error rate.
    max_steps : int
        Steps of Adam after which to give up.
    memory : float
        Decay of Adam's second moment.
    look_every : int
        Steps between two looks at the alphas.
    """

    version: ClassVar[int] = 2  # 1 took gradients by autograd

    dim: int
    width: int
    objective: Objective
    max_steps: int
    learning_rate: float
    memory: float = 0.999
    batch_size: int = 50
    look_every: int = 10
    radius: float = RADIUS
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(2, "dim")
        self.check_at_least(1, "width", "max_steps", "batch_size", "look_every")
        choice("objective", self.objective, get_args(Objective))

    def cost(self) -> float:
        """Count steps, of which exact objectives need few, and the tails at every look."""
        network = TrainedNetwork(self.dim, "quadratic", self.width, 1, 1)
        exactly = self.dim**3 * RATES.eigenvalues
        per_look = exactly + 2 * (RATES.tail + self.dim * RATES.tail_weight)
        per_step, n_steps = {
            "cross-entropy": (network.seconds_of_training(), self.max_steps),
            "exact worst case": (RATES.training_step + 5 * exactly, _USUAL_EXACT_STEPS),
            "exact error": (RATES.tail_gradient + 5 * exactly, _USUAL_EXACT_STEPS),
        }[self.objective]
        n_steps = min(n_steps, self.max_steps)
        return RATES.run + n_steps * (per_step + per_look / self.look_every)

    def compute(self, context: Context) -> RunResult:
        """Train until perfect, looking at the alphas now and then."""
        import torch

        from trueboundary.classifiers import QuadraticNetwork
        from trueboundary.training import ExactWorstCase, TrainingConfig

        worst_case = self.objective == "exact worst case"
        n_steps, arrays = train_until_perfect(
            QuadraticNetwork(
                self.dim, self.width, generator=torch.Generator().manual_seed(self.seed)
            ),
            context,
            TrainingConfig(
                n_steps=self.max_steps,
                learning_rate=self.learning_rate,
                betas=(0.9, self.memory),
                snapshots=tuple(range(0, self.max_steps + 1, self.look_every)),
                checkpoint_every=max(1, self.max_steps // 10),
            ),
            radius=self.radius,
            batch_size=self.batch_size,
            seed=self.seed,
            look=self._look,
            adversary=ExactWorstCase("both", self.radius) if worst_case else None,
            loss=ExactError(self.radius) if self.objective == "exact error" else None,
        )
        return RunResult({"n_steps": n_steps}, arrays)

    def _look(self, model: QuadraticNetwork) -> dict[str, float]:
        ellipsoid = model.ellipsoid()
        return {
            "n_wrong": ellipsoid.n_bad(self.radius),
            "worst_loss": max(ellipsoid.worst_case_loss(s, self.radius) for s in SPHERES),
        } | {
            sphere: log10_error(
                ellipsoid.alphas, sphere, radius=self.radius, inverted=ellipsoid.is_inverted
            )
            for sphere in SPHERES
        }


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Return a training per objective and seed, on the exact error with either memory."""
    del device  # its networks are small
    shared = {name: settings[name] for name in ("dim", "width", "learning_rate")}
    return {
        run_name(series, index): ObjectiveTraining(
            objective=objective,
            memory=memory,
            max_steps=settings["max_steps" if objective == "cross-entropy" else "max_exact_steps"],
            seed=own,
            **shared,
        )
        for series, (objective, memory, _) in _SERIES.items()
        for index, own in seeds(settings, seed)
    }


def run_name(series: str, index: int) -> str:
    """Return the name of a training of that series by the seed of that number."""
    return f"{series}/{index}"


def _of_names(runs: Mapping[str, Run]) -> Iterator[tuple[str, int, Run]]:
    """Yield series, number of the seed and run of all trainings."""
    known = {run_name(s, index): (s, index) for s in _SERIES for index in range(len(runs))}
    for name, run in runs.items():
        yield *known[name], run


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Compare steps until perfect, and what is reached where a network does not become so."""
    rows = [_row(*training) for training in _of_names(runs)]
    return Analysis([_panel(runs, rows)], remarks=_remarks(rows, settings))


def _row(series: str, index: int, run: Run) -> Row:
    arrays = run.arrays
    return {
        "objective": series,
        "seed": index,
        "n_steps": run.summary["n_steps"],
        "steps_taken": int(arrays["step"][-1]),
        "n_wrong": int(arrays["n_wrong"][-1]),
        **{name: float(arrays[name][-1]) for name in ("inner", "outer", "worst_loss")},
        "best_error": float(np.maximum(arrays["inner"], arrays["outer"]).min()),
        "first_worst_loss": float(arrays["worst_loss"][0]),
        "largest_worst_loss": float(arrays["worst_loss"].max()),
    }


def _remarks(rows: Rows, settings: Mapping[str, Any]) -> list[str]:
    remarks = []
    for objective in dict.fromkeys(row["objective"] for row in rows):
        own = [row for row in rows if row["objective"] == objective]
        done = [row["n_steps"] for row in own if row["n_steps"] is not None]
        left = [row for row in own if row["n_steps"] is None]
        words = (
            f"perfect after {', '.join(f'{n:,}' for n in sorted(done))} steps ({len(done)} of "
            f"{plural(len(own), 'seed')}), with a largest loss of "
            f"{_worst_losses(own, perfect=True)} nats"
            if done
            else f"not perfect for any of {plural(len(own), 'seed')}"
        )
        if left:
            words += (
                f"; the others stop after {left[0]['steps_taken']:,} steps with "
                f"{', '.join(str(row['n_wrong']) for row in left)} wrong alphas, error rates of "
                + ", ".join(f"10^{max(row['inner'], row['outer']):.1f}" for row in left)
                + " on the worse sphere and worst-case losses of "
                + _worst_losses(own, perfect=False)
            )
        remarks.append(f"{objective.capitalize()}: {words}.")
    remarks.append(
        f"All start from the same networks (d = {settings['dim']}, {settings['width']} hidden "
        f"units, Adam at {settings['learning_rate']:g}). The slope of a log error rate grows "
        "without bound as the last wrong alpha comes back to its limit, since the rate falls like "
        "a power of what is left, of about d/2. One such slope stays in Adam's second moment for "
        "about a thousand steps and holds the network still, on the wrong side if that is where "
        "the step ended; with a short memory it goes on."
    )
    return remarks


def _worst_losses(rows: Rows, *, perfect: bool) -> str:
    return ", ".join(
        f"{row['worst_loss']:.2f}" for row in rows if (row["n_steps"] is not None) == perfect
    )


def _panel(runs: Mapping[str, Run], rows: Rows) -> Panel:
    return Panel(
        "exact-training",
        "Training on the exact error, on the worst points and on random points",
        "Left: exact error rate on the worse of the two spheres, cut off at 1e-60. Middle: number "
        "of wrong alphas. "
        "Right: the largest loss of any point. One line per seed; a dot marks the step at which a "
        "network was seen to be perfect, where its error rate is 0. On random points the error "
        "rate falls slowly and the worst case hardly at all.",
        lambda: _draw(runs),
        rows,
    )


def _draw(runs: Mapping[str, Run]) -> Figure:
    figure, panels = new_figure(3, width=12.0, height=4.2)
    for objective, index, run in _of_names(runs):
        arrays, colour = run.arrays, COLOURS[_SERIES[objective][2]]
        steps = arrays["step"] + 1  # step 0 has no place on a logarithmic axis
        worse = np.maximum(arrays["inner"], arrays["outer"])
        curves = (
            np.where(np.isfinite(worse), np.maximum(worse, -60), np.nan),
            arrays["n_wrong"],
            arrays["worst_loss"],
        )
        for axes, values in zip(panels, curves, strict=True):
            label = objective if index == 0 and axes is panels[0] else None
            axes.plot(steps, values, color=colour, linewidth=1.1, alpha=0.8, label=label)
            if run.summary["n_steps"] is not None:
                shown = values[np.isfinite(values)]
                axes.plot(steps[-1], shown[-1] if len(shown) else 0, "o", color=colour, ms=5)
    labels = (
        r"$\log_{10}$ of the exact error rate",
        "wrong alphas",
        "largest loss of any point (nats)",
    )
    for axes, label in zip(panels, labels, strict=True):
        axes.set(xscale="log", xlabel="training steps + 1", ylabel=label)
    shared_legend(figure, n_columns=4)
    return figure


EXPERIMENT = Experiment(
    id="truth-exact-training",
    paper="truth",
    place="beyond Gilmer et al. (2018), Section 4",
    title="Training on the exact error rate",
    question="What does a quadratic network learn from its own exact error rate?",
    plan=plan,
    analyse=analyse,
)
