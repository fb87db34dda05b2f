"""Results for those who did not compute them: plans, records and small arrays, and no models."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trueboundary.plurals import plural
from trueboundary.regular_files import UnfitFileError, reason
from trueboundary.runs.plans import (
    SCALES,
    DamagedPlanError,
    Plan,
    plan_files,
    read_plan,
    write_plan,
)
from trueboundary.runs.store import DamagedRunError, Store

#: Bytes that the arrays of a shipped run may have.
MAX_SHIPPED = 2**20


class ShippingError(RuntimeError):
    """Results cannot be shipped; the message is a sentence."""


@dataclass(frozen=True)
class Shipment:
    """What a shipped folder holds.

    Parameters
    ----------
    plans : mapping of str to Plan
        The plans that a report of the folder reads, by experiment.
    n_runs : int
        Number of runs.
    n_bytes : int
        Size of all files together.
    left_out : tuple of str
        A sentence for each experiment that was passed over because a run of it has not finished.
    """

    plans: dict[str, Plan]
    n_runs: int
    n_bytes: int
    left_out: tuple[str, ...] = ()


def ship(sources: Iterable[Path], target: Path, *, max_bytes: int = MAX_SHIPPED) -> Shipment:
    """Copy what reports are written from, so that nobody has to compute it again.

    `target` becomes a folder of results like any other, but without models and without the runs
    that only others need. Where it has plans of one experiment at several scales, a report reads
    that of the largest; the others lie beside it, see `smaller_plans`. What no plan names any more
    is removed. An experiment whose runs have not all finished is passed over.

    Parameters
    ----------
    sources : iterable of pathlib.Path
        Folders of results; of two plans of an experiment at one scale the later one counts.
    target : pathlib.Path
        Where to; what it holds already stays, unless it is replaced.
    max_bytes : int
        The most that the arrays of one run may take.

    Raises
    ------
    ShippingError
        If a plan or a run is damaged, a run is too large, or `target` is a folder that runs were
        computed in: what no plan names is removed, and there that would be the trained models.
        Nothing of the folder that the fault lies in is shipped then.
    StoreError
        If it cannot be written.
    """
    _check_target(target)
    store = Store(target)
    found = {source: [_read(file) for file in plan_files(source).values()] for source in sources}
    for source, plans in found.items():
        if not plans:
            raise ShippingError(f"{source} holds no results: it is no --out folder of a run")
    left_out = []
    for source, plans in found.items():
        whole = []
        for plan in plans:
            missing = [
                n for n, folder in plan.runs.items() if not (source / "runs" / folder).exists()
            ]
            if missing:
                left_out.append(
                    f"{plan.experiment} of {source} is left out: {plural(len(missing), 'run')} not "
                    f"finished, {missing[0]!r} among them"
                )
                continue
            whole.append(plan)
            for name, folder in plan.runs.items():
                _adopt(store, source / "runs" / folder, f"{plan.experiment}: {name}", max_bytes)
        for plan in whole:
            _place(target, plan)
    kept = {id: _read(file) for id, file in plan_files(target).items()}
    smaller = [plan for scale in SCALES for plan in smaller_plans(target, scale).values()]
    named = {folder for plan in (*kept.values(), *smaller) for folder in plan.runs.values()}
    for path in (target / "runs").glob("*"):
        if path.name not in named:
            shutil.rmtree(path)
    with suppress(OSError):  # where runs were staged
        (target / "unfinished").rmdir()
    parts = [target / "runs", *(target / scale / "plans" for scale in ("", *SCALES))]
    files = [path for part in parts for path in part.rglob("*") if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files)
    return Shipment(kept, len(named), n_bytes, tuple(left_out))


def smaller_plans(root: Path, scale: str) -> dict[str, Plan]:
    """Return the plans at `scale` of experiments that `root` has at a larger scale as well.

    They lie in a folder of its name; their runs lie where those of the other plans do.

    Raises
    ------
    DamagedPlanError
        If a file there is not a plan.
    """
    return {id: read_plan(file) for id, file in plan_files(root / scale).items()}


def _check_target(target: Path) -> None:
    """Refuse a folder that runs were computed in, of which most would be lost."""
    models = target.glob("runs/*/model-*.safetensors")
    if (target / "store-id").exists() or any((target / "unfinished").glob("*")) or any(models):
        raise ShippingError(
            f"{target} is a folder that runs were computed in, with models or checkpoints that "
            "shipping would remove; choose a folder of its own"
        )


def _place(root: Path, plan: Plan) -> None:
    """Write a plan where its scale belongs, and the one that it takes the place of likewise."""
    known = plan_files(root).get(plan.experiment)
    other = None if known is None else _read(known)
    if other is None or other.scale == plan.scale:
        write_plan(root, plan)
        return
    small, large = sorted((plan, other), key=lambda one: SCALES.index(one.scale))
    write_plan(root / small.scale, small)
    write_plan(root, large)


def _read(file: Path) -> Plan:
    try:
        plan = read_plan(file)
    except DamagedPlanError as error:
        raise ShippingError(reason(error)) from error
    if plan.scale not in SCALES:
        raise ShippingError(f"{file} is a plan at scale {plan.scale!r}, which there is not")
    return plan


def _adopt(store: Store, path: Path, what: str, max_bytes: int) -> None:
    try:
        store.adopt(path, max_bytes=max_bytes)
    except (DamagedRunError, UnfitFileError) as error:
        raise ShippingError(f"{what} cannot be shipped: {reason(error)}") from error
