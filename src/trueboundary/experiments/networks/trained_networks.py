"""Trained networks on the spheres, and the measurements that several experiments share.

Modules that import torch are imported where they are used, so that listing experiments is quick.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from trueboundary._checks import check_integer
from trueboundary.regular_files import write_atomically
from trueboundary.runs import Context, Pieced, Run, RunConfig, RunResult, Tally, joined, spans
from trueboundary.runs.config import Arrays, Model

if TYPE_CHECKING:
    from trueboundary.classifiers import BinaryClassifier
    from trueboundary.problems import ConcentricSpheres

Architecture = Literal["relu", "quadratic", "perfect quadratic"]
Sphere = Literal["inner", "outer"]
Schedule = Literal["constant", "linear"]
Surface = Literal["sphere", "shell"]
SPHERES: tuple[Sphere, ...] = ("inner", "outer")
FINAL = "final"

#: Points per block of a problem's streams, repeated here because that module imports torch.
BLOCK_POINTS = 8192

#: Blocks of points in a piece of a large count, about a million points.
PIECE_BLOCKS = 122

#: Points in a piece of a large attack, which share a seed of its own.
PIECE_POINTS = 250


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
        check_integer("dim", self.dim, minimum=2)
        for name in ("width", "depth", "n_steps", "batch_size"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("n_train", self.n_train, minimum=0)
        if not (math.isfinite(self.radius) and self.radius > 1):
            raise ValueError(f"radius must be above 1, the inner sphere's, got {self.radius}")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule must be 'constant' or 'linear', got {self.schedule!r}")
        if not self.initial_bias < 0:
            raise ValueError(f"initial_bias must be negative, got {self.initial_bias}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")

    @property
    def n_weights(self) -> int:
        """About how many weights there are; what a pass through the network costs."""
        hidden = (self.depth - 1) * self.width**2 if self.architecture == "relu" else 0
        return self.dim * self.width + hidden

    def cost(self) -> float:
        """Rough seconds on one core: six operations per parameter and point, and Adam's."""
        n_parameters = self.n_weights
        seconds_per_step = 2e-4 + n_parameters * (6 * self.batch_size / 7e10 + 1.5e-9)
        return self.n_steps * seconds_per_step

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
        kept = context.checkpoint / "snapshots"
        kept.mkdir(exist_ok=True)

        def keep(step: int, network: BinaryClassifier) -> None:
            _write_model(kept / snapshot_name(step), *to_arrays(network))

        result = train(
            model,
            stream,
            TrainingConfig(
                n_steps=self.n_steps,
                learning_rate=self.learning_rate,
                schedule=self.schedule,
                snapshots=self.snapshots,
                checkpoint_every=max(1, min(2000, self.n_steps // 4)),
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

    def _initial_model(self) -> BinaryClassifier:
        import torch

        from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork

        generator = torch.Generator().manual_seed(self.seed)
        model: BinaryClassifier
        if self.architecture == "relu":
            model = ReLUNetwork(self.dim, self.width, self.depth, generator=generator)
        elif self.architecture == "quadratic":
            model = QuadraticNetwork(
                self.dim, self.width, generator=generator, bias=self.initial_bias
            )
        else:
            model = QuadraticNetwork.perfect(
                self.dim,
                self.width,
                kappa=self.kappa,
                basis="rotated",
                radius=self.radius,
                generator=generator,
            )
        return model.to(self.device)


def small_relu_network(
    settings: Mapping[str, Any], seed: int, device: str, *, schedule: Schedule | None = None
) -> TrainedNetwork:
    """Return the paper's network of two hidden layers, trained online, at an experiment's settings.

    Experiments with equal settings share the trained network.
    """
    return TrainedNetwork(
        dim=settings["dim"],
        architecture="relu",
        width=settings["width"],
        depth=2,
        n_steps=settings["n_steps"],
        schedule=schedule or settings["schedule"],
        seed=seed,
        device=device,
    )


@dataclass(frozen=True)
class ErrorCount(Pieced):
    """Errors of a trained network on random points of either sphere.

    Parameters
    ----------
    network : TrainedNetwork
        Which network.
    n_points : int
        Points per sphere.
    model : str
        Which of the network's stored models.
    seed : int
        Seed of the points.
    """

    version: ClassVar[int] = 2  # 1 took a margin of 0 for an error

    network: TrainedNetwork
    n_points: int
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n_points", self.n_points, minimum=1)

    def pieces(self) -> dict[str, CountedPiece]:
        """Return some blocks of one sphere each."""
        n_blocks = -(-self.n_points // BLOCK_POINTS)
        if n_blocks <= PIECE_BLOCKS + 1:  # a million points and the rest of a block are one piece
            return {}
        return {
            f"{sphere}-{first}": CountedPiece(
                self.network,
                sphere,
                first,
                min(last * BLOCK_POINTS, self.n_points) - first * BLOCK_POINTS,
                self.model,
                self.seed,
            )
            for sphere in SPHERES
            for first, last in spans(n_blocks, PIECE_BLOCKS)
        }

    def whole_needs(self) -> Mapping[str, RunConfig]:
        """Return the trained network."""
        return {"network": self.network}

    def whole_cost(self) -> float:
        """Two operations per parameter and point."""
        return 2 * self.n_points * _seconds_per_point(self.network)

    def whole(self, context: Context) -> RunResult:
        """Count in blocks; a killed count goes on from its last block."""
        model = load_model(context.inputs["network"], self.model, self.network.device)
        return self._result(self.count(model, context.checkpoint / "tally.json", context.progress))

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Add up the errors of each sphere."""
        counts = dict.fromkeys(SPHERES, 0)
        for piece in pieces.values():
            counts[piece.config["sphere"]] += piece.summary["n_errors"]
        return self._result(counts)

    def _result(self, counts: Mapping[Sphere, int]) -> RunResult:
        return RunResult(
            {f"n_errors_{sphere}": counts[sphere] for sphere in SPHERES}
            | {"n_points": self.n_points}
        )

    def count(
        self,
        model: BinaryClassifier,
        tally: Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> dict[Sphere, int]:
        """Return the number of errors of `model` by sphere; `tally` is a file to resume from."""
        state = Tally(tally)
        for label, sphere in enumerate(SPHERES):
            blocks = self.network.problem().blocks(
                self.n_points, seed=self.seed, label=label, device=self.network.device
            )
            for index, (x, _) in state.left(sphere, blocks):
                state.add(sphere, _count_errors(model, x, label))
                if progress is not None:
                    done = min((index + 1) * BLOCK_POINTS, self.n_points)
                    progress((label + done / self.n_points) / 2)
        return {sphere: state.total(sphere) for sphere in SPHERES}


@dataclass(frozen=True)
class CountedPiece(RunConfig):
    """A piece of a large `ErrorCount`: some blocks of the points of one sphere.

    Counts of different size share their full pieces.

    Parameters
    ----------
    network : TrainedNetwork
        Which network.
    sphere : {"inner", "outer"}
        Where the points are.
    first_block : int
        Number of the block that holds the first point.
    n_points : int
        Points of this piece; only the last block may be cut off.
    model : str
        Which of the network's stored models.
    seed : int
        Seed of the points.
    """

    kind: ClassVar[str] = "CountedChunk"
    version: ClassVar[int] = 2  # 1 took a margin of 0 for an error

    network: TrainedNetwork
    sphere: Sphere
    first_block: int
    n_points: int
    model: str = FINAL
    seed: int = 0

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the trained network."""
        return {"network": self.network}

    def cost(self) -> float:
        """Two operations per parameter and point."""
        return self.n_points * _seconds_per_point(self.network)

    def compute(self, context: Context) -> RunResult:
        """Count the errors in the same points that a count in one piece would draw."""
        model = load_model(context.inputs["network"], self.model, self.network.device)
        problem, label = self.network.problem(), SPHERES.index(self.sphere)
        n_errors = 0
        for start in range(0, self.n_points, BLOCK_POINTS):
            index = self.first_block + start // BLOCK_POINTS
            x, _ = problem.block(index, seed=self.seed, label=label, device=self.network.device)
            n_errors += _count_errors(model, x[: self.n_points - start], label)
            context.progress(min(1.0, (start + BLOCK_POINTS) / self.n_points))
        return RunResult({"n_errors": n_errors})


@dataclass(frozen=True)
class AttackedPoints(Pieced):
    """Distances from random points of a sphere to the nearest errors that an attack finds.

    Parameters
    ----------
    network : TrainedNetwork
        Which network.
    n_points : int
        How many random points are attacked; points that are errors themselves have distance 0.
    n_steps : int
        Steps of the attack, each of length `step_size`.
    sphere : {"inner", "outer"}
        Where the points are.
    surface : {"sphere", "shell"}
        Search on the sphere, or anywhere between the spheres.
    step_size : float
        Length of a step.
    n_restarts : int
        Starts per point.
    refine_steps : int
        Slides along the boundary that shorten each distance; 0 keeps the first error met, as the
        published attack does.
    model : str
        Which of the network's stored models.
    seed : int
        Seed of the points and restarts.
    """

    version: ClassVar[int] = 2  # 1 took a margin of 0 for an error

    network: TrainedNetwork
    n_points: int
    n_steps: int = 1000
    sphere: Sphere = "inner"
    surface: Surface = "sphere"
    step_size: float = 1e-3
    n_restarts: int = 1
    refine_steps: int = 0
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_points", "n_steps", "n_restarts"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("refine_steps", self.refine_steps, minimum=0)

    def pieces(self) -> dict[str, AttackedPiece]:
        """Return some points each."""
        if self.n_points <= PIECE_POINTS:
            return {}
        return {  # by the names that the keys of results know
            f"chunk-{first}": AttackedPiece(**self.field_values(), first=first, stop=stop)
            for first, stop in spans(self.n_points, PIECE_POINTS)
        }

    def whole_needs(self) -> Mapping[str, RunConfig]:
        """Return the trained network."""
        return {"network": self.network}

    def whole_cost(self) -> float:
        """Return about the time of the attack."""
        return self.seconds(self.n_points)

    def seconds(self, n_points: int) -> float:
        """Return about the time of `n_points`: both passes, for about 200 steps of every start."""
        passes = min(self.n_steps, 200) * self.n_restarts * n_points
        return 0.2 + passes * (2e-6 + 6 * self.network.n_weights / 5e10)

    def whole(self, context: Context) -> RunResult:
        """Attack all points."""
        model = load_model(context.inputs["network"], self.model, self.network.device)
        return RunResult({"n_points": self.n_points}, self.attack(model, context.progress))

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Return the points of all pieces."""
        arrays = joined([piece.arrays for piece in pieces.values()])
        return RunResult({"n_points": self.n_points}, arrays)

    def attack(
        self, model: BinaryClassifier, progress: Callable[[float], None] | None = None
    ) -> Arrays:
        """Attack `model`: distances, norms of the errors found and passes, one row per point."""
        x, y = self.points()
        pieces = []
        for first, stop in spans(self.n_points, PIECE_POINTS):
            pieces.append(self.attack_piece(model, x, y, first, stop))
            if progress is not None:
                progress(stop / self.n_points)
        return joined(pieces)

    def attack_piece(
        self, model: BinaryClassifier, x: Any, y: Any, first: int, stop: int
    ) -> Arrays:
        """Attack `model` at the points `first` to `stop` of all points and labels."""
        import torch

        from trueboundary.attacks import ManifoldAttack, OffManifoldAttack, Shell

        x, y = x[first:stop], y[first:stop]
        # The attack hashes the seed that it draws here with each point, so that neither pieces nor
        # runs whose sums of seed and place agree share random numbers.
        generator = torch.Generator().manual_seed(self.seed + first)
        budget = (self.n_steps, self.step_size, self.n_restarts, self.refine_steps)
        if self.surface == "sphere":
            result = ManifoldAttack("nearest", *budget)(model, x, y, generator=generator)
        else:
            shell = Shell(1.0, self.network.radius)
            result = OffManifoldAttack(*budget)(model, x, y, domain=shell, generator=generator)
        norms = result.x_adv.double().norm(dim=1)
        return {
            "distance": result.distance.double().cpu().numpy(),
            "norm": norms.cpu().numpy(),
            "n_forward": result.n_forward.cpu().numpy(),
            "n_backward": result.n_backward.cpu().numpy(),
        }

    def points(self) -> tuple[Any, Any]:
        """Return the attacked points and their labels."""
        import torch

        device = self.network.device
        (x, y) = next(
            iter(
                self.network.problem().blocks(
                    self.n_points,
                    seed=self.seed,
                    block_size=self.n_points,
                    label=SPHERES.index(self.sphere),
                    device=device,
                    purpose="attacked",
                )
            )
        )
        return x, y.to(torch.int64)


@dataclass(frozen=True, kw_only=True)
class AttackedPiece(AttackedPoints):
    """A piece of a large `AttackedPoints`, whose fields it has: the points `first` to `stop`.

    Parameters
    ----------
    first, stop : int
        Number of the first point, and one more than that of the last.
    """

    kind: ClassVar[str] = "AttackedChunk"

    first: int
    stop: int

    def pieces(self) -> dict[str, AttackedPiece]:
        """Return none: a piece is not cut further."""
        return {}

    def whole_cost(self) -> float:
        """Return about the time of the piece's points."""
        return self.seconds(self.stop - self.first)

    def whole(self, context: Context) -> RunResult:
        """Attack the same points, from the same starts, as a job in one piece would."""
        model = load_model(context.inputs["network"], self.model, self.network.device)
        x, y = self.points()
        return RunResult({}, self.attack_piece(model, x, y, self.first, self.stop))


def load_model(run: Run, name: str, device: str = "cpu") -> BinaryClassifier:
    """Return a stored model in evaluation mode.

    Raises
    ------
    ValueError
        If the run holds no model of that name.
    """
    from trueboundary.classifiers import from_arrays

    if name not in run.result.models:
        raise ValueError(f"{run.path.name} has no model {name!r}, only {sorted(run.result.models)}")
    return from_arrays(*run.result.models[name]).to(device).eval()


def _count_errors(model: BinaryClassifier, x: Any, label: int) -> int:
    import torch

    from trueboundary.classifiers import margin, misclassified

    with torch.no_grad():
        return int(misclassified(margin(model, x), label).sum())


def _seconds_per_point(network: TrainedNetwork) -> float:
    """Return about the time to draw and classify a point on one core."""
    return 3e-6 + 2 * network.n_weights / 7e10


def _write_model(path: Path, spec: dict[str, Any], arrays: Arrays) -> None:
    from safetensors.numpy import save

    write_atomically(path, save(arrays, metadata={"spec": json.dumps(spec)}))


def _read_model(path: Path) -> Model:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        spec = json.loads(file.metadata()["spec"])
        return spec, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
