"""The commands that make and read image data sets with a known optimal classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    from trueboundary.data import ImageData, ImageSource

app = typer.Typer(
    name="dataset",
    help="Image data sets whose optimal classifier is known.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Pair = tuple[str, str]

_ONE_SIZE = "--size is for image folders and CelebA; these images have one size"
# The largest grey images that get the numbers of components and factors of MNIST's digits.
_SMALL_SIDE = 32


@dataclass(frozen=True)
class _Images:
    """The images of two classes, ready to be fitted, and some that are kept from the fit.

    `usual` are the numbers of components (None: one per thousand images) and factors.
    """

    x: Any
    y: Any
    held_out: Any
    image_shape: tuple[int, int, int]
    class_names: tuple[str, str]
    source: str
    notes: tuple[str, ...]
    usual: tuple[int | None, int]


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
            help="The name of images, such as [bold]mnist[/], or of a pair, such as "
            "[bold]mnist/0-6[/] or [bold]celeba/Male[/]; a folder with one subfolder per class, "
            "a folder of IDX files, or CelebA's or CIFAR-10's files.",
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
        typer.Option(help="Components per class; by default what is usual for images with a "
                     "name, 25 for other small grey ones, and one for each thousand others."),
    ] = None,
    factors: Annotated[
        int | None,
        typer.Option(help="Factors per component; by default what is usual for images with a "
                     "name, 6 for other small grey ones, else 10."),
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
    from trueboundary.problems.image_fitting import (
        LARGEST_FIT_SEED,
        LARGEST_STD,
        LEAST_STD,
        Outlier,
        fit_image_problem,
    )
    from trueboundary.problems.images import VARIANTS

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


@contextmanager
def _of_source(source: ImageSource) -> Iterator[None]:
    """Say of a source that is not ours what went wrong in its code, in one sentence."""
    try:
        yield
    except (OSError, ValueError, UserError):  # sentences already
        raise
    except Exception as error:
        raise UserError(
            f"{type(source).__name__}, the source of {source.name}, cannot load its images "
            f"({type(error).__name__}: {error})"
        ) from error


def _read(
    images: str,
    classes: Pair | None,
    size: int | None,
    celeba: Path | None,
    attribute: str | None,
    seed: int,
    held_out: float,
) -> _Images:
    import numpy as np

    source, pair = _named(images, celeba, attribute)
    if source is None:
        train, test, origin = _from_folder(typed_path(images), size)
        pair = classes or _only_two(train.class_names)
    else:
        if size is not None and source.size is None:
            raise UserError(_ONE_SIZE)
        if classes is not None and pair is not None:
            raise UserError(f"{images} names its two classes already; leave --classes out")
        pair = pair or classes or _only_two(source.class_names)
        with _of_source(source):
            source.check([pair], size)  # what is wrong is said before all images are read
            train = source.load(pair, "train", size)
            test = source.load(pair, "test", size) if held_out > 0 else None
        origin = source.title
        if source.size is not None:
            origin += f" at {train.event_shape[1]} x {train.event_shape[2]}"
    x, y = train.pairs(*pair)
    kept = _kept_from_fit(y, held_out, seed)
    unseen: Any = (x[kept], y[kept])
    # A class without test images has the share of its other ones.
    if test is not None and held_out > 0 and all(map(test.has, pair)):
        unseen, kept = test.pairs(*pair), np.zeros(len(y), bool)
    return _Images(
        x=x[~kept],
        y=y[~kept],
        held_out=unseen if len(unseen[0]) else None,
        image_shape=train.event_shape,
        class_names=pair,
        source=f"{origin}, {pair[0]} against {pair[1]}, {plural(len(x), 'image')}",
        notes=train.notes,
        usual=_usual_sizes(source, train.event_shape),
    )


def _named(
    images: str, celeba: Path | None, attribute: str | None
) -> tuple[ImageSource | None, Pair | None]:
    """Return the source that is meant, None for a folder of other images, and the pair if named."""
    from trueboundary.data import image_sources, parse_pair
    from trueboundary.data.sources import CelebASource

    known, path = image_sources(), typed_path(images)
    source, pair = known.get(images.lower()), None
    if celeba is not None:
        source = CelebASource(celeba)
    elif source is None and path.exists():
        names = {path.name, *(entry.name for entry in (path.iterdir() if path.is_dir() else ()))}
        source = next((replace(s, place=path) for s in known.values() if names & {*s.files}), None)
    elif source is None and images.partition("/")[0] in known:
        source, pair = parse_pair(images)
    elif source is None:
        raise UserError(
            f"there are no images at {path}: expected {', '.join(known)}, or an existing folder"
        )
    if attribute is not None:
        if not isinstance(source, CelebASource):
            raise UserError("--attribute is for CelebA: say 'dataset make celeba --celeba PATH'")
        _, pair = parse_pair(f"{source.name}/{attribute}")
    if isinstance(source, CelebASource) and source.path() and pair is None:
        raise UserError("CelebA needs an attribute, for instance --attribute Smiling")
    return source, pair


def _from_folder(path: Path, size: int | None) -> tuple[ImageData, ImageData | None, str]:
    """Return training images, test images if there are any, and what they are called."""
    from trueboundary.data import load_idx_folder, load_image_folder

    if path.is_dir() and any("idx3" in e.name and "ubyte" in e.name for e in path.iterdir()):
        if size is not None:
            raise UserError(_ONE_SIZE)
        whole, origin = load_idx_folder(path), f"the IDX files in {path.name}"
    else:
        whole, origin = load_image_folder(path, size=size), f"the images in {path.name}"
    train, test = (whole.part(p) if p in whole.split_names else None for p in ("train", "test"))
    return whole if train is None else train, test, origin


def _only_two(class_names: tuple[str, ...]) -> Pair:
    if len(class_names) != 2:
        raise UserError(f"name two classes with --classes A B (there are {', '.join(class_names)})")
    return class_names[0], class_names[1]


def _usual_sizes(source: ImageSource | None, shape: tuple[int, int, int]) -> tuple[int | None, int]:
    """Return the source's numbers of components and factors, or those of images that look alike."""
    from trueboundary.data.sources import ImageSource, MNISTSource

    like: Any = source
    if like is None:
        like = MNISTSource if shape[0] == 1 and max(shape) <= _SMALL_SIDE else ImageSource
    return like.n_components, like.n_factors


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

    components = found.usual[0] if components is None else components
    factors = found.usual[1] if factors is None else factors
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
