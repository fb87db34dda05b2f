"""The command that shows what comes with trueboundary: trained classifiers and problems."""

from __future__ import annotations

from typing import Annotated

import typer

from trueboundary.cli import completions
from trueboundary.cli.errors import user_errors
from trueboundary.cli.json_output import Json, say_json
from trueboundary.cli.output_streams import new_console

#: Layout of what ``--json`` prints.
ZOO_SCHEMA = "1.0"

EPILOG = (
    "[bold]Example[/]\n\n  trueboundary zoo\n\n  trueboundary zoo mnist-0-6-symmetric-linear-svm"
)


def zoo(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Show the card of this entry.",
                       autocompletion=completions.zoo_names),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show the trained classifiers and problems that come with trueboundary, or the card of one."""
    from dataclasses import asdict

    from trueboundary import zoo as shipped
    from trueboundary.cli.terminal_tables import zoo_table
    from trueboundary.zoo.entry_files import is_here

    with user_errors((ValueError,)):
        if name is None:
            found = dict(sorted(shipped.entries().items()))
            if as_json:
                say_json("zoo", ZOO_SCHEMA, entries={n: asdict(e) for n, e in found.items()})
            else:
                console = new_console()
                console.print(zoo_table([(e, is_here(e)) for e in found.values()], console.width))
            return
        card = shipped.card(name)
    if as_json:
        say_json("zoo", ZOO_SCHEMA, card=asdict(card))
        return
    from rich.markdown import Markdown

    new_console().print(Markdown(str(card)), highlight=False)
