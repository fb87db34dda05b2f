"""The command that runs a grid of experiments, on this machine or on a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueboundary.cli.errors import (
    UserError,
    check_device,
    check_folder,
    complain,
    describe_failures,
    stop,
)
from trueboundary.cli.json_output import Quiet
from trueboundary.cli.options import Device
from trueboundary.cli.output_streams import new_console, silent_console
from trueboundary.cli.paths import address_or_path, path
from trueboundary.plurals import plural

if TYPE_CHECKING:
    from rich.console import Console

    from trueboundary.cli.grid import Point
    from trueboundary.cli.work import Job
    from trueboundary.runs import Failure, RunConfig, Store

#: Worker processes on this machine, or asked of a batch system, unless told otherwise.
DEFAULT_WORKERS = 2

EPILOG = """[bold]Example[/]

  trueboundary sweep sweep.toml --workers 4 --out results/sweep

  trueboundary sweep sweep.toml --cluster tcp://head:8786 --out /shared/sweep

  trueboundary sweep sweep.toml --cluster slurm.yaml --workers 16 --out /shared/sweep

[bold]sweep.toml[/]

  \\[\\[sweep]]

  experiment = "spheres-perfect-start"

  scale = "quick"

  seeds = \\[0, 1, 2]

  settings.n_steps = \\[1000, 5000]
"""


def sweep(
    file: Annotated[
        Path, typer.Argument(parser=path, metavar="FILE", help="TOML file with the grid.")
    ],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes on this machine, or workers to ask a batch system "
                     f"for; {DEFAULT_WORKERS} unless given. A scheduler that runs has its own."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Numerical threads of each process on this machine; 1 unless "
                     "given, and several are rarely faster."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(parser=address_or_path, metavar="TEXT",
                     help="Address of a Dask scheduler, tcp://host:port, or a YAML file with the "
                     "configuration of dask-jobqueue."),
    ] = None,
    device: Device = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(parser=path, help="Folder for the runs; results/NAME of FILE unless given. "
                     "On a cluster all workers must see it under this path."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the runs and what they would cost.")
    ] = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run every combination of experiments, seeds and settings that FILE lists."""
    from trueboundary.cli.grid import read_grid
    from trueboundary.runs import StoreError, WorkerDiedError, WorkerSetupError

    if cluster is not None and threads is not None:
        raise UserError("--threads is for processes on this machine: a cluster's workers have the "
                        "threads they were started with")  # fmt: skip
    check_device(device, here=cluster is None)  # a cluster's workers cannot be seen from here
    points = read_grid(file)
    try:
        jobs = _plan(points, device)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    folder = Path("results") / file.stem if out is None else out
    console = new_console()
    if dry_run:
        _show_costs(points, jobs, folder, workers or DEFAULT_WORKERS, console)
        return
    check_folder(folder)
    try:
        with _workers(cluster, workers or DEFAULT_WORKERS, threads or 1, device) as place:
            shown = silent_console() if quiet else console
            failures = _carry_out(file.stem, points, jobs, folder, place, shown)
    except KeyboardInterrupt:
        stop(f"interrupted; what had finished is kept in {folder}, and the same command goes on "
              "from there", 130)  # fmt: skip
    except (WorkerDiedError, WorkerSetupError, StoreError, OSError) as error:
        stop(str(error), 1)
    _say_outcome(jobs, failures, folder, console)


def _plan(points: Sequence[Point], device: str) -> list[Job]:
    from trueboundary.cli.work import plan_jobs

    jobs = []
    for point in points:
        jobs += plan_jobs(
            [point.experiment],
            point.scale,
            seed=point.seed,
            device=device,
            overrides=point.overrides,
        )
    for missing in dict.fromkeys(job.missing for job in jobs if job.missing):
        complain(missing)
    if not any(job.configs for job in jobs):
        raise UserError("the sweep holds nothing that can be run here")
    return jobs


