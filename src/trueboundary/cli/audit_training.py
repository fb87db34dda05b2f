"""The command that compares ways to train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trueboundary.cli import completions
from trueboundary.cli.errors import (
    UserError,
    check_file,
    check_folder,
    interrupts_told,
    user_errors,
)
from trueboundary.cli.json_output import Json, Quiet
from trueboundary.cli.options import ProblemName, seconds_of, seed_of
from trueboundary.cli.paths import path as path_option
from trueboundary.cli.typed_subjects import mistakes
from trueboundary.plain_text import printable, printable_lines

EPILOG = (
    "[bold]Example[/]\n\n  trueboundary audit training --problem mnist-0-6-symmetric "
    "--out results/training\n\n  trueboundary audit training standard trades=2 mine.py:trained "
    "--problem digits --seeds 5 --budget 600"
)


def training(
    problem: ProblemName,
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD]...",
            help="standard, weight-decay, large-margin, trades and adversarial, all unless given, "
            "each perhaps with its parameter as in trades=2; or module:name or file.py:name of a "
            "function (problem, generator) that returns a trained classifier, which runs its code.",
            autocompletion=completions.methods,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="file.py:name of a function that makes an untrained network for the "
                          "methods that have a name; a small one of ours unless given."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Networks of each method.")] = 3,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps of Adam.")] = 200,
    batch_size: Annotated[int, typer.Option(min=1, help="Points per step.")] = 50,
    learning_rate: Annotated[float, typer.Option(help="At the beginning; it falls to 0.")] = 2e-3,
    n_train: Annotated[
        int | None, typer.Option(min=1, help="Training points; fresh ones for ever unless given.")
    ] = None,
    size: Annotated[
        float | None,
        typer.Option(help="How far errors should be: the margin asked for, and twice the radius "
                          "of trades and adversarial; the optimal classifier's unless given."),
    ] = None,
    n_points: Annotated[
        int, typer.Option(min=2, help="Points per class from which the nearest error is sought.")
    ] = 15,
    n_error_points: Annotated[
        int, typer.Option(min=1, help="Points per class for error rates.")
    ] = 1_000,
    audit_seed: Annotated[
        int, typer.Option(parser=seed_of, metavar="N", help="Seed of the points of the audit.")
    ] = 0,
    budget: Annotated[
        float | None,
        typer.Option(parser=seconds_of, metavar="SECONDS",
                     help="Seconds after which no further training is begun."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=path_option, help="Folder of finished runs: what is there is not "
                                              "computed again."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(parser=path_option, help="Write the table as one HTML page.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train by several methods and say how much of the optimal robustness each reaches."""
    from trueboundary.audits import METHODS, TrainingSettings, audit_training, load_problem
    from trueboundary.audits.subjects import named_object
    from trueboundary.cli.progress import show_steps
    from trueboundary.runs import strict_json

    if html is not None:
        check_file(html, ".html", ".htm")
    if out is not None:
        check_folder(out)
    with interrupts_told(out), mistakes():
        known = load_problem(problem)
        made = None
        if network is not None:
            if ":" not in network:
                raise UserError(f"--network takes file.py:name or module:name, got {network!r}")
            made = named_object(network)
            if not callable(made):
                kind = type(made).__name__
                raise UserError(f"expected {network} to be a function, got {kind}")
        for what in [*(methods or ()), network or ""]:
            if ".py:" in what:
                typer.echo(f"{printable(what)} runs code of its file.", err=True)
        with show_steps(Console(stderr=True), quiet=quiet) as (progress, _):
            found = audit_training(
                known,
                tuple(methods or METHODS),
                network=made,
                seeds=seeds,
                settings=TrainingSettings(
                    n_steps=n_steps,
                    batch_size=batch_size,
                    learning_rate=learning_rate,
                    n_train=n_train,
                ),
                size=size,
                n_points=n_points,
                n_error_points=n_error_points,
                audit_seed=audit_seed,
                budget=budget,
                out=out,
                progress=progress,
            )
    typer.echo(strict_json.dumps(found.to_dict()) if as_json else printable_lines(str(found)))
    if html is not None:
        with user_errors((OSError,)):
            found.save(html)
        typer.echo(f"Table: {printable(str(html))}", err=as_json)
    if not any(row.n_seeds for row in found.rows()):
        raise typer.Exit(1)
