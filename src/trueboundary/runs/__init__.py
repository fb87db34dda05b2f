"""Runs: frozen configurations, an atomic store and the executors that fill it.

Nothing here imports torch.
"""

from trueboundary.runs.config import Context, Run, RunConfig, RunResult
from trueboundary.runs.execute import Failure, Progress, execute, run_one
from trueboundary.runs.store import DamagedRunError, Store

__all__ = [
    "Context",
    "DamagedRunError",
    "Failure",
    "Progress",
    "Run",
    "RunConfig",
    "RunResult",
    "Store",
    "execute",
    "run_one",
]
