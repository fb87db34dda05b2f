"""Commands that judge somebody's classifier against the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from trueboundary.cli import audit_attack, audit_training
from trueboundary.cli.errors import LARGEST_SEED, UserError, user_errors
from trueboundary.cli.paths import path as path_option
from trueboundary.cli.typed_commands import Command
from trueboundary.plain_text import printable, printable_lines

app = typer.Typer(
    name="audit",
    help="Judge a classifier, an attack or a way to train against the truth.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def _group() -> None:
    """Judge a classifier, an attack or a way to train against the truth."""


app.command("attack", cls=Command, epilog=audit_attack.EPILOG)(audit_attack.attack)


app.command("training", cls=Command, epilog=audit_training.EPILOG)(audit_training.training)


@app.command(
    "model",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary audit model mnist-0-6-symmetric-cnn "
    "--problem mnist-0-6-symmetric --html card.html\n\n"
    "  trueboundary audit model mine.py:network --problem digits --budget 60",
)
def model(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="module:name or file.py:name of a network or of a function that makes one, a "
            "TorchScript (.pt) or torch.export (.pt2) file, a scikit-learn classifier in a file of "
            "skops (.skops), an ONNX file (.onnx), or a name of the zoo. All but the last three "
            "run the code that they name or hold.",
        ),
    ],
    problem: Annotated[
        str,
        typer.Option(help="spheres, digits, the folder of a data set, or a problem of the zoo."),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(parser=path_option, help="A safetensors file with the network's state."),
    ] = None,
    outputs: Annotated[
        str, typer.Option(help="What it returns: logit, probability or log_probability.")
    ] = "logit",
    classes: Annotated[
        str | None, typer.Option(help="Those of its classes that the problem has, such as 0,6.")
    ] = None,
    n_points: Annotated[
        int, typer.Option(min=2, help="Points per class from which the nearest error is sought.")
    ] = 100,
    budget: Annotated[
        float | None, typer.Option(help="Seconds that the search for nearest errors may take.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of all points.")] = 0,
    private: Annotated[
        bool, typer.Option("--private", help="Keep pictures of the points off the card.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(parser=path_option, help="Write the card as one HTML page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a card.")] = False,
) -> None:
    """Say how often a network errs, how nearly, and whether data or learning is why."""
    from trueboundary.audits import audit, load_problem, load_subject
    from trueboundary.classifiers import as_classifier
    from trueboundary.runs import strict_json

    if html is not None and not html.absolute().parent.is_dir():
        raise UserError(f"there is no folder {html.absolute().parent} to write {html.name} to")
    with user_errors((ValueError, TypeError, OSError, RuntimeError, ImportError)):
        known = load_problem(problem)
        subject = load_subject(what, weights=weights, problem=known)
        if outputs != "logit" or classes is not None:
            adapted = as_classifier(
                subject.classifier,
                outputs=outputs,  # type: ignore[arg-type]
                classes=None if classes is None else _numbers(classes),
            )
            subject = replace(subject, classifier=adapted)
        for note in subject.notes:
            typer.echo(printable(note), err=True)
        card = audit(
            subject,
            known,
            n_points=n_points,
            budget=budget,
            seed=seed,
            private=private,
            progress=_say,
        )
        if html is not None:
            card.save(html)
    typer.echo(strict_json.dumps(card.to_dict()) if as_json else printable_lines(str(card)))
    if html is not None:
        typer.echo(f"Card: {printable(str(html))}", err=as_json)


@app.command(
    "compare",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary audit compare mnist-0-6-symmetric-linear-svm "
    "mnist-0-6-symmetric-cnn --problem mnist-0-6-symmetric --n-points 20",
)
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="As for [bold]audit model[/].")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    problem: Annotated[
        str,
        typer.Option(help="spheres, digits, the folder of a data set, or a problem of the zoo."),
    ],
    n_points: Annotated[
        int, typer.Option(min=2, help="Points per class from which the nearest error is sought.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of all points.")] = 0,
) -> None:
    """Say which of two networks is the more robust, from the same points."""
    from trueboundary.audits import audit, load_problem, load_subject
    from trueboundary.audits import compare as compared

    with user_errors((ValueError, TypeError, OSError, RuntimeError, ImportError)):
        known = load_problem(problem)
        subjects = [load_subject(what, problem=known) for what in (first, second)]
        cards = []
        for subject in subjects:
            for note in subject.notes:
                typer.echo(printable(note), err=True)
            typer.echo(f"auditing {printable(subject.name)} ...", err=True)
            cards.append(
                audit(
                    subject, known, n_points=n_points, seed=seed,
                    progress=_say,
                )
            )  # fmt: skip
        found = compared(*cards)
    typer.echo(printable_lines(str(found)))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--classes takes numbers such as 0,6, got {text!r}") from None


def _say(what: str, fraction: float) -> None:
    typer.echo(f"{fraction:4.0%}  {what} ...", err=True)
