"""The commands that make and read image data sets with a known optimal classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueboundary.cli.errors import UserError, nearest
from trueboundary.cli.paths import path as path_option
from trueboundary.cli.typed_commands import Command
from trueboundary.plain_text import printable
from trueboundary.plurals import plural
from trueboundary.typed_paths import typed_path

if TYPE_CHECKING:
    from trueboundary.data import ImageData

app = typer.Typer(
    name="dataset",
    help="Image data sets whose optimal classifier is known.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

# Images as small and grey as MNIST's get the paper's numbers for MNIST, others those for faces.
_DIGIT_COMPONENTS, _DIGIT_FACTORS, _FACE_FACTORS = 25, 6, 10
_CIFAR_PARTS = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar-10-batches-py",
                "cifar-10-batches-bin")  # fmt: skip
_CELEBA_PARTS = ("list_attr_celeba.txt", "img_align_celeba", "img_align_celeba.tar")


@dataclass(frozen=True)
class _Images:
    """The images of two classes, ready to be fitted, and some that are kept from the fit."""

    x: Any
    y: Any
    held_out: Any
    image_shape: tuple[int, int, int]
    class_names: tuple[str, str]
    source: str
    notes: tuple[str, ...]
    is_digits: bool


class _MakeCommand(Command):
    """A command that notices when an option of two values takes another option for one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {
            name for option in self.params for name in (*option.opts, *option.secondary_opts)
        }
        for option in self.params:
            if option.nargs != 2 or not option.opts[0].startswith("-"):
                continue
            for place, typed in enumerate(args):
                name, has_value, value = typed.partition("=")
                if name not in option.opts:
                    continue
                values = ([value] if has_value else []) + args[place + 1 : place + 3]
                taken = [value for value in values[:2] if value.partition("=")[0] in options]
                if taken or len(values) < 2:
                    got = values[0] if values[0] not in taken else "none"
                    raise UserError(
                        f"{name} takes two names, as in {name} cats dogs; got only {got!r}"
                        + (f" before {taken[0]}" if taken else "")
                    )
        return super().parse_args(ctx, args)


