"""Options that several commands have, with the choices that a shell and ``--help`` show."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import typer

from trueboundary.cli import completions
from trueboundary.cli.errors import LARGEST_SEED


def seed_of(typed: str | int) -> int:
    """Return a seed that was typed, or is the default.

    Raises
    ------
    typer.BadParameter
        If torch's generators do not take it.
    """
    text = str(typed)
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_SEED):
        raise typer.BadParameter(f"must be a whole number from 0 to {LARGEST_SEED}, got {text!r}")
    return int(text)


def seconds_of(text: str) -> float:
    """Return seconds that were typed.

    Raises
    ------
    typer.BadParameter
        If they are no finite number above 0.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"must be a number of seconds above 0, got {text!r}")
    return seconds


# Choices stand here, too, since help loads no module that computes; the tests compare them.
Scale = Annotated[
    Literal["smoke", "quick", "paper"],
    typer.Option(help="How large: [bold]smoke[/] (seconds), [bold]quick[/] (minutes) or "
                      "[bold]paper[/] (the paper's own settings)."),
]  # fmt: skip
Returns = Literal["logit", "probability", "log_probability"]
Device = Annotated[
    str,
    typer.Option(help="cpu, cuda, or cuda:0, cuda:1, ...", autocompletion=completions.devices),
]
ProblemName = Annotated[
    str,
    typer.Option(
        help="spheres, digits, the folder of a data set, or a problem of the zoo.",
        autocompletion=completions.problems,
    ),
]
Seed = Annotated[
    int, typer.Option(parser=seed_of, metavar="N", help="Seed of every random number.")
]
