"""Distances from random points to the nearest errors of trained networks, found by attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trueboundary.experiments.networks.trained_networks import FINAL, SPHERES, OfNetwork, Sphere
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, Pieced, Run, RunResult, joined, spans
from trueboundary.runs.config import Arrays

if TYPE_CHECKING:
    from trueboundary.classifiers import ClassifierModule

Surface = Literal["sphere", "shell"]

#: Points in a piece of a large attack, which share a seed of its own.
PIECE_POINTS = 250

#: Steps after which most starts of an attack have come to rest.
_USUAL_STEPS = 150


@dataclass(frozen=True)
class AttackedPoints(Pieced, OfNetwork):
    """Distances from random points of a sphere to the nearest errors that an attack finds.

    Parameters
    ----------
    n_points : int
        How many random points are attacked; points that are errors themselves have distance 0.
    n_steps : int
        Steps of the attack, each of length `step_size`.
    sphere : {"inner", "outer"}
        Where the points are.
    surface : {"sphere", "shell"}
        Search on the sphere, or anywhere between the spheres.
    n_restarts : int
        Starts per point.
    refine_steps : int
        0 keeps the first error met, as the published attack does. Otherwise `NearestError`, with as
        many slides along the boundary, takes its place, and `step_size` is not used.
    model : str
        Which of the network's stored models.
    """

    # 2 refined the published attack's errors instead of searching the nearest; 1 took a margin of 0
    # for an error.
    version: ClassVar[int] = 3

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
        self.check_at_least(1, "n_points", "n_steps", "n_restarts")
        self.check_at_least(0, "refine_steps")

    def pieces(self) -> dict[str, AttackedPiece]:
        """Return some points each."""
        if self.n_points <= PIECE_POINTS:
            return {}
        return {  # by the names that the keys of results know
            f"chunk-{first}": AttackedPiece(**self.field_values(), first=first, stop=stop)
            for first, stop in spans(self.n_points, PIECE_POINTS)
        }

    def in_words(self) -> str:
        """Return what is searched for."""
        return f"searching for the nearest errors of the {self.network.name}"

    def whole_cost(self) -> float:
        """Return about the time of the attack."""
        return self.seconds(self.n_points)

    def seconds(self, n_points: int) -> float:
        """Return about the time of `n_points`: most starts come to rest within 150 steps."""
        n_steps = min(self.n_steps, _USUAL_STEPS)
        n_starts = self.n_restarts * n_points
        return RATES.run + self.network.seconds_of_attack(n_starts, n_steps)

    def whole(self, context: Context) -> RunResult:
        """Attack all points."""
        model = self.load(context, self.model)
        return RunResult({"n_points": self.n_points}, self.attack(model, context.progress))

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Return the points of all pieces."""
        arrays = joined([piece.arrays for piece in pieces.values()])
        return RunResult({"n_points": self.n_points}, arrays)

    def attack(
        self, model: ClassifierModule, progress: Callable[[float], None] | None = None
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
        self, model: ClassifierModule, x: Any, y: Any, first: int, stop: int
    ) -> Arrays:
        """Attack `model` at the points `first` to `stop` of all points and labels."""
        import torch

        from trueboundary.attacks import Attack, ManifoldAttack, NearestError
        from trueboundary.domains import Shell
        from trueboundary.domains import Sphere as SphereDomain

        x, y = x[first:stop], y[first:stop]
        # The attack hashes the seed that it draws here with each point, so that neither pieces nor
        # runs whose sums of seed and place agree share random numbers.
        generator = torch.Generator().manual_seed(self.seed + first)
        attack: Attack = ManifoldAttack("nearest", self.n_steps, self.step_size, self.n_restarts)
        if self.refine_steps > 0:
            attack = NearestError(self.n_steps, self.n_restarts, self.refine_steps)
        shell = Shell(1.0, self.network.radius)
        domain = SphereDomain() if self.surface == "sphere" else shell
        result = attack(model, x, y, domain=domain, generator=generator)
        found = {
            "distance": result.distance.double(),
            "norm": result.x_adv.double().norm(dim=1),
            "n_forward": result.n_forward,
            "n_backward": result.n_backward,
        }
        return {name: values.cpu().numpy() for name, values in found.items()}

    def points(self) -> tuple[Any, Any]:
        """Return the attacked points and their labels."""
        import torch

        blocks = self.network.problem().blocks(
            self.n_points,
            seed=self.seed,
            block_size=self.n_points,
            label=SPHERES.index(self.sphere),
            device=self.network.device,
            purpose="attacked",
        )
        x, y = next(iter(blocks))
        return x, y.to(torch.int64)


@dataclass(frozen=True, kw_only=True)
class AttackedPiece(AttackedPoints):
    """A piece of a large `AttackedPoints`, whose fields it has: the points `first` to `stop`."""

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
        model = self.load(context, self.model)
        x, y = self.points()
        return RunResult({}, self.attack_piece(model, x, y, self.first, self.stop))
