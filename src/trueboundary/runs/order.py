"""In which order runs go: what answers most per second first, and what others wait for in time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from trueboundary.runs.config import RunConfig


@dataclass(frozen=True)
class Group:
    """Runs that together answer something, and what the answer is worth."""

    goals: tuple[RunConfig, ...]
    value: float


def rank_by_value(
    groups: Sequence[tuple[float, AbstractSet[str]]], costs: Mapping[str, float]
) -> dict[str, int]:
    """Return the turn of every run of some groups, each given as its value and its runs.

    The next group is always that which is worth most per second of the runs it still lacks: what
    an earlier group computes costs a later one nothing. Runs without a cost here are there already.

    Examples
    --------
    >>> costs = {"train": 60.0, "count": 10.0, "attack": 30.0, "formula": 1.0}
    >>> groups = [(2, {"train", "attack"}), (4, {"train", "count"}), (1, {"formula"})]
    >>> rank_by_value(groups, costs)["attack"]
    2
    """
    turns: dict[str, int] = {}
    left = dict(enumerate(groups))
    while left:

        def worth(index: int) -> tuple[float, int]:
            value, runs = left[index]
            cost = sum(costs.get(run, 0.0) for run in runs if run not in turns)
            return value / max(cost, 1e-9), -index

        best = max(left, key=worth)
        turn = len(groups) - len(left)
        for run in left.pop(best)[1]:
            turns.setdefault(run, turn)
    return turns


def longest_chains(
    wanted_by: Mapping[str, Iterable[str]], costs: Mapping[str, float]
) -> dict[str, float]:
    """Return what each run and the costliest chain of runs that wait for it cost together.

    Examples
    --------
    >>> longest_chains({"train": ["count", "attack"]}, {"train": 9.0, "count": 1.0, "attack": 3.0})
    {'attack': 3.0, 'count': 1.0, 'train': 12.0}
    """
    chains: dict[str, float] = {}
    pending = list(costs)
    while pending:
        run = pending[-1]
        later = [other for other in wanted_by.get(run, ()) if other in costs]
        unknown = [other for other in later if other not in chains]
        if run not in chains and unknown:
            pending += unknown
            continue
        chains.setdefault(run, costs[run] + max((chains[o] for o in later), default=0.0))
        pending.pop()
    return chains


class Queue:
    """The runs that can be started, each with its turn and the chain of work that hangs on it.

    The earliest turn goes first and, of one turn, the longest chain. A chain that would be all that
    is left at the end, with the other workers idle, goes before everything else.
    """

    def __init__(self, turns: Mapping[str, int], chains: Mapping[str, float]) -> None:
        self._turns, self._chains = turns, chains
        self._last = max(turns.values(), default=0) + 1
        self._by_turn: list[tuple[int, float, str]] = []
        self._by_chain: list[tuple[float, str]] = []
        self._ready: set[str] = set()

    def push(self, run: str) -> None:
        """Add a run that can be started."""
        chain = -self._chains[run]
        heapq.heappush(self._by_turn, (self._turns.get(run, self._last), chain, run))
        heapq.heappush(self._by_chain, (chain, run))
        self._ready.add(run)

    def pop(self, seconds_left: float) -> str | None:
        """Return the next run, or None; `seconds_left` is the time that all workers still have."""
        while self._by_turn and self._by_turn[0][2] not in self._ready:
            heapq.heappop(self._by_turn)
        while self._by_chain and self._by_chain[0][1] not in self._ready:
            heapq.heappop(self._by_chain)
        if not self._ready:
            return None
        is_urgent = -self._by_chain[0][0] >= seconds_left
        run = self._by_chain[0][1] if is_urgent else self._by_turn[0][2]
        self._ready.remove(run)
        return run
