"""The commands themselves."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from trueboundary import __version__
from trueboundary.cli import (
    audit,
    completions,
    dataset,
    measure,
    release,
    show_runs,
    sweep,
    theory,
    zoo,
)
from trueboundary.cli.errors import (
    UserError,
    check_device,
    check_folder,
    check_report,
    complain,
    describe_failures,
    nearest,
    stop,
    user_errors,
)
from trueboundary.cli.json_output import Json, Quiet, say_json
from trueboundary.cli.options import Device, Scale, Seed
from trueboundary.cli.output_streams import new_console, silent_console
from trueboundary.cli.paths import path
from trueboundary.cli.typed_commands import Command, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trueboundary.experiments import Experiment
    from trueboundary.report.build import BuiltReport
    from trueboundary.report.collect import Material

#: Layouts of what ``--json`` prints.
LIST_SCHEMA = DOCTOR_SCHEMA = "1.0"

#: Commands in the order in which people need them, under what they need them for.
PANELS = {
    "Your model, attack or data": ("audit", "zoo", "dataset", "measure"),
    "The papers": ("list", "run", "reproduce", "runs", "report", "sweep", "ship"),
    "To look up": ("theory", "doctor"),
}


class _Commands(Group):
    order = tuple(name for names in PANELS.values() for name in names)


def _panel(name: str) -> str:
    return next(panel for panel, names in PANELS.items() if name in names)


app = typer.Typer(
    name="trueboundary",
    cls=_Commands,
    help="Adversarial robustness measured where the truth is known.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(audit.app, rich_help_panel=_panel("audit"))
app.add_typer(dataset.app, rich_help_panel=_panel("dataset"))
app.add_typer(measure.app, rich_help_panel=_panel("measure"))
app.add_typer(theory.app, rich_help_panel=_panel("theory"))
app.add_typer(release.app)
for _name, _function, _epilog in (
    ("runs", show_runs.runs, show_runs.EPILOG),
    ("sweep", sweep.sweep, sweep.EPILOG),
    ("zoo", zoo.zoo, zoo.EPILOG),
):
    app.command(_name, cls=Command, epilog=_epilog, rich_help_panel=_panel(_name))(_function)

Workers = Annotated[int, typer.Option(min=1, help="Processes to compute in, one thread each.")]
Out = Annotated[
    Path | None,
    typer.Option(parser=path, help="Folder for runs and report. Unless given: results/SCALE, or a "
                                   "folder beside it if settings, seed or device are your own. "
                                   "What is finished there is not computed again."),
]  # fmt: skip
CelebA = Annotated[
    Path | None,
    typer.Option(parser=path, help="Folder with CelebA, for experiments on faces; "
                                   "TRUEBOUNDARY_CELEBA unless given."),
]  # fmt: skip
Cifar10 = Annotated[
    Path | None,
    typer.Option(parser=path, help="CIFAR-10's folder or archive, for experiments on it; "
                                   "TRUEBOUNDARY_CIFAR10 unless given."),
]  # fmt: skip


def _example(*lines: str) -> str:
    return "[bold]Example[/]\n\n" + "\n\n".join(f"  {line}" for line in lines)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trueboundary {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Adversarial robustness measured where the truth is known."""


