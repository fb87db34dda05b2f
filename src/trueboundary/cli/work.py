"""From experiments to finished runs: planning, the worker pool and what is said meanwhile."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from trueboundary.cli.errors import UserError
from trueboundary.cli.progress import show_progress
from trueboundary.experiments.base import Experiment
from trueboundary.experiments.claims import reduced_settings
from trueboundary.experiments.formats import setting
from trueboundary.experiments.images.brought import check_images
from trueboundary.experiments.overrides import parse_overrides
from trueboundary.experiments.own_findings import read_findings
from trueboundary.plurals import plural
from trueboundary.report.collect import read_claims_of
from trueboundary.report.words import duration
from trueboundary.runs import (
    DamagedPlanError,
    Failure,
    Group,
    Plan,
    RunConfig,
    Scale,
    Store,
    collect,
    execute,
    plan_file,
    read_plan,
    worker_pool,
    write_plan,
)


@dataclass(frozen=True)
class Job:
    """An experiment's plan with the configurations of its runs by name.

    Where `missing` says in one sentence that data are not here, there are no runs.
    """

    experiment: Experiment
    plan: Plan
    configs: dict[str, RunConfig]
    missing: str = ""


def plan_jobs(
    chosen: Sequence[Experiment],
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
        replaced = parse_overrides(chosen, overrides)
    except ValueError as error:
        raise UserError(str(error)) from error
    return [_plan_job(e, scale, seed, device, replaced[e.id]) for e in chosen]


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
    return Job(experiment, plan, configs, missing)


def default_folder(jobs: Sequence[Job]) -> Path:
    """Return where jobs go without ``--out``: ``results/SCALE``, if their settings are the scale's.

    With a setting, a seed or a device of one's own it is a folder beside that, named after them, so
    that trying something out leaves the reproduction's report as it is.
    """
    first = jobs[0].plan
    own = {name: value for job in jobs for name, value in job.plan.overrides.items()}
    parts = [first.scale, *(f"{name}={_plain(value)}" for name, value in own.items())]
    parts += [f"seed={first.seed}"] if first.seed != 0 else []
    parts += [first.device] if first.device != "cpu" else []
    text = "-".join(parts)
    name = re.sub(r"[^\w.,=+-]", "_", text, flags=re.ASCII)[:100]
    if name != text:  # two texts must not become one name
        name += f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return Path("results") / name


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def find_others(jobs: Iterable[Job], out: Path) -> dict[str, str]:
    """Return how the plans that `out` holds for the same experiments differ from these, by id.

    Plans that are not there or cannot be read differ in nothing.
    """
    found = {}
    for plan in (job.plan for job in jobs):
        try:
            other = read_plan(plan_file(out, plan.experiment))
        except DamagedPlanError:
            continue
        here, there = _asked(plan), _asked(other)
        names = [name for name in here | there if here.get(name) != there.get(name)]
        if names:
            found[plan.experiment] = ", ".join(
                f"{name} {there.get(name, '–')} where this command has {here.get(name, '–')}"
                for name in names[:3]
            )
    return found


def _asked(plan: Plan) -> dict[str, str]:
    """Return everything that a plan asks for, in words."""
    settings = {name: setting(value) for name, value in plan.settings.items()}
    return {"scale": plan.scale, "seed": str(plan.seed), "device": plan.device, **settings}


def carry_out(
    jobs: Sequence[Job],
    out: Path,
    n_workers: int,
    console: Console,
    on_stored: Callable[[RunConfig], None],
) -> list[Failure]:
    """Run what is not stored yet and return what failed; `on_stored` is as in `execute`.

    What decides most claims per second goes first.
    """
    store = Store(out)
    store.clean()
    for job in jobs:
        write_plan(out, job.plan)
    goals = [config for job in jobs for config in job.configs.values()]
    with (
        worker_pool(min(n_workers, len(collect(goals)) or 1)) as pool,
        show_progress(console, run_names(jobs)) as report,
    ):
        return execute(
            goals,
            store,
            pool,
            n_workers=n_workers,
            groups=[Group(tuple(job.configs.values()), job_value(job)) for job in jobs],
            on_progress=report,
            on_stored=on_stored,
        )


def outlook(jobs: Sequence[Job], out: Path, n_workers: int) -> str:
    """Return in a sentence what is to be found out, by how much work and in what time about."""
    runs = collect([config for job in jobs for config in job.configs.values()])
    store = Store(out)
    left = [config for config in runs.values() if not store.path(config).exists()]
    ids = {job.experiment.id for job in jobs if job.configs}
    papers = dict.fromkeys(job.experiment.paper for job in jobs)
    n_claims = sum(claim.experiment in ids for claim in read_claims_of(papers))
    text = f"{plural(n_claims, 'claim')} to be judged from {plural(len(runs), 'run')}"
    if len(left) < len(runs):
        text += f", {len(runs) - len(left):,} of them stored"
    if not left:
        return f"{text}."
    # Nothing goes faster than its longest piece, nor than all workers at once.
    seconds = max(sum(c.cost() for c in left) / n_workers, max(c.cost() for c in left))
    return f"{text}: about {duration(seconds)} with {plural(n_workers, 'worker')}."


def job_value(job: Job) -> float:
    """Return the number of claims that a job decides, and of findings that it makes.

    Claims that it only measures count a tenth.
    """
    claims = sum(
        0.1 if reduced_settings(claim, job.plan.settings) else 1.0
        for claim in read_claims_of([job.experiment.paper])
        if claim.experiment == job.experiment.id
    )
    found = read_findings(job.experiment.paper)
    return claims + sum(finding.experiment == job.experiment.id for finding in found)


def run_names(jobs: Sequence[Job]) -> dict[str, str]:
    """Return for every run, by digest, what it does and for which part of which paper."""
    names: dict[str, str] = {}
    for job in jobs:
        for digest, config in collect(job.configs.values()).items():
            words = config.in_words() or job.experiment.title
            names.setdefault(digest, f"{job.experiment.place}: {words}")
    return names
