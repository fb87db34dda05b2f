"""Exact error rates of trained quadratic networks, which several experiments read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueboundary import theory
from trueboundary.experiments.base import Rows
from trueboundary.experiments.networks.trained_networks import (
    RADII,
    SPHERES,
    OfNetwork,
    Sphere,
    TrainedNetwork,
    load_model,
    snapshot_steps,
)
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.runs.config import Arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trueboundary.classifiers import QuadraticNetwork
    from trueboundary.training import TrainingConfig

Floats = NDArray[np.float64]

RADIUS = 1.3
#: How an error rate is computed: exactly, by the paper's central limit theorem, by the same on the
#: sphere itself, by the saddle-point formula, and Chernoff's upper bound; as figures call them.
METHODS: Mapping[str, str] = {
    "exact": "exact",
    "clt": "central limit theorem",
    "sphere-clt": "CLT on the sphere",
    "lugannani-rice": "Lugannani-Rice",
    "chernoff": "Chernoff's bound",
}


def quadratic_network(
    settings: Mapping[str, Any], seed: int, device: str, **fields: Any
) -> TrainedNetwork:
    """Return a quadratic network with an experiment's settings, and with the fields given besides.

    Experiments with equal settings share the network, if the number of snapshots is the same too;
    ``n_snapshots`` includes the last step, and may be left out.
    """
    names = ("dim", "width", "n_steps", "learning_rate", "schedule", "initial_bias")
    shape = {name: settings[name] for name in names}
    # The last step is stored as the final network anyway.
    shape["snapshots"] = snapshot_steps(shape["n_steps"], settings.get("n_snapshots", 1))[:-1]
    own: Any = {"seed": seed, "device": device}
    return TrainedNetwork(architecture="quadratic", depth=1, **own, **shape, **fields)


def train_until_perfect(
    model: QuadraticNetwork,
    context: Context,
    config: TrainingConfig,
    *,
    radius: float,
    batch_size: int,
    seed: int,
    look: Callable[[QuadraticNetwork], Mapping[str, float]],
    **how: Any,
) -> tuple[int | None, Arrays]:
    """Train a quadratic network on the spheres until it makes no error, looking at it now and then.

    It returns the step at which the network was first seen to be perfect, or None, and what `look`
    said at each of the snapshots that `config` names, with their ``step``. Keywords beyond are
    those of `trueboundary.training.train`.
    """
    from trueboundary.problems import ConcentricSpheres, OnlineStream
    from trueboundary.training import train

    problem, device = ConcentricSpheres(model.dim, radius), str(model.weight.device)
    result = train(
        model,
        OnlineStream(problem, batch_size, seed, device=device),
        config,
        checkpoint=context.checkpoint / "training",
        on_snapshot=lambda *_: look(model),
        until=lambda _: model.ellipsoid().is_perfect(radius),
        progress=lambda step: context.progress(step / config.n_steps),
        **how,
    )
    steps = sorted(result.snapshots)
    looks = [result.snapshots[step] for step in steps]
    columns = {name: np.array([float(look[name]) for look in looks]) for name in looks[0]}
    return result.n_steps if result.stopped_early else None, {"step": np.array(steps), **columns}


@dataclass(frozen=True)
class EllipsoidErrors(OfNetwork):
    """The alphas of every stored model of a quadratic network, and its error rates.

    The result's arrays have one row per stored model, in the order of training: ``step``,
    ``alphas`` (ascending), ``n_wrong``, ``n_above`` (alphas above 1), ``scale`` (minus the bias)
    and, for each method and sphere, ``"<method>-<sphere>"``, the log10 of the error rate.
    """

    def in_words(self) -> str:
        """Return what is worked out."""
        return f"working out the exact error rates of the {self.network.name}"

    def cost(self) -> float:
        """Eigenvalues and ten tail probabilities for each stored model."""
        dim = self.network.dim
        tails = 2 * (RATES.tail + dim * RATES.tail_weight)
        per_model = dim**3 * RATES.eigenvalues + tails
        return RATES.run + (1 + len(self.network.snapshots)) * per_model

    def compute(self, context: Context) -> RunResult:
        """Read the alphas off each model and compute what follows from them."""
        from trueboundary.classifiers import QuadraticNetwork

        stored, rows = self.network.stored_models(), []
        for step, name in stored.items():
            model = load_model(context.inputs["network"], name)
            if not isinstance(model, QuadraticNetwork):
                raise TypeError(f"only a quadratic network has alphas, got {type(model).__name__}")
            rows.append(self._row(step, model.alphas(), -model.bias.item()))
            context.progress(len(rows) / len(stored))
        return RunResult({}, {key: np.array([row[key] for row in rows]) for key in rows[0]})

    def _row(self, step: int, alphas: Floats, scale: float) -> dict[str, Any]:
        radius = self.network.radius
        which: Any = {"radius": radius, "inverted": scale < 0}
        errors = {
            f"{method}-{sphere}": log10_error(alphas, sphere, method=method, **which)
            for method in METHODS
            for sphere in SPHERES
        }
        return {
            "step": step,
            "alphas": alphas,
            "n_wrong": count_wrong(alphas, radius),
            "n_above": int((alphas > 1).sum()),
            "scale": scale,
        } | errors


@dataclass(frozen=True)
class OfEllipsoids(RunConfig):
    """What random points say of every stored model of a quadratic network.

    All models see the same points, `n_points` per sphere.
    """

    network: TrainedNetwork
    n_points: int
    seed: int = 0

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the network's alphas."""
        return {"errors": EllipsoidErrors(self.network)}


