"""The commands of those who make releases: entries of the zoo, and archives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueboundary.cli.errors import UserError
from trueboundary.cli.paths import path
from trueboundary.cli.typed_commands import Command, Group

app = typer.Typer(
    name="release",
    cls=Group,
    help="Entries of the zoo and release archives, from finished runs; for maintainers.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    hidden=True,
)

Root = Annotated[
    Path | None,
    typer.Option(parser=path, help="The repository; the one that the package lies in by default."),
]


@app.command(
    "zoo",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary release zoo results/paper results/quick",
)
def zoo(
    stores: Annotated[
        list[Path],
        typer.Argument(parser=path, metavar="DIR...", help="The --out folders of runs."),
    ],
    again: Annotated[
        bool, typer.Option("--again", help="Measure again what has not changed.")
    ] = False,
    root: Root = None,
) -> None:
    """Write entries of the zoo from finished runs, measure them, and write the index of all."""
    from trueboundary.release import export_zoo
    from trueboundary.runs import DamagedRunError

    try:
        made = export_zoo(stores, _root(root), again=again, progress=_say)
    except (ValueError, OSError, DamagedRunError) as error:
        raise UserError(str(error).rstrip(".")) from error
    for name in made:
        typer.echo(name)
    if not made:
        raise UserError("none of these folders holds all runs of an entry")


@app.command(
    "archives",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary release archives results/quick",
)
def archives(
    stores: Annotated[
        list[Path] | None,
        typer.Argument(parser=path, metavar="[DIR...]", help="The --out folders of runs whose "
                       "models get archives as well."),
    ] = None,
    root: Root = None,
) -> None:  # fmt: skip
    """Write the archive of the zoo, and those of stores, and their checksums."""
    from trueboundary.release import build_archives
    from trueboundary.runs import DamagedRunError

    try:
        written = build_archives(_root(root), stores or (), progress=_say)
    except (ValueError, OSError, DamagedRunError) as error:
        raise UserError(str(error).rstrip(".")) from error
    for archive in written:
        typer.echo(f"{archive} ({archive.stat().st_size / 1e6:,.1f} MB)")


def _root(given: Path | None) -> Path:
    """Return the repository, or say that there is none."""
    from trueboundary.zoo.zoo_index import PACKAGE_FOLDER

    root = PACKAGE_FOLDER.parents[2] if given is None else given
    if not (root / "pyproject.toml").is_file():
        raise UserError(f"{root} is not trueboundary's repository; give it with --root")
    return root


def _say(what: str) -> None:
    typer.echo(f"{what} ...", err=True)
