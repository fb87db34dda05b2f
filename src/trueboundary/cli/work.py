"""From experiments to finished runs: planning, the worker pool and what is said meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from trueboundary.cli.errors import UserError
from trueboundary.cli.progress import show_progress
from trueboundary.experiments.base import Experiment, Scale
from trueboundary.experiments.brought import check_images
from trueboundary.experiments.overrides import parse_overrides
from trueboundary.runs import (
    Failure,
    Plan,
    RunConfig,
    Store,
    collect,
    execute,
    worker_pool,
    write_plan,
)


@dataclass(frozen=True)
class Job:
    """An experiment's plan with the configurations of its runs by name.

    Where `missing` says in one sentence that data are not here, there are no runs.
    """

    plan: Plan
    configs: dict[str, RunConfig]
    missing: str = ""


def plan_jobs(
    experiments: Sequence[Experiment],
    scale: Scale,
    *,
    seed: int,
    device: str,
    overrides: Sequence[str] = (),
) -> list[Job]:
    """Plan every experiment before any is started, so that a mistake costs no time.

    Raises
    ------
    UserError
        If an override is wrong, an experiment refuses its settings, or the images that it is to run
        on are damaged or have not the classes that are asked for.
    """
    try:
        replaced = parse_overrides(experiments, overrides)
    except ValueError as error:
        raise UserError(str(error)) from error
    return [_plan_job(e, scale, seed, device, replaced[e.id]) for e in experiments]


def _plan_job(
    experiment: Experiment, scale: Scale, seed: int, device: str, replaced: dict[str, object]
) -> Job:
    try:
        settings = experiment.settings(scale, replaced)
        missing = experiment.missing_data(settings)
        configs = (
            {} if missing else experiment.runs(scale, seed=seed, device=device, overrides=replaced)
        )
        folders = {name: config.folder for name, config in configs.items()}
        check_images(collect(configs.values()).values())
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"{experiment.id} cannot run like that: {error}") from error
    plan = Plan(experiment.id, scale, seed, device, settings, replaced, folders)
    return Job(plan, configs, missing)


def carry_out(jobs: Sequence[Job], out: Path, n_workers: int, console: Console) -> list[Failure]:
    """Run what is not stored yet and return what failed."""
    store = Store(out)
    store.clean()
    for job in jobs:
        write_plan(out, job.plan)
    goals = [config for job in jobs for config in job.configs.values()]
    with (
        worker_pool(min(n_workers, len(collect(goals)) or 1)) as pool,
        show_progress(console, run_names(jobs)) as report,
    ):
        return execute(goals, store, pool, n_workers=n_workers, on_progress=report)


def run_names(jobs: Sequence[Job]) -> dict[str, str]:
    """Return a name to show for every run and everything it needs, by digest."""
    names: dict[str, str] = {}
    for job in jobs:
        for digest, config in collect(job.configs.values()).items():
            names.setdefault(digest, config.kind)
        for name, config in job.configs.items():
            names[config.digest] = f"{job.plan.experiment} · {name}"
    return names