@dataclass(frozen=True)
class EllipsoidDistances(OfEllipsoids):
    """Exact distances from random points to the nearest errors of every stored model.

    The arrays ``inner`` and ``outer``, of shape (models, points), hold chord lengths in the order
    of training: infinite where a model makes no error on that sphere, and NaN for a model whose
    signs are turned, so that its ellipsoid says what is right.
    """

    def __post_init__(self) -> None:
        self.check_at_least(2, "n_points")

    def in_words(self) -> str:
        """Return what is worked out."""
        return f"working out exact distances to errors of the {self.network.name}"

    def cost(self) -> float:
        """Return the cost of projecting every point for every model and sphere."""
        n_points = 2 * (1 + len(self.network.snapshots)) * self.n_points
        return n_points * self.network.dim * RATES.projection

    def compute(self, context: Context) -> RunResult:
        """Measure, in the axes of each ellipsoid: uniform points stay uniform in them."""
        import torch

        from trueboundary.certificates import nearest_ellipsoid_error

        errors, problem = context.inputs["errors"].arrays, self.network.problem()
        arrays: Arrays = {}
        for label, sphere in enumerate(SPHERES):
            blocks = problem.blocks(
                self.n_points, seed=self.seed, label=label, dtype=torch.float64, purpose="distances"
            )
            points = torch.cat([x for x, _ in blocks]).numpy()
            found = np.full((len(errors["scale"]), self.n_points), np.nan)
            for index in np.flatnonzero(errors["scale"] > 0):
                found[index] = nearest_ellipsoid_error(
                    points, errors["alphas"][index], sphere=sphere, radius=problem.radius
                )
                context.progress((label + (index + 1) / len(found)) / 2)
            arrays[sphere] = found
        return RunResult({"n_points": self.n_points}, arrays)


def count_wrong(alphas: Floats, radius: float = RADIUS) -> int:
    """Return how many alphas lie outside [1/R^2, 1]."""
    return int(((alphas > 1) | (alphas < 1 / radius**2)).sum())


def log10_error(
    alphas: Floats,
    sphere: Sphere,
    *,
    radius: float = RADIUS,
    method: str = "exact",
    inverted: bool = False,
) -> float:
    """Return the log10 of an ellipsoid's error rate on one sphere, -inf if it makes no error.

    `method` is one of `METHODS`; an inverted network has its signs turned, so that it calls the
    inside outer.
    """
    from trueboundary.theory import quadratic_forms

    tails: dict[str, Callable[[Floats], Any]] = {
        "exact": quadratic_forms.log_tail,
        "clt": quadratic_forms.clt_log_tail,
        "sphere-clt": quadratic_forms.sphere_clt_log_tail,
        "lugannani-rice": quadratic_forms.lugannani_rice_log_tail,
        "chernoff": quadratic_forms.chernoff_log_bound,
    }
    weights = quadratic_forms.ellipsoid_weights(alphas, sphere=sphere, radius=radius)
    return float(tails[method](-weights if inverted else weights)) / math.log(10)


def unit_points(n_points: int, dim: int, seed: int) -> Floats:
    """Return independent uniform points of the unit sphere, shape ``(n_points, dim)``.

    They stand for points in an ellipsoid's eigenbasis: rotation does not change their
    distribution.
    """
    points: Floats = np.random.default_rng(seed).standard_normal((n_points, dim))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def cap_distance(dim: int, log10_error: float, sphere: str = "inner") -> float:
    """Return the largest mean distance to errors of that rate, by its log10: that to a cap."""
    log_error = log10_error * math.log(10)
    return theory.caps.mean_distance(dim, log_measure=log_error, radius=RADII[sphere])


def training_words(n_train: int) -> str:
    """Return the size of a training set as figures call it; 0 stands for online training."""
    return f"N = {n_train:,}" if n_train else "online"


def method_rows(errors: Arrays, index: int) -> Rows:
    """Return one row per sphere of what `EllipsoidErrors` holds of a stored model."""
    return [
        {"sphere": sphere} | {m: float(errors[f"{m}-{sphere}"][index]) for m in METHODS}
        for sphere in SPHERES
    ]


def last(run: Run, name: str) -> float:
    """Return what a run of `EllipsoidErrors` holds about the fully trained network."""
    return float(run.arrays[name][-1])


def last_of(runs: Sequence[Run], name: str) -> Floats:
    """Return `last` for several networks, shape ``(n_networks,)``."""
    return np.array([last(run, name) for run in runs])


def power_of_ten(exponent: float) -> str:
    """Return an error rate for a figure or a sentence, from its log10.

    Examples
    --------
    >>> power_of_ten(-12.34), power_of_ten(float("-inf"))
    ('$10^{-12.3}$', '0')
    """
    return f"$10^{{{exponent:.1f}}}$" if math.isfinite(exponent) else "0"


def draw_alphas(axes: Axes, run: Run, n_bars: int, **words: Any) -> None:
    """Draw the histogram of the fully trained network's alphas; keywords as for `Axes.set`."""
    axes.hist(run.arrays["alphas"][-1], bins=n_bars, color=COLOURS["sky"], label="measured")
    mark_right_alphas(axes)
    axes.set(xlabel=r"$\alpha_i$", ylabel="number of alphas", **words)


def mark_right_alphas(axes: Axes, radius: float = RADIUS) -> None:
    """Draw the paper's red lines at 1/R^2 and 1, between which all alphas have to be."""
    for value, label in ((1 / radius**2, r"$1/R^2$ and 1"), (1.0, None)):
        axes.axvline(value, color="red", linestyle="--", linewidth=1.2, label=label)
