"""Classifiers and problems as people type them, for all commands that take one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueboundary.cli.errors import UserError
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
OUTPUTS = "What it returns."
CLASSES = "Those of its classes that the problem has, such as 0,6."

Weights = Annotated[
    Path | None,
    typer.Option(parser=path, help="A safetensors file with the network's state."),
]
Outputs = Annotated[Returns, typer.Option(help=OUTPUTS)]
Classes = Annotated[str | None, typer.Option(help=CLASSES)]


def read_subject(
    what: str, problem: Problem, weights: Path | None, outputs: Returns, classes: str | None
) -> Subject:
    """Return what is to be judged, as it is to be taken, after saying what is to be known."""
    from trueboundary.audits import load_subject
    from trueboundary.classifiers import as_classifier

    subject = load_subject(what, weights=weights, problem=problem)
    for note in subject.notes:
        typer.echo(printable(note), err=True)
    if outputs == "logit" and classes is None:
        return subject
    adapted = as_classifier(
        subject.classifier,
        outputs=outputs,
        classes=None if classes is None else _numbers(classes),
    )
    return replace(subject, classifier=adapted, identity=f"{subject.identity} {outputs} {classes}")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--classes takes numbers such as 0,6, got {text!r}") from None
