"""A process that fills a store, for tests of two in one."""

from dataclasses import dataclass

import numpy as np

from trueboundary.runs import RunConfig, RunResult, Store


@dataclass(frozen=True)
class Written(RunConfig):
    x: float


def save_many(root, who, start):
    """Save ten runs once `start` is set."""
    store = Store(root)
    start.wait()
    for i in range(10):
        arrays = {"x": np.full(1000, float(i))}
        store.save(Written(float(i)), RunResult({"who": who}, arrays), {})
