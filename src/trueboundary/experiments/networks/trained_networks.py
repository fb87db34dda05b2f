"""Networks trained on the concentric spheres, which several experiments share.

Modules that import torch are imported where they are used, so that listing experiments is quick.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from trueboundary._checks import choice, outer_radius, positive
from trueboundary.experiments.work_rates import RATES
from trueboundary.regular_files import write_atomically
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.runs.config import Arrays, Model

if TYPE_CHECKING:
    from trueboundary.classifiers import ClassifierModule
    from trueboundary.problems import ConcentricSpheres

Architecture = Literal["relu", "quadratic", "perfect quadratic"]
Sphere = Literal["inner", "outer"]
Schedule = Literal["constant", "linear"]
SPHERES: tuple[Sphere, ...] = ("inner", "outer")
#: Their radii in the paper.
RADII: Mapping[str, float] = {"inner": 1.0, "outer": 1.3}
FINAL = "final"


#: Stored states of the paper's network over its training, the last one included; those of
#: `spheres-tradeoff` at the scale of the paper, so that one training serves all.
N_SNAPSHOTS = 12


def snapshot_name(step: int) -> str:
    """Return the name under which the network at training step `step` is stored."""
    return f"step-{step:08d}"


def snapshot_steps(n_steps: int, n_snapshots: int, *, first: int = 50) -> tuple[int, ...]:
    """Return `n_snapshots` steps from about `first` to `n_steps`, evenly spaced in logarithm."""
    first = min(first, n_steps)
    steps = np.geomspace(first, n_steps, n_snapshots) if n_snapshots > 1 else [n_steps]
    return tuple(sorted({round(float(step)) for step in steps}))


@dataclass(frozen=True)
class TrainedNetwork(RunConfig):
    """A network trained on the concentric spheres, with its snapshots.

    Parameters
    ----------
    dim : int
        Dimension of the spheres.
    architecture : {"relu", "quadratic", "perfect quadratic"}
        ``"perfect quadratic"`` starts at the perfect initialisation with `kappa`.
    width, depth : int
        Hidden units per layer; hidden layers (ReLU networks only).
    n_steps : int
        Steps of Adam.
    n_train : int
        Size of the fixed training set; 0 for online training.
    radius : float
        Radius of the outer sphere.
    learning_rate : float
        Of Adam, at the start.
    schedule : {"constant", "linear"}
        ``"linear"`` decays the rate to 0 over the training.
    batch_size : int
        Points per step.
    snapshots : tuple of int
        Steps after which the network is stored, besides the last.
    kappa : float
        Steepness of the perfect initialisation's logit; unused otherwise.
    initial_bias : float
        Output bias that a quadratic network starts with; the alphas start near 0.8 whatever it is,
        so it sets the scale of the first logits. Unused by other architectures.
    seed : int
        Seed of initialisation, training points and order.
    device : str
        Where to train.
    """

    version: ClassVar[int] = 2  # 1 took every gradient by autograd

    dim: int
    architecture: Architecture
    width: int
    depth: int
    n_steps: int
    n_train: int = 0
    radius: float = 1.3
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"
    batch_size: int = 50
    snapshots: tuple[int, ...] = ()
    kappa: float = 10.0
    initial_bias: float = -1.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.check_at_least(2, "dim")
        self.check_at_least(1, "width", "depth", "n_steps", "batch_size")
        self.check_at_least(0, "n_train")
        outer_radius(self.radius)
        choice("schedule", self.schedule, get_args(Schedule))
        positive("learning_rate", self.learning_rate)
        if not self.initial_bias < 0:
            raise ValueError(f"initial_bias must be negative, got {self.initial_bias}")

    def radius_of(self, sphere: Sphere) -> float:
        """Return the radius of the inner or of the outer sphere."""
        return 1.0 if sphere == "inner" else self.radius

    @property
    def n_weights(self) -> int:
        """About how many weights there are; what a pass through the network costs."""
        hidden = (self.depth - 1) * self.width**2 if self.architecture == "relu" else 0
        return self.dim * self.width + hidden

    @property
    def seconds_per_point(self) -> float:
        """About the time to draw and classify a point, one of many, on one core."""
        return self.dim * RATES.random_number + self.seconds_of_passes(0, 1)

    @property
    def name(self) -> str:
        """What kind of network it is, with the numbers of its inputs and hidden units."""
        kind = {"relu": "ReLU", "quadratic": "quadratic"}[self.architecture]
        sizes = [self.dim, *self.depth * (self.width,)]
        shape = (
            f"{self.dim}-{self.depth}x{self.width}" if self.depth > 2 else "-".join(map(str, sizes))
        )
        return f"{kind} network {shape}"

    def in_words(self) -> str:
        """Return that it is trained."""
        return f"training the {self.name}"

    def seconds_of_passes(self, n_calls: int, n_points: int) -> float:
        """About the time on one core to classify `n_points` in all, in a number of calls."""
        calls = n_calls * (self.depth * RATES.layer_call + self.n_weights * RATES.weight_read)
        n_units = self.width * self.depth if self.architecture == "relu" else 0
        return calls + n_points * (self.n_weights * RATES.product + n_units * RATES.unit)

    def seconds_of_training(self) -> float:
        """About the time of a step of training on one core: passes, Adam's update, fresh points."""
        per_step = RATES.training_step + self.n_weights * RATES.update
        drawing = self.batch_size * self.dim * RATES.random_number
        passes = 3 * self.seconds_of_passes(1, self.batch_size)
        # The points take no gradient.
        spared = self.dim * self.width * (RATES.weight_read + self.batch_size * RATES.product)
        return per_step + drawing + passes - spared

    def seconds_of_attack(self, n_starts: int, n_steps: int) -> float:
        """About the time to attack from `n_starts` at once for some steps on one core."""
        moving = RATES.attack_call + n_starts * self.dim * RATES.attack_step
        return n_steps * (moving + 2 * self.seconds_of_passes(1, n_starts))

    def cost(self) -> float:
        """Rough seconds of all steps on one core."""
        return RATES.run + self.n_steps * self.seconds_of_training()

    def stored_models(self) -> dict[int, str]:
        """Return the names of the stored models by step, in the order of training."""
        return {step: snapshot_name(step) for step in self.snapshots} | {self.n_steps: FINAL}

    def problem(self) -> ConcentricSpheres:
        """Return the problem that the network is trained on."""
        from trueboundary.problems import ConcentricSpheres

        return ConcentricSpheres(self.dim, self.radius)

    def compute(self, context: Context) -> RunResult:
        """Train; resume from the checkpoint of a killed run."""
        from trueboundary.classifiers import to_arrays
        from trueboundary.problems import FiniteSample, OnlineStream
        from trueboundary.training import TrainingConfig, train

        problem, model = self.problem(), self._initial_model()
        stream = (
            FiniteSample(problem, self.n_train, self.batch_size, self.seed, device=self.device)
            if self.n_train
            else OnlineStream(problem, self.batch_size, self.seed, device=self.device)
        )
        # A card takes thousands of steps while the largest network is written once.
        between = 2000 if self.device == "cpu" else 20_000
        kept = context.checkpoint / "snapshots"
        kept.mkdir(exist_ok=True)

        def keep(step: int, network: ClassifierModule) -> None:
            _write_model(kept / snapshot_name(step), *to_arrays(network))

        result = train(
            model,
            stream,
            TrainingConfig(
                n_steps=self.n_steps,
                learning_rate=self.learning_rate,
                schedule=self.schedule,
                snapshots=self.snapshots,
                checkpoint_every=max(1, min(between, self.n_steps // 4)),
            ),
            checkpoint=context.checkpoint / "training",
            on_snapshot=keep,
            progress=lambda step: context.progress(step / self.n_steps),
        )
        models = {path.name: _read_model(path) for path in sorted(kept.glob("step-*"))}
        models[FINAL] = to_arrays(model)
        return RunResult(
            summary={"final_loss": float(result.losses[-1])},
            arrays={
                "loss_step": np.asarray(result.steps, dtype=np.int64),
                "loss": np.asarray(result.losses, dtype=np.float64),
            },
            models=models,
        )

    def _initial_model(self) -> ClassifierModule:
        import torch

        from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork

        generator = torch.Generator().manual_seed(self.seed)
        model: ClassifierModule
        if self.architecture == "relu":
            model = ReLUNetwork(self.dim, self.width, self.depth, generator=generator)
        elif self.architecture == "quadratic":
            model = QuadraticNetwork(
                self.dim, self.width, generator=generator, bias=self.initial_bias
            )
        else:
            start: Any = {"kappa": self.kappa, "basis": "rotated", "radius": self.radius}
            model = QuadraticNetwork.perfect(self.dim, self.width, generator=generator, **start)
        return model.to(self.device)


def small_relu_network(
    settings: Mapping[str, Any], seed: int, device: str, **fields: Any
) -> TrainedNetwork:
    """Return the paper's network of two hidden layers, trained online, at an experiment's settings.

    Experiments with equal settings share the trained network, which is stored at some steps of its
    training. Fields given besides take the place of the settings of their names; such a network is
    stored at its end alone.
    """
    names = ("dim", "width", "n_steps", "schedule")
    shape = {name: settings[name] for name in names if name not in fields}
    if not fields:
        fields = {"snapshots": snapshot_steps(settings["n_steps"], N_SNAPSHOTS)[:-1]}
    return TrainedNetwork(architecture="relu", depth=2, seed=seed, device=device, **shape, **fields)


@dataclass(frozen=True)
class OfNetwork(RunConfig):
    """What is computed from a trained network.

    Parameters
    ----------
    network : TrainedNetwork
        Which network.
    """

    network: TrainedNetwork

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the trained network."""
        return {"network": self.network}

    def load(self, context: Context, name: str = FINAL) -> ClassifierModule:
        """Return the network's stored model of that name; see `load_model`."""
        return load_model(context.inputs["network"], name, self.network.device)


def load_model(run: Run, name: str, device: str = "cpu") -> ClassifierModule:
    """Return a stored model in evaluation mode."""
    from trueboundary.classifiers import from_arrays

    if name not in run.result.models:
        raise ValueError(f"{run.path.name} has no model {name!r}, only {sorted(run.result.models)}")
    return from_arrays(*run.result.models[name]).to(device).eval()


def _write_model(path: Path, spec: dict[str, Any], arrays: Arrays) -> None:
    from safetensors.numpy import save

    write_atomically(path, save(arrays, metadata={"spec": json.dumps(spec)}))


def _read_model(path: Path) -> Model:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        spec = json.loads(file.metadata()["spec"])
        return spec, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
