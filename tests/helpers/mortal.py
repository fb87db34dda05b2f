"""Runs that may kill the process that computes them: importable in workers and free of torch."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from trueboundary.runs import RunConfig, RunResult


@dataclass(frozen=True)
class Mortal(RunConfig):
    """Random numbers; the first process that computes a mortal one is killed half-way."""

    seed: int
    dies: bool = False
    seconds: float = 0.0

    def compute(self, context):
        first = np.random.default_rng(self.seed)
        numbers = first.normal(size=1000)
        marks = context.checkpoint
        n_before = len(list(marks.glob("life-*")))
        (marks / f"life-{n_before}").touch()
        time.sleep(self.seconds)
        if self.dies and n_before == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return RunResult({"lives": n_before + 1}, {"numbers": numbers, "order": np.sort(numbers)})


@dataclass(frozen=True)
class Total(RunConfig):
    """Adds up what others computed, in the order of the seeds."""

    parts: tuple[Mortal, ...]

    def needs(self):
        return {f"{part.seed:04d}": part for part in self.parts}

    def compute(self, context):
        total = sum(context.inputs[name].arrays["numbers"] for name in sorted(context.inputs))
        return RunResult({}, {"total": total})
