"""The command that writes points of a problem as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from trueboundary.cli import completions
from trueboundary.cli.errors import UserError, user_errors
from trueboundary.cli.json_output import Quiet
from trueboundary.cli.options import Seed
from trueboundary.cli.paths import path as path_option
from trueboundary.plain_text import printable

EPILOG = (
    "[bold]Example[/]\n\n  trueboundary dataset export mnist-0-6-symmetric --out images "
    "--n-train 1000 --n-test 200\n\n  trueboundary dataset export spheres --form numpy --out arrays"
)


def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="The folder of a data set, whose points are written, or a problem to draw from: "
            "spheres, digits, or one of the zoo.",
            autocompletion=completions.problems,
        ),
    ],
    out: Annotated[
        Path, typer.Option(parser=path_option, help="Folder to write; must be new or empty.")
    ],
    form: Annotated[
        Literal["images", "numpy"],
        typer.Option(
            help="images: SPLIT/CLASS/000001.png and SPLIT/metadata.csv, for torchvision's "
            "ImageFolder and Hugging Face's imagefolder; numpy: x_train.npy, y_train.npy ..."
        ),
    ] = "images",
    n_train: Annotated[
        int | None, typer.Option(min=0, help="Training points: 1,000, or a data set's own.")
    ] = None,
    n_test: Annotated[
        int | None, typer.Option(min=0, help="Test points: 200, or a data set's own.")
    ] = None,
    arrays: Annotated[
        bool, typer.Option("--arrays", help="Write beside each image its point, unrounded (.npy).")
    ] = False,
    with_distances: Annotated[
        bool,
        typer.Option("--distances", help="Bracket how far each is from an error."),
    ] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write points with their labels as images or as NumPy arrays."""
    if form == "numpy" and (arrays or with_distances):
        raise UserError("--arrays and --distances are for images; leave them out")
    from trueboundary.audits import load_problem
    from trueboundary.datasets import export_arrays, export_images, load_dataset
    from trueboundary.new_folders import check_new_folder

    with user_errors((ValueError, TypeError, OSError)):
        check_new_folder(out)
        folder = Path(what)
        source = load_dataset(folder) if folder.is_dir() else load_problem(what)
        usual = (
            {"train": 1_000, "test": 200}
            if not folder.is_dir()
            else {"train": len(source.y_train), "test": len(source.y_test)}  # type: ignore[union-attr]
        )
        given = {"train": n_train, "test": n_test}
        sizes = {split: usual[split] if n is None else n for split, n in given.items()}
        sizes = {split: n for split, n in sizes.items() if n > 0}
        if form == "numpy":
            export_arrays(source, out, sizes, seed=seed)
        else:
            change = export_images(
                source,
                out,
                sizes,
                seed=seed,
                arrays=arrays,
                distances=with_distances,
                progress=None if quiet else _say,
            )
            typer.echo(str(change))
    typer.echo(f"Points: {printable(str(out))}")


def _say(what: str, fraction: float) -> None:
    typer.echo(f"{fraction:4.0%}  {what} ...", err=True)