@app.command(
    "list", cls=Command, rich_help_panel=_panel("list"), epilog=_example("trueboundary list")
)
def list_experiments(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Ids alone, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """Show every experiment: id, paper, figure or section, and its cost at each scale."""
    from trueboundary.cli.terminal_tables import costs_of, experiments_table
    from trueboundary.experiments import experiments

    found = list(experiments().values())
    if as_json:
        say_json(
            "list",
            LIST_SCHEMA,
            experiments=[
                {
                    "id": experiment.id,
                    "title": experiment.title,
                    "paper": experiment.paper,
                    "place": experiment.place,
                    "question": experiment.question,
                    "on_request": experiment.on_request,
                    "seconds": costs_of(experiment)[0],
                }
                for experiment in found
            ],
        )
    elif quiet:
        for experiment in found:
            typer.echo(experiment.id)
    elif found:
        console = new_console()
        table, unknown = experiments_table(found, console.width)
        console.print(table)
        for reason in unknown:
            complain(f"costs marked ? cannot be told: {reason}")
    else:
        new_console().print("No experiment is available yet.")


@app.command(
    cls=Command,
    rich_help_panel=_panel("run"),
    epilog=_example(
        "trueboundary run spheres-fraction --scale quick --out results/fraction",
        "trueboundary run spheres-tradeoff --set dim=100 --set n_steps=2000",
        "trueboundary run bayes-cifar --cifar10 cifar-10-python.tar.gz --workers 2",
    ),
)
def run(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="Experiments by id.",
                       autocompletion=completions.experiment_ids),
    ],
    scale: Scale = "quick",
    seed: Seed = 0,
    device: Device = "cpu",
    workers: Workers = 1,
    out: Out = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Use another value than the scale's for "
                     "a setting; several values are separated by commas. May be repeated.",
                     autocompletion=completions.settings),
    ] = None,
    celeba: CelebA = None,
    cifar10: Cifar10 = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run experiments, then write the report and print what became of the claims."""
    output = _Output("run", quiet=quiet, as_json=as_json)
    from trueboundary.experiments import get_experiment

    try:
        chosen = [get_experiment(name) for name in dict.fromkeys(ids)]
    except ValueError as error:
        raise UserError(str(error)) from error
    _use_images(celeba=celeba, cifar10=cifar10)
    _run(output, chosen, scale, seed, device, workers, out, settings or [])


@app.command(
    cls=Command,
    rich_help_panel=_panel("reproduce"),
    epilog=_example(
        "trueboundary reproduce spheres --scale quick --workers 2 --out results/quick",
    ),
)
def reproduce(
    group: Annotated[
        str | None,
        typer.Argument(metavar="[spheres|bayes|truth|beyond]", help="One group; everything unless "
                       "given.", autocompletion=completions.papers),
    ] = None,
    scale: Scale = "quick",
    seed: Seed = 0,
    device: Device = "cpu",
    workers: Workers = 2,
    out: Out = None,
    celeba: CelebA = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run all experiments of a paper, or of all papers, and judge every claim.

    Experiments on data that you must bring are left to 'trueboundary run'.
    """
    from trueboundary.experiments import experiments

    chosen = list(experiments().values())
    groups = list(dict.fromkeys(experiment.paper for experiment in chosen))
    if group is not None:
        if group not in groups:
            raise UserError(_no_group(group, groups))
        chosen = [experiment for experiment in chosen if experiment.paper == group]
    for experiment in chosen:
        if experiment.on_request:
            left_to = f"'trueboundary run {experiment.id}'"
            complain(f"{experiment.id} is left to {left_to}: {experiment.on_request}")
    chosen = [experiment for experiment in chosen if not experiment.on_request]
    if not chosen:
        raise UserError("no experiment is available yet")
    _use_images(celeba=celeba)
    output = _Output("reproduce", quiet=quiet, as_json=as_json)
    _run(output, chosen, scale, seed, device, workers, out, [])


def _no_group(name: str, groups: Sequence[str]) -> str:
    from trueboundary.experiments import experiments

    if name in experiments():
        return f"{name} is one experiment and no group: 'trueboundary run {name}' runs it"
    if name.lower() == "all":
        return "'trueboundary reproduce' without a group runs them all"
    hint = nearest(name, [*groups, *experiments()])
    known = ", ".join(groups) or "nothing yet"
    return f"there is nothing to reproduce called {name!r} (available: {known}){hint}"