@app.command(
    "make",
    cls=_MakeCommand,
    epilog="[bold]Example[/]\n\n  trueboundary dataset make mnist --classes 0 6 --out digits\n\n"
    "  trueboundary dataset make celeba --celeba DIR --attribute Smiling --out faces",
)
def make(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="[bold]mnist[/], [bold]celeba[/], [bold]cifar10[/], a folder with one subfolder "
            "per class, a folder of IDX files, or CIFAR-10's folder or archive.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(parser=path_option, help="Folder for the data set; must be new or empty."),
    ],
    classes: Annotated[
        tuple[str, str] | None,
        typer.Option(help="The two classes by name; not needed where there are just two."),
    ] = None,
    variant: Annotated[
        str, typer.Option(help="symmetric, asymmetric or as-fitted.")
    ] = "symmetric",
    noise_std: Annotated[
        float, typer.Option(help="Noise of every pixel; the paper uses 0.01, 0.001 and 0.05.")
    ] = 0.01,
    equalise_spectrum: Annotated[
        bool, typer.Option("--equalise-spectrum", help="Give all components the same spread.")
    ] = False,
    outlier_std: Annotated[float, typer.Option(help="Asymmetric: noise of the outliers.")] = 0.5,
    outlier_rank: Annotated[
        int, typer.Option(help="Asymmetric: principal direction in which the outliers lie.")
    ] = 50,
    outlier_step: Annotated[
        float, typer.Option(help="Asymmetric: how far, in standard deviations.")
    ] = 1.0,
    outlier_weight: Annotated[
        float, typer.Option(help="Asymmetric: mixing weight of the outliers.")
    ] = 0.01,
    components: Annotated[
        int | None,
        typer.Option(help="Components per class; by default 25 for small grey images and one for "
                     "each thousand others."),
    ] = None,
    factors: Annotated[
        int | None,
        typer.Option(help="Factors per component; by default 6 for small grey images, else 10."),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(help="Share of the images of each class that is kept from the fit, to see how "
                     "it does on others; where there are test images, those are taken."),
    ] = 0.1,
    max_iter: Annotated[int, typer.Option(help="Largest number of iterations of the fit.")] = 100,
    n_train: Annotated[int, typer.Option(help="Training images to draw.")] = 10_000,
    n_test: Annotated[int, typer.Option(help="Test images to draw.")] = 2_000,
    size: Annotated[
        int | None, typer.Option(help="Height and width of the images; 64 for CelebA.")
    ] = None,
    celeba: Annotated[
        Path | None,
        typer.Option(
            parser=path_option, help="CelebA's folder; else TRUEBOUNDARY_CELEBA says where."
        ),
    ] = None,
    attribute: Annotated[
        str | None, typer.Option(help="CelebA: the attribute that class 1 has.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fit and of the images.")] = 0,
) -> None:  # fmt: skip
    """Fit mixtures to the images of two classes and draw a data set from them."""
    from trueboundary.new_folders import check_new_folder
    from trueboundary.problems.images import (
        LARGEST_FIT_SEED,
        LARGEST_STD,
        LEAST_STD,
        VARIANTS,
        Outlier,
        fit_image_problem,
    )

    if variant not in VARIANTS:
        hint = nearest(variant, VARIANTS)
        raise UserError(f"there is no variant {variant!r} ({', '.join(VARIANTS)}){hint}")
    for name, value, minimum in (
        ("--components", components, 1),
        ("--factors", factors, 0),
        ("--max-iter", max_iter, 1),
        ("--n-train", n_train, 1),
        ("--n-test", n_test, 1),
        ("--outlier-rank", outlier_rank, 1),
        ("--size", size, 1),
    ):
        if value is not None and value < minimum:
            raise UserError(f"{name} must be at least {minimum}, got {value}")
    for name, number in (("--noise-std", noise_std), ("--outlier-std", outlier_std)):
        if not LEAST_STD <= number <= LARGEST_STD:
            raise UserError(
                f"{name} must be a finite number above 0 (between {LEAST_STD:g} and "
                f"{LARGEST_STD:g}), got {number}"
            )
    if not abs(outlier_step) <= LARGEST_STD:
        raise UserError(f"--outlier-step must be a finite number, got {outlier_step}")
    if seed > LARGEST_FIT_SEED:
        raise UserError(f"--seed must be at most {LARGEST_FIT_SEED}, got {seed}")
    if not 0 < outlier_weight < 1:
        raise UserError(f"--outlier-weight must lie strictly between 0 and 1, got {outlier_weight}")
    if not 0 <= held_out < 1:
        raise UserError(f"--held-out must be at least 0 and below 1, got {held_out}")
    place = Path(_answer(lambda: str(check_new_folder(out))))

    def work() -> str:
        from trueboundary.datasets import card_text, check_room, make_dataset

        outlier = Outlier(outlier_std, outlier_rank, outlier_step, outlier_weight)
        _say(f"reading {images}")
        found = _read(images, classes, size, celeba, attribute, seed, held_out)
        check_room(place, n_train + n_test, math.prod(found.image_shape))
        n_components, n_factors = _sizes(found, components, factors)
        _say(f"fitting mixtures to {plural(len(found.x), 'image')}")
        problem = fit_image_problem(
            found.x,
            found.y,
            image_shape=found.image_shape,
            variant=variant,
            noise_std=noise_std,
            equalise_spectrum=equalise_spectrum,
            outlier=outlier,
            class_names=found.class_names,
            n_components=n_components,
            n_factors=n_factors,
            max_iter=max_iter,
            seed=seed,
            held_out=found.held_out,
        )
        made = make_dataset(
            problem,
            out,
            n_train=n_train,
            n_test=n_test,
            seed=seed,
            source=found.source,
            notes=found.notes,
            progress=_say,
        )
        return card_text(made.card, escape=printable)

    typer.echo(_answer(work))
    typer.echo(f"Data set: {printable(str(out))}")


@app.command("load", cls=Command, epilog="[bold]Example[/]\n\n  trueboundary dataset load digits")
def load(
    folder: Annotated[
        Path, typer.Argument(parser=path_option, metavar="DIR", help="A data set's folder.")
    ],
) -> None:
    """Check every file of a data set and print its card."""

    def work() -> str:
        from trueboundary.datasets import card_text, load_dataset

        return card_text(load_dataset(folder).card, escape=printable)

    typer.echo(_answer(work))
    typer.echo("Every file is as it was written.")


def _answer(work: Callable[[], str]) -> str:
    """Do the work; what is wrong with the input becomes one sentence."""
    try:
        return work()
    except (UserError, ValueError, OSError) as error:
        raise UserError(printable(str(error))) from error


def _say(what: str) -> None:
    typer.echo(f"{printable(what)} ...", err=True)