@contextmanager
def _workers(
    cluster: str | None, n_workers: int, n_threads: int, device: str
) -> Iterator[tuple[Executor, int | Callable[[], int]]]:
    """Yield an executor and how much it can do at a time."""
    from trueboundary.runs import ClusterError, open_cluster, worker_pool

    if cluster is not None:
        try:
            with open_cluster(cluster, n_workers=n_workers, device=device) as opened:
                for reason, n_jobs in Counter(opened.refusals).items():
                    complain(f"{cluster}: not taken, {n_jobs} of the jobs: {reason}")
                yield opened.executor, opened.count_workers
        except ClusterError as error:
            raise UserError(str(error)) from error
        return
    if device != "cpu":
        n_workers = 1  # one item per device
    with worker_pool(n_workers, n_threads=n_threads) as pool:
        yield pool, n_workers


def _carry_out(
    name: str,
    points: Sequence[Point],
    jobs: Sequence[Job],
    folder: Path,
    place: tuple[Executor, int | Callable[[], int]],
    console: Console,
) -> list[Failure]:
    from trueboundary.cli.progress import show_progress
    from trueboundary.runs import Store, execute

    store = Store(folder)
    store.clean()
    _write_record(name, jobs, folder)
    executor, n_workers = place
    with show_progress(console, _names(points, jobs)) as report:
        return execute(_goals(jobs), store, executor, n_workers=n_workers, on_progress=report)


def _write_record(name: str, jobs: Sequence[Job], folder: Path) -> None:
    """Write which run belongs to which point: folders' names are hashes."""
    from trueboundary.regular_files import write_atomically
    from trueboundary.runs import strict_json

    record = strict_json.dumps([asdict(job.plan) for job in jobs])
    write_atomically(folder / "sweeps" / f"{name}.json", record.encode())


def _goals(jobs: Sequence[Job]) -> list[RunConfig]:
    return [config for job in jobs for config in job.configs.values()]


def _names(points: Sequence[Point], jobs: Sequence[Job]) -> dict[str, str]:
    """Return what to call each run; those that others merely need are called by what they do."""
    from trueboundary.cli.work import run_names

    return run_names(jobs) | {
        config.digest: f"{point.label} · {name}"
        for point, job in zip(points, jobs, strict=True)
        for name, config in job.configs.items()
    }


def _show_costs(
    points: Sequence[Point], jobs: Sequence[Job], folder: Path, n_workers: int, console: Console
) -> None:
    from rich.markup import escape
    from rich.table import Table

    from trueboundary.report.words import duration
    from trueboundary.runs import Store, collect

    runs = collect(_goals(jobs))
    names = _names(points, jobs)
    store = Store(folder)
    taken = _measured_seconds(store, runs)
    table = Table(box=None, pad_edge=False)
    for column in ("run", "cost", "state"):
        table.add_column(column, overflow="fold")
    for digest, config in sorted(runs.items(), key=lambda entry: -entry[1].cost()):
        state = "stored" if digest in taken else ""
        table.add_row(escape(names[digest]), duration(config.cost()), state)
    console.print(table)
    left = sum(config.cost() for digest, config in runs.items() if digest not in taken)
    line = (
        f"{plural(len(runs), 'run')}, {len(taken)} of them stored; about {duration(left)} left on "
        f"one core, {duration(left / n_workers)} at best on {n_workers}"
    )
    estimated = sum(runs[digest].cost() for digest in taken)
    if estimated > 0:
        ratio = sum(taken.values()) / estimated
        line += f"; those that are stored took {ratio:.2g} times their estimate"
    console.print(line, soft_wrap=True, highlight=False)


def _measured_seconds(store: Store, runs: Mapping[str, RunConfig]) -> dict[str, float]:
    """Return the processor's seconds of each run that is stored, by digest."""
    from trueboundary.runs import DamagedRunError

    taken = {}
    for digest, config in runs.items():
        try:
            run = store.load(config)
        except DamagedRunError:
            continue  # it will be computed again
        if run is not None:
            taken[digest] = float(run.info.get("cpu_seconds", 0.0))
    return taken


def _say_outcome(
    jobs: Sequence[Job], failures: Sequence[Failure], folder: Path, console: Console
) -> None:
    from trueboundary.runs import collect

    n_runs = len(collect(_goals(jobs)))
    console.print(
        f"{n_runs - len(failures):,} of {plural(n_runs, 'run')} {'is' if n_runs == 1 else 'are'} "
        f"in {folder}",
        soft_wrap=True,
        highlight=False,
    )
    for line in describe_failures(failures, folder):
        complain(line)
    if failures:
        raise typer.Exit(1)
