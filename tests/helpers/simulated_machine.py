"""A machine on which runs take what they cost, without computing anything."""

import importlib
import math
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np

from trueboundary.runs import RunConfig, Store, collect, execute
from trueboundary.runs.order import longest_chains

# Its name is that of the function in it.
execute_module = importlib.import_module("trueboundary.runs.execute")


@dataclass
class Simulation(Executor):
    """Computes nothing: every run takes its cost, times what this machine makes of it."""

    n_workers: int
    factor: float = 1.0
    spread: float = 0.0
    now: float = 0.0
    order: list[RunConfig] = field(default_factory=list)
    seen: list[tuple[float, float, int]] = field(default_factory=list)
    stored_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self.rng = np.random.default_rng(0)
        self.ends: dict[Future, tuple[float, float]] = {}

    def submit(self, fn, /, *args, **kwargs):
        config, future = args[-1], Future()
        self.order.append(config)
        seconds = config.cost() * self.factor * math.exp(self.spread * self.rng.normal())
        self.ends[future] = (self.now + seconds, seconds)
        return future

    def some_finished(self, running):
        """Let the time pass to the next end of a run, or to the next look."""
        end = min(self.ends[future][0] for future in running)
        self.now = min(end, self.now + execute_module.POLL_INTERVAL)
        done = {future for future in running if self.ends[future][0] <= self.now}
        for future in done:
            future.set_result(self.ends[future][1])
        return done

    def run(self, goals, root, monkeypatch, groups=()):
        monkeypatch.setattr(execute_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(execute_module, "_some_finished", self.some_finished)
        monkeypatch.setattr(execute_module, "_is_visible", lambda runs, folder: True)
        failures = execute(
            goals,
            Store(root),
            self,
            n_workers=self.n_workers,
            groups=groups,
            on_progress=lambda s: self.seen.append((self.now, s.seconds_left, s.n_done)),
            on_stored=lambda config: self.stored_at.setdefault(config.digest, self.now),
        )
        assert failures == []
        return self


def shortest(goals, n_workers):
    """Return a time that no order can beat."""
    costs = {digest: config.cost() for digest, config in collect(goals).items()}
    wanted_by = {digest: [] for digest in costs}
    for digest, config in collect(goals).items():
        for need in config.needs().values():
            wanted_by[need.digest].append(digest)
    chain = max(longest_chains(wanted_by, costs).values())
    return max(chain, sum(costs.values()) / n_workers)