def _read(
    images: str,
    classes: tuple[str, str] | None,
    size: int | None,
    celeba: Path | None,
    attribute: str | None,
    seed: int,
    held_out: float,
) -> _Images:
    import numpy as np

    whole, source = _load(images, size, celeba, attribute, seed)
    data = whole.part("train") if "train" in whole.split_names else whole
    if classes is None:
        if len(data.class_names) != 2:
            raise UserError(
                f"name two classes with --classes A B (there are {', '.join(data.class_names)})"
            )
        classes = (data.class_names[0], data.class_names[1])
    x, y = data.pairs(*classes)
    shape = data.event_shape
    kept = _kept_from_fit(y, held_out, seed)
    unseen: Any = (x[kept], y[kept])
    if "test" in whole.split_names and held_out > 0:
        test = whole.part("test")
        # A class without test images has the share of its other ones.
        if all(np.any(test.labels == data.class_names.index(name)) for name in classes):
            unseen, kept = test.pairs(*classes), np.zeros(len(y), bool)
    return _Images(
        x=x[~kept],
        y=y[~kept],
        held_out=unseen if len(unseen[0]) else None,
        image_shape=shape,
        class_names=classes,
        source=f"{source}, {classes[0]} against {classes[1]}, {plural(len(x), 'image')}",
        notes=data.notes,
        is_digits=shape[0] == 1 and max(shape) <= 32,
    )


def _kept_from_fit(y: Any, share: float, seed: int) -> Any:
    """Return which images are not fitted: a share of each class, yet one where there are two."""
    import numpy as np

    kept = np.zeros(len(y), bool)
    rng = np.random.default_rng(seed)
    for label in (0, 1):
        of_class = np.flatnonzero(y == label)
        wanted = max(1, round(share * len(of_class))) if share > 0 else 0
        kept[rng.permutation(of_class)[: min(wanted, len(of_class) - 1)]] = True
    return kept


def _sizes(found: _Images, components: int | None, factors: int | None) -> tuple[Any, int]:
    """Return the numbers of components and factors, with a word where images are few for them."""
    from trueboundary.datasets import few_images

    if components is None and found.is_digits:
        components = _DIGIT_COMPONENTS
    if factors is None:
        factors = _DIGIT_FACTORS if found.is_digits else _FACE_FACTORS
    dim = math.prod(found.image_shape)
    if factors > dim:
        raise UserError(f"--factors must be at most the number of pixels, {dim}, got {factors}")
    for label, name in enumerate(found.class_names):
        n_images = int((found.y == label).sum())
        if components is not None and components > n_images:
            raise UserError(
                f"{components} components need at least as many images of class {name!r}, got "
                f"{n_images} to fit; give fewer --components"
            )
        each = n_images / (components or max(1, round(n_images / 1000)))
        if (caution := few_images(name, each, factors)) is not None:
            typer.echo(f"caution: {printable(caution)}", err=True)
    return components, factors


def _load(
    images: str, size: int | None, celeba: Path | None, attribute: str | None, seed: int
) -> tuple[ImageData, str]:
    """Find out what kind of images these are, and load them."""
    from trueboundary import data
    from trueboundary.data.locations import CELEBA_VARIABLE, CIFAR10_VARIABLE

    if celeba is None and attribute is not None and images != "celeba":
        raise UserError("--attribute is for CelebA: say 'dataset make celeba --celeba PATH'")
    path = typed_path(images)
    kind = "celeba" if celeba is not None else images.lower()
    if kind not in ("mnist", "celeba", "cifar10"):
        kind = _kind(path)
    if kind == "celeba":
        place = celeba or _place(path, images, CELEBA_VARIABLE, "CelebA's folder")
        if attribute is None:
            raise UserError("CelebA needs an attribute, for instance --attribute Smiling")
        size = 64 if size is None else size
        faces = data.load_celeba(place, attributes=[attribute], size=size, seed=seed)
        return faces.attribute(attribute), f"CelebA at {size} x {size}"
    if kind == "folder":
        return data.load_image_folder(path, size=size), f"the images in {path.name}"
    if size is not None:
        raise UserError("--size is for image folders and CelebA; these images have one size")
    if kind == "mnist":
        return data.load_mnist(), "MNIST"
    if kind == "cifar10":
        variable = CIFAR10_VARIABLE
        return data.load_cifar10(_place(path, images, variable, "CIFAR-10's files")), "CIFAR-10"
    return data.load_idx_folder(path), f"the IDX files in {path.name}"


def _kind(path: Path) -> str:
    if not path.exists():
        raise UserError(
            f"there are no images at {path}: expected mnist, celeba, cifar10, or an existing folder"
        )
    if path.is_file() or path.name in _CIFAR_PARTS:
        return "cifar10"
    names = {entry.name for entry in path.iterdir()}
    if names & set(_CIFAR_PARTS):
        return "cifar10"
    if names & set(_CELEBA_PARTS):
        return "celeba"
    is_idx = any("idx3" in name and "ubyte" in name for name in names)
    return "idx" if is_idx else "folder"


def _place(path: Path, images: str, variable: str, what: str) -> Path:
    """Return the path that was typed, or that an environment variable holds for a mere name."""
    if images.lower() not in ("celeba", "cifar10"):
        return path
    from trueboundary.data.locations import folder_from_environment

    chosen = folder_from_environment(variable)
    if chosen is None:
        raise UserError(f"say where the files are: let {variable} name {what}")
    return chosen
