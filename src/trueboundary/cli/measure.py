"""Commands that measure a run's network or one's own: how often it is wrong, and how nearly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trueboundary.cli import completions
from trueboundary.cli.errors import UserError, nearest
from trueboundary.cli.json_output import Json, Quiet, say_json
from trueboundary.cli.options import Returns, Seed
from trueboundary.cli.run_lists import find_run
from trueboundary.cli.typed_commands import Command, Group
from trueboundary.cli.typed_subjects import (
    WHAT,
    Classes,
    Outputs,
    Weights,
    mistakes,
    read_subject,
    stops_told,
)
from trueboundary.plain_text import printable_lines

if TYPE_CHECKING:
    from trueboundary.classifiers.base import Classifier, ClassifierModule
    from trueboundary.measure import Distances, ErrorRate
    from trueboundary.problems import Problem

app = typer.Typer(
    name="measure",
    cls=Group,
    help="Error rates and distances of a run's network or of your own.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

What = Annotated[
    str,
    typer.Argument(
        metavar="RUN|MODEL",
        help="A finished run, results/quick/NUMBER as 'trueboundary runs results/quick' counts "
        f"them, or as much of its name as no other has; or a model of your own: {WHAT}",
        autocompletion=completions.classifiers,
    ),
]
OnProblem = Annotated[
    str | None,
    typer.Option(
        "--problem",
        help="What a model of your own is measured on: spheres, digits, the folder of a data set, "
        "or a problem of the zoo. A run on spheres knows its own.",
        autocompletion=completions.problems,
    ),
]
Model = Annotated[str, typer.Option(help="Which of the run's networks: final, step-00001000, ...")]
#: Files that hold a model.
_FILES = (".pt", ".pth", ".ts", ".pt2", ".skops", ".onnx", ".pkl", ".pickle", ".joblib")

#: Layout of what ``--json`` prints.
MEASURE_SCHEMA = "1.0"


@app.command(
    "error",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary measure error "
    "results/quick/12 --method splitting --json\n\n"
    "  trueboundary measure error mine.py:network --problem spheres-d100",
)
def error(
    what: What,
    problem: OnProblem = None,
    model: Model = "final",
    n_points: Annotated[
        int, typer.Option(min=1, help="Random points per class, where the rate is sampled.")
    ] = 100_000,
    method: Annotated[
        Literal["exact", "sampling", "splitting"] | None,
        typer.Option(help="The best possible unless given."),
    ] = None,
    seed: Seed = 0,
    weights: Weights = None,
    outputs: Outputs = "logit",
    classes: Classes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure how often a network is wrong on each class."""
    from trueboundary.measure import error_rate

    network, known = _load(what, problem, model, weights, outputs, classes)
    with _shown(what, "how often it errs", quiet) as progress:
        rates = error_rate(
            network,
            known,
            method=method,
            n_points=n_points,
            seed=seed,
            progress=progress,
        )
    _show("error", what, known, rates, as_json)


@app.command(
    "distance",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary measure distance "
    "results/quick/12 --n-points 50\n\n"
    "  trueboundary measure distance mnist-0-6-symmetric-cnn --problem mnist-0-6-symmetric",
)
def distance(
    what: What,
    problem: OnProblem = None,
    model: Model = "final",
    n_points: Annotated[int, typer.Option(min=1, help="Random points per class.")] = 100,
    seed: Seed = 0,
    weights: Weights = None,
    outputs: Outputs = "logit",
    classes: Classes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Bracket how far random points of each class are from the nearest error on it."""
    from trueboundary.measure import distances

    network, known = _load(what, problem, model, weights, outputs, classes)
    with _shown(what, "how near the nearest errors are", quiet) as progress:
        found = distances(network, known, n_points=n_points, seed=seed, progress=progress)
    _show("distance", what, known, found, as_json)


@contextmanager
def _shown(what: str, sought: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show what is being found out on standard error, and say of a classifier if it stops."""
    from rich.console import Console

    from trueboundary.cli.progress import show_steps

    console = Console(stderr=True)
    with (
        mistakes(),
        show_steps(console, quiet=quiet) as (progress, _),
        stops_told(what),
    ):
        if console.is_terminal:
            progress(sought, 0.0)
        yield lambda fraction: progress(sought, fraction)


def _load(
    what: str,
    problem: str | None,
    model: str,
    weights: Path | None,
    outputs: Returns,
    classes: str | None,
) -> tuple[Classifier, Problem]:
    """Return a classifier and what it is measured on, or say what is missing."""
    if not _is_own(what):
        if weights is not None or outputs != "logit" or classes is not None:
            raise UserError("--weights, --outputs and --classes are for a model of your own")
        return _of_run(find_run(what), model, problem)
    from trueboundary.audits import load_problem

    if problem is None:
        raise UserError(f"what is {what} to be measured on? Give --problem, such as spheres-d100")
    if model != "final":
        raise UserError("--model is for runs, which may hold several networks")
    with mistakes():
        known = load_problem(problem)
        return read_subject(what, known, weights, outputs, classes).classifier, known


def _is_own(what: str) -> bool:
    """Return whether this names a model and no run."""
    from trueboundary import zoo

    path, colon, name = what.rpartition(":")
    is_code = bool(path) and bool(colon) and name.isidentifier()
    return is_code or Path(what).suffix.lower() in _FILES or what in zoo.names("classifier")


def _of_run(run: Path, model: str, where: str | None) -> tuple[ClassifierModule, Problem]:
    """Return a run's network and what it was trained on, or say what is missing."""
    from trueboundary.runs import DamagedRunError, Store

    folder = run.resolve()
    try:
        stored = Store(folder.parent.parent).read(folder)
    except DamagedRunError as damage:
        raise UserError(str(damage)) from damage
    models = stored.result.models
    if not models:
        raise UserError(
            f"{run} holds no network; choose a run that trained one, as 'trueboundary runs "
            f"{run.parent.parent} --networks' lists them"
        )
    if model not in models:
        known = ", ".join(models)
        raise UserError(f"there is no network {model!r} in {run} ({known}){nearest(model, models)}")
    knows_spheres = {"dim", "radius"} <= set(stored.config)
    if where is None and not knows_spheres:
        raise UserError(
            f"{run} was not trained on concentric spheres: it has no dim and radius; say with "
            "--problem what its network is to be measured on"
        )

    from trueboundary.audits import load_problem
    from trueboundary.classifiers import from_arrays
    from trueboundary.problems import ConcentricSpheres

    try:
        problem = (
            ConcentricSpheres(stored.config["dim"], stored.config["radius"])
            if where is None
            else load_problem(where)
        )
        return from_arrays(*models[model]), problem
    except (ValueError, TypeError) as misfit:
        raise UserError(f"{run} holds no such network: {misfit}".rstrip(".")) from misfit


def _show(
    question: str,
    what: str,
    problem: Problem,
    found: Sequence[ErrorRate | Distances],
    as_json: bool,
) -> None:
    if as_json:
        from trueboundary.presentable import storable

        say_json(
            f"measure {question}",
            MEASURE_SCHEMA,
            subject=what,
            problem=storable(problem.describe()),
            classes=[each.to_dict() for each in found],
        )
        return
    for each in found:
        typer.echo(printable_lines(str(each)))
