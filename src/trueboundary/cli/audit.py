"""Commands that judge somebody's classifier against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueboundary.cli import audit_attack, audit_training, completions
from trueboundary.cli.errors import (
    check_file,
    check_folder,
    complain,
    interrupts_told,
)
from trueboundary.cli.json_output import Json, Quiet
from trueboundary.cli.options import ProblemName, Seed, seconds_of
from trueboundary.cli.output_streams import new_console
from trueboundary.cli.paths import path as path_option
from trueboundary.cli.typed_commands import Command, Group
from trueboundary.cli.typed_subjects import (
    WHAT,
    Classes,
    Outputs,
    Weights,
    mistakes,
    read_subject,
)
from trueboundary.plain_text import printable, printable_lines

if TYPE_CHECKING:
    from trueboundary.audits import Comparison, RobustnessCard, Subject
    from trueboundary.problems import Problem


class _Commands(Group):
    order = ("model", "attack", "training", "compare", "flag")


app = typer.Typer(
    name="audit",
    cls=_Commands,
    help="Judge a classifier, an attack or a way to train against the truth.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

#: Columns of a card where the terminal is wider: lines of text are not read well beyond.
_WIDEST = 80

Points = Annotated[
    int, typer.Option(min=2, help="Points per class from which the nearest error is sought.")
]
Budget = Annotated[
    float | None,
    typer.Option(parser=seconds_of, metavar="SECONDS", help="Seconds that a whole audit may take."),
]
Norm = Annotated[str, typer.Option(help="l2, the only norm in which the truth is known.")]
Private = Annotated[
    bool,
    typer.Option("--private", help="Keep pictures of the points off the card, as of faces always."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        parser=path_option, help="A folder that keeps what is finished: the same command goes on."
    ),
]
Html = Annotated[
    Path | None, typer.Option(parser=path_option, help="Write the card as one HTML page.")
]


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
    "  trueboundary audit model mine.py:network --problem digits --budget 60 --out audits",
)
def model(
    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help=WHAT, autocompletion=completions.classifiers),
    ],
    problem: ProblemName,
    weights: Weights = None,
    outputs: Outputs = "logit",
    classes: Classes = None,
    n_points: Points = 100,
    budget: Budget = None,
    seed: Seed = 0,
    norm: Norm = "l2",
    private: Private = False,
    out: Out = None,
    html: Html = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say how often a network errs, how nearly, and whether data or learning is why."""
    from trueboundary.audits import load_problem

    _check(norm, out, html)
    with mistakes():
        known = load_problem(problem)
        subject = read_subject(what, known, weights, outputs, classes)
    with interrupts_told(out), mistakes():
        card = _audited(
            subject, known, n_points=n_points, budget=budget, seed=seed, norm=norm,
            private=private or None, store=out, quiet=quiet,
        )  # fmt: skip
    _show(card, as_json)
    if html is not None:
        with mistakes():
            card.save(html)
        typer.echo(f"Card: {printable(str(html))}", err=as_json)
    _end(card)


@app.command(
    "compare",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary audit compare mnist-0-6-symmetric-linear-svm "
    "mnist-0-6-symmetric-cnn --problem mnist-0-6-symmetric --n-points 20",
)
def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="As for [bold]audit model[/].",
            autocompletion=completions.classifiers,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="B", help="Another one.", autocompletion=completions.classifiers),
    ],
    problem: ProblemName,
    weights_a: Weights = None,
    weights_b: Weights = None,
    outputs_a: Outputs = "logit",
    outputs_b: Outputs = "logit",
    classes_a: Classes = None,
    classes_b: Classes = None,
    n_points: Points = 100,
    budget: Budget = None,
    seed: Seed = 0,
    norm: Norm = "l2",
    private: Private = False,
    out: Out = None,
    html: Html = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say which of two networks is the more robust, from the same points."""
    from trueboundary.audits import compare as compared
    from trueboundary.audits import load_problem

    _check(norm, out, html)
    with mistakes():
        known = load_problem(problem)
        subjects = [
            read_subject(first, known, weights_a, outputs_a, classes_a),
            read_subject(second, known, weights_b, outputs_b, classes_b),
        ]
    cards = []
    for subject in subjects:
        if not quiet:
            typer.echo(f"auditing {printable(subject.name)} ...", err=True)
        with interrupts_told(out), mistakes():
            cards.append(
                _audited(
                    subject, known, n_points=n_points, budget=budget, seed=seed, norm=norm,
                    private=private or None, store=out, quiet=quiet,
                )
            )  # fmt: skip
    for card in cards:
        if card.stopped and not card.settings["n_points"]:  # there is nothing to compare
            _show(card, as_json)
            _end(card)
    with mistakes():
        found = compared(*cards)
    _show(found, as_json)
    if html is not None:
        with mistakes():
            found.save(html)
        typer.echo(f"Comparison: {printable(str(html))}", err=as_json)
    for card in cards:
        _end(card)


@app.command(
    "flag",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary audit flag gradient-masking",
)
def flag(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Of a red flag; all are listed without.",
            autocompletion=completions.flags,
        ),
    ] = None,
) -> None:
    """Say what a red flag means, how it is seen and what to do."""
    from trueboundary.audits.flags import FLAGS, page_of_flag

    if name is None:
        typer.echo("\n".join(FLAGS))
        return
    with mistakes():
        page = page_of_flag(name).strip()
    typer.echo(page)


def _check(norm: str, out: Path | None, html: Path | None) -> None:
    """Refuse a norm without a truth and places that cannot be written to, before any work."""
    from trueboundary.audits.audit_models import check_norm

    with mistakes():
        check_norm(norm)
    if html is not None:
        check_file(html, ".html", ".htm")
    if out is not None:
        check_folder(out)


def _audited(subject: Subject, problem: Problem, *, quiet: bool, **options: Any) -> RobustnessCard:
    """Return the card of a classifier, showing how far it is and the first numbers."""
    from rich.console import Console

    from trueboundary.audits import audit
    from trueboundary.cli.progress import show_steps

    with show_steps(Console(stderr=True), quiet=quiet) as (progress, tell):
        return audit(subject, problem, progress=progress, tell=tell, **options)


def _show(found: RobustnessCard | Comparison, as_json: bool) -> None:
    from trueboundary.audits import RobustnessCard
    from trueboundary.runs import strict_json

    if as_json:
        typer.echo(strict_json.dumps(found.to_dict()))
        return
    told = str(found)
    if isinstance(found, RobustnessCard):
        told = found.text(min(_WIDEST, new_console().width))
    typer.echo(printable_lines(told))


def _end(card: RobustnessCard) -> None:
    """End with status 1 where a classifier stopped half-way."""
    if card.stopped:
        complain(f"{card.subject} stopped half-way: {card.stopped}")
        raise typer.Exit(1)
