"""Runs: frozen configurations, an atomic store and the executors that fill it.

Nothing here imports torch.
"""

from trueboundary.runs.config import Context, Run, RunConfig, RunResult
from trueboundary.runs.execute import (
    Failure,
    Progress,
    WorkerDiedError,
    collect,
    execute,
    run_one,
)
from trueboundary.runs.plans import DamagedPlanError, Plan, read_plans, write_plan
from trueboundary.runs.pool import worker_pool
from trueboundary.runs.store import DamagedRunError, Store, StoreError

__all__ = [
    "Context",
    "DamagedPlanError",
    "DamagedRunError",
    "Failure",
    "Plan",
    "Progress",
    "Run",
    "RunConfig",
    "RunResult",
    "Store",
    "StoreError",
    "WorkerDiedError",
    "collect",
    "execute",
    "read_plans",
    "run_one",
    "worker_pool",
    "write_plan",
]
