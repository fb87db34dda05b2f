"""Commands that measure a network of a finished run: how often it is wrong, and how nearly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueboundary.cli.errors import LARGEST_SEED, UserError, nearest, user_errors
from trueboundary.cli.paths import path
from trueboundary.cli.typed_commands import Command, Group

if TYPE_CHECKING:
    from trueboundary.classifiers.base import ClassifierModule
    from trueboundary.problems import ConcentricSpheres

app = typer.Typer(
    name="measure",
    cls=Group,
    help="Error rates and distances of a trained network.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Folder = Annotated[
    Path,
    typer.Argument(
        parser=path,
        metavar="RUN",
        help="Folder of a finished run, such as results/quick/runs/...",
    ),
]
Model = Annotated[str, typer.Option(help="Which of the run's networks: final, step-00001000, ...")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the random points.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of sentences.")]

#: A network and the spheres that it was trained on.
_Subject = tuple["ClassifierModule", "ConcentricSpheres"]


@app.command(
    "error",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary measure error "
    "results/quick/runs/TrainedNetwork-0926b08d34ea1da2 --method splitting --json",
)
def error(
    run: Folder,
    model: Model = "final",
    n_points: Annotated[
        int, typer.Option(min=1, help="Random points per sphere, where the rate is sampled.")
    ] = 100_000,
    method: Annotated[
        str | None, typer.Option(help="exact, sampling or splitting; the best possible by default.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure how often a network is wrong on each sphere."""
    from trueboundary.measure import error_rate

    network, problem = _load(run, model)
    with user_errors():
        rates = error_rate(
            network,
            problem,
            method=method,  # type: ignore[arg-type]
            n_points=n_points,
            seed=seed,
        )
    if as_json:
        _show_json([rate.to_dict() for rate in rates])
    else:
        _show_lines(*rates)


@app.command(
    "distance",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary measure distance "
    "results/quick/runs/TrainedNetwork-0926b08d34ea1da2 --n-points 50",
)
def distance(
    run: Folder,
    model: Model = "final",
    n_points: Annotated[int, typer.Option(min=1, help="Random points per sphere.")] = 100,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Bracket how far random points of each sphere are from the nearest error on it."""
    from trueboundary.measure import distances

    network, problem = _load(run, model)
    with user_errors():
        found = distances(network, problem, n_points=n_points, seed=seed)
    if as_json:
        _show_json([brackets.to_dict() for brackets in found])
    else:
        _show_lines(*found)


def _load(run: Path, model: str) -> _Subject:
    """Return a run's network and the spheres it was trained on, or say what is missing."""
    from trueboundary.runs import DamagedRunError, Store

    folder = run.resolve()
    if not (folder / "run.json").is_file():
        raise UserError(f"{run} is no folder of a finished run: {_why_no_run(run)}")
    try:
        stored = Store(folder.parent.parent).read(folder)
    except DamagedRunError as damage:
        raise UserError(str(damage)) from damage
    models = stored.result.models
    if not models:
        raise UserError(f"{run} holds no network; choose a run that trained one")
    if model not in models:
        known = ", ".join(models)
        raise UserError(f"there is no network {model!r} in {run} ({known}){nearest(model, models)}")
    if not {"dim", "radius"} <= set(stored.config):
        raise UserError(f"{run} was not trained on concentric spheres: it has no dim and radius")

    from trueboundary.classifiers import from_arrays
    from trueboundary.problems import ConcentricSpheres

    try:
        problem = ConcentricSpheres(stored.config["dim"], stored.config["radius"])
        return from_arrays(*models[model]), problem
    except (ValueError, TypeError) as misfit:
        raise UserError(f"{run} holds no such network: {misfit}".rstrip(".")) from misfit


def _why_no_run(place: Path) -> str:
    if not place.exists():
        return "there is nothing of that name"
    if place.name == "run.json":
        return f"it is a file of one; give the folder, {place.parent}"
    if (place / "runs").is_dir():
        return f"it is the --out folder of several; choose one of {place / 'runs'}"
    return "it holds no run.json"


def _show_lines(*lines: object) -> None:
    for line in lines:
        typer.echo(str(line))


def _show_json(answer: Sequence[dict[str, Any]]) -> None:
    typer.echo(json.dumps(answer, indent=2, allow_nan=False))