@app.command(
    cls=Command,
    rich_help_panel=_panel("report"),
    epilog=_example(
        "trueboundary report results/quick",
        "trueboundary report evidence --readme README.md --scales docs/verdicts.md",
        "trueboundary report /media/archive/quick --out report",
    ),
)
def report(
    folder: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR", help="The --out folder of a run.")
    ],
    readme: Annotated[
        Path | None,
        typer.Option(
            parser=path, help="Also replace the table of what was found in this Markdown file."
        ),
    ] = None,
    scales: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Also replace the table of all claims, with their verdicts at scales quick and "
                 "paper, and that of our findings, in this Markdown file.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=path, help="Folder for the report, where DIR itself cannot or shall "
                                       "not be written to; DIR/report unless given."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write the report again from the stored results in DIR, without computing anything."""
    from trueboundary.report.build import build_report
    from trueboundary.report.markdown import check_markers, update_readme, update_scales
    from trueboundary.runs import DamagedPlanError

    if not any(folder.glob("plans/*.json")):
        raise UserError(f"{folder} holds no results: it is the --out folder of 'trueboundary run'")
    target = folder / "report" if out is None else out
    for option, file in (("--readme", readme), ("--scales", scales)):
        if file is not None:
            with _table_errors(option, file):
                check_markers(file)
    check_report(target)
    built = _write_report(lambda: build_report(folder, target), target)
    if readme is not None:
        with _table_errors("--readme", readme):
            update_readme(readme, folder, built.material)
    if scales is not None:
        with _table_errors("--scales", scales), user_errors((DamagedPlanError,)):
            update_scales(scales, folder, built.material)
    _say_problems(built.material)
    _Output("report", quiet=quiet, as_json=as_json).end(built, built.material)
    if built.problems or built.material.unknown:
        raise typer.Exit(1)


@contextmanager
def _table_errors(option: str, file: Path) -> Iterator[None]:
    """Say in a sentence why a table could not be put into `file`, which `option` names."""
    from trueboundary.regular_files import reason
    from trueboundary.report.markdown import MarkerError

    try:
        yield
    except MarkerError as error:
        raise UserError(f"{option}: {error}") from error
    except OSError as error:
        raise UserError(f"{option}: cannot write to {file}: {reason(error)}") from error


@app.command(
    cls=Command,
    rich_help_panel=_panel("ship"),
    epilog=_example("trueboundary ship results/quick results/paper --into evidence"),
)
def ship(
    folders: Annotated[
        list[Path], typer.Argument(parser=path, metavar="DIR...", help="The --out folders of runs.")
    ],
    into: Annotated[Path, typer.Option(parser=path, help="Where to; what is there is added to.")],
) -> None:
    """Copy what reports are written from: plans, records and small arrays, without models.

    Where an experiment was run at several scales, reports read the largest.
    """
    from trueboundary.plurals import plural
    from trueboundary.regular_files import reason
    from trueboundary.runs import ShippingError, StoreError
    from trueboundary.runs import ship as copy

    try:
        with user_errors((ShippingError, StoreError)):
            shipped = copy(folders, into)
    except OSError as error:
        raise UserError(
            f"cannot write to {into}: {reason(error)}; choose another --into"
        ) from error
    for sentence in shipped.left_out:
        complain(sentence)
    new_console().print(
        f"{into} holds {plural(len(shipped.plans), 'experiment')}: "
        f"{plural(shipped.n_runs, 'run')}, {shipped.n_bytes / 1e6:.1f} MB.",
        soft_wrap=True,
        highlight=False,
    )


@app.command(cls=Command, rich_help_panel=_panel("doctor"), epilog=_example("trueboundary doctor"))
def doctor(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say alone which versions differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what the results depend on here: versions, devices, threads and data found.

    Versions other than those that the shipped results were measured with are marked.
    """
    from trueboundary.cli.doctor import checks, versions
    from trueboundary.cli.terminal_tables import checks_table

    found = versions()
    if as_json:
        say_json(
            "doctor",
            DOCTOR_SCHEMA,
            versions={
                each.package: {"here": each.here, "measured_with": each.measured_with}
                for each in found
            },
            here=dict(checks()),
        )
        return
    console = new_console()
    if not quiet:
        rows = checks()
        console.print(checks_table([rows[0], *((v.package, str(v)) for v in found), *rows[1:]]))
    others = [each.package for each in found if each.differs]
    if others:
        console.print(
            f"Other versions than those measured with: {', '.join(others)}. Results may differ in "
            "their last digits, and under another torch everything is computed anew; 'pip install "
            "-c constraints.txt' in the repository takes those measured with.",
            highlight=False,
        )
    elif not quiet:
        console.print("All versions are those that the results were measured with.")


