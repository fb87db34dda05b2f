"""Answers for programs: one strict JSON object on standard output, and nothing beside it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON alone; what else is to be said goes to stderr."),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Say how it ended and what is wrong, and nothing on the way there."
    ),
]


def say_json(command: str, schema: str, **content: Any) -> None:
    """Print `content` with the command it answers and the version of its layout.

    Infinities and NaN, which JSON has not, are written as ``{"$float": "inf"}``.
    """
    from trueboundary.runs import strict_json

    typer.echo(strict_json.dumps({"command": command, "schema": schema, **content}))
