"""Errors of trained networks counted among random points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from trueboundary.experiments.networks.trained_networks import FINAL, SPHERES, OfNetwork, Sphere
from trueboundary.runs import Context, Pieced, Run, RunResult, Tally, spans

if TYPE_CHECKING:
    from trueboundary.classifiers import ClassifierModule

#: Points per block of a problem's streams, repeated here because that module imports torch.
BLOCK_POINTS = 8192

#: Blocks of points in a piece of a large count, about a million points.
PIECE_BLOCKS = 122


@dataclass(frozen=True)
class ErrorCount(Pieced, OfNetwork):
    """Errors of a stored model of a network on `n_points` random points of either sphere."""

    # 1 took a margin of 0 for an error; 2 counted quadratic networks among other points
    version: ClassVar[int] = 3

    n_points: int
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

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

    def in_words(self) -> str:
        """Return what is counted."""
        return f"counting the errors of the {self.network.name}"

    def whole_cost(self) -> float:
        """Two operations per parameter and point."""
        return 2 * self.n_points * self.network.seconds_per_point

    def whole(self, context: Context) -> RunResult:
        """Count in blocks; a killed count goes on from its last block."""
        model = self.load(context, self.model)
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
        model: ClassifierModule,
        tally: Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> dict[Sphere, int]:
        """Return the number of errors of `model` by sphere; `tally` is a file to resume from."""
        from trueboundary.measure.counting import block_counter

        state = Tally(tally)
        counter = block_counter(model, self.network.problem())
        for label, sphere in enumerate(SPHERES):
            firsts = range(0, self.n_points, BLOCK_POINTS)
            for index, first in state.left(sphere, firsts):
                n = min(BLOCK_POINTS, self.n_points - first)
                n_errors = counter(
                    index, n, seed=self.seed, label=label, device=self.network.device
                )
                state.add(sphere, n_errors)
                if progress is not None:
                    progress((label + (first + n) / self.n_points) / 2)
        return {sphere: state.total(sphere) for sphere in SPHERES}


@dataclass(frozen=True)
class CountedPiece(OfNetwork):
    """A piece of a large `ErrorCount`: `n_points` points of one sphere, from a block onwards.

    Counts of different size share their full pieces; only the last block may be cut off.
    """

    kind: ClassVar[str] = "CountedChunk"
    # 1 took a margin of 0 for an error; 2 counted quadratic networks among other points
    version: ClassVar[int] = 3

    sphere: Sphere
    first_block: int
    n_points: int
    model: str = FINAL
    seed: int = 0

    def in_words(self) -> str:
        """Return what is counted."""
        return f"counting the errors of the {self.network.name}"

    def cost(self) -> float:
        """Two operations per parameter and point."""
        return self.n_points * self.network.seconds_per_point

    def compute(self, context: Context) -> RunResult:
        """Count the errors in the same points that a count in one piece would draw."""
        from trueboundary.measure.counting import block_counter

        counter = block_counter(self.load(context, self.model), self.network.problem())
        label, n_errors = SPHERES.index(self.sphere), 0
        for start in range(0, self.n_points, BLOCK_POINTS):
            n_errors += counter(
                self.first_block + start // BLOCK_POINTS,
                min(BLOCK_POINTS, self.n_points - start),
                seed=self.seed,
                label=label,
                device=self.network.device,
            )
            context.progress(min(1.0, (start + BLOCK_POINTS) / self.n_points))
        return RunResult({"n_errors": n_errors})
