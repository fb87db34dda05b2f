"""Jobs that may be cut into pieces, and counts that a killed job goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from trueboundary.regular_files import write_atomically
from trueboundary.runs.config import Arrays, Context, Run, RunConfig, RunResult

Block = TypeVar("Block")


class Pieced(RunConfig):
    """A computation which, where it is large, is cut into pieces: runs of their own.

    Pieces are computed side by side, and of a job that was stopped those are kept that are done.
    A subclass says when and how it is cut (`pieces`) and does the work either way: `whole` and
    `put_together` give the same bits, unless the class says that they draw other random numbers.
    Where it has another base class, this one comes first.

    The names of the pieces enter the run's key: they must not change.
    """

    def pieces(self) -> Mapping[str, RunConfig]:
        """Return the pieces by name; empty for a job that is done in one piece."""
        return {}

    def whole_needs(self) -> Mapping[str, RunConfig]:
        """Return what `whole` reads: what a run of the other base class needs."""
        return super().needs()

    def whole_cost(self) -> float:
        """Return the rough cost of `whole`, in seconds on one core."""
        return 1.0

    def whole(self, context: Context) -> RunResult:
        """Do the job in one piece, with the inputs that `whole_needs` names."""
        raise NotImplementedError(f"{self.kind} does not say how it is computed in one piece")

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Return the result from those of the pieces, which come in their order.

        A class that reads more than its pieces here says so in its `needs`.
        """
        raise NotImplementedError(f"{self.kind} does not say how its pieces are put together")

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the pieces, or what the job in one piece reads."""
        return self.pieces() or self.whole_needs()

    def cost(self) -> float:
        """Return the rough cost of the job in one piece, or of putting its pieces together."""
        return 0.02 if self.pieces() else self.whole_cost()

    def compute(self, context: Context) -> RunResult:
        """Do the job in one piece, or put its pieces together."""
        if pieces := self.pieces():
            return self.put_together({name: context.inputs[name] for name in pieces}, context)
        return self.whole(context)


def spans(n: int, size: int, *, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of consecutive pieces of `size`, of which the last may be shorter.

    Examples
    --------
    >>> list(spans(10, 4))
    [(0, 4), (4, 8), (8, 10)]
    """
    for first in range(start, n, size):
        yield first, min(first + size, n)


def joined(pieces: Sequence[Arrays]) -> Arrays:
    """Return the arrays of pieces in their order, end to end; a piece may hold nothing.

    Examples
    --------
    >>> joined([{"distance": np.array([0.1, 0.2])}, {}, {"distance": np.array([0.3])}])
    {'distance': array([0.1, 0.2, 0.3])}
    """
    full = [piece for piece in pieces if piece]
    names = full[0] if full else {}
    return {name: np.concatenate([piece[name] for piece in full]) for name in names}


class Tally:
    """Counts over blocks of points in a file, so that a killed count goes on from its last block.

    Parameters
    ----------
    path : pathlib.Path, optional
        The file, which goes with the checkpoint of the run. None keeps the counts in memory.

    Examples
    --------
    >>> tally = Tally()
    >>> for _, numbers in tally.left("even", [[1, 2, 4], [3, 6]]):
    ...     tally.add("even", sum(number % 2 == 0 for number in numbers))
    >>> tally.total("even")
    3
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._counts: dict[str, list[int]] = {}  # blocks added, and their sum
        if path is not None and path.exists():
            self._counts = json.loads(path.read_text())

    def left(self, name: str, blocks: Iterable[Block]) -> Iterator[tuple[int, Block]]:
        """Yield number and content of the blocks that have not been added to the count `name`.

        The others are drawn and skipped, which costs a fraction of looking into them.
        """
        for index, block in enumerate(blocks):
            if index >= self._of(name)[0]:
                yield index, block

    def add(self, name: str, count: int) -> None:
        """Add the count of the next block."""
        n_blocks, total = self._of(name)
        self._counts[name] = [n_blocks + 1, total + count]
        if self._path is not None:
            write_atomically(self._path, json.dumps(self._counts).encode())

    def total(self, name: str) -> int:
        """Return the sum over the blocks added."""
        return self._of(name)[1]

    def _of(self, name: str) -> list[int]:
        return self._counts.get(name, [0, 0])
