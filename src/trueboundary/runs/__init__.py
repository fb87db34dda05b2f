"""Runs: frozen configurations, an atomic store and the executors that fill it.

Nothing here imports torch.
"""

from trueboundary.runs.cluster import Cluster, ClusterError, open_cluster
from trueboundary.runs.config import Context, Run, RunConfig, RunResult
from trueboundary.runs.execute import (
    Failure,
    Progress,
    WorkerSetupError,
    collect,
    execute,
    run_here,
    run_one,
    total_cost,
)
from trueboundary.runs.order import Group
from trueboundary.runs.pieces import Pieced, Tally, joined, spans
from trueboundary.runs.plans import (
    SCALES,
    DamagedPlanError,
    Plan,
    Scale,
    UncheckedPlan,
    plan_file,
    plan_files,
    read_plan,
    read_plans,
    write_plan,
)
from trueboundary.runs.pool import NoWorkerError, WorkerDiedError, WorkerPool, worker_pool
from trueboundary.runs.shipping import Shipment, ShippingError, ship, smaller_plans
from trueboundary.runs.store import DamagedRunError, Store, StoreError

__all__ = [
    "SCALES",
    "Cluster",
    "ClusterError",
    "Context",
    "DamagedPlanError",
    "DamagedRunError",
    "Failure",
    "Group",
    "NoWorkerError",
    "Pieced",
    "Plan",
    "Progress",
    "Run",
    "RunConfig",
    "RunResult",
    "Scale",
    "Shipment",
    "ShippingError",
    "Store",
    "StoreError",
    "Tally",
    "UncheckedPlan",
    "WorkerDiedError",
    "WorkerPool",
    "WorkerSetupError",
    "collect",
    "execute",
    "joined",
    "open_cluster",
    "plan_file",
    "plan_files",
    "read_plan",
    "read_plans",
    "run_here",
    "run_one",
    "ship",
    "smaller_plans",
    "spans",
    "total_cost",
    "worker_pool",
    "write_plan",
]
