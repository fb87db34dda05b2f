"""Classifiers and problems as people type them, for all commands that take one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueboundary.cli.errors import UserError, user_errors
from trueboundary.cli.options import Returns
from trueboundary.cli.paths import path
from trueboundary.plain_text import printable

if TYPE_CHECKING:
    from trueboundary.audits import Subject
    from trueboundary.problems import Problem

WHAT = (
    "module:name or file.py:name of a network or of a function that makes one, a TorchScript (.pt) "
    "or torch.export (.pt2) file, a scikit-learn classifier in a file of skops (.skops), an ONNX "
    "file (.onnx), or a name of the zoo. All but the last three run the code that they name or "
    "hold."
)
OUTPUTS = "What it returns: logit, probability or log_probability."
CLASSES = "Those of its classes that the problem has, such as 0,6."

Weights = Annotated[
    Path | None,
    typer.Option(parser=path, help="A safetensors file with the network's state."),
]
Outputs = Annotated[Returns, typer.Option(help=OUTPUTS)]
Classes = Annotated[str | None, typer.Option(metavar="A,B,...", help=CLASSES)]


@contextmanager
def mistakes() -> Iterator[None]:
    """Tell mistakes in a sentence, and keep what foreign code prints away from the answer."""
    kinds = (ValueError, TypeError, OSError, RuntimeError, ImportError)
    with redirect_stdout(sys.stderr), user_errors(kinds):
        yield


@contextmanager
def stops_told(what: str) -> Iterator[None]:
    """Say in a sentence what somebody's classifier raised, whatever that is."""
    try:
        yield
    except (UserError, ValueError, TypeError):  # our sentences, or as good
        raise
    except (Exception, SystemExit) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{what} stops with {type(error).__name__} ({why})") from error


def read_subject(
    what: str, problem: Problem, weights: Path | None, outputs: Returns, classes: str | None
) -> Subject:
    """Return what is to be judged, as it is to be taken, after saying what is to be known."""
    from trueboundary.audits import load_subject
    from trueboundary.classifiers import as_classifier

    numbers = None if classes is None else _numbers(classes, problem)
    subject = load_subject(what, weights=weights, problem=problem)
    for note in subject.notes:
        typer.echo(printable(note), err=True)
    if outputs == "logit" and classes is None:
        return subject
    adapted = as_classifier(
        subject.classifier,
        outputs=outputs,
        classes=numbers,
    )
    return replace(subject, classifier=adapted, identity=f"{subject.identity} {outputs} {classes}")


def _numbers(text: str, problem: Problem) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--classes must be numbers such as 0,6, got {text!r}") from None
    if len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise UserError(f"--classes must be different and counted from 0, got {text!r}")
    if len(numbers) != problem.n_classes:
        raise UserError(
            f"--classes names {len(numbers)} of the classifier's classes, and the problem has "
            f"{problem.n_classes}; name one for each, or choose a problem of {len(numbers)}"
        )
    return numbers
