"""Options that several commands have, with the choices that a shell and ``--help`` show."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from trueboundary.cli import completions
from trueboundary.cli.errors import LARGEST_SEED

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
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of every random number.")]