def _use_images(**places: Path | None) -> None:
    """Let the workers, which inherit the environment, find the images that a user brought."""
    from trueboundary.data import image_source

    for name, place in places.items():
        if place is None:
            continue
        source = image_source(name)
        if not place.exists():
            raise UserError(f"{source.option}: there is nothing at {place}")
        os.environ[source.variable] = str(place.resolve())


class _Output:
    """Where a command says what: claims and progress, and what it came to in the end."""

    def __init__(self, command: str, *, quiet: bool, as_json: bool) -> None:
        self.command, self.quiet, self.as_json = command, quiet, as_json

    def console(self) -> Console:
        """Return what progress and claims are shown on meanwhile."""
        if self.quiet:
            return silent_console()
        return Console(stderr=True) if self.as_json else new_console()

    def end(self, built: BuiltReport, material: Material, failures: Sequence[str] = ()) -> None:
        """Show what claims came to, and where the report is."""
        from trueboundary.cli.outcomes import OUTCOME_SCHEMA, outcome_record, show_outcome

        if self.as_json:
            say_json(self.command, OUTCOME_SCHEMA, **outcome_record(built, material, failures))
            return
        console = new_console()
        show_outcome(material, console)
        console.print(f"Report: {built.page}", soft_wrap=True, highlight=False)


def _run(
    output: _Output,
    chosen: Sequence[Experiment],
    scale: Literal["smoke", "quick", "paper"],
    seed: int,
    device: str,
    workers: int,
    out: Path | None,
    overrides: Sequence[str],
) -> None:
    from trueboundary.cli.findings import findings
    from trueboundary.cli.work import carry_out, default_folder, find_others, outlook, plan_jobs
    from trueboundary.report.build import GrowingReport
    from trueboundary.runs import StoreError, WorkerDiedError

    check_device(device)
    jobs = plan_jobs(chosen, scale, seed=seed, device=device, overrides=overrides)
    for job in jobs:
        if job.missing:
            complain(job.missing)
    folder = default_folder(jobs) if out is None else out
    check_folder(folder)
    check_report(folder / "report")
    for id, how in find_others(jobs, folder).items():
        complain(f"{folder} held other settings of {id} ({how}); its report is of this command's "
                  "from now on, and what was computed stays")  # fmt: skip
    console = output.console()
    report = GrowingReport(folder, plans=[job.plan for job in jobs])
    console.print(outlook(jobs, folder, workers), highlight=False)
    try:
        with findings(jobs, report, console) as found:
            failures = carry_out(jobs, folder, workers, console, found.stored)
        built = _write_report(lambda: report.write(is_last=True), folder / "report")
    except KeyboardInterrupt:
        stop(f"interrupted; what had finished is kept in {folder}, and the same command goes on "
              "from there", 130)  # fmt: skip
    except (WorkerDiedError, StoreError, OSError) as error:
        stop(str(error), 1)
    own = built.material.only([experiment.id for experiment in chosen])
    found.tell_rest(own.attempted)
    failed = describe_failures(failures, folder)
    for line in failed:
        complain(line)
    _say_problems(own)
    for id, how in find_others(jobs, folder).items():
        complain(f"{folder} now holds another command's settings of {id} ({how}); "
                  f"'trueboundary report {folder}' shows those")  # fmt: skip
    output.end(built, own, failed)
    if failures or own.problems:
        raise typer.Exit(1)


def _write_report(write: Callable[[], BuiltReport], target: Path) -> BuiltReport:
    from trueboundary.regular_files import reason

    try:
        return write()
    except OSError as error:
        stop(f"the report could not be written to {target}: {reason(error)}", 1)


def _say_problems(material: Material) -> None:
    for section in material.problems:
        complain(f"{section.experiment.id} has no result: {section.problem}")
    for sentence in material.unknown:
        complain(sentence)
