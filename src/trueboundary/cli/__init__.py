"""The command ``trueboundary``.

What a command needs is imported when it runs: ``--help`` and ``list`` answer at once.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from typer.main import get_command

from trueboundary.cli.commands import app
from trueboundary.cli.errors import UserError
from trueboundary.cli.output_streams import OutputError, readable_streams
from trueboundary.plain_text import printable

__all__ = ["main"]


@functools.cache
def _command() -> Callable[..., Any]:
    """Return what typer makes of all commands, which it takes a while to make: once, here."""
    return get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        What was typed after the command's name; what this process was started with by default.

    Returns
    -------
    int
        0 for success, 1 where something failed, 2 for a user's mistake and 130 after Ctrl-C.
    """
    with readable_streams():
        try:
            command = _command()
            command(None if arguments is None else list(arguments), prog_name="trueboundary")
        except SystemExit as ending:
            return ending.code if isinstance(ending.code, int) else 0
        except UserError as error:
            print(f"trueboundary: {printable(str(error).rstrip('.'))}", file=sys.stderr)
            return 2
        except OutputError as error:
            print(f"trueboundary: {error}", file=sys.stderr)
            return 1
    return 0
